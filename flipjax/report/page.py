"""The report of a run folder: tables, figures and one page that holds them all."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from flipjax.files import write_text
from flipjax.report.chart import save_drawing
from flipjax.report.charts import class_sections, flip_charts, method_charts, risk_charts, training_charts
from flipjax.report.galleries import CAPTION, items_of, palette_of, save_gallery
from flipjax.report.html import TERMS, Gallery, Numbers, Picture, Section, render_page
from flipjax.report.latex import to_latex
from flipjax.report.made import made_of, members_table
from flipjax.report.pictures import Item
from flipjax.report.run import Run, read_run
from flipjax.report.scores import left_out, score_blocks
from flipjax.results.frames import write_csv
from flipjax.results.repair_sign import SAFE
from flipjax.results.text import (
    TextTable,
    comparison_table,
    headline,
    pair_table,
    regret_table,
    repair_warning,
    sign_table,
    summary_table,
    to_markdown,
    to_text,
    trend_table,
)

FOLDED = 48
STARRED = "paired by seed; * the interval excludes 0"
SIGNS = (
    "Can repair be trusted? How far members of other seeds give the validation regions the same class: it needs no "
    f"labels. From kappa {SAFE} on repair did no harm to speak of; below, it raises flip on data at the training rho"
)


def build_report(workdir: str | Path) -> str:
    """Writes `report/` into a run folder, from its stored results alone, and returns its tables as text for a terminal.

    Writes summary.csv, trend.csv, comparison.csv (of methods), regret.csv (of selection rules), method_regret.csv,
    pairs.csv (McNemar's tests), repair_signs.csv and, beside `report/`, scores.csv (of images' scores), each where it
    has rows;
    summary.md, summary.tex, figures/*.png and *.svg, and index.html, which needs no other file; each file atomically.

    Raises:
        FileNotFoundError: the folder holds no results.
        ReportError: its results cannot be read.
    """
    run = read_run(workdir)
    folder = run.folder / "report"
    rows = {"summary": run.summary, "trend": run.trends, "comparison": run.comparison, "regret": run.regrets}
    rows |= {"method_regret": run.choices, "pairs": run.pair_tests, "repair_signs": run.signs}
    for name, table in rows.items():
        write_csv(folder / f"{name}.csv", table)
    write_csv(run.folder / "scores.csv", run.scores)
    counts = f"{run.members()} {run.note()}"
    findings = [*headline(run.summary, run.trends), *repair_warning(run.signs)]
    run = run.shown()
    tables = tables_of(run)
    items = items_of(run)
    sections = _sections(run, tables, items)
    save_gallery(run, items, folder / "figures")
    write_summary(folder, run.name, counts, findings, tables)
    config = run.config.get("config", {})
    facts = {"title": run.name, "lines": findings, "facts": [counts], "missing": run.missing}
    write_index(folder, sections, terms=list(TERMS), config=config, **facts)
    return terminal_text([f"{run.name}: {counts}"], tables, [*findings, *run.missing])


def write_index(folder: Path, sections: Sequence[Section], **options: Any) -> None:
    """Writes index.html, with the options of `render_page`, and its charts to figures/."""
    save_figures(folder / "figures", sections)
    write_text(folder / "index.html", render_page(sections=sections, **options))


def terminal_text(facts: Sequence[str], tables: dict[str, TextTable], lines: Sequence[str]) -> str:
    """Returns what a page holds as text for a terminal."""
    blocks = [f"{name}\n{to_text(table)}" for name, table in tables.items()]
    return "\n\n".join([*facts, *blocks, "\n".join(lines)]).rstrip()


def tables_of(run: Run) -> dict[str, TextTable]:
    """Returns the tables that a person reads, by caption."""
    tables = {
        "Test results: mean, or the values of fewer than 4 seeds, and interval of the mean": summary_table(run.summary)
    }
    losses = "what a rule loses against one that"
    methods = partial(comparison_table, axis="method")
    further = (
        ("Change over rho, paired by seed, with its interval", run.trends, trend_table),
        (f"Difference from {first_reference(run.comparison)}, {STARRED}", run.comparison, methods),
        (f"Selection: {losses} selects on the quantity itself", run.regrets, regret_table),
        (f"Choosing among methods: {losses} sees the quantity itself", run.choices, regret_table),
        (pairs_caption(run.pair_tests), run.pair_tests, pair_table),
        (SIGNS, run.signs, sign_table),
    )
    return tables | {caption: make(table) for caption, table, make in further if len(table)}


def pairs_caption(tests: pd.DataFrame) -> str:
    """Says what a table of McNemar's tests compares."""
    return (
        "Counterfactual pairs, one object in both scenes: those whose predicted label changes with the scene alone in "
        f"most of the seeds, against {first_reference(tests)}; McNemar's exact test, for these seeds"
    )


def first_reference(table: pd.DataFrame) -> str:
    """Returns what a table of differences compares with; '' without rows."""
    return str(table["reference"].iloc[0]) if len(table) else ""


def _sections(run: Run, tables: dict[str, TextTable], items: Sequence[Item]) -> list[Section]:
    first, *others = (Numbers(caption, table, folded=len(table.rows) > FOLDED) for caption, table in tables.items())
    trends = others[: bool(len(run.trends))]
    return [
        Section("Results", [first, *trends]),
        Section("Flip over rho", [Picture(each) for each in flip_charts(run)]),
        Section("Flip-risk", [*map(Picture, risk_charts(run)), *score_blocks(run)], left_out(run)),
        Section("Methods and selection", [*map(Picture, method_charts(run)), *others[len(trends) :]]),
        Section("Classes and groups", class_sections(run)),
        Section("Training", [Picture(each) for each in training_charts(run)]),
        Section("Images", [Gallery(items, palette_of(run), CAPTION)] if items else []),
        Section("How it was made", [made_of(run), members_table(run)]),
    ]


def save_figures(folder: Path, sections: Sequence[Section]) -> None:
    """Writes the charts of a page as SVG and PNG."""
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Picture):
                save_drawing(folder, block.chart.name, block.drawing)


def write_summary(folder: Path, title: str, facts: str, lines: Sequence[str], tables: dict[str, TextTable]) -> None:
    """Writes summary.md and summary.tex."""
    bullets = ["\n".join(f"- {line}" for line in lines)] if lines else []
    sections = [f"## {name}\n\n{to_markdown(table)}" for name, table in tables.items()]
    write_text(folder / "summary.md", "\n\n".join([f"# {title}", facts, *bullets, *sections]) + "\n")
    floats = "\n\n".join(to_latex(table, caption=f"{caption}. {facts}") for caption, table in tables.items())
    write_text(folder / "summary.tex", f"% \\usepackage{{booktabs}}\n{floats}\n")
