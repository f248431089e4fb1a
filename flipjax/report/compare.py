"""Compares two runs on one page, with differences paired by seed."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.report.charts import Chart, drawn
from flipjax.report.document import Document, Numbers, Section
from flipjax.report.grid_panels import forest_panels
from flipjax.report.html import write_report
from flipjax.report.page_tables import marked
from flipjax.report.run import ReportError, RunTables, read_run
from flipjax.report.sections import flip_chart
from flipjax.results.cells import Cell
from flipjax.results.estimates import aggregate, compare, judge
from flipjax.results.frames import groups_of, records_of, to_frame, write_csv
from flipjax.results.resamples import Resamples
from flipjax.results.rows import axes_of, kept_records, member_quantities
from flipjax.results.sentences import classes_warning, verdicts
from flipjax.results.text import TextTable, comparison_table, legend, summary_table, value_text, varying_axes
from flipjax.settings import leaves
from flipjax.support.terminal import listed

SAME = "Both runs were tested on the same images."
OTHER = "Warning: the runs were tested on other images."
LISTED = 6
"""Settings that a sentence names."""


def compare_runs(first: str | Path, second: str | Path, folder: Path) -> str:
    """Writes a page that compares two run folders, and returns its tables as terminal text.

    Differences cover only settings and seeds that both runs have. Writes index.html, comparison.csv,
    summary.md, summary.tex and figures/.

    Raises:
        FileNotFoundError: a folder has no results.
        ReportError: its results cannot be read, or the runs have no setting and seed in common.

    Example:
        >>> compare_runs("runs/before", "runs/after", Path("difference"))
        Traceback (most recent call last):
        FileNotFoundError: runs/before: expected a run folder with results; make one with flipjax sweep
    """
    runs = _named(read_run(first), read_run(second))
    reference, compared = runs
    rows = _joined(runs)
    summary = aggregate(rows, resamples=Resamples(_cells(runs)))
    differences = judge(compare(rows, axis="run", reference=reference))
    if not sum(differences["n"]):
        raise ReportError(f"{first} and {second}: expected runs that share a setting and a seed, found none")
    axes = [name for name in varying_axes(rows, until="split") if name not in ("member", "run", "seed")]
    lines = _compared(rows, [*axes, *(name for name in ("rho", "seed") if name in rows)])
    records = member_quantities(rows)
    lines += classes_warning(records, classes=runs[reference].classes)
    lines += verdicts(differences, axis="run", axes=axes)
    lines += _same_images(runs)
    facts = [f"{name}: {run.members()} {run.note()}" for name, run in runs.items()]
    note = " ".join(facts)
    text = "Differences paired by seed, with 95% intervals over seeds."
    changes = Chart("difference", "Differences", text, note, forest_panels(differences, "run"))
    flips = flip_chart(summary, kept_records(records), note=note)
    family = legend(differences, "comparisons of both runs")
    caption = f"Difference of {compared} from {reference}, paired by seed; {family}"
    document = Document(
        title=f"{compared} against {reference}",
        facts=facts,
        lines=lines,
        sections=[
            Section("Differences", [marked(caption, comparison_table(differences, "run", axes=axes)), *drawn(changes)]),
            Section("Both runs", [marked("Test results of both", summary_table(summary)), *drawn(flips)]),
            Section("Differences of their configurations", [_settings(runs)]),
        ],
        missing=[f"{name}: {line}" for name, run in runs.items() for line in run.missing],
        config={name: run.config.get("config", {}) for name, run in runs.items()},
    )
    write_csv(folder / "comparison.csv", differences)
    return write_report(folder, document)


def _named(first: RunTables, second: RunTables) -> dict[str, RunTables]:
    """Returns two runs by the names of their folders, with A and B behind equal ones."""
    if first.name != second.name:
        return {first.name: first, second.name: second}
    return {f"{first.name} (A)": first, f"{second.name} (B)": second}


def _joined(runs: Mapping[str, RunTables]) -> pd.DataFrame:
    """Joins the rows of both runs with an axis `run`, dropping axes that only differ between runs."""
    tables = [run.rows for run in runs.values()]
    axes = {name for table in tables for name in axes_of(table)} - {"selection"}
    constant = [name for name in axes if not any(_varies(table, name) for table in tables)]
    rows = []
    for name, run in runs.items():
        table = run.rows.drop(columns=constant, errors="ignore").assign(selection="first")
        table["member"] = f"{name}/" + table["member"]
        table.insert(1, "run", name)
        rows += records_of(table)
    return to_frame(rows)


def _varies(table: pd.DataFrame, axis: str) -> bool:
    return axis in table and table[axis].nunique() > 1


def _cells(runs: Mapping[str, RunTables]) -> dict[str, Cell]:
    """Returns the cells of both runs, with members and first rule named as in `_joined`."""
    cells = {}
    for name, run in runs.items():
        for key, cell in run.cells.items():
            members = np.array([f"{name}/{member}" for member in cell.members])
            rules = np.array(["first", *cell.rules[1:]])
            results = dataclasses.replace(cell.results, member=members, rule=rules)
            images = dataclasses.replace(cell.images, member=members)
            cells[f"{name}/{key}"] = Cell(results, stored_images=images)
    return cells


def _compared(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Returns sentences on the settings and seeds of both runs, and on those of one run only."""
    kept = kept_records(rows[(rows["split"] == "test") & (rows["group"] == "all")])
    settings = []
    for row in records_of(kept):
        settings.append(" ".join(f"{name} {value_text(name, row[name])}" for name in names))
    table = pd.DataFrame({"run": kept["run"], "setting": settings})
    both = table.duplicated("setting", keep=False)
    sentences = [f"Compared: {listed(table['setting'][both].unique(), most=LISTED)}."]
    for (run,), alone in groups_of(table[~both], ["run"]):
        sentences.append(f"Only in {run}: {listed(alone['setting'], most=LISTED)}.")
    return sentences


def _same_images(runs: Mapping[str, RunTables]) -> list[str]:
    """Returns a sentence on whether both runs have the same test images; none if this is not stored."""
    if not all(run.cells for run in runs.values()):
        return []
    first, second = runs.values()
    same_rows = np.array_equal(_test_rows(first), _test_rows(second))
    if same_rows and _pool_of(first) == _pool_of(second):
        return [SAME]
    return [OTHER]


def _test_rows(run: RunTables) -> np.ndarray:
    """Returns the pool rows of a run's test images, int (n, 2)."""
    images = next(iter(run.cells.values())).images
    return np.stack([images.object_row, images.scene_row], axis=1)[images.inside("test")]


def _pool_of(run: RunTables) -> object:
    """Returns the section `pool` of a run's configuration, or None."""
    return run.config.get("config", {}).get("pool")


def _settings(runs: Mapping[str, RunTables]) -> Numbers:
    """Returns the fields of config.json that differ."""
    fields = {name: pd.Series(leaves(run.config), dtype=object).map(str) for name, run in runs.items()}
    table = pd.DataFrame(fields).drop("sessions", errors="ignore").fillna("-")
    rows = table[table.nunique(axis=1) > 1].reset_index().to_numpy().tolist()
    return Numbers("Fields that differ", TextTable(["field", *runs], rows or [["none", "-", "-"]]), words=True)
