"""The models that a config may name."""

from flipjax.models import unet

MODELS = {"unet": unet.build}
