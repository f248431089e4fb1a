"""Training of one member as pure functions, and the map over members."""
