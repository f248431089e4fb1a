"""Kinds of flips: by the class that is predicted (mirrored, shifted, other), and by their place in a segment."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from flipjax.audit.anatomy import AnatomyFlips, kinds_table
from flipjax.audit.measurements import Measurements
from flipjax.metrics.classes import is_foreground
from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.intervals import estimate_rates

PLACES = {"whole": "whole segments", "rim": "near borders", "inside": "inside segments"}
"""Kinds of `metrics.segment_tables` that are flips, in words; each flipped pixel has one of them."""


@dataclasses.dataclass(frozen=True)
class KindsOfFlips:
    """How the flips of n images divide; the shares of either table sum to Flip."""

    by_class: pd.DataFrame
    """`anatomy.kinds_table`; empty where classes have neither mirror images nor chains."""
    by_place: pd.DataFrame
    """`place_table`."""


def kinds_of_flips(measured: Measurements, anatomy: AnatomyFlips | None) -> KindsOfFlips:
    """Divides the flips of an audit by class and by place."""
    by_class = pd.DataFrame() if anatomy is None else kinds_table(anatomy, measured.class_names)
    return KindsOfFlips(by_class, place_table(measured))


def place_table(measured: Measurements) -> pd.DataFrame:
    """Returns a row for each of PLACES: `kind`, `share` of the true foreground, `low`, `high`, `images` with it."""
    counts = count_places(measured.segments.pixels, len(measured.names))
    inside = is_foreground(len(measured.class_names), measured.decomposition.background)
    foreground = np.asarray(measured.weighted_decomposition.confusion)[:, inside].sum((1, 2))
    weighted = counts * measured.pixel_weights[:, None]
    ratio = Ratio(weighted, np.repeat(foreground[:, None], len(PLACES), axis=1))
    share = estimate_rates(ratio, clusters=measured.clusters)
    return pd.DataFrame(
        {
            "kind": [*PLACES.values()],
            "share": share.value,
            "low": share.low,
            "high": share.high,
            "images": (counts > 0).sum(0),
        }
    )


def count_places(pixels: pd.DataFrame, images: int, places: Sequence[str] = tuple(PLACES)) -> np.ndarray:
    """Returns the flipped pixels of each image by their place, int64 (images, places).

    Args:
        pixels: of `flipjax.metrics.SegmentTables`.
        images: n.
        places: kinds of pixels.

    Example:
        >>> pixels = pd.DataFrame({"image": [0, 0, 2], "kind": ["rim", "miss", "whole"], "pixels": [3, 9, 5]})
        >>> count_places(pixels, 3).tolist()
        [[0, 3, 0], [0, 0, 0], [5, 0, 0]]
    """
    counts = np.zeros((images, len(places)), np.int64)
    for column, place in enumerate(places):
        rows = pixels[pixels["kind"] == place]
        np.add.at(counts[:, column], rows["image"].to_numpy(np.int64), rows["pixels"].to_numpy(np.int64))
    return counts
