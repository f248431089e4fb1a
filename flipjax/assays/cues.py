"""Ranks measurable cues by how well they tell an attribute: plain numbers of an image, such as its brightness."""

import dataclasses
from collections.abc import Callable

import numpy as np

from flipjax.metrics.decomposition import divide
from flipjax.metrics.statistics.draws import draw_images, percentile_ends
from flipjax.metrics.statistics.intervals import Estimate
from flipjax.metrics.statistics.selective import auroc

SAMPLES = 400
"""Resamples of images or clusters for an interval."""
BORDERS_PER_SIDE = 8
"""The side of an image, as a multiple of the width of its border."""


@dataclasses.dataclass(frozen=True)
class CueAuroc:
    """How well a cue tells the class and the value of the attribute.

    AUROCs are one against the rest, oriented to be 0.5 or more, and averaged over classes or values: 0.5 tells nothing.

    Attributes:
        name: of the cue.
        of_class: AUROC of the class, with its 95% interval over images or clusters.
        of_value: AUROC of the value, likewise.
    """

    name: str
    of_class: Estimate
    of_value: Estimate


def _luma(images: np.ndarray) -> np.ndarray:
    """Returns the luma of each pixel by ITU-R BT.601, (n, H, W)."""
    return images @ np.array([0.299, 0.587, 0.114], np.float32)


def brightness(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns the mean luma of each image, (n,)."""
    return _luma(images).mean((1, 2))


def contrast(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of the luma of each image, (n,)."""
    return _luma(images).std((1, 2))


def sharpness(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns the mean absolute Laplacian of the luma of each image, (n,); noise counts, too."""
    luma = _luma(images)
    inner = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return np.abs(around - 4 * inner).mean((1, 2))


def warmth(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns the mean of red less blue of each image, (n,)."""
    return (images[..., 0] - images[..., 2]).mean((1, 2))


def greenness(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns the mean of green less the mean of red and blue of each image, (n,)."""
    return (images[..., 1] - (images[..., 0] + images[..., 2]) / 2).mean((1, 2))


def saturation(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns the mean of the largest less the smallest channel of each image, (n,)."""
    return (images.max(-1) - images.min(-1)).mean((1, 2))


def border(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns the mean luma of the border of each image, (n,)."""
    luma = _luma(images)
    width = max(1, luma.shape[1] // BORDERS_PER_SIDE)
    inside = luma[:, width:-width, width:-width]
    pixels = luma[0].size - inside[0].size
    return (luma.sum((1, 2)) - inside.sum((1, 2))) / pixels


def object_size(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns the share of each image that the object covers, (n,)."""
    return (masks > 0).mean((1, 2))


CUES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "brightness": brightness,
    "contrast": contrast,
    "sharpness": sharpness,
    "warmth": warmth,
    "greenness": greenness,
    "saturation": saturation,
    "border": border,
    "object size": object_size,
}
"""The measured cues, by name; each takes images (n, H, W, 3) in [0, 1] and masks (n, H, W)."""


def measure_cues(
    images: np.ndarray, masks: np.ndarray, *, aspects: np.ndarray | None, batch: int = 256
) -> dict[str, np.ndarray]:
    """Measures every cue of every image.

    Args:
        images: uint8 or float32 (n, H, W, 3); floats in [0, 1].
        masks: (n, H, W), 0 for background.
        aspects: (n,), width by height of the photos before they became square; None if unknown.
        batch: images at once.

    Returns:
        float64 (n,) of each cue; `aspect` only where it is known and differs.
    """
    values: dict[str, list[np.ndarray]] = {name: [] for name in CUES}
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    for start in range(0, len(images), batch):
        pixels = images[start : start + batch].astype(np.float32) / np.float32(scale)
        for name, measure in CUES.items():
            values[name].append(measure(pixels, masks[start : start + batch]))
    measured = {name: np.concatenate(parts).astype(np.float64) for name, parts in values.items()}
    if aspects is not None and np.ptp(aspects) > 0:
        measured["aspect"] = np.asarray(aspects, np.float64)
    return measured


def rank_cues(
    cues: dict[str, np.ndarray],
    classes: np.ndarray,
    values: np.ndarray,
    clusters: np.ndarray,
    *,
    seed: int = 0,
    samples: int = SAMPLES,
) -> list[CueAuroc]:
    """Returns the AUROCs of the cues, those that tell the value best first.

    A cue that is the same in all images, such as the warmth of grey ones, is left out.

    Args:
        cues: of `measure_cues`.
        classes: int (n,), from 0.
        values: int (n,), of the attribute, from 0.
        clusters: (n,), resampled whole.
        seed: of the resamples.
        samples: their number.
    """
    of_cluster = np.unique(clusters, return_inverse=True)[1]
    counts = draw_images(np.random.default_rng(seed), len(values), samples=samples, clusters=of_cluster)
    ranked = []
    for name, measured in cues.items():
        if np.ptp(measured) == 0:
            continue
        of_class = _with_interval(measured, classes, counts)
        ranked.append(CueAuroc(name, of_class, _with_interval(measured, values, counts)))
    return sorted(ranked, key=_auroc_of_value, reverse=True)


def _auroc_of_value(cue: CueAuroc) -> float:
    return cue.of_value.value


def _with_interval(measured: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> Estimate:
    """Returns the AUROC of each label against the others, averaged over labels, with its percentile interval.

    AUROCs are oriented by those of all images. Labels that no or every image of a resample has are left out of its
    mean.

    Args:
        measured: (n,) numbers of a cue.
        labels: int (n,), from 0.
        counts: (samples, n), how often each resample holds each image.
    """
    is_label = [labels == label for label in range(labels.max() + 1)]
    if len(is_label) == 2:
        # One against the rest is the same for both.
        is_label = is_label[1:]
    of_all = np.array([[auroc(measured, inside)] for inside in is_label])
    drawn = np.array([auroc(measured, inside, weights=counts) for inside in is_label])
    signs = np.where(of_all >= 0.5, 1.0, -1.0)
    low, high = percentile_ends(_mean_of_labels(0.5 + signs * (drawn - 0.5)))
    return Estimate(float(_mean_of_labels(0.5 + signs * (of_all - 0.5))[0]), float(low), float(high))


def _mean_of_labels(aurocs: np.ndarray) -> np.ndarray:
    """Returns the mean over labels (rows) of the AUROCs that are not NaN; NaN where all are."""
    known = ~np.isnan(aurocs)
    return divide(aurocs.sum(0, where=known), known.sum(0))
