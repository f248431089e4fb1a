"""What got worse or better from one audit to another: of each class, over all images and in each group.

`find_changes` tests the flips and misses of the classes; `sentences_on` says those that are significant, with the
images in which a whole segment is newly wrong; `make_document` makes the page of a comparison.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from flipjax.audit.comparison.stored import ComparedAudits
from flipjax.audit.page.text import q_text
from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.images import ALL
from flipjax.metrics.statistics.intervals import Estimate
from flipjax.metrics.statistics.paired import paired_difference, paired_p_values
from flipjax.metrics.statistics.permutation import CORRECTION, LEVEL, false_discovery_q
from flipjax.metrics.summary.evaluate import ratios_of
from flipjax.metrics.summary.names import title_of
from flipjax.page.document import Document, Numbers, Section
from flipjax.page.tables import TextTable, number, with_interval
from flipjax.support.frames import records_of
from flipjax.support.terminal import listed

OUTCOMES = {"flip": "flips", "miss": "is missed"}
"""Outcomes of a class, which are the beginnings of the keys of its rates, in words."""
TOTAL_OF_OUTCOME = {"flip": "fg_flip", "miss": "fg_miss"}
"""The rate of each outcome over all classes, in which what a class gains can make up for what another loses."""
LEAST_DIFFERENCE = 0.0005
"""Largest difference that has no sentence: it is 0.000 in print."""
MOST_NAMES = 5
"""Images that a sentence names, at most."""
MAIN = ("fg_correct", "fg_flip", "fg_miss", "mean_iou", "mean_dice", "iou/foreground", "risk_auroc")
"""Quantities whose differences are always printed, first."""
MOST_OTHERS = 12
"""Differences that are printed besides those of MAIN, at most."""
HIDING_SHARE = 0.5
"""A total hides a class if it changes by less than this share of the class's difference."""


@dataclasses.dataclass(frozen=True)
class Change:
    """How the flips, or misses, of a class differ between two audits, in all images or in a group."""

    class_name: str
    """The class."""
    group: str
    """The group, or `all`."""
    outcome: str
    """A key of OUTCOMES."""
    images: int
    """Images that show the class."""
    old: float
    """The share of the class in the old audit."""
    new: float
    """The share in the new audit."""
    difference: Estimate
    """New less old."""
    p: float
    """Probability of such a difference by chance; 1 where no image differs."""
    newly: tuple[str, ...] = ()
    """Names of images in which a whole segment of the class has this outcome in the new audit, but none in the old."""
    no_longer: tuple[str, ...] = ()
    """Names of images in which one has it in the old audit, but none in the new."""
    q: float = math.nan
    """p corrected over all changes that are tests."""

    @property
    def is_test(self) -> bool:
        """Whether the class differs in some image; where it differs in none, nothing is tested."""
        return self.p < 1

    @property
    def has_sentence(self) -> bool:
        """Whether the change is significant, and not 0 in print."""
        return self.q < LEVEL and abs(self.difference.value) > LEAST_DIFFERENCE

    @property
    def is_worse(self) -> bool:
        """Whether more of the class flips, or is missed, than in the old audit."""
        return self.difference.value > 0

    def row(self) -> dict[str, object]:
        """Returns the row of changes.csv."""
        return {
            "class": self.class_name,
            "group": self.group,
            "outcome": self.outcome,
            "images": self.images,
            "old": self.old,
            "new": self.new,
            "difference": self.difference.value,
            "low": self.difference.low,
            "high": self.difference.high,
            "p": self.p,
            "q": self.q,
            "newly_whole": len(self.newly),
            "no_longer_whole": len(self.no_longer),
        }


def find_changes(compared: ComparedAudits) -> list[Change]:
    """Tests the flips and misses of each class in all images and in each group, corrected as one family."""
    changes = []
    for group in compared.new.group_names:
        inside = np.flatnonzero(compared.new.in_group(group))
        clusters = None
        if compared.clusters is not None:
            clusters = compared.clusters[inside]
        old = ratios_of(compared.old.of_group(group))
        new = ratios_of(compared.new.of_group(group))
        for c in compared.new.foreground.tolist():
            for outcome in _outcomes_of(compared):
                key = f"{outcome}/{compared.new.class_names[c]}"
                if new[key].whole.any():
                    change = _change_of(compared, key, group, old[key], new[key], clusters)
                    changes.append(_with_images(change, compared, c, inside))
    return _corrected(changes)


