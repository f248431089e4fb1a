"""The findings of a run in sentences, each of which restates a row of a table of `flipjax.results.text`."""

from collections.abc import Mapping, Sequence

import pandas as pd

from flipjax.metrics.summary.names import title_of
from flipjax.page.tables import number
from flipjax.results.learning import MARGIN
from flipjax.results.rows import CLASSES_NOT_LEARNT, NOT_LEARNT
from flipjax.results.statistics.verdicts import FEWEST_SEEDS, JUDGED
from flipjax.results.text import (
    difference_text,
    in_order,
    level_text,
    mean_text,
    setting_axes,
    setting_label,
    varying_axes,
)
from flipjax.support.frames import Row, groups_of, records_of
from flipjax.support.terminal import listed

CHANGES = ("group/rare/fg_flip", "gap/mean", "iou/foreground")
"""Quantities whose change over rho makes a sentence."""
AT_HIGHEST = ("risk_auroc", "context_use")
"""Quantities whose mean at the highest rho makes a sentence."""
MOST_SETTINGS = 6
"""Settings whose members a warning names, at most."""
CHANCE = 0.5
"""The AUROC of chance."""
GOOD = 0.7
"""The least AUROC that is called good."""


def unlearnt_warning(records: pd.DataFrame) -> list[str]:
    """Returns a sentence on members left out because they hardly find the object, or no sentence."""
    names = records["member"][records["status"] == NOT_LEARNT].tolist()
    if not names:
        return []
    why = "more than half of the true foreground missed, or a foreground IoU below that of foreground everywhere"
    left_out = f"They are in no mean: {listed(names)}."
    return [f"Warning: {_of_all(len(names), len(records))} members hardly find the object: {why}. {left_out}"]


def classes_warning(records: pd.DataFrame, *, classes: int) -> list[str]:
    """Returns a sentence on members that have not learnt the classes and what helps, or no sentence.

    Args:
        records: of `member_quantities`.
        classes: the number of foreground classes.
    """
    unlearnt = records[records["status"] == CLASSES_NOT_LEARNT]
    if unlearnt.empty:
        return []
    which = f"{_of_all(len(unlearnt), len(records))} members have not learnt the classes"
    axes = varying_axes(records, until="member")
    if "rho" in records:
        axes.append("rho")
    axes = [name for name in axes if name not in ("seed", "selection")]
    members_of_settings = []
    for values, members in groups_of(unlearnt, axes):
        setting = setting_label(dict(zip(axes, values, strict=True)), axes)
        names = listed(members["member"])
        if setting:
            names += f" ({setting})"
        members_of_settings.append(names)
    left_out = len(members_of_settings) - MOST_SETTINGS
    if left_out > 0:
        members_of_settings[MOST_SETTINGS:] = [f"and in {left_out} more settings"]
    accuracy = (
        f"Of the object pixels that they find in common groups of validation images at most {1 / classes + MARGIN:.0%} "
        f"have the right class, where guessing gives {1 / classes:.0%}."
    )
    helps = "What helps: more epochs, larger images, frozen features, a pretrained encoder."
    return [f"Warning: {which}: {'; '.join(members_of_settings)}. {accuracy} {helps}"]


