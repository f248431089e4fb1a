"""Measures context use: the change in log-odds per nat of evidence when a segment is pasted onto other scenes."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from flipjax.context.choice import draw_images
from flipjax.context.evidence import context_classes, count_classes
from flipjax.intervene.scenes import check_floating, check_photos, paste, soft_edge
from flipjax.intervene.swap import region_log_odds
from flipjax.metrics.checks import check_logits
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.log_odds import slope_within

RIVAL = 0.02
"""Smallest share of the flips at which a class counts as a rival."""


class Use(NamedTuple):
    """Context use, its 95% interval over images, and its number of pairs of segment and rival."""

    use: float
    low: float
    high: float
    pairs: int


def segment_shift(
    predict: Callable[[Any], Any],
    images: Any,
    labels: Any,
    true: pd.DataFrame,
    scenes: Any,
    *,
    background: Background = 0,
    batch: int = 8,
) -> np.ndarray:
    """Returns the change in the log-odds of each segment when it is pasted alone onto other scenes.

    Costs one forward pass per image and D per segment.

    Args:
        predict: maps images (b, H, W, channels) to logits (b, H, W, C).
        images: (n, H, W, channels) floating point.
        labels: int (n, H, W); a segment is all pixels of its class. Without labels, pass the predicted classes.
        true: S rows of `flipjax.metrics.segments` for these labels, with `unit="class"`.
        scenes: (D, H, W, channels) in the units of the images; log-odds are averaged over them. One or two suffice.
        background: the background class, a tuple of several, or None.
        batch: number of images per forward pass.

    Returns:
        float64 (S, C), centred over the foreground classes; 0 for the background.

    Raises:
        TypeError, ValueError: images, scenes or logits do not fit.
    """
    images, labels = check_photos(images, labels)
    scenes = np.asarray(check_floating(scenes, name="scenes"))
    if scenes.shape[1:] != images.shape[1:]:
        raise ValueError(f"scenes: expected (D, H, W, channels) for images {images.shape}, found {scenes.shape}.")
    image, own = (true[name].to_numpy(np.int64) for name in ("image", "class"))
    inside = is_foreground(count_classes(true), background)
    shift = np.zeros((len(true), len(inside)))
    ask = functools.partial(ask_model, predict, classes=len(inside), background=background)

    def pool(logits: np.ndarray, regions: np.ndarray) -> np.ndarray:
        return np.asarray(region_log_odds(logits, regions, background=background), np.float64)

    for first in range(0, len(true), batch):
        rows = slice(first, first + batch)
        regions = labels[image[rows]] == own[rows, None, None]
        pixels = images[image[rows]]
        cover = soft_edge(regions)
        moved = [pool(ask(paste(pixels, cover, scene)), regions) for scene in scenes]
        shown, place = np.unique(image[rows], return_inverse=True)
        shift[rows, inside] = np.mean(moved, axis=0) - pool(ask(images[shown])[place], regions)
    return shift


def ask_model(predict: Callable[[Any], Any], pixels: Any, *, classes: int, background: Background) -> np.ndarray:
    """Returns the logits of `predict` as float32 (b, H, W, C), after a check of their shape."""
    logits = check_logits(predict(pixels), background=background)
    if logits.shape != (wanted := (*pixels.shape[:-1], classes)):
        raise ValueError(f"predict: expected logits {wanted} of as many classes as segments, found {logits.shape}.")
    return np.asarray(logits, np.float32)


def context_use(
    true: pd.DataFrame,
    evidence: np.ndarray,
    shift: np.ndarray,
    *,
    background: Background = 0,
    samples: int = 1000,
    seed: int = 0,
) -> Use:
    """Returns the fraction of the context's evidence that a model uses.

    It is minus the slope of the shift (rival d less the segment's class) on Delta_s(d), within pairs of class and
    rival. Rivals are classes that are not in the image and have at least 2% of the flips; without flips, all classes.

    Args:
        true: S rows of `flipjax.metrics.segments`; without labels, of the predictions as their own labels.
        evidence: float (S, C) of `context_evidence`.
        shift: float (S, C) of `segment_shift`.
        background: the background class, a tuple of several, or None.
        samples: number of resamples of the images.
        seed: seed of the resamples.

    Returns:
        `Use`; NaN if the evidence does not vary.
    """
    C = evidence.shape[1]
    truth = true["class"].to_numpy(np.int64)
    wrong = true.loc[true["outcome"] == "flip", "predicted"].to_numpy(np.int64)
    share = np.bincount(wrong, minlength=C) / max(1, len(wrong))
    is_rival = is_foreground(C, background) & ((share >= RIVAL) | (len(wrong) == 0)) & evidence.any(0)
    rows, rivals = np.nonzero(is_rival & (np.arange(C) != truth[:, None]) & ~context_classes(true))
    x = evidence[rows, rivals]
    y = shift[rows, rivals] - shift[rows, truth[rows]]
    image, counts = draw_images(true["image"], np.random.default_rng(seed), samples=samples)
    cells, cell = np.unique(truth[rows] * C + rivals, return_inverse=True)
    shape = (counts.shape[1], len(cells))
    sums = [sparse.csr_array((v, (image[rows], cell)), shape=shape) for v in (np.ones(len(x)), x, y, x * x, x * y)]

    def slope(weights: np.ndarray) -> np.ndarray:
        return -slope_within(*(weights @ each for each in sums))

    low, high = np.percentile(slope(counts.astype(np.float64)), (2.5, 97.5))
    return Use(float(slope(np.ones((1, counts.shape[1])))[0]), float(low), float(high), len(rows))
