"""Mirrored and shifted labels in an audit: the anatomy of its classes, and how the flips of each image are mended."""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.audit.measurements import Measurements
from flipjax.audit.problems import AuditError
from flipjax.metrics import Anatomy, flip_kinds, relabelling
from flipjax.metrics.anatomy import shift_in_words
from flipjax.metrics.anatomy_flips import FlipKinds, Relabelling
from flipjax.metrics.classes import Background, background_classes
from flipjax.metrics.decomposition import Ratio, divide
from flipjax.metrics.intervals import Estimate, estimate_rate
from flipjax.results.frames import DIGITS
from flipjax.support.files import read_json

NONE = "none"
"""In place of a file: classes have neither mirror images nor chains."""
MENDS = 0.5
"""Least share of an image's flips that a renaming must mend to be told."""
FORM = 'a JSON file with {"mirror": [[NAME, NAME], ...], "chains": [[NAME, NAME, ...], ...]}, or none'
"""What --anatomy takes."""


def read_anatomy(source: str | Path | None, class_names: Sequence[str], background: Background) -> tuple[Anatomy, str]:
    """Returns the anatomy of an audit's classes, and a sentence on it: empty where there is none.

    Args:
        source: the path of a JSON file, `none`, or None to find it in the class names.
        class_names: of all C classes.
        background: their background.

    Raises:
        AuditError: the file cannot be read, or names classes that do not exist, twice, or that are background.
    """
    if source is not None and str(source) == NONE:
        return Anatomy(num_classes=len(class_names)), ""
    if source is not None:
        anatomy = _read_file(Path(source), class_names, background)
        return anatomy, f"Anatomy, from {source}: {describe_anatomy(anatomy, class_names)}."
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        anatomy = Anatomy.from_names(class_names).without(background_classes(background))
    if not anatomy:
        return anatomy, ""
    gaps = "".join(f" {warning.message}" for warning in said)
    described = describe_anatomy(anatomy, class_names)
    return anatomy, f"Anatomy, found in the class names: {described} (--anatomy none turns it off).{gaps}"


def _read_file(path: Path, class_names: Sequence[str], background: Background) -> Anatomy:
    """Reads the anatomy of a JSON file."""
    try:
        stored = read_json(path)
    except (OSError, ValueError) as error:
        raise AuditError(f"--anatomy: expected {FORM}, found {path} ({error})") from error
    if not isinstance(stored, dict) or not stored or set(stored) - {"mirror", "chains"}:
        raise AuditError(f"--anatomy: expected {FORM}, found other content in {path}")
    try:
        anatomy = Anatomy.of_names(class_names, mirror=stored.get("mirror", ()), chains=stored.get("chains", ()))
    except (TypeError, ValueError) as error:
        raise AuditError(f"--anatomy: {path}: {str(error).rstrip('.')}") from error
    in_anatomy = {c for row in (*anatomy.mirror, *anatomy.chains) for c in row}
    for c in background_classes(background):
        if c in in_anatomy:
            raise AuditError(f"--anatomy: {path}: expected foreground classes, found {class_names[c]!r}")
    return anatomy


def describe_anatomy(anatomy: Anatomy, class_names: Sequence[str]) -> str:
    """Returns the pairs and chains in words.

    Example:
        >>> names = ["background", "kidney_left", "kidney_right", "L1", "L2", "L3"]
        >>> describe_anatomy(Anatomy.from_names(names), names)
        'mirror pair kidney_left and kidney_right; chain L1 to L3'
    """
    parts = [f"mirror pair {class_names[a]} and {class_names[b]}" for a, b in anatomy.mirror]
    if len(parts) > 2:
        parts = [f"{len(anatomy.mirror)} mirror pairs, such as {parts[0].removeprefix('mirror pair ')}"]
    for chain in anatomy.chains:
        first = chain[0]
        last = chain[-1]
        # `Anatomy` refuses a chain with a gap at either end.
        assert first is not None and last is not None
        parts.append(f"chain {class_names[first]} to {class_names[last]}")
    return "; ".join(parts) or "neither pairs nor chains"


@dataclasses.dataclass(frozen=True)
class Renamed:
    """Images with one fault, whose flips one renaming mends."""

    fault: str
    """What is wrong with the labels, in words."""
    images: int
    """The number of images of which it explains most: renaming mends half of the flips or more."""
    mended_share: float
    """The share of these images' flipped pixels that the renaming mends."""


