"""Arithmetic over the pixels of images, in JAX."""
