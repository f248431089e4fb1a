"""What the members of an ensemble, seeds of one setting, say of each other: scores from their stored predictions."""

import numpy as np


def unpack_classes(masks: np.ndarray) -> np.ndarray:
    """Returns predicted classes from packed bits, masks uint8 (..., planes, bytes): uint8 (..., pixels).

    The last pixels may be filled up with zeros.

    Example:
        >>> unpack_classes(np.array([[80], [32]], np.uint8)).tolist()
        [0, 1, 2, 1, 0, 0, 0, 0]
    """
    bits = np.unpackbits(masks, axis=-1)
    weights = (1 << np.arange(bits.shape[-2], dtype=np.uint8))[:, None]
    return (bits * weights).sum(-2, dtype=np.uint8)


def disagreement(classes: np.ndarray, *, background: int = 0) -> np.ndarray:
    """Returns how often the other members predict another class in a member's region, the mean over its pixels.

    Args:
        classes: int (M, n, pixels), the predictions of M >= 2 members on n images.
        background: the class that is background.

    Returns:
        float64 (M, n), in [0, 1]; NaN where a member predicts no foreground.

    Example:
        >>> disagreement(np.array([[[0, 1, 1]], [[0, 1, 2]], [[1, 1, 2]]])).ravel().tolist()
        [0.5, 0.25, 0.5]
    """
    votes = {c: (classes == c).sum(0) for c in np.unique(classes).tolist()}
    same = sum(np.where(classes == c, count, 0) for c, count in votes.items()) - 1
    inside = classes != background
    count = inside.sum(-1)
    total = np.where(inside, 1 - same / (len(classes) - 1), 0).sum(-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def pairwise_dice(classes: np.ndarray, *, background: int = 0) -> np.ndarray:
    """Returns the mean Dice of the foreground classes over all pairs of members.

    A class that neither member of a pair predicts has no say; a pair without any foreground agrees.

    Args:
        classes: int (M, n, pixels), the predictions of M >= 2 members on n images.
        background: the class that is background.

    Returns:
        float64 (n,), in [0, 1].

    Source: Zenk et al., Comparative benchmarking of failure detection methods in medical image segmentation, 2025,
        arXiv 2406.03323.

    Example:
        >>> pairwise_dice(np.array([[[0, 1, 1]], [[0, 1, 2]]])).round(3).tolist()
        [0.333]
    """
    first, second = np.triu_indices(len(classes), k=1)
    total = np.zeros((len(first), classes.shape[1]))
    present = np.zeros(total.shape, np.int64)
    for c in np.setdiff1d(np.unique(classes), [background]):
        inside = np.moveaxis(classes == c, 0, 1).astype(np.float32)
        shared = (inside @ inside.transpose(0, 2, 1))[:, first, second].T
        area = inside.sum(-1).T
        both = area[first] + area[second]
        total += np.divide(2 * shared, both, out=np.zeros(both.shape), where=both > 0)
        present += both > 0
    return np.divide(total, present, out=np.ones(total.shape), where=present > 0).mean(0)
