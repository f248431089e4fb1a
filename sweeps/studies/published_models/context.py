"""Measures how strongly surrounding classes influence which wrong class is predicted.

Works on any model's predictions for labelled photos. The *evidence* that a context gives for a class comes from
co-occurrences in training labels; *beta* is its influence on the wrong class of a flip, estimated with a conditional
logit; *context use* is the change in log-odds per nat of evidence when a segment is pasted onto other scenes.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from flipjax.intervene.scenes import check_floating, check_photos
from flipjax.intervene.swap import log_odds_on_scenes, region_log_odds
from flipjax.metrics.inputs.checks import check_logits
from flipjax.metrics.inputs.classes import Background, is_foreground
from flipjax.metrics.scenes.swap import slope_within

SEEN = 0.01
"""Smallest share of the image at which a class counts as part of a segment's context."""
SHOWN = 0.001
"""Smallest share of the image at which a training image shows a class."""
LAPLACE = 1.0
FEW = 1000
"""Fewest training images for reliable statistics."""
LEAST_FLIPS = 50
SHUFFLES = 20
"""Permutations of contexts within the class."""
KAPPA = 5.0
"""Weight, in flips, of the overall rates in the shrunken rates of a class."""
ROUNDS = 50
CHUNK = 1 << 22
"""Numbers of resamples times flips times classes that are held at once."""
RIVAL = 0.02
"""Smallest share of the flips at which a class counts as a rival."""


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
        text = f"shares: found {len(shares)} training images; of fewer than {FEW:,} beta is too small."
        warnings.warn(text, stacklevel=2)
    images = np.asarray(true["image"], np.int64)
    row = np.full(len(true), -1) if own is None else np.asarray(own, np.int64)[images]
    counts, both = shown.sum(0), shown.T.astype(np.float64) @ seen

    def log_share(classes: np.ndarray) -> np.ndarray:
        """Returns log P(z_e | c), (S, C) over e, for one class c per segment."""
        left_out = ((row >= 0) & shown[row, classes])[:, None]
        share = (both[classes] - left_out * seen[row] + LAPLACE) / (counts[classes, None] - left_out + 2 * LAPLACE)
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
    lacking = named[~np.any(shown, axis=0)[named]].tolist()
    if lacking:
        form = "a training image for each class that is true or flipped to"
        raise ValueError(f"shares: expected {form}, found none for {', '.join(map(str, lacking))}.")


class Choice(NamedTuple):
    """beta with its 95% interval over images, its controls, and the number of flips.

    `shuffled` is the mean beta with contexts permuted within the class, `within` is beta with the class means of the
    evidence removed, and `difference` is beta less shuffled, with its 95% interval over images and permutations.
    """

    beta: float
    low: float
    high: float
    shuffled: float
    within: float
    flips: int
    difference: float
    difference_low: float
    difference_high: float

    @property
    def verdict(self) -> str:
        """States whether the interval of `difference` excludes 0."""
        if not self.difference_low <= 0 <= self.difference_high:
            return f"context {'influences' if self.difference > 0 else 'works against'} the predicted wrong class."
        return "no significant influence of context on the predicted wrong class."


def rival_rates(true: pd.DataFrame, *, num_classes: int) -> np.ndarray:
    """Returns log a, the log rate at which segments of the class flip to each class in other images: float64 (S, C).

    Rates are shrunk, with the weight of 5 flips, towards the fraction of all flips that each wrong class receives,
    itself smoothed by half a flip per class.

    Args:
        true: S rows of `flipjax.metrics.segments`.
        num_classes: C.

    Example:
        >>> import pandas as pd
        >>> rows = {"image": [0, 1], "class": [1, 1], "predicted": [2, 3], "outcome": ["flip", "flip"]}
        >>> np.exp(rival_rates(pd.DataFrame(rows), num_classes=4)).round(3).tolist()  # 0.125 and 0.375 of all flips
        [[0.104, 0.104, 0.312, 0.479], [0.104, 0.104, 0.479, 0.312]]
    """
    others = count_others(true, num_classes=num_classes)
    wrong = true.loc[true["outcome"] == "flip", "predicted"].to_numpy(np.int64)
    overall = (np.bincount(wrong, minlength=num_classes) + 0.5) / (len(wrong) + 0.5 * num_classes)
    return np.log((others + KAPPA * overall) / (others.sum(1, keepdims=True) + KAPPA))


