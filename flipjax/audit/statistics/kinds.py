"""How flips divide: by the class that is predicted (its mirror image, its chain, another), and by place in a segment.

A *chain* holds classes in the order of the body, such as vertebrae. A *renaming* gives predicted classes other names:
it exchanges left and right, or shifts a chain by some places. The *fault* of an image is what its best renaming mends,
in words such as `labelled one vertebra too high`; it explains as many flips as the renaming mends. `count_kinds` finds
the fault of each image.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from flipjax.audit.counting.measurements import Measurements
from flipjax.metrics import Anatomy, flip_kinds, relabelling
from flipjax.metrics.anatomy.flips import FlipKinds, Relabelling
from flipjax.metrics.anatomy.relations import shift_in_words
from flipjax.metrics.decomposition import Ratio, divide
from flipjax.metrics.inputs.classes import is_foreground
from flipjax.metrics.statistics.intervals import Estimate, estimate_rate, estimate_rates
from flipjax.support.frames import DIGITS

LEAST_EXPLAINED = 0.5
"""Least share of an image's flips that a fault must explain to have a sentence."""
TITLES = {"flip_mirror": "mirror", "flip_shift": "shift along a chain", "flip_other": "other"}
"""Kinds of flips by the class that is predicted, in words, by the key of their rate."""
PLACES = {"whole": "whole segments", "rim": "near borders", "inside": "inside segments"}
"""Position of a flipped pixel in its segment, in words, by the `kind` of its row in `metrics.segment_tables`."""


@dataclasses.dataclass(frozen=True)
class AnatomyFlips:
    """The flips of n images by the class that is predicted, and the fault of each image."""

    anatomy: Anatomy
    """Mirror pairs and chains of the foreground classes."""
    pixels: FlipKinds
    """Flipped pixels of each image by kind, leaves (n, ...); `mirror`, `shift` and `other` are shares, (n,)."""
    weighted: FlipKinds
    """The same, with pixels that count by their size if that differs between images.

    Use these for rates over all images.
    """
    best: Relabelling
    """The best renaming of each image, which mends most of its flips, leaves (n,); pixels count by their size."""
    faults: tuple[str, ...]
    """The fault of each image; `none` where no renaming mends a flip."""
    rates: dict[str, Estimate]
    """`flip_mirror`, `flip_shift` and `flip_other` of all images, with intervals; they sum to Flip."""

    def columns(self) -> dict[str, object]:
        """Returns the columns of images.csv."""
        return {
            "flip_mirror": np.round(self.pixels.mirror, DIGITS),
            "flip_shift": np.round(self.pixels.shift, DIGITS),
            "flip_other": np.round(self.pixels.other, DIGITS),
            "fault": list(self.faults),
            "mended": np.round(self.best.mended_share, DIGITS),
            "renamed_flip": np.round(self.best.flip, DIGITS),
            "renamed_dice": np.round(self.best.mean_dice, DIGITS),
        }

    @property
    def is_explained(self) -> np.ndarray:
        """Whether the fault of an image explains at least the share LEAST_EXPLAINED of its flips, bool (n,)."""
        return np.nan_to_num(self.best.mended_share) >= LEAST_EXPLAINED

    def images_with(self, fault: str) -> np.ndarray:
        """Returns the images whose flips this fault explains, int64, in order."""
        has_fault = np.array([name == fault for name in self.faults], bool)
        return np.flatnonzero(self.is_explained & has_fault)

    @functools.cached_property
    def fault_table(self) -> pd.DataFrame:
        """A row for each fault, that of most images first.

        Columns: `fault`; the number of `images` whose flips it explains; `mended_share`, how much of these.
        """
        explained = pd.Series(self.faults, dtype=object)[self.is_explained]
        rows = []
        for fault, count in explained.value_counts().items():
            images = self.images_with(str(fault))
            share = divide(self.best.mended[images].sum(), self.best.flipped[images].sum())
            rows.append({"fault": fault, "images": count, "mended_share": float(share)})
        return pd.DataFrame(rows, columns=["fault", "images", "mended_share"])


def count_kinds(measured: Measurements, anatomy: Anatomy) -> AnatomyFlips:
    """Counts the flips of each image by kind, and finds its fault."""
    best = relabelling(measured.weighted_decomposition, anatomy)
    faults = [anatomy.renamings[index].fault(measured.class_names) for index in np.asarray(best.renaming)]
    weighted = flip_kinds(measured.weighted_decomposition, anatomy)
    rates = {}
    for key, flips in _flips_by_key(weighted).items():
        rates[key] = estimate_rate(Ratio(flips, np.asarray(weighted.foreground)), clusters=measured.clusters)
    return AnatomyFlips(
        anatomy=anatomy,
        pixels=flip_kinds(measured.decomposition, anatomy),
        weighted=weighted,
        best=best,
        faults=tuple(faults),
        rates=rates,
    )


