"""Influence of context on the wrong class of a flip: a conditional logit among the flips."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flipjax.metrics.classes import Background, is_foreground

LEAST_FLIPS = 50
KAPPA = 5.0
"""Flips of the shares over all classes that are added to those of a class."""
ROUNDS = 50
CHUNK = 1 << 22
"""Numbers of resamples times flips times classes that are held at once."""


class Choice(NamedTuple):
    """beta, its 95% interval over images, its controls, and the number of flips.

    `shuffled`: mean with contexts permuted within the class. `within`: of the evidence less its mean over the class's
    segments. `difference`: beta less shuffled, with its 95% interval over images and permutations.
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
        """A sentence: whether the interval of beta less its shuffled value excludes 0."""
        if not self.difference_low <= 0 <= self.difference_high:
            return f"context {'influences' if self.difference > 0 else 'works against'} the predicted wrong class."
        return "no significant influence of context on the predicted wrong class."


def rival_rates(true: pd.DataFrame, *, num_classes: int) -> np.ndarray:
    """Returns log a, how often segments of the class flip to each class in other images: float64 (S, C).

    Shrunk by 5 flips to the shares of the wrong classes over all flips, of which each class has half a flip more.

    Args:
        true: of `flipjax.metrics.segments`, S rows.
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
    """Returns how many segments of the segment's class flip to each class in other images: float64 (S, C).

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
    """Returns the place of each row's image among those that there are, (S,), and how often each resample has these.

    Args:
        image: int (S,).
        generator: draws.
        samples: resamples of the images.

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
    """Returns beta of P(d) ~ exp(log a_cd + beta Delta_s(d)), over the classes d that a flip of class c can take.

    beta = 0: context does not influence which wrong class is predicted; 1: it does so as strongly as in the training
    labels. `a` is estimated from the flips of other images (`rival_rates`). Observational: images with another context
    differ in other ways, too. beta is slightly attenuated, since `a` is estimated from the same flips.

    With few flips the permutation baseline is above 0, because shrinkage of `a` leaves class-level evidence
    unexplained: .18 for a published model on 445 photos of VOC-val (sweeps/studies/published_models). `difference`
    subtracts it.

    Args:
        true: of `flipjax.metrics.segments`, S rows.
        evidence: float (S, C) of `context_evidence`.
        chosen: bool (S,), the flips to count, such as confusion alone; None: all.
        background: the class that is background, several in a tuple, or None.
        samples: resamples of images for the interval.
        shuffles: how often contexts are shuffled within the class.
        seed: of the resamples and shuffles.

    Returns:
        `Choice`.

    Raises:
        ValueError: fewer than 50 flips, fewer than three foreground classes (one rival is no choice), or one context
            for all flips.

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
    """Returns beta of each row of weights (R, n) of n flips, by Newton's method: float64 (R,).

    Args:
        evidence: float (n, C).
        rates: float (n, C), log a; -inf for a class that cannot be taken.
        wrong: int (n,), the class that was.
        weights: float (R, n).

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
    told = evidence[np.arange(len(wrong)), wrong]
    for _ in range(ROUNDS):
        utility = rates + beta[:, None, None] * evidence
        share = np.exp(utility - utility.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        mean = np.einsum("rnc,nc->rn", share, evidence)
        spread = np.einsum("rnc,nc->rn", share, evidence**2) - mean**2
        slope = (weights * (told - mean)).sum(1)
        # A tiny ridge where resampled contexts are all alike; steps of 1 at most, for it is far from a parabola.
        change = np.clip(slope / ((weights * spread).sum(1) + 1e-6), -1, 1)
        beta = beta + change
        if np.abs(change).max() < 1e-7:
            break
    return beta
