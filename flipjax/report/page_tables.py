"""The tables of a run's page, section by section; `flipjax.report.sections` has its charts."""

import pandas as pd

from flipjax.backend.software import differing_software
from flipjax.report.document import Numbers
from flipjax.results import text
from flipjax.results.estimates import means_of
from flipjax.results.frames import Row, records_of
from flipjax.results.measures import SCORE_QUANTITIES
from flipjax.results.quantities import SCORES, column, key_of, own_keys, title_of
from flipjax.results.rows import COMPARED
from flipjax.results.run import StoredRun
from flipjax.results.scores import WANTED_RISK
from flipjax.results.text import COLUMNS, FURTHER, TextTable, varying_axes

THRESHOLD = (
    "val_coverage",
    "val_risk",
    "test_coverage",
    "test_risk",
    "group/common/test_risk",
    "group/rare/test_risk",
)
"""Quantities of scores.csv that describe a threshold."""
OF_GROUPS = {"fg_flip": "Flip", "iou/group": "IoU of the group's class", "risk_auroc": "AUROC of flip-risk"}
"""Quantities of the tables of groups, with their titles."""
LONG = 24
"""Rows above which a table is folded."""
MEMBER = ("fg_correct", "fg_flip", "fg_miss", *COLUMNS, "top_decile_flip_share", "top_decile_of_ceiling")
"""Quantities of the table of members."""


def result_tables(run: StoredRun) -> list[Numbers]:
    """Returns the table of what a reader compares, the change over rho, and further quantities, folded."""
    first = text.summary_table(run.means)
    tables = [marked("Test results: mean over seeds", first)]
    if len(run.trend):
        caption = f"Change over rho, paired by seed; {text.legend(run.trend, 'trends')}"
        tables.append(marked(caption, text.trend_table(run.trend)))
    users = own_keys(run.means["quantity"])
    if users:
        tables.append(marked("Quantities of the configuration's own", text.summary_table(run.means, users)))
    further = text.known_quantities(run.means, FURTHER)
    if further:
        tables.append(marked("Further test results", text.summary_table(run.means, further), folded=True))
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
    test = run.rows[run.rows["split"] == "test"]
    parts = []
    for group in range(cell.groups.count):
        of_group = test[test["group"] == str(group)]
        title = cell.groups.title_of(group, cell.class_names[1:], cell.results.scene_name.tolist())
        class_name = cell.class_names[1 + cell.groups.class_of(group)]
        iou = of_group[column(f"iou/{class_name}")]
        parts.append(of_group.assign(group=f"{title} ({cell.groups.kind_of(group)})", **{"iou/group": iou}))
    names = ["group", *varying_axes(run.means)]
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
    """Returns tables of all stored scores; nothing if flip-risk is the only one."""
    rows = run.compared_scores
    if len(rows):
        of_rule = rows["selection"] == run.rows["selection"].iloc[0]
        rows = rows[of_rule & rows["member"].isin(run.kept()["member"])]
    if rows.empty or rows["score"].nunique() < 2:
        return []
    names = list(rows.columns)
    axes = [name for name in names[1 : names.index("threshold")] if name != "seed"]
    rows = rows.rename(columns={f"{key}_{side}": key_of(key, side) for key in SCORE_QUANTITIES for side in COMPARED})
    rows = rows.assign(score=[SCORES[name].title for name in rows["score"]], status="")
    means = means_of(rows[[*axes, "status", "auroc", "augrc", *THRESHOLD]], axes)
    varying = varying_axes(means)
    most = means["n"].max()

    def cell(row: Row, first: Row) -> str:
        return text.mean_text(row, most)

    setting = [*varying]
    if "rho" in means:
        setting.append("rho")
    auroc = text.by_rho(means[means["quantity"] == "auroc"], varying)
    augrc = text.by_rho(means[means["quantity"] == "augrc"], varying)
    threshold = text.wide(means, setting, text.titles(THRESHOLD), cell)
    return [
        _folded_if_long("AUROC of image scores over all groups, for images with a flip share above 0.5", auroc),
        _folded_if_long(
            "AUGRC of image scores (area under risk times coverage; lower is better). scores.csv also has AURC and "
            "E-AURC, for common and rare groups, too",
            augrc,
        ),
        _folded_if_long(
            "Share of images kept by a threshold chosen on validation images for a mean flip of at most "
            f"{WANTED_RISK:g}, and their mean flip, on validation and test images; means over the seeds that keep any",
            threshold,
        ),
    ]


def made_of(run: StoredRun) -> Numbers:
    """Returns configuration, command, commit, device, wall time and versions from config.json."""
    rows = [[key, value] for key, value in run.record.items() if isinstance(value, str) and key != "name"]
    if "name" in run.record:
        rows.insert(0, ["configuration", str(run.record["name"])])
    sessions = run.record.get("sessions", [])
    seconds = sum(float(entry.get("seconds", 0)) for entry in sessions)
    if seconds:
        rows.append(["wall time", f"{seconds:.0f} s in {len(sessions)} sessions"])
    for number, session in enumerate(sessions[1:], start=2):
        software = differing_software([run.record], session)
        if software:
            rows.append([f"start {number}, other software", software])
    table = TextTable(["fact", "value"], rows or [["nothing", "-"]])
    return Numbers("The run, from config.json", table, words=True)


def members_table(run: StoredRun) -> Numbers:
    """Returns axes, status and main test quantities, one row per member."""
    axes = varying_axes(run.records, until="member")
    if "rho" in run.records:
        axes.append("rho")
    quantities = [name for name in MEMBER if name in run.records]
    rows = []
    for record in records_of(run.records[["member", *axes, "status", *quantities]]):
        setting = [text.value_text(name, record[name]) for name in axes]
        rows.append([record["member"], *setting, record["status"], *(text.number(record[name]) for name in quantities)])
    table = TextTable(["member", *axes, "status", *map(title_of, quantities)], rows)
    return Numbers("All members, on the test images", table, folded=True, searched=True)
