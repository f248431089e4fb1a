"""The tables of a run's page, section by section, and notes on what it lacks; `report.page_charts` has its charts."""

import pandas as pd

from flipjax.backend.software import differing_software
from flipjax.metrics.summary.names import SCORES, column, own_keys, title_of
from flipjax.page.document import Numbers
from flipjax.page.tables import TextTable, number
from flipjax.results import text
from flipjax.results.record import RECORD, planned_members
from flipjax.results.rows import LEFT_OUT, NOT_LEARNT
from flipjax.results.run import StoredRun
from flipjax.results.statistics.estimates import means_of
from flipjax.results.statistics.setting_tables import FirstRule
from flipjax.results.text import COLUMNS, FURTHER_COLUMNS, varying_axes
from flipjax.support.frames import records_of
from flipjax.support.terminal import listed

OF_GROUPS = {"fg_flip": "Flip", "iou/group": "IoU of the group's class", "risk_auroc": "AUROC of flip-risk"}
"""Quantities of the tables of groups, with their titles."""
LONG = 24
"""Rows above which a table is folded."""
MEMBER = ("fg_correct", "fg_flip", "fg_miss", *COLUMNS, "top_decile_flip_share", "top_decile_of_ceiling")
"""Quantities of the table of members."""
MOST_SCORED_MEMBERS = 2000
"""Most members of a run for a page to compare scores."""


def result_tables(tables: FirstRule) -> list[Numbers]:
    """Returns the table of what a reader compares, the change over rho, and further quantities, folded."""
    shown = [marked("Test results: mean over seeds", text.summary_table(tables.means))]
    if len(tables.trend):
        caption = f"Change over rho, paired by seed; {text.legend(tables.trend, 'trends')}"
        shown.append(marked(caption, text.trend_table(tables.trend)))
    users = own_keys(tables.means["quantity"])
    if users:
        shown.append(marked("Quantities of the configuration's own", text.summary_table(tables.means, users)))
    further = text.known_quantities(tables.means, FURTHER_COLUMNS)
    if further:
        shown.append(marked("Further test results", text.summary_table(tables.means, further), folded=True))
    return shown


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


def difference_tables(tables: FirstRule) -> list[Numbers]:
    """Returns the tables of differences between methods and between selection rules, each with its family."""
    of_methods = _difference_tables(tables.comparison, "method", "comparisons of methods")
    of_rules = _difference_tables(tables.selection, "selection", "comparisons of selection rules")
    return [*of_methods, *of_rules]


def _difference_tables(differences: pd.DataFrame, axis: str, family: str) -> list[Numbers]:
    """Returns the table of differences along an axis; none without differences."""
    if differences.empty:
        return []
    reference = differences["reference"].iloc[0]
    caption = f"{axis.title()}: difference from {reference}, paired by seed; {text.legend(differences, family)}"
    return [marked(caption, text.comparison_table(differences, axis))]


def group_tables(tables: FirstRule) -> list[Numbers]:
    """Returns the means of each group over seeds, with intervals: a table for each of OF_GROUPS."""
    cell = next(iter(tables.cells.values()))
    scene_names = cell.results.scene_name.tolist()
    test = tables.rows[tables.rows["split"] == "test"]
    parts = []
    for group in range(cell.groups.count):
        of_group = test[test["group"] == str(group)]
        title = cell.groups.title_of(group, cell.class_names[1:], scene_names)
        class_name = cell.class_names[1 + cell.groups.class_of(group)]
        iou = of_group[column(f"iou/{class_name}")]
        parts.append(of_group.assign(group=f"{title} ({cell.groups.kind_of(group)})", **{"iou/group": iou}))
    names = ["group", *varying_axes(tables.means)]
    axes = [*names]
    if "rho" in test:
        axes.append("rho")
    means = means_of(pd.concat(parts)[[*axes, "member", "status", *OF_GROUPS]], axes)
    shown = []
    for quantity, title in OF_GROUPS.items():
        table = text.by_rho(means[means["quantity"] == quantity], names)
        shown.append(_folded_if_long(f"{title} in each group: mean over seeds", table))
    return shown


def score_tables(tables: FirstRule, scores: pd.DataFrame) -> list[Numbers]:
    """Returns a table of the stored scores but flip-risk, whose AUROC the first table has; nothing without others.

    Args:
        tables: of the settings that are shown.
        scores: the rows of scores.csv, of all members and selection rules.
    """
    if scores.empty:
        return []
    of_rule = scores["selection"] == tables.rows["selection"].iloc[0]
    of_others = scores["score"] != "flip_risk"
    rows = scores[of_rule & of_others & scores["member"].isin(tables.kept["member"])]
    if rows.empty:
        return []
    names = list(rows.columns)
    # The axes stand between the member and its threshold.
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
    for which, session in enumerate(sessions[1:], start=2):
        software = differing_software([run.config_record], session)
        if software:
            rows.append([f"start {which}, other software", software])
    table = TextTable(["fact", "value"], rows or [["nothing", "-"]])
    return Numbers("The run, from config.json", table, words=True)


def members_table(tables: FirstRule) -> Numbers:
    """Returns axes, status and main test quantities, one row per member."""
    axes = varying_axes(tables.members, until="member")
    if "rho" in tables.members:
        axes.append("rho")
    quantities = [name for name in MEMBER if name in tables.members]
    rows = []
    for record in records_of(tables.members[["member", *axes, "status", *quantities]]):
        setting = [text.value_text(name, record[name]) for name in axes]
        rows.append([record["member"], *setting, record["status"], *(number(record[name]) for name in quantities)])
    table = TextTable(["member", *axes, "status", *map(title_of, quantities)], rows)
    return Numbers("All members, on the test images", table, folded=True, searched=True)


def compared_scores(run: StoredRun) -> pd.DataFrame:
    """Returns the rows of scores.csv that a page compares; none for a run of more than MOST_SCORED_MEMBERS."""
    if len(run.members) > MOST_SCORED_MEMBERS:
        return pd.DataFrame()
    return run.scores


def notes_on_missing(run: StoredRun) -> list[str]:
    """Returns a line for each file, member or table that a run lacks."""
    notes = []
    if not (run.folder / "results.csv").is_file():
        notes.append("results.csv: the run has not ended; these are the results of the programs that have")
    if not run.config_record:
        notes.append(f"{RECORD}: cannot be read; how the run was made is not known")
    members = run.first_rule.members
    planned = planned_members(run.config_record, otherwise=len(members))
    if len(members) < planned:
        notes.append(f"{planned - len(members)} of the {planned} planned members have no results")
    for status in LEFT_OUT:
        # The findings of a run's page name these, and say why (`sentences.unlearnt_warning`).
        if status == NOT_LEARNT:
            continue
        names = members["member"][members["status"] == status]
        if len(names):
            notes.append(f"{status}, and left out of all means: {listed(names)}")
    if len(members) > MOST_SCORED_MEMBERS:
        reason = f"left out for more than {MOST_SCORED_MEMBERS} members"
        notes.append(f"scores.csv: {reason}; flipjax.results.scores makes it")
    return notes
