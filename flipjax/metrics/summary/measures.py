"""Measures of a score of images: each is one function, registered here with its title and unit.

A function takes `ScoredImages` and returns a value for each of J scores, (J,). Its columns in scores.csv and its title
follow from the registry.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property

import numpy as np

from flipjax.metrics.registry import Quantity
from flipjax.metrics.statistics import selective


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredImages:
    """N images with J scores, none of them NaN."""

    scores: np.ndarray
    """float64 (J, N), higher where errors are expected."""
    losses: np.ndarray
    """float64 (N,), the flip shares."""
    thresholds: np.ndarray
    """float64 (J,), from validation images; images with a score up to it are accepted."""

    def where(self, inside: np.ndarray) -> ScoredImages:
        """Returns some of the images; `inside` is bool (N,)."""
        return dataclasses.replace(self, scores=self.scores[:, inside], losses=self.losses[inside])

    @cached_property
    def areas(self) -> selective.Areas:
        """Areas under the curves of the scores."""
        return selective.areas(self.scores, self.losses)

    @cached_property
    def accepted(self) -> tuple[np.ndarray, np.ndarray]:
        """Coverage and mean loss of the accepted images, (J,) each."""
        return selective.accepted(self.scores, self.losses, thresholds=self.thresholds)


@dataclasses.dataclass(frozen=True)
class Measure:
    """A measure of scores and how it is computed."""

    quantity: Quantity
    """What it means; its key begins a column of scores.csv."""
    part: str
    """`val` or `test`: the images that it is computed on."""
    compute: Callable[[ScoredImages], np.ndarray]
    """Its function."""


MEASURES: list[Measure] = []
"""All of them, in the order of the columns of scores.csv."""


def measure(
    key: str, title: str, *, better: str, part: str = "test"
) -> Callable[[Callable[[ScoredImages], np.ndarray]], Callable[[ScoredImages], np.ndarray]]:
    """Registers a function as the measure `key`, a share, with its docstring as the meaning; see `Measure`."""

    def register(compute: Callable[[ScoredImages], np.ndarray]) -> Callable[[ScoredImages], np.ndarray]:
        meaning = " ".join((compute.__doc__ or "").split())
        MEASURES.append(Measure(Quantity(key, title, "share", better, meaning), part, compute))
        return compute

    return register


@measure("auroc", "AUROC", better="up")
def auroc(images: ScoredImages) -> np.ndarray:
    """How well the score ranks images with a flip share above 0.5 over the others."""
    return images.areas.auroc


@measure("aurc", "AURC", better="down")
def aurc(images: ScoredImages) -> np.ndarray:
    """As flip-risk AURC, ranked by the score."""
    return images.areas.aurc


@measure("excess_aurc", "E-AURC", better="down")
def excess_aurc(images: ScoredImages) -> np.ndarray:
    """AURC less that of the best ranking there is."""
    return images.areas.excess_aurc


@measure("augrc", "AUGRC", better="down")
def augrc(images: ScoredImages) -> np.ndarray:
    """Area under the risk times the coverage: the mean risk of silent failure."""
    return images.areas.augrc


@measure("val_coverage", "coverage, validation", better="up", part="val")
def val_coverage(images: ScoredImages) -> np.ndarray:
    """Share of the validation images at or below the threshold."""
    return images.accepted[0]


@measure("val_risk", "risk, validation", better="down", part="val")
def val_risk(images: ScoredImages) -> np.ndarray:
    """Their mean flip share, over all groups at most the wanted one."""
    return images.accepted[1]


@measure("test_coverage", "coverage, test", better="up")
def test_coverage(images: ScoredImages) -> np.ndarray:
    """Share of the test images at or below that threshold."""
    return images.accepted[0]


@measure("test_risk", "risk, test", better="down")
def test_risk(images: ScoredImages) -> np.ndarray:
    """Their mean flip share."""
    return images.accepted[1]


SCORE_QUANTITIES = {measure.quantity.key: measure.quantity for measure in MEASURES}
"""What the measures mean, by key."""
