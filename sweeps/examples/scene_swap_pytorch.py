"""Finds flipped images of a PyTorch model without labels: python sweeps/examples/scene_swap_pytorch.py

The model's own predicted region is put on other scenes; what it says there is compared with what it said. For images
with one object each. `repair` is for data whose scenes are balanced: on data at the training correlation it does harm.
"""

import jax
import numpy as np
import torch

from flipjax import intervene, monitor

generator = np.random.default_rng(0)


def model(images):
    """Finds bright regions, and says cat where they are more red than green, or the scene is dark."""
    bright, lean = 20 * (images.amax(1) - 0.8), 2 * (0.4 - images.mean((1, 2, 3)))
    redder = images[:, 0] - images[:, 1] + lean[:, None, None]
    return torch.stack([torch.zeros_like(bright), bright + redder, bright - redder], 1)


kinds = np.arange(6) % 2  # land 0, water 1; leave it out where kinds are unknown: then there is no reliance
photos = generator.uniform(0, 0.5, (6, 12, 12, 3)).astype(np.float32)  # scenes without objects, in the model's units
photos += 0.2 * kinds[:, None, None, None].astype(np.float32)
images = photos[np.arange(40) % 6]  # unlabelled; on each an object
images[:, 3:9, 3:9] = [[[0.9, 1, 0.5]]]
images[:20, 3:9, 3:9] = [[[1, 0.9, 0.5]]]


def predict(batch):
    """Returns logits with classes last of images with channels last."""
    with torch.inference_mode():  # on a GPU add .to(device)
        return model(torch.tensor(np.asarray(batch)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def log_odds_of(images, logits):
    return intervene.scene_marginal(predict, images, scenes, weights=weights, logits=logits)


scenes, weights = intervene.choose_scenes(jax.random.key(0), photos, kinds=kinds, scenes="both")
# No photos of scenes? scenes, weights = intervene.mean_surroundings(images, regions), None, with the predicted regions.
logits = predict(images)
odds = log_odds_of(images, logits)
center = intervene.split_point(odds)
risk = np.asarray(intervene.scene_swap_risk(logits, odds, center=center))
print("reliance on the scene", f"{float(intervene.scene_reliance(odds)):.3f}")
print("would be labelled otherwise on average scenes", f"{(risk > 0).mean():.2f} of the images")
print("repaired labels", intervene.repair(logits, odds, center=center).shape)

# At work: the same risk as the score of a monitor.
watched = monitor.fit(risk, flag_rate=0.3)
logits = predict(images[:8])
risk = np.asarray(intervene.scene_swap_risk(logits, log_odds_of(images[:8], logits), center=center))
print("to look at", np.flatnonzero(monitor.flag(watched, risk)))
