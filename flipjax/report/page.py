"""Builds the report of a run folder: findings, tables, figures and a page."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from flipjax.files import write_text
from flipjax.report import charts
from flipjax.report.chart import Chart
from flipjax.report.charts import left_out, score_blocks
from flipjax.report.document import Document, Numbers, Section, terminal_text, write_latex, write_summary
from flipjax.report.html import Gallery, Picture, pictures_of, write_page
from flipjax.report.panels import Line, line_panels
from flipjax.report.pictures import CAPTION, Item, Palette, items_of, palette_of, save_gallery
from flipjax.report.run import TABLES, RunTables, read_run
from flipjax.results import text
from flipjax.results.frames import records_of, write_csv
from flipjax.results.rows import NOT_LEARNT
from flipjax.results.text import TextTable, comparison_table, varying_axes

MADE_OF = "made_of.json"
FLIP = "group/rare/fg_flip"
PAIR, TYPICAL = "pair", "typical"
LOOKS = dict(zip(("#222222", "#D4672F", "#3F74D6", "#B8860B", "#5BB5C9", "#C2527F", "#8C939B"), "osD^vP*", strict=True))
"""Colours, none of them a class's beside it, and markers of settings: as many as are drawn."""


def build_report(workdir: str | Path, *, again: bool = False) -> str:
    """Writes `report/` into a run folder from its stored results, and returns its first tables as text.

    Skips the work if results, configuration and flipjax match the existing report, unless `again`.

    Writes summary.csv, trend.csv, comparison.csv (of methods), selection.csv (of selection rules) and, beside
    `report/`, scores.csv (of image scores), each if it has rows; summary.md, summary.tex, figures/*.png and *.svg, and
    a self-contained index.html. Every file is written atomically.

    Raises:
        FileNotFoundError: the folder has no results.
        ReportError: its results cannot be read.
    """
    folder = Path(workdir) / "report"
    source = _digest(folder.parent)
    if not again and (known := _text_of(folder, source)) is not None:
        return known
    run = read_run(workdir)
    for name in TABLES:
        write_csv(folder / f"{name}.csv", getattr(run, name))
    write_csv(run.folder / "scores.csv", run.scores)
    facts = [f"{run.members()} {run.note()}"]
    attribute = run.config.get("config", {}).get("pool", {}).get("attribute", "scene")
    facts += [f"The scene of an image is its {attribute}."] if attribute != "scene" else []
    maps = charts.map_charts(run)
    run = run.shown()
    lines = findings(run)
    items = items_of(run)
    flip, *others = charts.flip_charts(run)
    first = front_chart(run, flip)
    document = Document(
        title=run.name,
        facts=facts,
        lines=lines,
        sections=_sections(run, items, [*maps, *(others if first is flip else [flip, *others])]),
        missing=run.missing,
        config=run.config.get("config", {}),
        front=(Picture(first), front_pair(items, palette_of(run)) if items else None),
    )
    save_gallery(run, items, folder / "figures")
    write_page(folder, document)
    write_summary(folder, document)
    write_latex(folder, document)
    shown = terminal_text(document)
    # Written last, to mark the report as complete.
    write_text(folder / MADE_OF, json.dumps({"source": source, "text": shown}, indent=1) + "\n")
    return shown


def _digest(folder: Path) -> str:
    """Returns a digest of a report's inputs: flipjax, tables, configuration, and size and time of cells."""
    digest = hashlib.sha256(version("flipjax").encode())
    for path in (folder / "results.csv", folder / "history.csv", folder / "config.json"):
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".json":
            with contextlib.suppress(ValueError, TypeError):
                # A start that trains nothing only adds a session.
                content = json.dumps(json.loads(content) | {"sessions": []}).encode()
        digest.update(hashlib.sha256(content).digest())
    for path in sorted(folder.glob("cells/**/*.npz")):
        found = path.stat()
        digest.update(f"{path.relative_to(folder)} {found.st_size} {found.st_mtime_ns}".encode())
    return digest.hexdigest()


def _text_of(folder: Path, source: str) -> str | None:
    """Returns the terminal text of the existing report if it has the same source."""
    try:
        stored = json.loads((folder / MADE_OF).read_text(encoding="utf-8"))
        whole = all((folder / name).is_file() for name in ("index.html", "summary.md", "summary.csv"))
        return str(stored["text"]) if whole and stored["source"] == source else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sections(run: RunTables, items: Sequence[Item], flips: Sequence[Chart]) -> list[Section]:
    rule = f"paired by seed; {text.legend(run.trend, run.comparison, run.selection)}"
    rules = partial(comparison_table, axis="selection")
    trends = [(f"Change over rho, {rule}", run.trend, text.trend_table)]
    selection = [(f"Difference from {first_reference(run.comparison)}, {rule}", run.comparison, comparison_table)]
    selection += [(f"Selection: difference from {first_reference(run.selection)}, {rule}", run.selection, rules)]
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


def first_reference(table: pd.DataFrame) -> str:
    """Returns the reference value of a table of differences; '' without rows."""
    return str(table["reference"].iloc[0]) if len(table) else ""


def findings(run: RunTables) -> list[str]:
    """Returns the findings of a run in sentences that restate rows of its tables."""
    unlearnt = run.records["member"][run.records["status"] == NOT_LEARNT].tolist()
    return [
        *text.unlearnt_warning(unlearnt, members=len(run.records)),
        *text.verdicts(run.comparison),
        *text.headline(run.summary, run.trend),
    ]


def front_chart(run: RunTables, flip: Chart) -> Chart:
    """Returns `flip` for one setting; for several, one panel of Flip in the rare groups over rho, a line each."""
    axes = varying_axes(run.summary)
    summary, records = run.summary[run.summary["quantity"] == FLIP], run.kept()
    if len(flip.panels) < 2 or records.empty:
        return flip
    labels, of_members = (
        pd.Series(
            [", ".join(f"{row[name]}" for name in axes if row[name] == row[name]) for row in records_of(table)]
        ).set_axis(table.index)
        for table in (summary, records)
    )
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
    """Returns two images of the first member, in a usual and in another scene, with their description.

    Chooses the pair with the largest change of flip, or without pairs the typical images that differ most. Returns None
    if either image is missing.
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
