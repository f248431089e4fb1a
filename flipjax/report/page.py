"""The report of a run folder: findings, tables, figures, and one page that holds them all."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.report import charts
from flipjax.report.chart import Chart
from flipjax.report.charts import SCENES, left_out, scene_table, score_blocks
from flipjax.report.document import Document, Numbers, Section, terminal_text, write_latex, write_summary
from flipjax.report.html import Gallery, Picture, pictures_of, write_page
from flipjax.report.panels import Line, line_panels
from flipjax.report.pictures import CAPTION, Item, Palette, items_of, palette_of, save_gallery
from flipjax.report.run import TABLES, Run, read_run
from flipjax.results import text
from flipjax.results.estimates import Resamples, aggregate, compare, trend
from flipjax.results.frames import write_csv
from flipjax.results.repair_sign import repair_signs
from flipjax.results.sentences import headline, repair_warning, unlearnt_warning, verdicts
from flipjax.results.text import TextTable, comparison_table, varying_axes

STARRED = "paired by seed; * the interval excludes 0"
SIGNS = "Repair on images still correlated as in training: do the seeds agree on its labels (kappa)?"
FLIP = "group/rare/fg_flip"
MISSED = 0.5
PAIR, TYPICAL = "pair", "typical"
LOOKS = dict(zip(("#222222", "#D4672F", "#3F74D6", "#B8860B", "#5BB5C9", "#C2527F", "#8C939B"), "osD^vP*", strict=True))
"""Colours, none of them a class's beside it, and markers of settings: as many as are drawn."""


def build_report(workdir: str | Path) -> str:
    """Writes `report/` into a run folder, from its stored results alone, and returns its first tables as text.

    Writes summary.csv, trend.csv, comparison.csv (of methods), regret.csv (of selection rules), method_regret.csv,
    pairs.csv (McNemar's tests), scenes.csv (Cochran's, of three scenes or more), repair_signs.csv and, beside
    `report/`, scores.csv (of images' scores), each where it has rows;
    summary.md, summary.tex, figures/*.png and *.svg, and index.html, which needs no other file; each file atomically.

    Raises:
        FileNotFoundError: the folder holds no results.
        ReportError: its results cannot be read.
    """
    run = read_run(workdir)
    folder = run.folder / "report"
    for name in TABLES:
        write_csv(folder / f"{name}.csv", getattr(run, name))
    write_csv(run.folder / "scores.csv", run.scores)
    facts = [f"{run.members()} {run.note()}"]
    lines = findings(run)
    run = run.shown()
    items = items_of(run)
    flip, *others = charts.flip_charts(run)
    first = front_chart(run, flip)
    document = Document(
        title=run.name,
        facts=facts,
        lines=lines,
        sections=_sections(run, items, others if first is flip else [flip, *others]),
        missing=run.missing,
        config=run.config.get("config", {}),
        front=(Picture(first), front_pair(items, palette_of(run)) if items else None),
    )
    save_gallery(run, items, folder / "figures")
    write_page(folder, document)
    write_summary(folder, document)
    write_latex(folder, document)
    return terminal_text(document)


def _sections(run: Run, items: Sequence[Item], flips: Sequence[Chart]) -> list[Section]:
    losses = "regret on the test images against a rule that"
    selection = [
        (f"Difference from {first_reference(run.comparison)}, {STARRED}", run.comparison, comparison_table),
        (f"Selection: {losses} sees the quantity itself", run.regret, text.regret_table),
        (f"Choosing among methods: {losses} sees the quantity itself", run.method_regret, text.regret_table),
        (pairs_caption(run.pairs), run.pairs, text.pair_table),
        (SIGNS, run.repair_signs, text.sign_table),
        (SCENES, run.scenes, scene_table),
    ]
    trends = [("Change over rho, paired by seed, with its interval", run.trend, text.trend_table)]
    first = Numbers("Test results: mean over seeds and its interval", text.summary_table(run.summary))
    return [
        Section("Results", [first, *_numbers(trends)]),
        Section("Flip over rho", pictures_of(flips)),
        Section("Flip-risk", [*pictures_of(charts.risk_charts(run)), *score_blocks(run)], left_out(run)),
        Section("Methods and selection", [*pictures_of(charts.method_charts(run)), *_numbers(selection)]),
        Section("Classes and groups", charts.class_sections(run)),
        Section("Training", pictures_of(charts.training_charts(run))),
        Section("Images", [Gallery(items, palette_of(run), CAPTION)] if items else []),
        Section("How it was made", [charts.made_of(run), charts.members_table(run)]),
    ]


def _numbers(tables: Iterable[tuple[str, pd.DataFrame, Callable[[pd.DataFrame], TextTable]]]) -> list[Numbers]:
    return [Numbers(caption, make(table)) for caption, table, make in tables if len(table)]


def pairs_caption(tests: pd.DataFrame) -> str:
    """Returns the caption of a table of McNemar's tests."""
    return (
        "Counterfactual pairs whose label changes with the scene in most seeds, against "
        f"{first_reference(tests)} (McNemar's test)"
    )


def first_reference(table: pd.DataFrame) -> str:
    """Returns what a table of differences compares with; '' without rows."""
    return str(table["reference"].iloc[0]) if len(table) else ""


def findings(run: Run) -> list[str]:
    """Returns what a run says, a sentence a question: members that learnt nothing, methods, levels of rho, repair.

    Members that do not find the object count in no sentence but the one that names them.
    """
    kept = run.kept()
    reach = max([_reach(cell.parts["test"].confusion) for cell in run.cells.values()], default=0.0)
    lost = (kept["fg_miss"] > MISSED) | (kept["iou/foreground"] < reach)
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
