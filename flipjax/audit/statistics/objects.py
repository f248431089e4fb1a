"""Counts the segments of an audit by outcome, of each class and of each image, with intervals over images."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax import metrics
from flipjax.audit.counting.measurements import Measurements
from flipjax.metrics import SegmentTables
from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.statistics.intervals import Estimate, estimate_rate
from flipjax.support.files import replacing
from flipjax.support.frames import write_csv

MISSED = "missed_segments"
"""Beginning of the keys `missed_segments/<class>`, and the name of their counts."""
FLIPPED = "flipped_segments"
"""Beginning of the keys `flipped_segments/<class>`, and the name of their counts."""


@dataclasses.dataclass(frozen=True)
class SegmentCounts:
    """Numbers of true segments by image and true class, by outcome: int64 (n, C) each."""

    segments: np.ndarray
    """All true segments."""
    flipped_segments: np.ndarray
    """Segments that flip as a whole."""
    missed_segments: np.ndarray
    """Segments that are missed as a whole."""
    matched_segments: np.ndarray
    """Segments that a predicted segment matches at IoU above 1/2."""
    renamed_segments: np.ndarray
    """Matched segments whose match has another class."""

    @classmethod
    def empty(cls, classes: int) -> "SegmentCounts":
        """Returns the counts of one image without segments."""
        none = np.zeros((1, classes), np.int64)
        return cls(none, none, none, none, none)

    def of_outcome(self, outcome: str) -> np.ndarray:
        """Returns the counts of segments that flip (`flip`) or are missed (`miss`)."""
        return {"flip": self.flipped_segments, "miss": self.missed_segments}[outcome]

    def hit_images(self, wrong_segments: np.ndarray) -> Ratio:
        """Returns 1.0 for each image with a wrong segment over 1.0 for each with a true segment, (n,).

        Args:
            wrong_segments: the number of wrong segments by image and class, (n, C).
        """
        has_wrong = wrong_segments.sum(1) > 0
        has_segments = self.segments.sum(1) > 0
        return Ratio(has_wrong.astype(float), has_segments.astype(float))

    def ratios(self, class_names: Sequence[str], foreground: Sequence[int]) -> dict[str, Ratio]:
        """Returns the numerator and denominator of each segment rate in each image, (n,), by its key of the summary."""
        either = self.flipped_segments + self.missed_segments
        ratios = {
            "seg_flip": Ratio(self.flipped_segments.sum(1), self.segments.sum(1)),
            "strict_flip": Ratio(self.renamed_segments.sum(1), self.matched_segments.sum(1)),
            "object_images": self.hit_images(either),
            "flipped_object_images": self.hit_images(self.flipped_segments),
            "missed_object_images": self.hit_images(self.missed_segments),
        }
        for c in foreground:
            of_class = self.segments[:, c]
            ratios[f"{FLIPPED}/{class_names[c]}"] = Ratio(self.flipped_segments[:, c], of_class)
            ratios[f"{MISSED}/{class_names[c]}"] = Ratio(self.missed_segments[:, c], of_class)
        return ratios


def count_segments(true: pd.DataFrame, *, images: int, classes: int) -> SegmentCounts:
    """Counts true segments by image, class and outcome.

    Args:
        true: the table `true` of `flipjax.metrics.segment_tables`.
        images: n.
        classes: C.

    Example:
        >>> rows = {"image": [0, 0, 1], "class": [1, 2, 2], "outcome": ["flip", "miss", "correct"]}
        >>> counts = count_segments(pd.DataFrame(rows | {"matched": [2, None, 2]}), images=2, classes=3)
        >>> counts.segments.tolist(), counts.missed_segments.tolist()
        ([[0, 1, 1], [0, 0, 1]], [[0, 0, 1], [0, 0, 0]])
    """
    image = true["image"].to_numpy(np.int64)
    truth = true["class"].to_numpy(np.int64)
    outcome = true["outcome"].to_numpy(str)
    match = true["matched"].fillna(-1).to_numpy(np.int64)

    def count(chosen: np.ndarray) -> np.ndarray:
        counts = np.zeros((images, classes), np.int64)
        np.add.at(counts, (image[chosen], truth[chosen]), 1)
        return counts

    return SegmentCounts(
        segments=count(np.ones(len(true), bool)),
        flipped_segments=count(outcome == "flip"),
        missed_segments=count(outcome == "miss"),
        matched_segments=count(match >= 0),
        renamed_segments=count((match >= 0) & (match != truth)),
    )


@dataclasses.dataclass(frozen=True)
class Objects:
    """The segments of an audit."""

    tables: SegmentTables
    """Tables with a row for each true segment, a row for each predicted segment, and pixels by kind of error."""
    counts: SegmentCounts
    """Segments of each image by class."""
    flips: pd.DataFrame
    """`metrics.segment_flips` by class and `all`, with `_low` and `_high` of `seg_flip` and `strict_flip`."""
    rates: dict[str, Estimate]
    """The rates of `SegmentCounts.ratios`; a single image or cluster gives NaN intervals."""
    budget: pd.DataFrame
    """`metrics.error_budget`: wrong pixels by kind, and what mending them is worth."""

    @property
    def flipped(self) -> pd.DataFrame:
        """The true segments that flip."""
        return self.tables.true[self.tables.true["outcome"] == "flip"]

    @property
    def flipped_pairs(self) -> pd.DataFrame:
        """The flipped segments (`size`) and their pixels (`sum`) by `class` and `predicted`, most segments first."""
        counts = self.flipped.groupby(["class", "predicted"])["pixels"].agg(["size", "sum"])
        return counts.sort_values(["size", "sum"], ascending=False, kind="stable").reset_index()

    def images_with(self, outcome: str, c: int) -> np.ndarray:
        """Returns the images in which a segment of class c has an outcome, int64, in order."""
        true = self.tables.true
        chosen = (true["outcome"] == outcome) & (true["class"] == c)
        return np.unique(true["image"][chosen].to_numpy(np.int64))


def count_objects(measured: Measurements) -> Objects:
    """Counts segments. A single image or cluster gives NaN intervals."""
    tables = measured.segments
    classes = len(measured.class_names)
    counts = count_segments(tables.true, images=len(measured.names), classes=classes)
    clusters = measured.clusters
    units = len(measured.names)
    if clusters is not None:
        units = len(np.unique(clusters))
    rates = {}
    for key, ratio in counts.ratios(measured.class_names, measured.foreground).items():
        estimate = estimate_rate(ratio, clusters=clusters)
        if units < 2:
            estimate = Estimate(estimate.value, np.nan, np.nan)
        rates[key] = estimate
    return Objects(
        tables=tables,
        counts=counts,
        flips=metrics.segment_flips(tables.true, clusters=clusters, class_names=measured.class_names),
        rates=rates,
        budget=_budget(tables.pixels, measured),
    )


def _budget(pixels: pd.DataFrame, measured: Measurements) -> pd.DataFrame:
    """Returns `metrics.error_budget` of pixels that count by their size, with numbers of pixels."""
    classes = len(measured.class_names)
    counted = metrics.error_budget(pixels, num_classes=classes)
    if not measured.is_weighted:
        return counted
    weights = measured.pixel_weights[pixels["image"].to_numpy(np.int64)]
    weighted = metrics.error_budget(pixels.assign(pixels=pixels["pixels"] * weights), num_classes=classes)
    return weighted.assign(pixels=counted["pixels"])


def write_segments(folder: Path, measured: Measurements) -> None:
    """Writes one row per true segment to segments.parquet, or to segments.csv without pyarrow."""
    table = _named_segments(measured)
    if importlib.util.find_spec("pyarrow") is None:
        (folder / "segments.parquet").unlink(missing_ok=True)
        write_csv(folder / "segments.csv", table)
        return
    (folder / "segments.csv").unlink(missing_ok=True)
    with replacing(folder / "segments.parquet") as stream:
        table.to_parquet(stream, index=False)


def _named_segments(measured: Measurements) -> pd.DataFrame:
    """Returns the true segments after columns with the names of their image and classes."""
    true = measured.segments.true
    class_names = np.array(measured.class_names, object)
    named = {"name": np.array(measured.names, object)[true["image"]]}
    for column in ("class", "predicted"):
        named[f"{column}_name"] = class_names[true[column]]
    return pd.DataFrame({**named, **dict(true.items())})
