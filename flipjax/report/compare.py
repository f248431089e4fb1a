"""Two runs side by side: differences paired by seed, on one page."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from flipjax.config import leaves
from flipjax.report.chart import Chart
from flipjax.report.charts import flip_chart
from flipjax.report.html import TERMS, Numbers, Picture, Section
from flipjax.report.lines import forest_panels
from flipjax.report.page import STARRED, pairs_caption, terminal_text, write_index, write_summary
from flipjax.report.run import ReportError, Run, read_run
from flipjax.results.cells import StoredCell
from flipjax.results.frames import groups_of, records_of, to_frame, write_csv
from flipjax.results.pairs import pair_tests
from flipjax.results.resampling import Resamples
from flipjax.results.rows import axes_of, kept_records, member_quantities
from flipjax.results.seeds import aggregate, compare, seeds_of
from flipjax.results.sentences import verdicts
from flipjax.results.text import (
    TextTable,
    comparison_table,
    listed,
    pair_table,
    setting_label,
    summary_table,
    varying_axes,
)

SAME = "Both runs were tested on the same images."
OTHER = "Warning: the runs were tested on other images."
LISTED = 6


def compare_runs(first: str | Path, second: str | Path, folder: Path) -> str:
    """Writes a page that compares two run folders, and returns its tables as text for a terminal.

    Settings and seeds that only one run has are left out of the differences. Writes index.html, comparison.csv,
    pairs.csv (McNemar's tests, of runs on the same test images), summary.md, summary.tex and figures/.

    Raises:
        FileNotFoundError: a folder holds no results.
        ReportError: its results cannot be read, or the runs have no setting and seed in common.
    """
    runs = read_run(first), read_run(second)
    names = _names(runs)
    rows = _joined(runs, names)
    cells = _cells(runs, names)
    resamples = Resamples(cells)
    summary = aggregate(rows, resamples=resamples)
    differences = compare(rows, axis="run", reference=names[0], resamples=resamples)
    if not sum(differences["n"]):
        raise ReportError(f"{first} and {second}: expected runs that share a setting and a seed, found none")
    kept = kept_records(member_quantities(rows))
    caption = f"Difference of {names[1]} from {names[0]}, {STARRED}"
    axes = [name for name in varying_axes(rows, until="split") if name not in ("member", "run", "seed")]
    table = comparison_table(differences, "run", axes=axes)
    tables = {caption: table, "Test results of both": summary_table(summary)}
    same = _same_images(runs)
    tests = pair_tests(rows, cells, axis="run", reference=names[0]) if same else pd.DataFrame()
    tables |= {pairs_caption(tests): pair_table(tests)} if len(tests) else {}
    lines = _compared(rows, names, [*axes, *(["rho"] if "rho" in rows else [])])
    lines += verdicts(differences, axis="run", axes=axes)
    lines += [] if same is None else [SAME if same else OTHER]
    facts = [f"{name}: {run.members()} {run.note()}" for name, run in zip(names, runs, strict=True)]
    note = " ".join(facts)
    text = "Where a bar crosses 0 the runs cannot be told apart."
    changes = Chart("difference", "What changes", text, note, forest_panels(differences, "run"))
    first_table, second_table, *pair_tables = (Numbers(name, table) for name, table in tables.items())
    sections = [
        Section("Differences", [first_table, Picture(changes), *pair_tables]),
        Section("Both runs", [second_table, Picture(flip_chart(summary, kept, note=note))]),
        Section("What differs in their configurations", [_settings(runs, names)]),
    ]
    title = f"{names[1]} against {names[0]}"
    write_csv(folder / "comparison.csv", differences)
    write_csv(folder / "pairs.csv", tests)
    write_summary(folder, title, note, lines, tables)
    missing = [f"{name}: {line}" for name, run in zip(names, runs, strict=True) for line in run.missing]
    config = {name: run.config.get("config", {}) for name, run in zip(names, runs, strict=True)}
    page = {"title": title, "lines": lines, "facts": facts, "missing": missing}
    write_index(folder, sections, terms=list(TERMS), config=config, **page)
    return terminal_text([title, *facts], tables, lines)


def _names(runs: tuple[Run, Run]) -> tuple[str, str]:
    """Names that differ: of the runs, or else of their folders."""
    first, second = (run.name for run in runs)
    if first == second:
        first, second = (run.folder.resolve().name for run in runs)
    return (first, second) if first != second else (f"{first} (A)", f"{second} (B)")


def _joined(runs: tuple[Run, Run], names: tuple[str, str]) -> pd.DataFrame:
    """Joins the rows of both by an axis `run`, without the axes that take one value in each and differ between them."""
    axes = {name for run in runs for name in axes_of(run.rows)} - {"selection"}
    constant = {name for name in axes if all(name not in run.rows or run.rows[name].nunique() < 2 for run in runs)}
    rows = []
    for run, name in zip(runs, names, strict=True):
        table = run.rows.drop(columns=sorted(constant & {*run.rows})).assign(selection="first")
        table["member"] = f"{name}/" + table["member"]
        table.insert(1, "run", name)
        rows += records_of(table)
    return to_frame(rows)


def _cells(runs: tuple[Run, Run], names: tuple[str, str]) -> dict[str, StoredCell]:
    """Returns the cells of both, their members and first rule named as in `_joined`."""
    return {
        f"{name}/{key}": dataclasses.replace(
            cell,
            members=tuple(f"{name}/{member}" for member in cell.members),
            selections=("first", *cell.selections[1:]),
        )
        for run, name in zip(runs, names, strict=True)
        for key, cell in run.cells.items()
    }


def _compared(rows: pd.DataFrame, names: tuple[str, str], axes: Sequence[str]) -> list[str]:
    """Says which settings and seeds both runs have, and which only one of them."""
    kept = kept_records(rows[rows["split"] == "test"])
    first, second = (
        {_setting(values, axes): {*seeds_of(part)} for values, part in groups_of(kept[kept["run"] == name], axes)}
        for name in names
    )
    both = {setting: first[setting] & second.get(setting, set()) for setting in first}
    lines = [f"Compared: {_settings_text(both)}."]
    for name, own in zip(names, (first, second), strict=True):
        rest = {setting: seeds - both.get(setting, set()) for setting, seeds in own.items()}
        lines += [f"Only in {name}: {_settings_text(rest)}."] if any(rest.values()) else []
    return lines


def _setting(values: Sequence[Any], axes: Sequence[str]) -> str:
    return setting_label(dict(zip(axes, values, strict=True)), axes).replace(", ", " ") or "the one setting"


def _settings_text(settings: Mapping[str, set]) -> str:
    """Returns settings with their seeds in words; those of the same seeds together."""
    by_seeds: dict[tuple, list[str]] = {}
    for setting, seeds in settings.items():
        if seeds:
            by_seeds.setdefault(tuple(sorted(seeds)), []).append(setting)
    return "; ".join(f"{listed(few, most=LISTED)} (seeds {', '.join(map(str, key))})" for key, few in by_seeds.items())


def _same_images(runs: tuple[Run, Run]) -> bool | None:
    """Says whether both were tested on the same images; None where that is not stored."""
    rows = [next(iter(run.cells.values())).parts["test"].rows for run in runs if run.cells]
    pools = [run.config.get("config", {}).get("pool") for run in runs]
    if len(rows) < 2:
        return None
    return rows[0].shape == rows[1].shape and bool((rows[0] == rows[1]).all()) and pools[0] == pools[1]


def _settings(runs: tuple[Run, Run], names: tuple[str, str]) -> Numbers:
    def flat(config: Mapping[str, Any]) -> dict[str, Any]:
        return leaves(config.get("config", {})) | {k: v for k, v in config.items() if isinstance(v, str)}

    first, second = (flat(run.config) for run in runs)
    rows = [
        [key, str(first.get(key, "-")), str(second.get(key, "-"))]
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    ]
    return Numbers("Fields that differ", TextTable(["field", *names], rows or [["none", "-", "-"]]), words=True)
