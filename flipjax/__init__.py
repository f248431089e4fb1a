"""flipjax: semantic label flips under correlation shift, measured and swept in JAX."""
