"""The report of a run folder: tables, figures and one page that holds them all."""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from flipjax.files import write_text
from flipjax.report.chart import Chart, save_drawing
from flipjax.report.charts import class_sections, flip_charts, method_charts, risk_charts, training_charts
from flipjax.report.front import Front, findings, front_chart, front_items
from flipjax.report.galleries import CAPTION, items_of, palette_of, save_gallery
from flipjax.report.html import TERMS, Gallery, Numbers, Picture, Section, pictures_of, render_page
from flipjax.report.latex import to_latex
from flipjax.report.made import made_of, members_table
from flipjax.report.pictures import Item
from flipjax.report.pulls import SCENES, scene_table
from flipjax.report.run import Run, read_run
from flipjax.report.scores import left_out, score_blocks
from flipjax.results.frames import write_csv
from flipjax.results.text import (
    WIDTH,
    TextTable,
    comparison_table,
    pair_table,
    regret_table,
    sign_table,
    summary_table,
    to_markdown,
    to_text,
    trend_table,
)

LINES, SENTENCES = 48, 12
"""Lines of a terminal of WIDTH letters that a report takes at most, and the sentences among them."""
STARRED = "paired by seed; * the interval excludes 0"
SIGNS = "Repair on images still correlated as in training: do the seeds agree on its labels (kappa)?"


def build_report(workdir: str | Path) -> str:
    """Writes `report/` into a run folder, from its stored results alone, and returns its tables as text for a terminal.

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
    rows = {"summary": run.summary, "trend": run.trends, "comparison": run.comparison, "regret": run.regrets}
    rows |= {
        "method_regret": run.choices,
        "pairs": run.pair_tests,
        "repair_signs": run.signs,
        "scenes": run.scene_tests,
    }
    for name, table in rows.items():
        write_csv(folder / f"{name}.csv", table)
    write_csv(run.folder / "scores.csv", run.scores)
    counts = f"{run.members()} {run.note()}"
    lines = findings(run)
    run = run.shown()
    tables = tables_of(run)
    items = items_of(run)
    flip, *charts = flip_charts(run)
    front = _front(run, flip, items)
    charts = charts if front.picture.chart.name == flip.name else [flip, *charts]
    sections = _sections(run, tables, items, charts)
    save_gallery(run, items, folder / "figures")
    write_summary(folder, run.name, counts, [*lines, *run.missing], tables)
    config = run.config.get("config", {})
    facts = {"title": run.name, "lines": lines, "facts": [counts], "missing": run.missing}
    write_index(folder, sections, terms=list(TERMS), config=config, front=front, **facts)
    return terminal_text([f"{run.name}: {counts}"], tables, lines, run.missing)


def _front(run: Run, flip: Chart, items: Sequence[Item]) -> Front:
    return Front(Picture(front_chart(run, flip)), palette_of(run) if items else None, *front_items(items))


def write_index(folder: Path, sections: Sequence[Section], *, front: Front | None = None, **options: Any) -> None:
    """Writes index.html, with the options of `render_page`, and its charts to figures/."""
    pictures = [block for section in sections for block in section.blocks if isinstance(block, Picture)]
    save_figures(folder / "figures", [*pictures, *([front.picture] if front else [])])
    write_text(folder / "index.html", render_page(sections=sections, front=front, **options))


def save_figures(folder: Path, pictures: Sequence[Picture]) -> None:
    """Writes the charts of a page as SVG and PNG."""
    for picture in pictures:
        save_drawing(folder, picture.chart.name, picture.drawing)


def terminal_text(
    facts: Sequence[str], tables: dict[str, TextTable], lines: Sequence[str], missing: Sequence[str] = ()
) -> str:
    """Returns what a page holds as text for a terminal: sentences first, then tables, in LINES lines at most."""
    text = [*facts, "", *_cut(lines, SENTENCES), *_cut(missing, SENTENCES // 2)]
    cut = 0
    for place, (caption, table) in enumerate(tables.items()):
        parts = to_text(table).split("\n\n")
        while _height(text) + len(block := ["", caption, *"\n\n".join(parts).splitlines()]) > LINES and len(parts) > 1:
            # Of the first table the parts that fit, of others nothing.
            parts = parts[:-1] if place == 0 else [""]
        fits = parts != [""] and _height(text) + len(block) <= LINES
        text += block if fits else []
        cut += not fits
    more = f"\n{cut} more table{'s' if cut > 1 else ''} on the page and in summary.md"
    return "\n".join([*text, more if cut else ""]).rstrip()


def _height(lines: Sequence[str]) -> int:
    return sum(max(1, math.ceil(len(line) / WIDTH)) for line in lines)


def _cut(lines: Sequence[str], height: int) -> list[str]:
    """Returns the first lines, at least one, and how many more there are."""
    shown = [line for place, line in enumerate(lines) if place == 0 or _height(lines[: place + 1]) <= height]
    more = len(lines) - len(shown)
    return [*shown, *([f"{more} more in summary.md"] if more else [])]


def tables_of(run: Run) -> dict[str, TextTable]:
    """Returns the tables that a person reads, by caption."""
    tables = {"Test results: mean over seeds and its interval": summary_table(run.summary)}
    losses = "regret on the test images against a rule that"
    methods = partial(comparison_table, axis="method")
    further = (
        ("Change over rho, paired by seed, with its interval", run.trends, trend_table),
        (f"Difference from {first_reference(run.comparison)}, {STARRED}", run.comparison, methods),
        (f"Selection: {losses} sees the quantity itself", run.regrets, regret_table),
        (f"Choosing among methods: {losses} sees the quantity itself", run.choices, regret_table),
        (pairs_caption(run.pair_tests), run.pair_tests, pair_table),
        (SIGNS, run.signs, sign_table),
        (SCENES, run.scene_tests, scene_table),
    )
    return tables | {caption: make(table) for caption, table, make in further if len(table)}


def pairs_caption(tests: pd.DataFrame) -> str:
    """Says what a table of McNemar's tests compares."""
    return (
        "Counterfactual pairs whose label changes with the scene in most seeds, against "
        f"{first_reference(tests)} (McNemar's test)"
    )