@dataclasses.dataclass(frozen=True)
class AnatomyFlips:
    """The flips of n images by kind, and the renaming that mends most of each image's flips."""

    anatomy: Anatomy
    """Mirror pairs and chains of the foreground classes."""
    kinds: FlipKinds
    """Counts of mirrored, shifted and all flipped pixels, leaves (n, ...)."""
    weighted_kinds: FlipKinds
    """`kinds` with pixels counted by their size, if that differs between images; shares of all images are of these."""
    best: Relabelling
    """The best renaming of each image, leaves (n,); pixels count by their size."""
    texts: tuple[str, ...]
    """The fault that the best renaming of each image mends, in words; `none` where there is none."""
    rates: dict[str, Estimate]
    """`flip_mirror`, `flip_shift` and `flip_other` of all images, with intervals; they sum to Flip."""

    def columns(self) -> dict[str, object]:
        """Returns the columns of images.csv."""
        return {
            "flip_mirror": np.round(self.kinds.mirror, DIGITS),
            "flip_shift": np.round(self.kinds.shift, DIGITS),
            "flip_other": np.round(self.kinds.other, DIGITS),
            "fault": list(self.texts),
            "mended": np.round(self.best.mended_share, DIGITS),
            "renamed_flip": np.round(self.best.flip, DIGITS),
            "renamed_dice": np.round(self.best.mean_dice, DIGITS),
        }

    @property
    def worth_telling(self) -> np.ndarray:
        """Images in which the best renaming mends half of the flips or more, bool (n,)."""
        return np.nan_to_num(self.best.mended_share) >= MENDS

    def renamed(self) -> Iterator[Renamed]:
        """Yields the renamings that mend images, that of most images first."""
        texts = pd.Series(self.texts)[self.worth_telling]
        for text, image_count in texts.value_counts().items():
            images = texts.index[texts == text]
            mended_share = divide(self.best.mended[images].sum(), self.best.flipped[images].sum())
            yield Renamed(str(text), int(image_count), float(mended_share))


def count_kinds(measured: Measurements, anatomy: Anatomy) -> AnatomyFlips:
    """Counts the flips of each image by kind, and finds the renaming that mends most."""
    best = relabelling(measured.weighted_decomposition, anatomy)
    texts = [anatomy.renamings[index].fault(measured.class_names) for index in np.asarray(best.renaming)]
    # Columns of one image count its pixels; rates of all images weigh a pixel by its size, as every rate of an audit.
    weighted_kinds = flip_kinds(measured.weighted_decomposition, anatomy)
    return AnatomyFlips(
        anatomy=anatomy,
        kinds=flip_kinds(measured.decomposition, anatomy),
        weighted_kinds=weighted_kinds,
        best=best,
        texts=tuple(texts),
        rates=_pooled_rates(weighted_kinds, measured.clusters),
    )


def _counts_by_kind(kinds: FlipKinds) -> dict[str, np.ndarray]:
    """Returns the flipped pixels (n,) of each of FLIP_KINDS; they sum to all flipped pixels."""
    mirrored = np.asarray(kinds.mirrored)
    shifted = np.asarray(kinds.shifted).sum(-1)
    return {
        "flip_mirror": mirrored,
        "flip_shift": shifted,
        "flip_other": np.asarray(kinds.flipped) - mirrored - shifted,
    }


def _pooled_rates(kinds: FlipKinds, clusters: np.ndarray | None) -> dict[str, Estimate]:
    """Returns the share of the true foreground of all images that flips in each way, with its interval."""
    rates = {}
    for name, count in _counts_by_kind(kinds).items():
        rates[name] = estimate_rate(Ratio(count, np.asarray(kinds.foreground)), clusters=clusters)
    return rates


def kinds_table(flips: AnatomyFlips, class_names: Sequence[str]) -> pd.DataFrame:
    """Returns a row for each kind of flip: `kind`, `share` of the true foreground, `low`, `high`, `images` with it.

    Mirrored labels have a row if there are mirror pairs, shifts if there are chains; these have one more for each
    number of places, without an interval.
    """
    titles = {"flip_other": "other"}
    if flips.anatomy.chains:
        titles = {"flip_shift": "shift along a chain", **titles}
    if flips.anatomy.mirror:
        titles = {"flip_mirror": "mirror", **titles}
    rows = []
    counts = _counts_by_kind(flips.kinds)
    for name, title in titles.items():
        count = counts[name]
        share, low, high = flips.rates[name]
        rows.append({"kind": title, "share": share, "low": low, "high": high, "images": int((count > 0).sum())})
        if name == "flip_shift":
            rows += _shift_rows(flips, class_names)
    return pd.DataFrame(rows)


def _shift_rows(flips: AnatomyFlips, class_names: Sequence[str]) -> list[dict[str, object]]:
    """Returns a row for each number of places by which labels are shifted; their shares sum to that of all shifts."""
    shifted = flips.weighted_kinds.shifted
    shares = divide(shifted.sum(0), np.asarray(flips.weighted_kinds.foreground).sum())
    images = (flips.kinds.shifted > 0).sum(0)
    in_chains = [class_names[c] for chain in flips.anatomy.chains for c in chain if c is not None]
    rows: list[dict[str, object]] = []
    for step, share, image_count in zip(flips.anatomy.steps, shares, images, strict=True):
        if image_count > 0:
            rows.append(
                {
                    "kind": shift_in_words(in_chains, step),
                    "share": float(share),
                    "low": np.nan,
                    "high": np.nan,
                    "images": int(image_count),
                }
            )
    return rows
