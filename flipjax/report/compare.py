"""Compares two runs on one page, with differences paired by seed.

The rows of both runs become one table with a further axis, `run` (`_rows_of_both`), so that runs are compared and
judged as methods of one run are. Members and result files are named after their run, as `run/member`. The rows of
each run are those of its first selection rule. Both rules get one name, so that their rows pair.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.config.values import leaves
from flipjax.page.charts import Chart
from flipjax.page.document import Document, Numbers, Section
from flipjax.page.html import write_report
from flipjax.page.tables import TextTable
from flipjax.report.grid_panels import forest_panels
from flipjax.report.page_charts import flip_chart
from flipjax.report.page_tables import marked, notes_on_missing
from flipjax.results.cells import Cell
from flipjax.results.rows import axes_of, kept_records, member_quantities
from flipjax.results.run import StoredRun, load
from flipjax.results.sentences import classes_warning, verdicts
from flipjax.results.statistics.estimates import aggregate, compare
from flipjax.results.statistics.resamples import Resamples
from flipjax.results.statistics.setting_tables import FirstRule
from flipjax.results.statistics.verdicts import judge
from flipjax.results.text import comparison_table, legend, summary_table, value_text, varying_axes
from flipjax.support.frames import groups_of, records_of, to_frame, write_csv
from flipjax.support.terminal import listed

SAME_IMAGES = "Both runs were tested on the same images."
OTHER_IMAGES = "Warning: the runs were tested on other images."
MOST_LISTED = 6
"""Settings that a sentence names, at most."""
FIRST_RULE = "first"
"""The one name of the first selection rules of both runs, whatever each is called."""


class ReportError(Exception):
    """Unusable run folder. The message states the file, the expected and the found content.

    Example:
        >>> raise ReportError("runs/a: expected a run of one level, found two")
        Traceback (most recent call last):
        flipjax.report.compare.ReportError: runs/a: expected a run of one level, found two
    """

    exit_code = 1


def compare_runs(first: str | Path, second: str | Path, folder: Path) -> str:
    """Writes a page that compares two run folders, and returns its tables as terminal text.

    Differences cover only settings and seeds that both runs have, of members that enter means. Writes index.html,
    comparison.csv, summary.md, summary.tex and figures/.

    Raises:
        FileNotFoundError: a folder has no results.
        DamagedError: its results cannot be read.
        ReportError: the runs have no setting and seed in common.

    Example:
        >>> compare_runs("runs/before", "runs/after", Path("difference"))
        Traceback (most recent call last):
        FileNotFoundError: runs/before: expected a run folder with results; make one with flipjax sweep
    """
    runs = _by_name(load(first), load(second))
    reference = next(iter(runs))
    rows = _rows_of_both(runs)
    differences = judge(compare(rows, axis="run", reference=reference))
    # A blank axis stands for every value, so that settings may be paired whose names differ.
    if not (sum(differences["n"]) or _settings(rows, _axes(rows)).duplicated("setting").any()):
        raise ReportError(f"{first} and {second}: expected runs that share a setting and a seed, found none")
    document = _document(runs, rows, differences)
    write_csv(folder / "comparison.csv", differences)
    return write_report(folder, document)


def _document(runs: Mapping[str, StoredRun], rows: pd.DataFrame, differences: pd.DataFrame) -> Document:
    """Returns the page of two runs, of their joined rows and the judged differences of the second from the first."""
    reference, compared = runs
    axes = _axes(rows)
    records = member_quantities(rows)
    facts = [f"{name}: {_members_in_words(run.first_rule)}" for name, run in runs.items()]
    note_of_charts = " ".join(facts)

    family_in_words = legend(differences, "comparisons of both runs")
    differences_caption = f"Difference of {compared} from {reference}, paired by seed; {family_in_words}"
    differences_table = marked(differences_caption, comparison_table(differences, "run", axes=axes))
    chart_caption = "Differences paired by seed, with 95% intervals over seeds."
    forest = forest_panels(differences, "run")
    differences_chart = Chart("difference", "Differences", chart_caption, note_of_charts, forest)

    summary = aggregate(rows, resamples=Resamples(_cells_of_both(runs)))
    results_table = marked("Test results of both", summary_table(summary))
    flips_chart = flip_chart(summary, kept_records(records), note=note_of_charts)

    missing = []
    for name, run in runs.items():
        missing += [f"{name}: {line}" for line in notes_on_missing(run)]
    return Document(
        title=f"{compared} against {reference}",
        facts=facts,
        lines=[
            *_settings_in_words(_settings(kept_records(rows), axes)),
            *classes_warning(records, classes=runs[reference].classes),
            *verdicts(differences, axis="run", axes=axes),
            *_same_images(runs),
        ],
        sections=[
            Section("Differences", [differences_table, differences_chart]),
            Section("Both runs", [results_table, flips_chart]),
            Section("Differences of their configurations", [_configurations(runs)]),
        ],
        missing=missing,
        config={name: run.config_record.get("config", {}) for name, run in runs.items()},
    )


def _members_in_words(tables: FirstRule) -> str:
    """Returns the numbers of members, seeds and images of a run, and its kind of interval."""
    return f"{tables.statuses_in_words()} {tables.note_on_intervals()}"


def _by_name(first: StoredRun, second: StoredRun) -> dict[str, StoredRun]:
    """Returns two runs by the names of their folders, with A and B behind equal ones."""
    if first.name != second.name:
        return {first.name: first, second.name: second}
    return {f"{first.name} (A)": first, f"{second.name} (B)": second}


def _rows_of_both(runs: Mapping[str, StoredRun]) -> pd.DataFrame:
    """Returns the rows of both runs with a further axis `run`.

    An axis that takes one value in each run is left out. Where the runs differ in it, no setting of one would be a
    setting of the other, and nothing could be paired; the table of configurations names it.
    """
    tables = [run.first_rule.rows for run in runs.values()]
    # The rule has one name in both, so it stays.
    axes = {*axes_of(tables[0]), *axes_of(tables[1])} - {"selection"}
    constant_axes = [name for name in axes if not any(_varies(table, name) for table in tables)]
    rows = []
    for name, run in runs.items():
        table = run.first_rule.rows.drop(columns=constant_axes, errors="ignore").assign(selection=FIRST_RULE)
        table["member"] = f"{name}/" + table["member"]
        table.insert(1, "run", name)
        rows += records_of(table)
    return to_frame(rows)


def _varies(table: pd.DataFrame, axis: str) -> bool:
    """Whether a table has an axis with more than one value."""
    return axis in table and table[axis].nunique() > 1


def _cells_of_both(runs: Mapping[str, StoredRun]) -> dict[str, Cell]:
    """Returns the result files of both runs, with the names of members and of the first rule as in `_rows_of_both`."""
    cells = {}
    for run_name, run in runs.items():
        for cell_name, cell in run.cells.items():
            members = np.array([f"{run_name}/{member}" for member in cell.members])
            # Intervals over images are asked for by the rule's name. The other rules have no rows here.
            rules = np.array([FIRST_RULE, *cell.rules[1:]])
            results = dataclasses.replace(cell.results, member=members, rule=rules)
            images = dataclasses.replace(cell.images, member=members)
            cells[f"{run_name}/{cell_name}"] = Cell(results, stored_images=images)
    return cells


def _axes(rows: pd.DataFrame) -> list[str]:
    """Returns the axes that name a setting: those that vary, without rho and the seed."""
    # In rows of results.csv the axes come before the column `split`.
    return [name for name in varying_axes(rows, until="split") if name not in ("member", "run", "seed")]


def _settings(rows: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Returns the columns `run` and `setting` of each member: its setting, rho and seed in words.

    A setting that is twice in the table is of both runs.
    """
    names = list(axes)
    for name in ("rho", "seed"):
        if name in rows:
            names.append(name)
    # A row a member.
    members = rows[(rows["split"] == "test") & (rows["group"] == "all")]
    settings = []
    for row in records_of(members):
        settings.append(" ".join(f"{name} {value_text(name, row[name])}" for name in names))
    return pd.DataFrame({"run": members["run"], "setting": settings})


