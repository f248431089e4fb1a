"""Beta of the contexts of an audit, where it has enough flips."""

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
    """Returns beta of `flipjax.context` by name, and each segment's evidence.

    Evidence is that for the class which a flip takes. Training statistics are those of the labels at hand; a flip to a
    class that no image shows is left out.

    Args:
        true: of `flipjax.metrics.segments`, S rows.
        decomposition: of the n images.
        ignored: pixels of each that count nowhere, int (n,).

    Returns:
        `{"beta": Choice}`, empty below 50 flips or three foreground classes; and float (S,), in
        nats, NaN of segments that do not flip.
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
        # That the images are few stands in CONTEXT.
        warnings.simplefilter("ignore", UserWarning)
        own = context_evidence(kept, shares, own=np.arange(len(labels)), background=background)
    if not own[flip[shown]].any():
        return {}, evidence
    evidence[shown & flip] = own[flip[shown], wrong[shown & flip]]
    samples = int(np.clip(WORK / (flip.sum() * C), 100, 1000))
    beta = context_beta(kept, own, background=background, samples=samples)
    return {"beta": beta}, evidence


def context_table(numbers: Mapping[str, Any]) -> TextTable:
    """Returns the numbers of `measure_contexts` and their meaning."""
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
