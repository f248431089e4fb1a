"""Computes the evidence that context gives for a class, from co-occurrences of classes in training images."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from flipjax.metrics.classes import Background, is_foreground

SEEN = 0.01
"""Smallest share of the image at which a class counts as part of a segment's context."""
SHOWN = 0.001
"""Smallest share of the image at which a training image shows a class."""
LAPLACE = 1.0
FEW = 1000
"""Fewest training images for reliable statistics."""


def image_shares(labels: Sequence[Any], *, num_classes: int) -> np.ndarray:
    """Returns the fraction of each image that each class covers: float64 (n, C). Ignores other labels, such as 255.

    Args:
        labels: n integer arrays (H, W) of any sizes.
        num_classes: C.

    Example:
        >>> image_shares([np.array([[0, 1, 1, 255]])], num_classes=3).tolist()
        [[0.25, 0.5, 0.0]]
    """
    rows = [np.bincount(image[(image >= 0) & (image < num_classes)], minlength=num_classes) for image in labels]
    sizes = np.array([image.size for image in labels])
    return np.array(rows, np.float64).reshape(-1, num_classes) / sizes[:, None]


def count_classes(true: pd.DataFrame) -> int:
    """Returns C, the number of classes in the contexts of a table of segments."""
    return true.filter(regex="^context_").shape[1]


def context_classes(true: pd.DataFrame) -> np.ndarray:
    """Returns z, whether each class covers at least 1% of the image outside the segment: bool (S, C).

    Args:
        true: S rows of `flipjax.metrics.segments`.
    """
    return true.filter(regex="^context_").to_numpy(np.float64) >= SEEN


def context_evidence(
    true: pd.DataFrame, shares: np.ndarray, *, own: Any = None, background: Background = 0
) -> np.ndarray:
    """Returns the evidence of each segment's context for another class against its own, in nats.

    Delta_s(d) sums log P(z_e | d) - log P(z_e | c) over all classes e other than the true class c, d and the
    background. P(z_e | c) is the fraction of the training images with class c that show at least 1% of class e, with
    add-one smoothing and without the segment's own image.

    Args:
        true: S rows of `flipjax.metrics.segments`.
        shares: float (n, C), fractions of the training images (`image_shares`).
        own: int (images,), index of each evaluated image among the training images, or -1; None for no overlap.
        background: the background class, a tuple of several, or None.

    Returns:
        float64 (S, C): 0 for the true class, the background and classes without training images.

    Raises:
        ValueError: `shares` has another number of classes, or a true or wrongly predicted class has no training image.

    Warns:
        UserWarning: there are fewer than 1,000 training images.

    Example:
        >>> import pandas as pd
        >>> true = pd.DataFrame({"image": [0], "class": [1], "predicted": [2], "outcome": ["flip"]})
        >>> true[["context_0", "context_1", "context_2", "context_3"]] = [0.5, 0.0, 0.0, 0.2]
        >>> shares = np.repeat([[0.5, 0.5, 0.0, 0.0], [0.3, 0.0, 0.5, 0.2]], 500, axis=0)
        >>> context_evidence(true, shares)[0].round(2).tolist()  # log(501 / 502) - log(1 / 502)
        [0.0, 0.0, 6.22, -6.22]
    """
    z = context_classes(true)
    C = z.shape[1]
    shares = np.asarray(shares, np.float64)
    if shares.shape[1:] != (C,) or not len(shares):
        raise ValueError(f"shares: expected (training images, {C}), as many classes as segments, found {shares.shape}.")
    inside = is_foreground(C, background)
    shown, seen = shares >= SHOWN, shares >= SEEN
    truth = np.asarray(true["class"], np.int64)
    check_shown(true, truth, shown)
    if len(shares) < FEW:
        warnings.warn(
            f"shares: found {len(shares)} training images, so that beta is too small; pass the shares of all training "
            f"labels, of at least {FEW:,} images if you can.",
            stacklevel=2,
        )
    images = np.asarray(true["image"], np.int64)
    row = np.full(len(true), -1) if own is None else np.asarray(own, np.int64)[images]
    known = row >= 0
    counts = shown.sum(0).astype(np.float64)
    both = shown.T.astype(np.float64) @ seen

    def log_share(classes: np.ndarray) -> np.ndarray:
        """Returns log P(z_e | c), (S, C) over e, for one class c per segment."""
        left_out = known & shown[row, classes]
        n = (counts[classes] - left_out)[:, None]
        part = both[classes] - left_out[:, None] * seen[row]
        share = (part + LAPLACE) / (n + 2 * LAPLACE)
        return np.log(np.where(z, share, 1 - share))

    mine = log_share(truth)
    evidence = np.zeros((len(true), C))
    for d in np.flatnonzero(inside & shown.any(0)):
        terms = (log_share(np.full(len(true), d)) - mine) * inside
        terms[:, d] = 0
        terms[np.arange(len(true)), truth] = 0
        evidence[:, d] = np.where(truth == d, 0, terms.sum(1))
    return evidence


def check_shown(true: pd.DataFrame, truth: np.ndarray, shown: np.ndarray) -> None:
    """Raises ValueError if a true or wrongly predicted class is in no training image."""
    named = np.union1d(truth, true.loc[true["outcome"] == "flip", "predicted"].to_numpy(np.int64))
    lacking = named[~np.any(shown, axis=0)[named]]
    if len(lacking):
        raise ValueError(
            f"shares: expected a training image for each class that is true or flipped to, found none for "
            f"{', '.join(map(str, lacking.tolist()))}."
        )
