"""One epoch of one member, and the loop of epochs, as pure functions."""
