"""What a grid says, in sentences: each claims what its interval excludes the contrary of."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from flipjax.results.frames import Row, groups_of, listed, records_of
from flipjax.results.quantities import quantity_of
from flipjax.results.repair_sign import SAFE
from flipjax.results.text import by_setting, disagree, setting_label, varying_axes, with_interval

CHANGES = ("group/rare/fg_flip", "gap/mean", "iou/foreground")
BLIND = 0.70
SHORT = "+z.2f"


def unlearnt_warning(names: Sequence[str], *, members: int, reach: float) -> list[str]:
    """Returns a sentence on the members whose Flip says nothing; none where all find the object.

    Args:
        names: of those members.
        members: how many there are in all.
        reach: foreground IoU of a prediction that is foreground everywhere.
    """
    if not names:
        return []
    which = "All" if len(names) == members else f"{len(names)} of the"
    return [
        f"Warning: {which} {members} members hardly find the object: foreground IoU below {reach:.2f}, what foreground "
        "everywhere would reach, or more than half of the true foreground missed. Their Flip says nothing, and no "
        f"sentence here counts them: {listed(names)}."
    ]


def repair_warning(signs: pd.DataFrame) -> list[str]:
    """Returns a sentence on the settings whose repair the seeds do not agree on; none where there are none."""
    rhos = sorted({row["rho"] for row in records_of(signs) if disagree(row)})
    if not rhos:
        return []
    return [
        f"Warning: at rho {', '.join(map(str, rhos))} seeds agree too little on the class that repair gives a region "
        f"(kappa below {SAFE}): on images still correlated as in training, unlike the test images, expect repair to "
        "raise Flip."
    ]


def verdicts(comparison: pd.DataFrame, *, axis: str = "method", axes: Sequence[str] | None = None) -> list[str]:
    """Returns how Flip in the rare groups differs from the reference's at the highest rho: a sentence a setting.

    Args:
        comparison: of `flipjax.results.estimates.compare` along `axis`.
        axis: what is compared.
        axes: those that name a setting; None: the others that vary.
    """
    rows = comparison[comparison["quantity"] == "group/rare/fg_flip"] if len(comparison) else comparison
    rows = rows[rows["rho"] == rows["rho"].max()] if "rho" in rows else rows
    varying = [name for name in varying_axes(rows) if name not in (axis, "reference")]
    axes = varying if axes is None else axes
    return [_verdict(row, axis, axes) for row in records_of(rows) if not math.isnan(row["difference"])]


def _verdict(row: Row, axis: str, axes: Sequence[str]) -> str:
    setting = "".join(f", {name} {row[name]}" for name in axes)
    where = f" at rho {row['rho']}" if "rho" in row else ""
    words = "lower," if row["high"] < 0 else "higher," if row["low"] > 0 else "cannot be told apart"
    words = "no interval," if math.isnan(row["low"]) else words
    difference = with_interval(row, "difference", form=SHORT)
    start = f"{row[axis]} against {row['reference']}{setting}: Flip (rare) {difference}{where}"
    return f"{start}: {words} {_with_seeds(row)}."


def _with_seeds(row: Row) -> str:
    if row["interval"] == "seeds":
        return f"with {row['n']} seeds"
    return f"for these {row['n']} seeds alone" if row["n"] > 1 else "for this seed alone"


def headline(summary: pd.DataFrame, trends: pd.DataFrame) -> list[str]:
    """Returns what a grid says of rho: a line per sentence, or per setting where there are several.

    A sentence claims what its interval excludes the contrary of; else it says that the grid cannot tell. Without an
    interval there is none.
    """
    axes = varying_axes(trends)
    settings = {values: records_of(rows) for values, rows in groups_of(summary, axes)}
    sentences = []
    for values, by_name in by_setting(trends, axes):
        label = setting_label(dict(zip(axes, values, strict=True)), axes)
        by_rho = {(row["quantity"], row["rho"]): row for row in settings[values]}
        texts = [_change(by_name[name], by_rho) for name in CHANGES] + [_blindness(by_rho), _used(by_rho)]
        texts = [text for text in texts if text]
        sentences += [f"{label}: {' '.join(texts)}"] if label and texts else texts
    return sentences


def _change(row: Row, by_rho: Mapping[tuple, Row]) -> str:
    if math.isnan(row["change_low"]):
        return ""
    title = quantity_of(row["quantity"]).title
    group = row["quantity"].split("/")[1] if row["quantity"].startswith("group/") else ""
    name = title[0].upper() + title[1:] + (f" in the {group} groups" if group else "")
    interval = with_interval(row, "change", "change_low", "change_high", form=SHORT)
    seeds = f"{row['n']} seeds" if row["interval"] == "seeds" else _with_seeds(row)
    if row["change_low"] <= 0 <= row["change_high"]:
        return f"{name}: no change between rho {row['from']} and {row['to']} that could be told ({interval}, {seeds})."
    before, after = (f"{by_rho[row['quantity'], row[end]]['mean']:.2f}" for end in ("from", "to"))
    if before == after:
        return f"{name} stays at {after} from rho {row['from']} to {row['to']} ({interval}, {seeds})."
    verb = "rises" if row["change"] > 0 else "falls"
    return f"{name} {verb} from {before} at rho {row['from']} to {after} at rho {row['to']} ({interval}, {seeds})."


def _used(by_rho: Mapping[tuple, Row]) -> str:
    rows = _known(by_rho, "context_use", "mean")
    shares = ", ".join(f"{rows[rho]['mean']:.2f} at rho {rho}" for rho in sorted(rows))
    return f"Of the evidence that rho gives the scene members use {shares}." if rows else ""


def _blindness(by_rho: Mapping[tuple, Row]) -> str:
    rows = _known(by_rho, "risk_auroc", "low")
    if not rows:
        return ""
    highest = max(rows)
    last = rows[highest]
    interval = f"AUROC {with_interval(last, 'mean', form='.2f')} at rho {highest}"
    if last["low"] > BLIND:
        return f"Flip-risk still ranks flipped images at the highest rho: {interval}."
    if last["high"] >= BLIND:
        return f"Whether flip-risk ranks flipped images at rho {highest} could not be told: {interval}."
    blind = min(rho for rho in rows if all(rows[higher]["high"] < BLIND for higher in rows if higher >= rho))
    return f"From rho {blind} on flip-risk is nearly blind to flips: {interval}, below {BLIND:.2f} throughout."


def _known(by_rho: Mapping[tuple, Row], quantity: str, number: str) -> dict[float, Row]:
    """Returns the rows of a quantity by rho, without those that lack the number."""
    return {rho: row for (name, rho), row in by_rho.items() if name == quantity and not math.isnan(row[number])}
