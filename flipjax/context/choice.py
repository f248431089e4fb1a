"""Whether the context of a flip says which wrong class it takes: a conditional logit among the flips."""

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
    """beta, its 95 % interval over images, what else it could be, and how many flips it is of.

    `shuffled`: the mean over contexts shuffled within the class. `within`: beta of the evidence less its mean over the
    class's segments.
    """

    beta: float
    low: float
    high: float
    shuffled: float
    within: float
    flips: int


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

    0: the context has no say in which wrong class it is; 1: it has the say that the training labels give it. Other
    images' flips give a (`rival_rates`). It is observational: images with another context differ in other things, too.
    It is a little too small, since a is known from flips alone: of made-up models that use 0, .5 and 1 of the evidence
    the mean over 12 draws of about 600 flips was .02, .48 and .90, and each interval held the truth.

    Its shuffled value is not 0 where flips are few: a class's mean evidence says to which classes it flips, and a,
    shrunk, says it less. For a published model on 445 photos of VOC-val it is .18 (sweeps/studies/published_models).
    `within` takes the class's mean away: shuffled 0 on average, and .02, .53 and .99 of the models above.

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
    drawn = fit_logit(evidence[flip], rates, wrong, counts[:, image].astype(np.float64))
    rows = pd.Series(range(len(truth))).groupby(truth)
    orders = [rows.transform(generator.permutation)[flip] for _ in range(shuffles)]
    shuffled = [fit_logit(evidence[order], rates, wrong, once) for order in orders]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Choice(beta, float(low), float(high), float(np.mean(shuffled)), within, len(wrong))


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
