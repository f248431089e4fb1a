"""Rows of the files of an audit: images.csv and summary.csv."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from flipjax.audit.anatomy import AnatomyFlips
from flipjax.audit.measurements import Measurements
from flipjax.audit.objects import Objects
from flipjax.audit.summary import SummaryInterval, SummaryValue
from flipjax.metrics.images import Images
from flipjax.results.frames import DIGITS, Row, rounded
from flipjax.results.quantities import IMAGE_QUANTITIES, SCENE_IMAGE_QUANTITIES, title_of
from flipjax.results.rows import image_columns


def image_table(
    columns: Mapping[str, Sequence[str]],
    measured: Measurements,
    images: Images,
    objects: Objects,
    *,
    anatomy: AnatomyFlips | None = None,
) -> pd.DataFrame:
    """Returns one row per image by decreasing flip-risk (undefined last), or by flip share for masks.

    `columns` come first; those of a scene swap and of anatomy are there where these are. The index holds the images'
    positions.
    """
    counts = image_columns(images)
    risk = counts["flip_risk"]
    masks = np.isnan(risk).all()
    if not masks:
        counts["flip_risk_share"] = risk / np.log(len(images.foreground))
    table: dict[str, object] = dict(columns)
    for name in (*IMAGE_QUANTITIES, *SCENE_IMAGE_QUANTITIES, "flip_risk_share"):
        if name in counts:
            # Adding 0 to -0 leaves 0.
            table[name] = counts[name].round(DIGITS) + 0.0
    table["foreground_pixels"] = counts["foreground_pixels"]
    table["pixels"] = counts["pixels"]
    table["ignored_pixels"] = measured.ignored_pixels
    volume = measured.millilitres(counts["foreground_pixels"])
    if volume is not None:
        table["foreground_ml"] = volume.round(DIGITS)
    table["largest_flip"] = counts["largest_flip"]
    table["segments"] = np.bincount(objects.tables.true["image"], minlength=len(risk))
    table["flipped_segments"] = np.bincount(objects.flipped["image"], minlength=len(risk))
    if anatomy is not None:
        table.update(anatomy.columns())
    rank = np.nan_to_num(risk, nan=-np.inf)
    if masks:
        rank = np.nan_to_num(counts["flip"])
    return pd.DataFrame(table).iloc[np.argsort(-rank, kind="stable")]


def summary_rows(summary: Mapping[str, SummaryValue], intervals: Mapping[str, SummaryInterval]) -> list[Row]:
    """Returns one row per number of the summary: key, title, decile, value and interval."""
    rows = []
    for key, value in summary.items():
        low, high = intervals.get(key, (math.nan, math.nan))
        # An object array keeps integers beside floats.
        for tenth, numbers in enumerate(np.broadcast(np.array(value, object), low, high), 1):
            value_cell, low_cell, high_cell = (rounded(number) for number in numbers)
            rows.append(
                {
                    "quantity": key,
                    "title": title_of(key),
                    "decile": tenth if isinstance(value, list) else "",
                    "value": value_cell,
                    "low": low_cell,
                    "high": high_cell,
                }
            )
    return rows
