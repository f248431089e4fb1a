"""Convolutions in the forms that are fast on a CPU or an accelerator."""