def _outcomes_of(compared: ComparedAudits) -> Sequence[str]:
    """Returns the possible outcomes of a class's pixels: without a background class, none can be missed."""
    if compared.new.background is None:
        return ("flip",)
    return tuple(OUTCOMES)


def _change_of(
    compared: ComparedAudits, key: str, group: str, old: Ratio, new: Ratio, clusters: np.ndarray | None
) -> Change:
    """Returns the change of a rate, not corrected yet.

    Args:
        compared: both audits.
        key: of the rate, `flip/CLASS` or `miss/CLASS`.
        group: of the images.
        old: the pixels with the outcome and all pixels of the class, in each image of the group (m,).
        new: the same of the new audit.
        clusters: of the images of the group, (m,).
    """
    outcome, _, class_name = key.partition("/")
    # The test takes a column for each rate, of which there is one.
    old_column = Ratio(old.part[:, None], old.whole[:, None])
    new_column = Ratio(new.part[:, None], new.whole[:, None])
    [p] = paired_p_values(old_column, new_column, clusters=clusters)
    return Change(
        class_name=class_name,
        group=group,
        outcome=outcome,
        images=int((new.whole > 0).sum()),
        old=float(old.total().value),
        new=float(new.total().value),
        difference=paired_difference(old, new, clusters=clusters),
        p=float(p),
    )


def _with_images(change: Change, compared: ComparedAudits, c: int, inside: np.ndarray) -> Change:
    """Returns the change with the images, of those inside the group, in which whole segments of class c changed."""
    if compared.old_segments is None or compared.new_segments is None:
        return change
    had = compared.old_segments.of_outcome(change.outcome)[inside, c] > 0
    has = compared.new_segments.of_outcome(change.outcome)[inside, c] > 0
    newly = tuple(compared.names[image] for image in inside[has & ~had].tolist())
    no_longer = tuple(compared.names[image] for image in inside[had & ~has].tolist())
    return dataclasses.replace(change, newly=newly, no_longer=no_longer)


def _corrected(changes: Sequence[Change]) -> list[Change]:
    """Returns the changes with q (Benjamini and Hochberg, 1995); where a class differs in no image it is 1."""
    p_values = np.array([change.p for change in changes])
    is_test = np.array([change.is_test for change in changes], bool)
    q_values = np.ones(len(changes))
    if is_test.any():
        q_values[is_test] = false_discovery_q(p_values[is_test])
    return [dataclasses.replace(change, q=q) for change, q in zip(changes, q_values.tolist(), strict=True)]


def sentences_on(changes: Sequence[Change], compared: ComparedAudits, totals: pd.DataFrame) -> list[str]:
    """Returns what a reader must know: what is sure to be worse, then better, and what the totals hide.

    Args:
        changes: of `find_changes`.
        compared: both audits.
        totals: the table of differences by key.
    """
    if compared.identical:
        return ["Both predictions are the same in every image: no number differs."]
    worse = _surest_first([change for change in changes if change.has_sentence and change.is_worse])
    better = _surest_first([change for change in changes if change.has_sentence and not change.is_worse])
    has_groups = len(compared.new.group_names) > 1
    lines = [_change_line(change, compared.unit) for change in (*worse, *better)]
    if not lines:
        images = "images and in each group" if has_groups else "images"
        lines.append(f"No class flips or is missed significantly more or less, in all {images}.")
    lines += _hidden_lines(worse, totals)
    family = sum(change.is_test for change in changes)
    if family:
        groups = " and in each group" if has_groups else ""
        lines.append(
            f"q is over {family} comparisons that can differ: flips and misses of each class, in all images{groups} "
            f"({CORRECTION})."
        )
    return lines


def _surest_first(changes: Sequence[Change]) -> list[Change]:
    """Returns the changes in order of q."""
    return sorted(changes, key=lambda change: change.q)


def _change_line(change: Change, unit: str) -> str:
    """Returns the sentence of a class that got worse, or better; q is over images or clusters, the unit."""
    word = "Worse" if change.is_worse else "Better"
    direction = "more" if change.is_worse else "less"
    place = "" if change.group == ALL else f" in {change.group}"
    text = (
        f"{word}: {change.class_name} {OUTCOMES[change.outcome]} {direction}{place}, {change.new:.1%} after "
        f"{change.old:.1%} ({change.images} images): {change.difference.text('+.3f')}, q {q_text(change.q)} over {unit}"
    )
    whole = f"{OUTCOMES[change.outcome]} whole"
    if change.newly:
        text += f"; it newly {whole} in {len(change.newly)}: {listed(change.newly, most=MOST_NAMES)}"
    elif change.no_longer:
        text += f"; it no longer {whole} in {len(change.no_longer)}: {listed(change.no_longer, most=MOST_NAMES)}"
    return f"{text}."


