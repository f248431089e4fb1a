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


def shared_pixels(classes: np.ndarray) -> np.ndarray:
    """Returns how many pixels two members both give a foreground class: what all scores of an ensemble follow from.

    Args:
        classes: int (M, n, pixels), the predictions of M members on n images; 0 is the background.

    Returns:
        float32 (F, n, M, M), whole numbers, for the F foreground classes that are predicted at all or lie below one
        that is; on the diagonal a member's own pixels.

    Example:
        >>> shared_pixels(np.array([[[0, 1, 1]], [[0, 1, 2]]]))[:, 0].tolist()
        [[[2.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]]]
    """
    images = np.moveaxis(classes, 0, 1)
    inside = [(images == c).astype(np.float32) for c in range(1, int(classes.max(initial=1)) + 1)]
    return np.stack([each @ each.transpose(0, 2, 1) for each in inside])


def disagreement(shared: np.ndarray) -> np.ndarray:
    """Returns how often the other members predict another class in a member's region, the mean over its pixels.

    Args:
        shared: (F, n, M, M) of `shared_pixels`, M >= 2.

    Returns:
        float64 (M, n), in [0, 1]; NaN where a member predicts no foreground.

    Example:
        >>> disagreement(shared_pixels(np.array([[[0, 1, 1]], [[0, 1, 2]], [[1, 1, 2]]]))).ravel().tolist()
        [0.5, 0.25, 0.5]
    """
    own = np.einsum("fnmm->mn", shared).astype(np.float64)
    same = shared.sum((0, 3), dtype=np.float64).T - own
    others = (shared.shape[-1] - 1) * own
    return 1 - np.divide(same, others, out=np.full(own.shape, np.nan), where=own > 0)


def pairwise_dice(shared: np.ndarray) -> np.ndarray:
    """Returns the mean Dice of the foreground classes over all pairs of members.

    A class that neither member of a pair predicts has no say; a pair without any foreground agrees.

    Args:
        shared: (F, n, M, M) of `shared_pixels`, M >= 2.

    Returns:
        float64 (n,), in [0, 1].

    Source: Zenk et al., Comparative benchmarking of failure detection methods in medical image segmentation, 2025,
        arXiv 2406.03323.

    Example:
        >>> pairwise_dice(shared_pixels(np.array([[[0, 1, 1]], [[0, 1, 2]]]))).round(3).tolist()
        [0.333]
    """
    first, second = np.triu_indices(shared.shape[-1], k=1)
    area = np.einsum("fnmm->fnm", shared).astype(np.float64)
    both = area[..., first] + area[..., second]
    dice = np.divide(2 * shared[..., first, second], both, out=np.zeros(both.shape), where=both > 0)
    present = (both > 0).sum(0)
    return np.divide(dice.sum(0), present, out=np.ones(present.shape), where=present > 0).mean(-1)
