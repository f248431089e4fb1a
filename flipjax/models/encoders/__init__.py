"""Encoders of the large networks."""