def _settings_in_words(settings: pd.DataFrame) -> list[str]:
    """Returns sentences on the settings and seeds of both runs, and on those of one run only."""
    in_both = settings.duplicated("setting", keep=False)
    compared = settings["setting"][in_both].unique()
    if len(compared):
        sentences = [f"Compared: {listed(compared, most=MOST_LISTED)}."]
    else:
        sentences = ["Nothing is compared: of no setting and seed a member enters the means of both runs."]
    for (run_name,), of_run in groups_of(settings[~in_both], ["run"]):
        sentences.append(f"Only in {run_name}: {listed(of_run['setting'], most=MOST_LISTED)}.")
    return sentences


def _same_images(runs: Mapping[str, StoredRun]) -> list[str]:
    """Returns a sentence on whether both runs have the same test images."""
    first, second = runs.values()
    same_rows = np.array_equal(_test_rows(first), _test_rows(second))
    if same_rows and _pool_of(first) == _pool_of(second):
        return [SAME_IMAGES]
    return [OTHER_IMAGES]


def _test_rows(run: StoredRun) -> np.ndarray:
    """Returns the pool rows of a run's test images, int (n, 2).

    They are those of its first result file; the others have the same unless an axis varies the pool or the split.
    """
    images = run.example.images
    return np.stack([images.object_row, images.scene_row], axis=1)[images.inside("test")]


def _pool_of(run: StoredRun) -> object:
    """Returns the section `pool` of a run's configuration, or None."""
    return run.config_record.get("config", {}).get("pool")


def _configurations(runs: Mapping[str, StoredRun]) -> Numbers:
    """Returns the fields of config.json that differ."""
    fields_of_run = {name: pd.Series(leaves(run.config_record), dtype=object).map(str) for name, run in runs.items()}
    # A row a field, a column a run.
    fields = pd.DataFrame(fields_of_run).drop("sessions", errors="ignore").fillna("-")
    is_different = fields.nunique(axis=1) > 1
    table_rows = fields[is_different].reset_index().to_numpy().tolist()
    if not table_rows:
        table_rows = [["none", "-", "-"]]
    return Numbers("Fields that differ", TextTable(["field", *runs], table_rows), words=True)
