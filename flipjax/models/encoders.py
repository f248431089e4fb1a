"""The encoders of the large U-Nets."""

from flipjax.models.mit import MitB2
from flipjax.models.resnet import ResNet50

ENCODERS = {"mit_b2": MitB2, "resnet50": ResNet50}
"""What `flipjax.models.smp` builds on: `encoder(rngs)`, with `channels` of its features from 1/2 down to 1/32."""
