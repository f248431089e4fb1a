"""Computes beta in an audit with enough flips."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from flipjax.context import context_beta, context_evidence
from flipjax.context.choice import LEAST_FLIPS
from flipjax.context.evidence import SHOWN
from flipjax.metrics import Decomposition
from flipjax.metrics.classes import is_foreground
from flipjax.results.text import TextTable

LEAST_CLASSES = 3
"""Below it, and below `LEAST_FLIPS`, there is no beta: it would be noise, and one rival is no choice."""
WORK = 5e7
"""Resamples times flips times classes, at most: about ten seconds."""
CONTEXT = "Context of flips, from where classes stand together in these images, each without itself"


def measure_contexts(
    true: pd.DataFrame, decomposition: Decomposition, ignored: np.ndarray
) -> tuple[dict[str, Any], np.ndarray]:
    """Returns beta of `flipjax.context` by name, and the evidence of each segment.

    Evidence is for the predicted class of a flip. Training statistics come from the audited labels; flips to classes
    that no image shows are left out.

    Args:
        true: S rows of `flipjax.metrics.segments`.
        decomposition: the decomposition of n images.
        ignored: ignored pixels per image, int (n,).

    Returns:
        `{"beta": Choice}`, empty below 50 flips or three foreground classes; and float (S,), in
        nats, NaN for segments that do not flip.
    """
    confusion, background = np.asarray(decomposition.confusion), decomposition.background
    evidence = np.full(len(true), np.nan)
    flip = np.asarray(true["outcome"] == "flip", bool)
    labels = confusion.sum(2)
    wrong = np.asarray(true["predicted"], np.int64)
    C = confusion.shape[-1]
    shares = labels / (labels.sum(1) + ignored)[:, None]
    shown = (shares >= SHOWN).any(0)[wrong] | ~flip
    if (flip & shown).sum() < LEAST_FLIPS or is_foreground(C, background).sum() < LEAST_CLASSES:
        return {}, evidence
    kept = true[shown].reset_index(drop=True)
    with warnings.catch_warnings():
        # CONTEXT already states that images are few.
        warnings.simplefilter("ignore", UserWarning)
        own = context_evidence(kept, shares, own=np.arange(len(labels)), background=background)
    if not own[flip[shown]].any():
        return {}, evidence
    evidence[shown & flip] = own[flip[shown], wrong[shown & flip]]
    samples = int(np.clip(WORK / (flip.sum() * C), 100, 1000))
    beta = context_beta(kept, own, background=background, samples=samples)
    return {"beta": beta}, evidence


def context_table(numbers: Mapping[str, Any]) -> TextTable:
    """Returns the numbers of `measure_contexts` with their definitions."""
    beta = numbers["beta"]
    rows = [
        ["beta", *_cells(beta.beta, beta.low, beta.high), f"{beta.flips} flips; 1: as in the labels"],
        [
            "beta less shuffled",
            *_cells(beta.difference, beta.difference_low, beta.difference_high),
            beta.verdict,
        ],
    ]
    return TextTable(["quantity", "value", "95% interval", "meaning"], rows)


def _cells(value: float, low: float, high: float) -> list[str]:
    return ["-", "-"] if math.isnan(value) else [f"{value:.3f}", f"[{low:.3f}, {high:.3f}]"]
