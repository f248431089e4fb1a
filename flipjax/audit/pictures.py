"""The images worth looking at: truth, prediction, errors and flip-risk of each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flipjax import metrics
from flipjax.audit.arrays import Reader
from flipjax.audit.layout import Layout
from flipjax.audit.results import Audit
from flipjax.audit.sources import Pair
from flipjax.audit.values import IGNORED, Values, read_pair
from flipjax.report.pictures import Maps

SHOWN = 6
LARGEST_SIDE = 256


class Picture(NamedTuple):
    """One image: its index, why it was chosen, and its maps; truth is C where ignored."""

    index: int
    kind: str
    maps: Maps


def choose(audit: Audit, *, count: int = SHOWN) -> dict[int, str]:
    """Chooses images, and says why: the riskiest, and the most flipped ones of the less risky half.

    The latter are those that flip-risk does not point at: their flip share is above 0.1.
    """
    risk, flip = np.asarray(audit.decomposition.flip_risk), np.asarray(audit.decomposition.flip)
    known = np.flatnonzero(~np.isnan(risk) & ~np.isnan(flip))
    riskiest = known[np.argsort(-risk[known], kind="stable")][:count]
    sure = known[(flip[known] > 0.1) & (risk[known] <= np.median(risk[known]))] if known.size else known
    sure = sure[~np.isin(sure, riskiest)]
    sure = sure[np.argsort(-flip[sure], kind="stable")][:count]
    return {int(i): "riskiest" for i in riskiest} | {int(i): "flipped, but sure" for i in sure}


def draw_out(pairs: Sequence[Pair], layout: Layout, values: Values, *, chosen: dict[int, str]) -> list[Picture]:
    """Reads the chosen images once more, in the order of the files, and makes their maps, in the order chosen."""
    made = {}
    with Reader() as reader:
        for index in sorted(chosen):
            logits, labels = read_pair(reader, pairs[index], layout, values)
            step = -(-max(labels.shape) // LARGEST_SIDE)
            logits, labels = logits[::step, ::step], labels[::step, ::step]
            errors = metrics.error_map(logits, labels, background=values.background, ignore_index=IGNORED)
            prediction = logits.argmax(-1)
            # An image's flip-risk is the mean over its predicted foreground: the rest is left blank.
            risk = np.where(
                prediction == values.background, np.nan, metrics.risk_map(logits, background=values.background)
            )
            truth = np.where(labels == IGNORED, layout.classes, labels)
            made[index] = Maps(truth, prediction, np.asarray(errors), risk)
    return [Picture(index, kind, made[index]) for index, kind in chosen.items()]
