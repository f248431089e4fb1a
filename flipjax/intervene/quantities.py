"""Quantities of log-odds on other scenes, defined in `flipjax.metrics.scene_swap`."""

from flipjax.metrics.scene_swap import scene_reliance, scene_shift, scene_swap, scene_use, training_evidence

__all__ = ["scene_reliance", "scene_shift", "scene_swap", "scene_use", "training_evidence"]
