"""How much of the context's evidence a model uses: its segments are put on other scenes, and its log-odds move."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flipjax.context.evidence import context_classes
from flipjax.metrics.classes import background_classes, is_foreground

if TYPE_CHECKING:
    import pandas as pd

RIVAL = 0.02
"""Share of the flips from which on a class is a rival."""


class Use(NamedTuple):
    """Context use, its 95 % interval over images, and how many pairs of segment and rival it is of."""

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
    background: int | tuple[int, ...] | None = 0,
    batch: int = 8,
) -> np.ndarray:
    """Returns what the log-odds of each segment move by when it stands alone on other scenes.

    Args:
        predict: images (b, H, W, channels) to logits (b, H, W, C).
        images: (n, H, W, channels) floating point.
        labels: int (n, H, W); a segment is all pixels of its class. Without labels pass the predicted classes.
        true: of `flipjax.metrics.segments` of these labels with `unit="class"`, S rows.
        scenes: (D, H, W, channels) in the units of the images, over which log-odds are averaged; one or two will do.
        background: the class that is background, several in a tuple, or None.
        batch: images at once.

    Returns:
        float64 (S, C), less their mean over the foreground classes; 0 for the background. Costs one pass an image
        and D a segment.

    Raises:
        TypeError, ValueError: images, scenes or logits that do not fit.
    """
    from flipjax.intervene import paste, region_log_odds, soft_edge

    images, labels = check_photos(images, labels)
    scenes = _check_images("scenes", scenes, images.shape[1:])
    image, own = (np.asarray(true[name], np.int64) for name in ("image", "class"))

    def ask(pixels: Any) -> np.ndarray:
        return ask_model(predict, pixels, background=background)

    def pool(logits: np.ndarray, regions: np.ndarray) -> np.ndarray:
        return np.asarray(region_log_odds(logits, regions, background=background), np.float64)

    if not len(true):
        raise ValueError("true: expected a segment, found none.")
    parts = []
    for first in range(0, len(true), batch):
        rows = slice(first, first + batch)
        regions = labels[image[rows]] == own[rows, None, None]
        pixels = images[image[rows]]
        cover = soft_edge(regions)
        moved = [pool(ask(paste(pixels, cover, scene)), regions) for scene in scenes]
        shown, place = np.unique(image[rows], return_inverse=True)
        parts.append(np.mean(moved, axis=0) - pool(ask(images[shown])[place], regions))
    inside = is_foreground(_count_classes(true, parts[0].shape[1] + len(background_classes(background))), background)
    shift = np.zeros((len(true), len(inside)))
    shift[:, inside] = np.concatenate(parts)
    return shift


def check_photos(images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns images (n, H, W, channels) and their labels (n, H, W) as NumPy arrays.

    Raises:
        TypeError, ValueError: images that are not floating point, or labels of another shape.
    """
    from flipjax.metrics.checks import to_array

    images, labels = _check_images("images", images), np.asarray(to_array(labels))
    if labels.shape != images.shape[:3]:
        raise ValueError(f"labels: expected shape {images.shape[:3]}, found {labels.shape}.")
    return images, labels


def ask_model(predict: Callable[[Any], Any], pixels: Any, *, background: int | tuple[int, ...] | None) -> np.ndarray:
    """Returns the logits of `predict`, float32 (b, H, W, C), checked against its images (b, H, W, channels)."""
    from flipjax.metrics.checks import check_logits

    logits = check_logits(predict(pixels), background=background, spatial_ndim=2)
    if logits.shape[:-1] != pixels.shape[:-1]:
        raise ValueError(f"predict: expected logits {pixels.shape[:-1]} and classes last, found {logits.shape}.")
    return np.asarray(logits, np.float32)


def _check_images(name: str, images: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    from flipjax.metrics.checks import to_array

    array = np.asarray(to_array(images))
    if array.dtype.kind != "f" or array.ndim != 4 or (shape is not None and array.shape[1:] != shape):
        wanted = "(.., H, W, channels)" if shape is None else f"(.., {', '.join(map(str, shape))})"
        raise ValueError(f"{name}: expected floating point {wanted}, found {array.dtype} {array.shape}.")
    return array


def _count_classes(true: pd.DataFrame, found: int) -> int:
    C = sum(str(name).startswith("context_") for name in true.columns)
    if found != C:
        raise ValueError(f"predict: expected logits of {C} classes, as many as the segments are of, found {found}.")
    return C


def context_use(
    true: pd.DataFrame,
    evidence: np.ndarray,
    shift: np.ndarray,
    *,
    background: int | tuple[int, ...] | None = 0,
    samples: int = 1000,
    seed: int = 0,
) -> Use:
    """Returns the share of the context's evidence that a model uses: nat that leave with the scene, per nat.

    The slope of the shift of rival d against the segment's class on Delta_s(d), within pairs of class and rival, times
    -1. Rivals have 2 % of the flips or more, all classes where there is no flip, and are not in the image.

    Args:
        true: of `flipjax.metrics.segments`, S rows; of predictions as their own labels where there are none.
        evidence: float (S, C) of `context_evidence`.
        shift: float (S, C) of `segment_shift`.
        background: the class that is background, several in a tuple, or None.
        samples: resamples of images.
        seed: of the resamples.

    Returns:
        `Use`; NaN where evidence does not vary.
    """
    from scipy import sparse

    C = evidence.shape[1]
    truth = np.asarray(true["class"], np.int64)
    wrong = np.asarray(true["predicted"], np.int64)[np.asarray(true["outcome"], str) == "flip"]
    share = np.bincount(wrong, minlength=C) / max(1, len(wrong))
    is_rival = is_foreground(C, background) & ((share >= RIVAL) | (len(wrong) == 0)) & evidence.any(0)
    rows, rivals = np.nonzero(is_rival & (np.arange(C) != truth[:, None]) & ~context_classes(true))
    x = evidence[rows, rivals]
    y = shift[rows, rivals] - shift[rows, truth[rows]]
    images, image = np.unique(np.asarray(true["image"], np.int64), return_inverse=True)
    cells, cell = np.unique(truth[rows] * C + rivals, return_inverse=True)
    shape = (len(images), len(cells))
    sums = [sparse.csr_array((v, (image[rows], cell)), shape=shape) for v in (np.ones(len(x)), x, y, x * x, x * y)]

    def slope(weights: np.ndarray) -> np.ndarray:
        n, xs, ys, xx, xy = (weights @ each for each in sums)
        n = np.maximum(n, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return -(xy - xs * ys / n).sum(1) / (xx - xs * xs / n).sum(1)

    counts = np.random.default_rng(seed).multinomial(len(images), np.full(len(images), 1 / len(images)), size=samples)
    low, high = np.percentile(slope(counts.astype(np.float64)), (2.5, 97.5))
    return Use(float(slope(np.ones((1, len(images))))[0]), float(low), float(high), len(rows))
