"""Quantities evaluated over images and groups: summaries, bootstrap intervals, names and columns."""
