"""Estimates the influence of context on the wrong class of a flip, with a conditional logit."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flipjax.metrics.classes import Background, is_foreground

LEAST_FLIPS = 50
KAPPA = 5.0
"""Weight, in flips, of the overall rates in the shrunken rates of a class."""
ROUNDS = 50
CHUNK = 1 << 22
"""Numbers of resamples times flips times classes that are held at once."""


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
        >>> np.exp(rival_rates(pd.DataFrame(rows), num_classes=4)).round(3).tolist()  # .125 and .375 of all flips
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
    true: pd.DataFrame,
    evidence: np.ndarray,
    *,
    chosen: np.ndarray | None = None,
    background: Background = 0,
    samples: int = 1000,
    shuffles: int = 20,
    seed: int = 0,
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
        shuffles: number of permutations of contexts within the class.
        seed: seed of resamples and permutations.

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
        raise ValueError(f"flips: expected at least {LEAST_FLIPS}, found {flip.sum()}: too few to tell beta.")
    if not evidence[flip].any():
        raise ValueError("evidence: expected contexts that differ, found the same evidence for all classes.")
    is_rival = inside & (np.arange(C) != truth[:, None])
    rates = np.where(is_rival, rival_rates(true, num_classes=C), -np.inf)[flip]
    wrong = true["predicted"].to_numpy(np.int64)[flip]
    generator = np.random.default_rng(seed)
    image, counts = draw_images(true["image"][flip], generator, samples=samples)
    by_class = pd.DataFrame(evidence).groupby(truth)
    centred = np.where(is_rival, evidence - by_class.transform("mean"), 0)
    once = np.ones((1, len(wrong)))
    beta, within = (fit_logit(each[flip], rates, wrong, once).item() for each in (evidence, centred))
    weights = counts[:, image].astype(np.float64)
    drawn = fit_logit(evidence[flip], rates, wrong, weights)
    rows = pd.Series(range(len(truth))).groupby(truth)
    orders = [rows.transform(generator.permutation)[flip] for _ in range(shuffles)]
    shuffled = float(np.mean([fit_logit(evidence[order], rates, wrong, once) for order in orders]))
    apart = drawn.copy()
    for k, order in enumerate(orders):
        apart[k::shuffles] -= fit_logit(evidence[order], rates, wrong, weights[k::shuffles])
    low, high = map(float, np.percentile(drawn, (2.5, 97.5)))
    least, most = map(float, np.percentile(apart, (2.5, 97.5)))
    return Choice(beta, low, high, shuffled, within, len(wrong), beta - shuffled, least, most)


def fit_logit(evidence: np.ndarray, rates: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fits beta for each row of weights by Newton's method: float64 (R,).

    Args:
        evidence: float (n, C), for n flips.
        rates: float (n, C), log a; -inf for impossible classes.
        wrong: int (n,), the predicted class.
        weights: float (R, n), weights of the flips in each fit.

    Example:
        >>> two = np.log([[0.5, 0.5]] * 4)  # Of four flips three take what the evidence of 1 nat says.
        >>> beta = fit_logit(np.array([[1.0, 0.0]] * 4), two, np.array([0, 0, 0, 1]), np.ones((1, 4)))
        >>> float(np.exp(beta[0]).round(6))
        3.0
    """
    step = max(1, CHUNK // max(1, evidence.size))
    parts = [_newton(evidence, rates, wrong, weights[i : i + step]) for i in range(0, len(weights), step)]
    return np.concatenate(parts) if parts else np.zeros(0)


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
