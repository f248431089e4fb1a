"""Watches a model without labels: python sweeps/examples/monitor.py

Flags images by flip-risk and tests a stream for drift. Logits come from a model of any framework; here they are drawn.
"""

import numpy as np

from flipjax import metrics, monitor

generator = np.random.default_rng(0)


def draw_logits(images, sharpness):
    """Logits (images, 16, 16, 3) of a model that is the surer, the larger `sharpness` is."""
    return generator.normal(size=(images, 16, 16, 3)) * generator.uniform(0.5, 1.5, (images, 1, 1, 1)) * sharpness


reference = metrics.flip_risk(draw_logits(200, sharpness=4.0))  # validation images; 0.05 wants at least 19
watched = monitor.fit(reference, flag_rate=0.05, false_alarm=0.01)
stream = np.concatenate([draw_logits(100, sharpness=4.0), draw_logits(100, sharpness=2.0)])  # something changes
risk = metrics.flip_risk(stream)
verdicts = list(monitor.watch(watched, risk))
print("flagged", np.flatnonzero(monitor.flag(watched, risk))[:10], "...")
print("drift alarm at image", next((index for index, verdict in enumerate(verdicts) if verdict.alarm), None))
