"""Tables of the segments of an audit."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from flipjax.audit.findings import ERROR_KIND_WORDS
from flipjax.audit.flips import by_bound
from flipjax.audit.objects import Objects
from flipjax.audit.results import Audit
from flipjax.audit.text import SHOWN, first_and_others, interval_column, tabulate
from flipjax.metrics import segment_auroc
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import divide, flips_of
from flipjax.metrics.segment_units import STRATA
from flipjax.report.document import Numbers
from flipjax.results.frames import Row
from flipjax.results.text import TextTable

MOST_FLIPPED = "Pairs of classes with the most flipped segments"
"""Caption of the table of pairs."""
MATRIX = "Segments of a true class (row) predicted as a class (column), of the classes in the most flips"
"""Caption of the matrix of segments."""
CELLS = 12
"""Classes that the matrix of segments shows, at most."""
STRATA_NOTE = f"strata begin at {', '.join(f'1/{1 / share:.0f}' for share in STRATA)} of the image, 0 below"
"""What the sizes in the table of strata are."""


def segment_blocks(audit: Audit) -> list[Numbers]:
    """Returns segments by class, their confusions, the error budget, and how scores rank them."""
    objects = audit.objects
    if len(objects.flips) == 1:
        return []
    worst_classes, other_classes = first_and_others(
        "Segments by the lower bound of SegFlip",
        "Segments of the other classes",
        by_segment_class(objects),
        shown=SHOWN + 1,
    )
    first_pairs, other_pairs = first_and_others(
        MOST_FLIPPED, "The other pairs of classes", by_segment_pair(objects, voxels=audit.measured.are_volumes)
    )
    return [
        worst_classes,
        first_pairs,
        Numbers("Gain in mean IoU from correcting each kind of error alone", mending(objects)),
        other_classes,
        other_pairs,
        Numbers(f"Ranking of wrong predicted segments by scores, AUROC; {STRATA_NOTE}", ranking(objects), folded=True),
        Numbers(MATRIX, segment_matrix(objects)),
    ]


def by_segment_class(objects: Objects) -> TextTable:
    """Returns segment outcomes: the SHOWN classes by the lower bound of SegFlip, all, and the other classes."""
    classes = objects.flips.drop(index="all")
    bound = classes.get("seg_flip_low", classes["seg_flip"]).fillna(0)
    classes = by_bound(classes, bound, classes["seg_flip"])
    table = objects.flips.loc[[*classes.index[:SHOWN], "all", *classes.index[SHOWN:]]].copy()
    for name in ("correct", "miss", "mixed"):
        table[name] = divide(table[name], table["segments"])
    columns: dict[str, str | Callable[[Row], str]] = {
        "class": "{name}",
        "segments": "{segments:,}",
        "correct": "{correct:.3f}",
        "SegFlip": interval_column("seg_flip", "seg_flip_low", "seg_flip_high"),
    }
    # Without background, no segment can be missed.
    if objects.background is not None:
        columns["miss"] = "{miss:.3f}"
    columns["mixed"] = "{mixed:.3f}"
    columns["StrictFlip"] = interval_column("strict_flip", "strict_flip_low", "strict_flip_high")
    columns["of the flips bleeding"] = "{bleeding:.0%}"
    return tabulate(table.rename_axis("name").reset_index(), columns)


def by_segment_pair(objects: Objects, *, voxels: bool = False) -> TextTable:
    """Returns the class pairs, most flipped segments first."""
    names = np.array(objects.class_names, object)
    pairs = objects.flipped_pairs
    pairs["share"] = pairs["size"] / objects.tables.true["class"].value_counts()[pairs["class"]].to_numpy()
    pairs[["class", "predicted"]] = names[pairs[["class", "predicted"]]]
    noun = "pixels"
    if voxels:
        noun = "voxels"
    columns = {
        "flip": "{class} as {predicted}",
        "segments": "{size:,}",
        "share of the class's": "{share:.1%}",
        f"their {noun}": "{sum:,}",
    }
    return tabulate(pairs, columns)


def matrix_classes(objects: Objects) -> list[int]:
    """Returns the classes of `segment_matrix`, at most CELLS with flipped segments."""
    flips = flips_of(objects.confusion, background=objects.background)
    shown = most_flipped(objects.confusion, background=objects.background, limit=CELLS)
    return [c for c in shown if flips[c].any() or flips[:, c].any()]


def segment_matrix(objects: Objects) -> TextTable:
    """Returns the numbers of segments by true and predicted class."""
    classes = matrix_classes(objects)
    names = [objects.class_names[c] for c in classes]
    of_truth = objects.confusion[classes]
    counted = of_truth[:, classes]
    not_shown = of_truth.sum(1) - counted.sum(1)
    rows = []
    for name, counts in zip(names, np.column_stack([counted, not_shown]).tolist(), strict=True):
        rows.append([name, *map(_count_or_blank, counts)])
    return TextTable(["true class", *names, "other or missed"], rows)


def _count_or_blank(count: int) -> str:
    """Returns a number as text; a blank, which is read as none, for 0."""
    if not count:
        return ""
    return f"{count:,}"


def ranking(objects: Objects) -> TextTable:
    """Returns how well scores and segment size rank wrong predicted segments; empty for masks."""
    predicted = objects.tables.predicted
    if not predicted["flip_risk"].notna().any():
        return TextTable([], [])
    table = segment_auroc(predicted).assign(softmax=segment_auroc(predicted, score="max_softmax")["auroc"])
    columns = {
        "predicted segments": "{stratum}",
        "number": "{segments:,}",
        "wrong": "{wrong:,}",
        "flip-risk": "{auroc:.3f}",
        "max softmax": "{softmax:.3f}",
        "being small": "{size_auroc:.3f}",
    }
    return tabulate(table.reset_index(), columns)


def mending(objects: Objects) -> TextTable:
    """Returns the wrong pixels of each kind, and the mean IoU gained by correcting them, largest gain first."""
    kinds = objects.budget.drop(index="all").sort_values("gain", ascending=False, kind="stable")
    table = pd.concat([kinds[kinds["pixels"] > 0], objects.budget.loc[["all"]]]).rename(index=ERROR_KIND_WORDS)
    columns = {
        "wrong pixels": "{kind}",
        "pixels": "{pixels:,}",
        "share": "{share:.1%}",
        "gain in mean IoU": "{gain:+.3f}",
    }
    return tabulate(table.reset_index(), columns)


def most_flipped(confusion: np.ndarray, *, background: Background, limit: int) -> list[int]:
    """Returns at most `limit` foreground classes in order, preferring those with the most flips to or from them."""
    flips = flips_of(confusion, background=background)
    foreground = np.flatnonzero(is_foreground(len(confusion), background))
    involved = (flips.sum(0) + flips.sum(1))[foreground]
    return sorted(foreground[np.argsort(-involved, kind="stable")][:limit].tolist())
