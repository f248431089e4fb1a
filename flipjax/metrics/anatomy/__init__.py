"""Anatomy: classes that are mirror images or neighbours in a chain."""
