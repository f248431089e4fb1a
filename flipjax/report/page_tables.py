"""The tables of a run's page, section by section; `flipjax.report.sections` has its charts."""

import pandas as pd

from flipjax.backend.software import differing_software
from flipjax.report.document import Numbers
from flipjax.results import text
from flipjax.results.estimates import means_of
from flipjax.results.frames import records_of
from flipjax.results.quantities import SCORES, column, own_keys, title_of
from flipjax.results.run import StoredRun
from flipjax.results.text import COLUMNS, FURTHER_COLUMNS, TextTable, varying_axes

OF_GROUPS = {"fg_flip": "Flip", "iou/group": "IoU of the group's class", "risk_auroc": "AUROC of flip-risk"}
"""Quantities of the tables of groups, with their titles."""
LONG = 24
"""Rows above which a table is folded."""
MEMBER = ("fg_correct", "fg_flip", "fg_miss", *COLUMNS, "top_decile_flip_share", "top_decile_of_ceiling")
"""Quantities of the table of members."""


def result_tables(run: StoredRun) -> list[Numbers]:
    """Returns the table of what a reader compares, the change over rho, and further quantities, folded."""
    first = text.summary_table(run.first_rule_means)
    tables = [marked("Test results: mean over seeds", first)]
    if len(run.trend):
        caption = f"Change over rho, paired by seed; {text.legend(run.trend, 'trends')}"
        tables.append(marked(caption, text.trend_table(run.trend)))
    users = own_keys(run.first_rule_means["quantity"])
    if users:
        tables.append(marked("Quantities of the configuration's own", text.summary_table(run.first_rule_means, users)))
    further_columns = text.known_quantities(run.first_rule_means, FURTHER_COLUMNS)
    if further_columns:
        further = text.summary_table(run.first_rule_means, further_columns)
        tables.append(marked("Further test results", further, folded=True))
    return tables


def marked(caption: str, table: TextTable, *, folded: bool = False) -> Numbers:
    """Returns a table whose caption explains its intervals and their marks.

    Example:
        >>> marked("Test results", TextTable(["rho", "Flip"], [["0.5", "12.0%"]])).caption
        'Test results'
    """
    marks = text.marks(table)
    if marks:
        caption = f"{caption}; {marks}"
    return Numbers(caption, table, folded=folded)


def _folded_if_long(caption: str, table: TextTable) -> Numbers:
    return marked(caption, table, folded=len(table.rows) > LONG)


def difference_tables(run: StoredRun) -> list[Numbers]:
    """Returns the tables of differences between methods and between selection rules, each with its family."""
    tables = _difference_tables(run.comparison, "method", "comparisons of methods")
    return tables + _difference_tables(run.selection, "selection", "comparisons of selection rules")


def _difference_tables(differences: pd.DataFrame, axis: str, family: str) -> list[Numbers]:
    """Returns the table of differences along an axis; none without differences."""
    if differences.empty:
        return []
    reference = differences["reference"].iloc[0]
    caption = f"{axis.title()}: difference from {reference}, paired by seed; {text.legend(differences, family)}"
    return [marked(caption, text.comparison_table(differences, axis))]


def group_tables(run: StoredRun) -> list[Numbers]:
    """Returns the means of each group over seeds, with intervals."""
    if not run.cells:
        return []
    cell = next(iter(run.cells.values()))
    test = run.first_rule_rows[run.first_rule_rows["split"] == "test"]
    parts = []
    for group in range(cell.groups.count):
        of_group = test[test["group"] == str(group)]
        title = cell.groups.title_of(group, cell.class_names[1:], cell.results.scene_name.tolist())
        class_name = cell.class_names[1 + cell.groups.class_of(group)]
        iou = of_group[column(f"iou/{class_name}")]
        parts.append(of_group.assign(group=f"{title} ({cell.groups.kind_of(group)})", **{"iou/group": iou}))
    names = ["group", *varying_axes(run.first_rule_means)]
    axes = [*names]
    if "rho" in test:
        axes.append("rho")
    means = means_of(pd.concat(parts)[[*axes, "member", "status", *OF_GROUPS]], axes)
    tables = []
    for quantity, title in OF_GROUPS.items():
        table = text.by_rho(means[means["quantity"] == quantity], names)
        tables.append(_folded_if_long(f"{title} in each group: mean over seeds", table))
    return tables


def score_tables(run: StoredRun) -> list[Numbers]:
    """Returns a table of the stored scores but flip-risk, whose AUROC the first table has; nothing without others."""
    rows = run.compared_scores
    if len(rows):
        of_rule = rows["selection"] == run.first_rule_rows["selection"].iloc[0]
        of_others = rows["score"] != "flip_risk"
        rows = rows[of_rule & of_others & rows["member"].isin(run.kept()["member"])]
    if rows.empty:
        return []
    names = list(rows.columns)
    axes = [name for name in names[1 : names.index("threshold")] if name != "seed"]
    rows = rows.rename(columns={"auroc_all": "auroc"})
    rows = rows.assign(score=[SCORES[name].title for name in rows["score"]], status="")
    means = means_of(rows[[*axes, "status", "auroc"]], axes)
    caption = (
        "AUROC of image scores for images with a flip share above 0.5, beside that of flip-risk in Results; scores.csv "
        "has other measures, thresholds, and common and rare groups"
    )
    return [_folded_if_long(caption, text.by_rho(means, varying_axes(means)))]


def made_of(run: StoredRun) -> Numbers:
    """Returns configuration, command, commit, device, wall time and versions from config.json."""
    rows = [[key, value] for key, value in run.config_record.items() if isinstance(value, str) and key != "name"]
    if "name" in run.config_record:
        rows.insert(0, ["configuration", str(run.config_record["name"])])
    sessions = run.config_record.get("sessions", [])
    seconds = sum(float(entry.get("seconds", 0)) for entry in sessions)
    if seconds:
        rows.append(["wall time", f"{seconds:.0f} s in {len(sessions)} sessions"])
    for number, session in enumerate(sessions[1:], start=2):
        software = differing_software([run.config_record], session)
        if software:
            rows.append([f"start {number}, other software", software])
    table = TextTable(["fact", "value"], rows or [["nothing", "-"]])
    return Numbers("The run, from config.json", table, words=True)


def members_table(run: StoredRun) -> Numbers:
    """Returns axes, status and main test quantities, one row per member."""
    axes = varying_axes(run.member_rows, until="member")
    if "rho" in run.member_rows:
        axes.append("rho")
    quantities = [name for name in MEMBER if name in run.member_rows]
    rows = []
    for record in records_of(run.member_rows[["member", *axes, "status", *quantities]]):
        setting = [text.value_text(name, record[name]) for name in axes]
        rows.append([record["member"], *setting, record["status"], *(text.number(record[name]) for name in quantities)])
    table = TextTable(["member", *axes, "status", *map(title_of, quantities)], rows)
    return Numbers("All members, on the test images", table, folded=True, searched=True)
