"""The page of a comparison of two audits: sentences on what got worse or better, and the tables behind them.

The sentences name the classes that changed significantly (`flipjax.audit.comparison.changes`), with the images in which
a whole segment is newly wrong, and the totals that hide them.
"""

import operator
from collections.abc import Mapping, Sequence

import pandas as pd

from flipjax.audit.comparison.changes import OUTCOMES, Change, changes_table
from flipjax.audit.comparison.stored import ComparedAudits
from flipjax.audit.page.text import q_text
from flipjax.metrics.images import ALL
from flipjax.metrics.statistics.permutation import CORRECTION
from flipjax.metrics.summary.names import title_of
from flipjax.page.document import Document, Numbers, Section
from flipjax.page.tables import TextTable, number, with_interval
from flipjax.support.frames import records_of
from flipjax.support.terminal import listed

TOTAL_OF_OUTCOME = {"flip": "fg_flip", "miss": "fg_miss"}
"""The rate of each outcome over all classes, in which what a class gains can make up for what another loses."""
MOST_NAMES = 5
"""Images that a sentence names, at most."""
MAIN = ("fg_correct", "fg_flip", "fg_miss", "mean_iou", "mean_dice", "iou/foreground", "risk_auroc")
"""Quantities whose differences are always printed, first."""
MOST_OTHERS = 12
"""Differences that are printed besides those of MAIN, at most."""
HIDING_SHARE = 0.5
"""A total hides a class if it changes by less than this share of the class's difference."""
TERMS = {
    "new less old": (
        "Differences on the same images: an image that is hard for both models does not count. More flips or misses "
        "are worse. The interval is Bonett and Price's (2012). If no prediction differs, it is [0, 0]."
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
    of_classes = []
    if classes.table.rows:
        of_classes.append(classes)
    sections = [Section("Totals", [main]), Section("Classes", of_classes, folded=True)]
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
    lines = [_change_line(change, compared.unit) for change in (*worse, *better)]
    images = "all images"
    if len(compared.new.group_names) > 1:
        images = "all images and in each group"
    if not lines:
        lines.append(f"No class flips or is missed significantly more or less, in {images}.")
    lines += _hidden_lines(worse, totals)
    family = sum(change.is_test for change in changes)
    if family:
        lines.append(
            f"q is over {family} comparisons that can differ: flips and misses of each class, in {images} "
            f"({CORRECTION})."
        )
    return lines


def _surest_first(changes: Sequence[Change]) -> list[Change]:
    """Returns the changes in order of q."""
    return sorted(changes, key=operator.attrgetter("q"))


def _change_line(change: Change, unit: str) -> str:
    """Returns the sentence of a class that got worse, or better; q is over images or clusters, the unit."""
    word = "Better"
    direction = "less"
    if change.is_worse:
        word = "Worse"
        direction = "more"
    group = ""
    if change.group != ALL:
        group = f" in {change.group}"
    text = (
        f"{word}: {change.class_name} {OUTCOMES[change.outcome]} {direction}{group}, {change.new:.1%} after "
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
