"""The first screen of a run's page: what was found, in sentences; one object in its scenes; Flip over rho."""

from collections.abc import Sequence

import numpy as np

from flipjax.report.chart import Chart
from flipjax.report.html import Gallery
from flipjax.report.lines import Line, line_panels
from flipjax.report.pictures import Item, Palette
from flipjax.report.run import Run
from flipjax.results.repair_sign import repair_signs
from flipjax.results.resampling import Resamples
from flipjax.results.seeds import aggregate, compare, trend
from flipjax.results.sentences import headline, repair_warning, unlearnt_warning, verdicts
from flipjax.results.text import varying_axes

FLIP = "fg_flip/rare"
MISSED = 0.5
PAIR, TYPICAL = "pair", "typical"
LOOKS = dict(zip(("#222222", "#D4672F", "#3F74D6", "#B8860B", "#5BB5C9", "#C2527F", "#8C939B"), "osD^vP*", strict=True))
"""Colours, none of them a class's beside it, and markers of settings: as many as are drawn."""


def findings(run: Run) -> list[str]:
    """Returns what a run says, a sentence a question: members that learnt nothing, methods, levels of rho, repair.

    Members that do not find the object count in no sentence but the one that names them.
    """
    kept = run.kept()
    reach = max([_reach(cell.parts["test"].confusion) for cell in run.cells.values()], default=0.0)
    lost = (kept["fg_miss/all"] > MISSED) | (kept["iou_foreground/all"] < reach)
    names = kept["member"][lost].tolist()
    warning = unlearnt_warning(names, members=len(kept), reach=reach)
    if names:
        rows = run.rows[~run.rows["member"].isin(names)]
        if rows.empty:
            return warning
        drawn = Resamples(run.cells)
        reference = str(run.comparison["reference"].iloc[0]) if len(run.comparison) else None
        run = run._replace(
            comparison=compare(rows, reference=reference, resamples=drawn),
            summary=aggregate(rows, resamples=drawn),
            trend=trend(rows, resamples=drawn),
            repair_signs=repair_signs(rows, run.cells),
        )
    return [
        *warning,
        *verdicts(run.comparison),
        *headline(run.summary, run.trend),
        *repair_warning(run.repair_signs),
    ]


def _reach(confusion: np.ndarray) -> float:
    """Returns the foreground IoU of a prediction that is foreground everywhere: the share of it, of (K, S, n, C, C)."""
    truth = confusion[0, 0].sum((0, 2), dtype=np.int64)
    return float(truth[1:].sum() / max(1, truth.sum()))


def front_chart(run: Run, flip: Chart) -> Chart:
    """Returns `flip`, or of several settings one panel with a line for each: Flip in the rare groups over rho."""
    axes = varying_axes(run.summary)
    if len(flip.panels) < 2:
        return flip
    summary = run.summary[run.summary["quantity"] == FLIP]
    records = run.kept()
    labels, of_members = (table[axes].astype(str).agg(", ".join, axis="columns") for table in (summary, records))
    names = list(dict.fromkeys(labels))[: len(LOOKS)]
    columns = {name: records[FLIP].where(of_members == name) for name in names}
    lines = [Line(name, name, *look) for name, look in zip(names, LOOKS.items(), strict=False)]
    panels = line_panels(
        summary.assign(quantity=labels).drop(columns=axes),
        records[["rho"]].assign(**columns),
        lines,
        y="flip, share of the true foreground",
    )
    caption = f"Pixels of the true foreground predicted as another foreground class; lines by {', '.join(axes)}."
    return Chart("flip_rare", "Flip in the rare groups", caption, run.note(dots=True), panels)


def front_pair(items: Sequence[Item], palette: Palette) -> Gallery | None:
    """Returns two images of the first member, an object in a usual and in another scene, and what they are.

    Of its pairs the one in which the scene changes flip most; without pairs the typical images in which flip differs
    most; None where one of the two is missing.
    """
    own = [item for item in items if item.member == items[0].member]
    pairs = list(dict.fromkeys(item.kind for item in own if item.kind.startswith(PAIR)))
    chosen: list[list[Item]] = []
    for kind in pairs or [TYPICAL]:
        few = [item for item in own if item.kind == kind]
        common, rare = ([item for item in few if item.group == side] for side in ("common", "rare"))
        if common and rare:
            chosen.append([min(common, key=lambda item: item.flip), max(rare, key=lambda item: item.flip)])
    if not chosen:
        return None
    most = max(chosen, key=lambda both: both[1].flip - both[0].flip)
    what = "One object in a usual and in another scene" if pairs else "Two images, in a usual and in another scene"
    least = "the stored pair" if pairs else "the stored typical images"
    caption = f"{what}, as {most[0].member} sees them: {least} in which the scene changes flip most."
    return Gallery(most, palette, caption)