def count_others(true: pd.DataFrame, *, num_classes: int) -> np.ndarray:
    """Counts the segments of the same class that flip to each class in other images: float64 (S, C).

    Example:
        >>> import pandas as pd
        >>> rows = {"image": [0, 1, 1], "class": [1, 1, 2], "predicted": [2, 3, 3], "outcome": 3 * ["flip"]}
        >>> count_others(pd.DataFrame(rows), num_classes=4).tolist()
        [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    flip = (true["outcome"] == "flip").to_numpy()
    taken = pd.DataFrame(np.eye(num_classes)[true["predicted"]] * flip[:, None], index=true.index)
    own = taken.groupby([true["class"], true["image"]]).transform("sum")
    return (taken.groupby(true["class"]).transform("sum") - own).to_numpy()


def draw_images(image: Any, generator: np.random.Generator, *, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the index of each row's image among the distinct images, and the count of each image in each resample.

    Args:
        image: int (S,), image of each row.
        generator: random generator.
        samples: number of resamples of the images.

    Returns:
        int64 (S,) and int64 (samples, images).
    """
    images, place = np.unique(image, return_inverse=True)
    return place, generator.multinomial(len(images), np.full(len(images), 1 / len(images)), size=samples)


def context_beta(
    true: pd.DataFrame, evidence: np.ndarray, *, chosen: Any = None, background: Background = 0, samples: int = 1000
) -> Choice:
    """Estimates beta of P(d) ~ exp(log a_cd + beta Delta_s(d)), over the classes d that a flip of class c can take.

    At beta = 0 context does not influence which wrong class is predicted; at 1 it does so as strongly as in the
    training labels. `a` is estimated from the flips of other images (`rival_rates`), which attenuates beta slightly.
    The estimate is observational: images with another context also differ in other ways.

    With few flips the permutation baseline is above 0, because shrinkage of `a` leaves class-level evidence
    unexplained; `difference` subtracts it.

    Args:
        true: S rows of `flipjax.metrics.segments`.
        evidence: float (S, C) of `context_evidence`.
        chosen: bool (S,), the flips to count, such as confusion only; None: all.
        background: the background class, a tuple of several, or None.
        samples: number of resamples of the images for the interval.

    Returns:
        `Choice`.

    Raises:
        ValueError: there are fewer than 50 flips, fewer than three foreground classes (one rival leaves no choice), or
            all flips have the same context.

    Source: McFadden, Conditional logit analysis of qualitative choice behavior, 1974.
    """
    C = evidence.shape[1]
    inside = is_foreground(C, background)
    if inside.sum() < 3:
        raise ValueError(f"evidence: expected three foreground classes or more, found {inside.sum()}: no choice.")
    truth = true["class"].to_numpy(np.int64)
    flip = (true["outcome"] == "flip").to_numpy() & (True if chosen is None else chosen)
    if flip.sum() < LEAST_FLIPS:
        raise ValueError(f"flips: expected at least {LEAST_FLIPS}, found {flip.sum()}: too few to estimate beta.")
    if not evidence[flip].any():
        raise ValueError("evidence: expected contexts that differ, found the same evidence for all classes.")
    is_rival = inside & (np.arange(C) != truth[:, None])
    rates = np.where(is_rival, rival_rates(true, num_classes=C), -np.inf)[flip]
    wrong = true["predicted"].to_numpy(np.int64)[flip]
    generator = np.random.default_rng(0)
    image, counts = draw_images(true["image"][flip], generator, samples=samples)
    centred = np.where(is_rival, evidence - pd.DataFrame(evidence).groupby(truth).transform("mean"), 0)
    once, weights = np.ones((1, len(wrong))), counts[:, image].astype(np.float64)
    beta, within = (fit_logit(each[flip], rates, wrong, once).item() for each in (evidence, centred))
    drawn = fit_logit(evidence[flip], rates, wrong, weights)
    rows = pd.Series(range(len(truth))).groupby(truth)
    orders = [rows.transform(generator.permutation)[flip] for _ in range(SHUFFLES)]
    shuffled = float(np.mean([fit_logit(evidence[order], rates, wrong, once) for order in orders]))
    apart = drawn.copy()
    for k, order in enumerate(orders):
        apart[k::SHUFFLES] -= fit_logit(evidence[order], rates, wrong, weights[k::SHUFFLES])
    (low, high), (least, most) = (np.percentile(each, (2.5, 97.5)).tolist() for each in (drawn, apart))
    return Choice(beta, low, high, shuffled, within, len(wrong), beta - shuffled, least, most)