def _hidden_lines(worse: Sequence[Change], totals: pd.DataFrame) -> list[str]:
    """Returns the totals that change little, or for the better, although classes got significantly worse."""
    lines = []
    for outcome, key in TOTAL_OF_OUTCOME.items():
        hidden = [change for change in worse if change.outcome == outcome]
        if key not in totals.index or not hidden:
            continue
        [row] = records_of(totals.loc[[key]])
        if row["difference"] < HIDING_SHARE * max(change.difference.value for change in hidden):
            total = with_interval(row, "difference", form="+.3f")
            class_names = listed(sorted({change.class_name for change in hidden}))
            lines.append(f"Over all classes {title_of(key)} changes by {total}, which hides {class_names}.")
    return lines


def changes_table(changes: Sequence[Change]) -> pd.DataFrame:
    """Returns the rows of changes.csv, the smallest q first, then the largest difference."""
    table = pd.DataFrame([change.row() for change in changes])
    if table.empty:
        return table
    # `lexsort` sorts by its last key first.
    order = np.lexsort((-table["difference"].abs().to_numpy(), table["q"].to_numpy()))
    return table.iloc[order].reset_index(drop=True)


def _text_of_changes(changes: Sequence[Change]) -> TextTable:
    """Returns the changes that are tests as text."""
    rows = []
    for row in records_of(changes_table([change for change in changes if change.is_test])):
        whole = f"{row['newly_whole']} newly, {row['no_longer_whole']} no longer"
        change = with_interval(row, "difference", form="+.3f")
        cells = [row["class"], row["group"], row["outcome"], str(row["images"]), number(row["old"]), number(row["new"])]
        rows.append([*cells, change, q_text(row["q"]), whole])
    header = ["class", "group", "outcome", "images", "old", "new", "new less old [95%]", "q", "whole segments"]
    return TextTable(header, rows, name_columns=3)


def totals_text(totals: pd.DataFrame) -> TextTable:
    """Returns the main differences, and those whose interval does not hold 0, the largest first."""
    main = [key for key in MAIN if key in totals.index]
    excludes_zero = (totals["low"] > 0) | (totals["high"] < 0)
    others = totals[excludes_zero].drop(index=main, errors="ignore")
    largest = others["difference"].abs().sort_values(ascending=False, kind="stable").index[:MOST_OTHERS]
    shown = pd.concat([totals.loc[main], others.loc[largest]])
    rows = []
    for row in records_of(shown.dropna(subset=["difference", "new"]).rename_axis("quantity").reset_index()):
        change = with_interval(row, "difference", form="+.4f")
        rows.append([row["quantity"], f"{row['old']:.4f}", f"{row['new']:.4f}", change])
    return TextTable(["quantity", "old", "new", "new less old [95%]"], rows)


TERMS = {
    "new less old": (
        "Differences of the same images, so that what is hard in both does not count. More flips or misses are worse. "
        "The interval is Bonett and Price's (2012); equal predictions have [0, 0]."
    ),
    "q": "The probability of such a difference by chance, corrected for the number of comparisons.",
}
"""Terms of the page of a comparison."""


def make_document(
    compared: ComparedAudits,
    changes: Sequence[Change],
    totals: pd.DataFrame,
    *,
    facts: Sequence[str],
    limits: Sequence[str],
    options: Mapping[str, object],
) -> Document:
    """Returns the report of a comparison.

    Args:
        compared: both audits.
        changes: of `find_changes`.
        totals: the table of differences by key.
        facts: sentences on what was compared.
        limits: sentences on the limits that were tried.
        options: shown at the end.
    """
    lines = [*sentences_on(changes, compared, totals), *limits]
    classes = Numbers("Classes and groups that changed, the surest first", _text_of_changes(changes))
    main = Numbers(
        "Main differences, and others whose interval does not hold 0; all are in compare.csv", totals_text(totals)
    )
    sections = [
        Section("Totals", [main]),
        Section("Classes", [classes] if classes.table.rows else [], folded=True),
    ]
    return Document(
        "Comparison of two audits",
        facts,
        lines,
        sections,
        terms=(),
        definitions=TERMS,
        config=options,
        findings_shown=len(lines),
        findings_height=24,
    )
