"""The networks that a configuration may name."""
