"""Members together: stacked, on devices, in one program."""