def _flips_by_key(kinds: FlipKinds) -> dict[str, np.ndarray]:
    """Returns the flips (n,) of each of TITLES; they sum to all flips."""
    mirrored_pixels = np.asarray(kinds.mirrored)
    shifted_pixels = np.asarray(kinds.shifted).sum(-1)
    return {
        "flip_mirror": mirrored_pixels,
        "flip_shift": shifted_pixels,
        "flip_other": np.asarray(kinds.flipped) - mirrored_pixels - shifted_pixels,
    }


def kinds_table(measured: Measurements, flips: AnatomyFlips | None) -> pd.DataFrame:
    """Returns a row for each kind of flip, `by` the class that is predicted and by place; either way they sum to Flip.

    Columns: `kind`, `by`, `share` of the true foreground, `low`, `high`, `images` with it.
    """
    by_place = place_table(measured).assign(by="place")
    if flips is None:
        return by_place
    by_class = class_table(flips, measured.class_names).assign(by="class")
    return pd.concat([by_class, by_place])


def class_table(flips: AnatomyFlips, class_names: Sequence[str]) -> pd.DataFrame:
    """Returns the rows of `kinds_table` by the class that is predicted.

    Mirrored labels have a row if there are mirror pairs. Shifts have one if there are chains, and below it a row
    without an interval for each number of places by which labels are shifted.
    """
    rows: list[dict[str, object]] = []
    for key, pixels in _flips_by_key(flips.pixels).items():
        if key == "flip_mirror" and not flips.anatomy.mirror:
            continue
        if key == "flip_shift" and not flips.anatomy.chains:
            continue
        share, low, high = flips.rates[key]
        # An image counts if any pixel does; shares are of weighted pixels.
        images = int((pixels > 0).sum())
        rows.append({"kind": TITLES[key], "share": share, "low": low, "high": high, "images": images})
        if key == "flip_shift":
            rows += _shift_rows(flips, class_names)
    return pd.DataFrame(rows)


def _shift_rows(flips: AnatomyFlips, class_names: Sequence[str]) -> list[dict[str, object]]:
    """Returns a row for each number of places by which labels are shifted; their shares sum to that of all shifts."""
    shares = divide(flips.weighted.shifted.sum(0), np.asarray(flips.weighted.foreground).sum())
    images = (flips.pixels.shifted > 0).sum(0)
    # A chain holds None where a place in the body has no class.
    in_chains = [class_names[c] for chain in flips.anatomy.chains for c in chain if c is not None]
    rows: list[dict[str, object]] = []
    for step, share, image_count in zip(flips.anatomy.steps, shares, images, strict=True):
        if image_count > 0:
            kind = shift_in_words(in_chains, step)
            rows.append(
                {"kind": kind, "share": float(share), "low": np.nan, "high": np.nan, "images": int(image_count)}
            )
    return rows


def place_table(measured: Measurements) -> pd.DataFrame:
    """Returns the rows of `kinds_table` by place, one for each of PLACES."""
    counts = count_places(measured.segments.pixels, len(measured.names))
    of_foreground = is_foreground(len(measured.class_names), measured.decomposition.background)
    foreground = np.asarray(measured.weighted_decomposition.confusion)[:, of_foreground].sum((1, 2))
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


def count_places(pixels: pd.DataFrame, images: int) -> np.ndarray:
    """Returns the flipped pixels of each image by their place, in order of PLACES: int64 (images, places).

    Args:
        pixels: of `flipjax.metrics.SegmentTables`.
        images: n.

    Example:
        >>> pixels = pd.DataFrame({"image": [0, 0, 2], "kind": ["rim", "miss", "whole"], "pixels": [3, 9, 5]})
        >>> count_places(pixels, 3).tolist()
        [[0, 3, 0], [0, 0, 0], [5, 0, 0]]
    """
    counts = np.zeros((images, len(PLACES)), np.int64)
    for column, place in enumerate(PLACES):
        rows = pixels[pixels["kind"] == place]
        np.add.at(counts[:, column], rows["image"].to_numpy(np.int64), rows["pixels"].to_numpy(np.int64))
    return counts