def never_predicted_warning(never: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns a sentence for each class that members never predict, from these classes by member.

    Example:
        >>> never_predicted_warning({"m000": ["dog"], "m003": ["dog"]})
        ['Warning: no test pixel is predicted as dog by m000, m003.']
    """
    members: dict[str, list[str]] = {}
    for member, names in never.items():
        for name in names:
            members.setdefault(name, []).append(member)
    return [f"Warning: no test pixel is predicted as {name} by {listed(those)}." for name, those in members.items()]


def _of_all(count: int, members: int) -> str:
    """Returns how many of all members, for the beginning of a sentence."""
    if count == members:
        return f"All {members}"
    return f"{count} of the {members}"


def verdicts(comparison: pd.DataFrame, *, axis: str = "method", axes: Sequence[str] | None = None) -> list[str]:
    """Returns sentences on differences of Flip in the rare groups from the reference.

    Differences with a verdict come first, then the others at the highest rho, least p first.

    Args:
        comparison: judged rows of `compare` along `axis`.
        axis: the compared axis.
        axes: those that name a setting; None means the others that vary.
    """
    rows = comparison[comparison["quantity"] == JUDGED[0]]
    rows = rows[rows["difference"].notna() | (rows["n"] == 0)]
    if rows.empty:
        return []
    if axes is None:
        axes = setting_axes(comparison, axis)
    names = list(axes)
    with_verdict = rows[rows["verdict"] != ""]
    without_verdict = rows[rows["verdict"] == ""]
    if "rho" in rows:
        names.append("rho")
        without_verdict = without_verdict[without_verdict["rho"] == rows["rho"].max()]
    sentences = []
    for row in records_of(pd.concat([with_verdict, without_verdict.sort_values("p", kind="stable")])):
        compared = f"{row[axis]} against {row['reference']}"
        setting = setting_label(row, names)
        if setting:
            compared += f" ({setting})"
        if not row["n"]:
            sentences.append(f"{compared}: {row['reason']}.")
            continue
        difference = f"{title_of(row['quantity'])} {difference_text(row)}"
        judgement = row["verdict"] or row["reason"]
        if row["verdict"] and row["unlearnt"]:
            verb = "have"
            if row["unlearnt"] == 1:
                verb = "has"
            judgement += f", but {row['unlearnt']} of its members {verb} not learnt the classes"
        sentences.append(f"{compared}: {difference}, {_seeds(row['n'])}: {judgement}.")
    return sentences


def headline(summary: pd.DataFrame, trends: pd.DataFrame) -> list[str]:
    """Returns the main findings of a run as sentences: changes over rho, flip-risk's ranking, context use."""
    sentences = []
    axes = varying_axes(trends, until="from")
    for row in in_order(trends[trends["difference"].notna()], axes, CHANGES):
        sentences.append(_of_setting(row, axes, change_sentence(row)))
    for row in in_order(trends[trends["n"] == 0], axes, CHANGES[:1]):
        levels = f"from rho {level_text(row['from'])} to {level_text(row['to'])}"
        sentences.append(_of_setting(row, axes, f"No change {levels} is known: no seed has all levels."))
    axes = varying_axes(summary)
    rows = summary[summary["quantity"].isin(AT_HIGHEST) & summary["mean"].notna()]
    if "rho" in rows and len(rows):
        # Settings may have levels of their own.
        rows = rows[rows["rho"] == rows.groupby([*axes, "quantity"], dropna=False)["rho"].transform("max")]
    for row in in_order(rows, axes, AT_HIGHEST):
        if row["quantity"] == "risk_auroc":
            # Fewer than half of the members have not learnt the classes.
            learnt = 2 * row["unlearnt"] < max(1, row["n"])
            finding = f"{ranking_words(row, learnt=learnt)} (AUROC {mean_text(row)})"
        else:
            finding = f"Context use: {mean_text(row)}"
        level = ""
        if "rho" in row:
            level = f" at rho {level_text(row['rho'])}"
        sentences.append(_of_setting(row, axes, f"{finding}{level}, {_seeds(row['n'])}."))
    return sentences


def _of_setting(row: Row, axes: Sequence[str], sentence: str) -> str:
    """Returns a sentence with the setting that it is on, if there are several."""
    setting = setting_label(row, axes)
    if not setting:
        return sentence
    return f"{setting}: {sentence}"


def change_sentence(row: Row) -> str:
    """Returns a sentence on a row of a judged `trend`."""
    name, _, group = title_of(row["quantity"]).partition(", ")
    title = name[0].upper() + name[1:]
    if group:
        title += f" in the {group} groups"
    verb = {"higher": "rises", "lower": "falls", "": "goes"}[row["verdict"]]
    levels = (
        f"from {number(row['before'])} at rho {level_text(row['from'])} "
        f"to {number(row['after'])} at rho {level_text(row['to'])}"
    )
    judgement = ""
    if row["reason"]:
        judgement = f": {row['reason']}"
    return f"{title} {verb} {levels} ({difference_text(row)}, {_seeds(row['n'])}){judgement}."


def ranking_words(row: Row, *, learnt: bool = True) -> str:
    """Returns how well flip-risk ranks flips, by the interval of its AUROC over seeds.

    Args:
        row: of `aggregate`.
        learnt: whether the members know the classes; where they do not, nothing is said.

    Example:
        >>> ranking_words({"n": 4, "low": 0.31, "high": 0.65})
        'No evidence that flip-risk ranks flips'
    """
    if not learnt:
        return f"No verdict on flip-risk: {CLASSES_NOT_LEARNT}"
    if row["n"] < FEWEST_SEEDS:
        return "No verdict on flip-risk"
    if row["high"] < CHANCE:
        return "Flip-risk ranks flips the wrong way"
    if row["low"] <= CHANCE:
        return "No evidence that flip-risk ranks flips"
    if row["high"] < GOOD:
        return "Flip-risk ranks flips poorly"
    if row["low"] <= GOOD:
        return "Flip-risk ranks flips better than chance"
    return "Flip-risk ranks flips"


def _seeds(n: int) -> str:
    """Returns a number of seeds in words."""
    if n == 1:
        return "one seed"
    return f"{n} seeds"
