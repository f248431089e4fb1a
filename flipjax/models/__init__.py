"""The models that a config may name."""

from flipjax.models import smp, unet

MODELS = {"unet": unet.build, "smp_resnet50": smp.build, "smp_mit_b2": smp.build}
