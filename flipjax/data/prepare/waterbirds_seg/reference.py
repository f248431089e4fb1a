"""The number of scenes of Waterbirds-Seg."""

SCENES = 2662
"""Default number of scene photos of each kind, the number in the released manifests."""
