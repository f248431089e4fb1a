"""The classes and scenes of COCO-CD, and the sizes of the paper's parts."""

CLASSES = ("cat", "dog")
"""Class y; its label in a mask is 1 + y."""
SCENES = ("indoor", "outdoor")
"""Default scenes."""
N_VAL = 50
"""Validation images of a group in the reference's split."""
N_TEST = 125
"""Test images of a group in the reference's split."""