def first_reference(table: pd.DataFrame) -> str:
    """Returns what a table of differences compares with; '' without rows."""
    return str(table["reference"].iloc[0]) if len(table) else ""


def _sections(run: Run, tables: dict[str, TextTable], items: Sequence[Item], charts: Sequence[Chart]) -> list[Section]:
    first, *others = itertools.starmap(Numbers, tables.items())
    trends = others[: bool(len(run.trends))]
    return [
        Section("Results", [first, *trends]),
        Section("Flip over rho", pictures_of(charts)),
        Section("Flip-risk", [*pictures_of(risk_charts(run)), *score_blocks(run)], left_out(run)),
        Section("Methods and selection", [*pictures_of(method_charts(run)), *others[len(trends) :]]),
        Section("Classes and groups", class_sections(run)),
        Section("Training", pictures_of(training_charts(run))),
        Section("Images", [Gallery(items, palette_of(run), CAPTION)] if items else []),
        Section("How it was made", [made_of(run), members_table(run)]),
    ]


def write_summary(folder: Path, title: str, facts: str, lines: Sequence[str], tables: dict[str, TextTable]) -> None:
    """Writes summary.md and summary.tex."""
    bullets = ["\n".join(f"- {line}" for line in lines)] if lines else []
    sections = [f"## {name}\n\n{to_markdown(table)}" for name, table in tables.items()]
    write_text(folder / "summary.md", "\n\n".join([f"# {title}", facts, *bullets, *sections]) + "\n")
    floats = "\n\n".join(to_latex(table, caption=f"{caption}. {facts}") for caption, table in tables.items())
    write_text(folder / "summary.tex", f"% \\usepackage{{booktabs}}\n{floats}\n")
