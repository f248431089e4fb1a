"""Quantities of log-odds on other scenes, defined in `flipjax.metrics.scenes.swap`."""

from flipjax.metrics.scenes.swap import scene_reliance, scene_shift, scene_swap, scene_use, training_evidence

__all__ = ["scene_reliance", "scene_shift", "scene_swap", "scene_use", "training_evidence"]
