"""Converted weights, evaluated on the images of a configuration."""