def fit_logit(evidence: np.ndarray, rates: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fits beta for each row of weights by Newton's method: float64 (R,).

    Args:
        evidence: float (n, C), for n flips.
        rates: float (n, C), log a; -inf for impossible classes.
        wrong: int (n,), the predicted class.
        weights: float (R, n), weights of the flips in each fit.

    Example:
        >>> two = np.log([[0.5, 0.5]] * 4)  # Three of four flips follow the evidence of 1 nat.
        >>> beta = fit_logit(np.array([[1.0, 0.0]] * 4), two, np.array([0, 0, 0, 1]), np.ones((1, 4)))
        >>> float(np.exp(beta[0]).round(6))
        3.0
    """
    step = max(1, CHUNK // max(1, evidence.size))
    parts = [_newton(evidence, rates, wrong, weights[i : i + step]) for i in range(0, len(weights), step)]
    return np.concatenate([np.zeros(0), *parts])


def _newton(evidence: np.ndarray, rates: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    beta = np.zeros(len(weights))
    chosen = evidence[np.arange(len(wrong)), wrong]
    for _ in range(ROUNDS):
        utility = rates + beta[:, None, None] * evidence
        share = np.exp(utility - utility.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        mean = np.einsum("rnc,nc->rn", share, evidence)
        spread = np.einsum("rnc,nc->rn", share, evidence**2) - mean**2
        slope = (weights * (chosen - mean)).sum(1)
        # The ridge handles resamples with equal contexts; steps are at most 1 since the loss is not quadratic.
        change = np.clip(slope / ((weights * spread).sum(1) + 1e-6), -1, 1)
        beta = beta + change
        if np.abs(change).max() < 1e-7:
            break
    return beta


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
    images, labels = map(np.asarray, check_photos(images, labels))
    scenes = np.asarray(check_floating(scenes, name="scenes"))
    if scenes.shape[1:] != images.shape[1:]:
        raise ValueError(f"scenes: expected (D, H, W, channels) for images {images.shape}, found {scenes.shape}.")
    image, own = (true[name].to_numpy(np.int64) for name in ("image", "class"))
    inside = is_foreground(count_classes(true), background)
    shift = np.zeros((len(true), len(inside)))
    ask = functools.partial(ask_model, predict, classes=len(inside), background=background)
    for first in range(0, len(true), batch):
        rows = slice(first, first + batch)
        regions = labels[image[rows]] == own[rows, None, None]
        shown, place = np.unique(image[rows], return_inverse=True)
        there = region_log_odds(ask(images[shown])[place], regions, background=background)
        answers = functools.partial(map, ask)
        moved = log_odds_on_scenes(answers, images[image[rows]], regions, scenes, background=background)
        shift[rows, inside] = np.asarray(moved, np.float64).mean(1) - np.asarray(there, np.float64)
    return shift


def ask_model(predict: Callable[[Any], Any], pixels: Any, *, classes: int, background: Background) -> np.ndarray:
    """Returns the logits of `predict` as float32 (b, H, W, C), after a check of their shape."""
    logits = check_logits(predict(pixels), background=background)
    if logits.shape != (wanted := (*pixels.shape[:-1], classes)):
        raise ValueError(f"predict: expected logits {wanted} of as many classes as segments, found {logits.shape}.")
    return np.asarray(logits, np.float32)


def context_use(
    true: pd.DataFrame, evidence: np.ndarray, shift: np.ndarray, *, background: Background = 0, samples: int = 1000
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
    image, counts = draw_images(true["image"], np.random.default_rng(0), samples=samples)
    strata, stratum = np.unique(truth[rows] * C + rivals, return_inverse=True)
    shape = (counts.shape[1], len(strata))
    sums = [sparse.csr_array((v, (image[rows], stratum)), shape=shape) for v in (np.ones(len(x)), x, y, x * x, x * y)]

    def slope(weights: np.ndarray) -> np.ndarray:
        return -slope_within(*(weights @ each for each in sums))

    low, high = np.percentile(slope(counts.astype(np.float64)), (2.5, 97.5))
    return Use(float(slope(np.ones((1, counts.shape[1])))[0]), float(low), float(high), len(rows))
