"""Counts of each image of an audit."""
