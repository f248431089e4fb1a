"""Counts the segments of an audit by outcome, with intervals over images."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax import metrics
from flipjax.audit.measurements import Measurements
from flipjax.metrics import SegmentTables
from flipjax.metrics.classes import Background
from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.intervals import Estimate, estimate_rate
from flipjax.results.frames import write_csv
from flipjax.support.files import replacing


@dataclasses.dataclass(frozen=True)
class Objects:
    """The segments of an audit."""

    tables: SegmentTables
    """A row a true segment, a row a predicted segment, and pixels by kind of error."""
    flips: pd.DataFrame
    """`metrics.segment_flips` by class and `all`, with `_low` and `_high` of `seg_flip` and `strict_flip`."""
    confusion: np.ndarray
    """Segments by true and predicted class, int64 (C, C)."""
    images_hit: Estimate
    """The share of the images with true segments in which one of them flips or is missed as a whole."""
    budget: pd.DataFrame
    """`metrics.error_budget`: wrong pixels by kind, and what mending them is worth."""
    class_names: tuple[str, ...]
    """The C classes' names."""
    background: Background
    """The background class, several, or None."""

    @property
    def flipped(self) -> pd.DataFrame:
        """The true segments that flip."""
        return self.tables.true[self.tables.true["outcome"] == "flip"]

    @property
    def flipped_pairs(self) -> pd.DataFrame:
        """The flipped segments (`size`) and their pixels (`sum`) by `class` and `predicted`, most segments first."""
        counts = self.flipped.groupby(["class", "predicted"])["pixels"].agg(["size", "sum"])
        return counts.sort_values(["size", "sum"], ascending=False, kind="stable").reset_index()


def count_objects(measured: Measurements) -> Objects:
    """Counts segments; rates have intervals if several images, or clusters, have segments."""
    tables = measured.segments
    C = len(measured.class_names)
    return Objects(
        tables=tables,
        flips=metrics.segment_flips(tables.true, clusters=measured.clusters, class_names=measured.class_names),
        confusion=metrics.segment_confusion(tables.true, num_classes=C),
        images_hit=_images_hit(tables.true, measured),
        budget=_budget(tables.pixels, measured),
        class_names=tuple(measured.class_names),
        background=measured.decomposition.background,
    )


def _budget(pixels: pd.DataFrame, measured: Measurements) -> pd.DataFrame:
    """Returns `metrics.error_budget` of pixels that count by their size, with numbers of pixels."""
    classes = len(measured.class_names)
    counted = metrics.error_budget(pixels, num_classes=classes)
    if not measured.weighing:
        return counted
    weights = measured.pixel_weights[pixels["image"].to_numpy(np.int64)]
    weighted = metrics.error_budget(pixels.assign(pixels=pixels["pixels"] * weights), num_classes=classes)
    return weighted.assign(pixels=counted["pixels"])


def _images_hit(true: pd.DataFrame, measured: Measurements) -> Estimate:
    """Returns the share of images with true segments in which one flips or is missed."""
    shown = np.zeros(len(measured.names))
    hit = np.zeros(len(measured.names))
    shown[true["image"].to_numpy(np.int64)] = 1
    hit[true["image"][true["outcome"].isin(("flip", "miss"))].to_numpy(np.int64)] = 1
    return estimate_rate(Ratio(hit, shown), clusters=measured.clusters)


def write_segments(folder: Path, objects: Objects, names: Sequence[str]) -> None:
    """Writes one row per true segment to segments.parquet, or to segments.csv without pyarrow."""
    true = objects.tables.true
    class_names = np.array(objects.class_names, object)
    spelled = {"name": np.array(names, object)[true["image"]]}
    for column in ("class", "predicted"):
        spelled[f"{column}_name"] = class_names[true[column]]
    table = pd.DataFrame({**spelled, **dict(true.items())})
    if importlib.util.find_spec("pyarrow") is None:
        (folder / "segments.parquet").unlink(missing_ok=True)
        write_csv(folder / "segments.csv", table)
        return
    (folder / "segments.csv").unlink(missing_ok=True)
    with replacing(folder / "segments.parquet") as stream:
        table.to_parquet(stream, index=False)
