"""Watches a model of twenty classes without labels, region by region: python sweeps/examples/monitor.py

Flags regions by flip-risk and tests a stream for drift. Logits come from a model of any framework; here they are drawn.
"""

import numpy as np

from flipjax import monitor

generator = np.random.default_rng(0)
CLASSES = 21  # 0 is the background


def draw_logits(images, sharpness):
    """Returns logits (images, 16, 16, 21) of a model that finds two objects an image, surer with more `sharpness`."""
    logits = generator.normal(size=(images, 16, 16, CLASSES))
    for image in logits:
        for rows, c in zip((slice(1, 7), slice(9, 15)), generator.integers(1, CLASSES, 2), strict=True):
            image[rows, 3:13, c] += sharpness * generator.uniform(2, 4)
        image[[0, 7, 8, 15]] += 9 * np.eye(CLASSES)[0]
        image[:, [0, 1, 2, 13, 14, 15]] += 9 * np.eye(CLASSES)[0]
    return logits.astype(np.float32)


reference = monitor.region_scores(draw_logits(100, sharpness=2.0))  # validation images; 0.05 wants 19 regions or more
watched = monitor.fit(reference.flip_risk, flag_rate=0.05, false_alarm=0.01)
stream = np.concatenate([draw_logits(60, sharpness=2.0), draw_logits(60, sharpness=1.0)])  # something changes
scores = monitor.region_scores(stream)
for place in np.flatnonzero(monitor.flag(watched, scores.flip_risk))[:3]:
    print(
        f"image {scores.image[place]}, a region of class {scores.label[place]}: flip-risk "
        f"{scores.flip_risk_share[place]:.2f} of its largest, 1 - maximum softmax {scores.max_softmax[place]:.2f}"
    )
alarms = (
    scores.image[place] for place, verdict in enumerate(monitor.watch(watched, scores.flip_risk)) if verdict.alarm
)
print("drift alarm at image", next(alarms, None))
