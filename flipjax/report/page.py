"""The report of a run folder: its charts and tables, section by section, and the page that holds them."""

import contextlib
import json
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.backend.software import differing_software
from flipjax.metrics.images import Images
from flipjax.metrics.pull import flip_cube, pull_chance, usual_table
from flipjax.report import panels
from flipjax.report.document import Document, Numbers, Section
from flipjax.report.html import Gallery, write_report
from flipjax.report.panels import Chart, Line, Panel, fill_rows, line_chart, line_panels
from flipjax.report.pictures import CAPTION, Item, Palette, gallery_chart, items_of, palette_of
from flipjax.report.run import SHOWN, TABLES, RunTables, images_by_setting, read_run
from flipjax.report.style import CLASSES, COMMON, FLIP, RARE, REPAIRED, WHOLE, shades
from flipjax.results import sentences, text
from flipjax.results.estimates import FEWEST, JUDGED, means_of
from flipjax.results.frames import groups_of, records_of, write_csv
from flipjax.results.measures import SCORE_QUANTITIES
from flipjax.results.quantities import SCORES, key_of, title_of
from flipjax.results.rows import COMPARED, NOT_LEARNT
from flipjax.results.run_data import token_of
from flipjax.results.scores import WANTED_RISK
from flipjax.results.text import COLUMNS, FURTHER, TextTable, setting_label, varying_axes
from flipjax.support.files import write_text


def _sides(key: str) -> list[Line]:
    """Returns the lines of a quantity in the common and in the rare groups."""
    looks = {"common": (COMMON, "o"), "rare": (RARE, "s")}
    return [Line(f"group/{side}/{key}", f"{side} groups", *look) for side, look in looks.items()]


REPAIRS = [
    Line("group/common/repair_flip", "common, repaired", COMMON, "v"),
    Line("group/rare/repair_flip", "rare, repaired", REPAIRED, "D"),
]
AUROC = (
    Line("risk_auroc", "entropy, all", WHOLE),
    Line("group/rare/risk_auroc", "entropy, rare", RARE, "s"),
    Line("swap_auroc", "scene swap, all", REPAIRED, "D"),
)
TENTHS = (Line("top_decile_flip_share", "flip-risk", WHOLE), Line("top_decile_ceiling", "best ranking", COMMON, "^"))
PULL = Line("scene_pull", "pull of the scene", FLIP)
CONTEXT = Line("context_use", "context use", REPAIRED)
MEASURES = {
    "valid_loss": ("validation loss", None),
    "valid_flip": ("validation flip", 1.0),
    "valid_worst_group_iou": ("validation worst-group IoU", 1.0),
}
"""Columns of history.csv that are drawn, with their names and upper limits."""
THRESHOLD = ("val_coverage", "val_risk", "test_coverage", "test_risk", "group/common/test_risk", "group/rare/test_risk")
"""Quantities of scores.csv that describe a threshold."""
OF_GROUPS = {"fg_flip": "Flip", "iou/group": "IoU of the group's class", "risk_auroc": "AUROC of flip-risk"}
TRAINED = 12
MEMBER = ("fg_correct", "fg_flip", "fg_miss", *COLUMNS, *FURTHER[:2])


def flip_charts(run: RunTables) -> list[Chart]:
    """Returns charts of flips, the IoU gap, context use if it was measured, and pixel shares."""
    looks = cycle(zip(CLASSES[1:], cycle("^v"), strict=False))
    names = dict.fromkeys(name for name in run.summary["quantity"] if name.startswith("gap/") and name != "gap/mean")
    gaps = [Line(name, title_of(name).removeprefix("IoU gap of "), *next(looks)) for name in names]
    gaps.append(Line("gap/mean", "mean", WHOLE))
    ends = run.summary["low"][run.summary["quantity"].str.startswith("gap/") & (run.summary["n"] >= FEWEST)]
    least = max(-1.0, float(np.nanmin([0.0, *ends, *np.ravel(run.kept().filter(like="gap/"))])))
    options = {"y": "IoU, common minus rare", "limits": (least - 0.05, 1.0), "reference": (0.0, "")}
    caption = "IoU of a class in its common groups minus that in its rare groups. 0: the scene does not matter."
    charts = [
        flip_chart(run.summary, run.kept(), note=run.note(dots=True)),
        line_chart(run, "gap", "IoU gap of each class", caption, gaps, **options),
    ]
    if run.has(CONTEXT.quantity):
        caption = (
            "Share of the evidence 2 log(rho / (1 - rho)) of the scene that members use, measured on unlabelled "
            "images. 0: none of it; 1: all."
        )
        options = {"y": "nat per nat", "reference": (0.0, "")}
        charts.append(line_chart(run, "context_use", "Context use", caption, [CONTEXT], **options))
    return [*charts, panels.shares_chart(panels.share_panels(run.summary), note=run.note(interval=False))]


def flip_chart(summary: pd.DataFrame, records: pd.DataFrame, *, note: str) -> Chart:
    """Returns the chart of flips over rho, from a summary and the records of its members."""
    caption = "Flip: pixels of the true foreground predicted as another foreground class, pooled over a group's images."
    if "group/rare/repair_flip" in set(summary["quantity"]):
        caption += " The test images are balanced over scenes; repair raises Flip where scenes stay correlated."
    drawn = line_panels(summary, records, _sides("fg_flip") + REPAIRS, y="flip, share of the true foreground")
    return Chart("flip", "Flip of common and rare groups", caption, note, drawn)


def risk_charts(run: RunTables) -> list[Chart]:
    """Returns charts of how well flip-risk ranks flips."""
    caption = "AUROC for images with a flip share above 0.5. At 0.5 the score is no better than chance."
    title = "How well flip-risk ranks flipped images"
    charts = [line_chart(run, "risk", title, caption, AUROC, y="AUROC", reference=(0.5, "chance"))]
    caption = "Part of all flips in the tenth of the images with the highest flip-risk, and the largest of any tenth."
    options = {"y": "share of all flips", "reference": (0.1, "flips spread evenly")}
    charts.append(line_chart(run, "top_decile", "Top-decile flip share", caption, TENTHS, **options))
    if run.has("group/rare/fg_ece"):
        caption = "Expected calibration error of the class of predicted regions. 0: confidence equals accuracy."
        options = {"lines": _sides("fg_ece"), "y": "calibration error"}
        charts.append(line_chart(run, "calibration", "Calibration inside regions", caption, **options))
    facets: dict[str, dict[str, panels.Ranking]] = {}
    for _, setting, members in images_by_setting(run):
        label = setting_label(setting, varying_axes(run.summary))
        facet, name = (label, f"rho {setting['rho']:g}") if "rho" in setting else ("", label or "this run")
        facets.setdefault(facet, {})[name] = panels.mean_ranking([images.decomposition for images in members])
    return [*charts, *(panels.ranking_charts(facets, note=run.note(interval=False)) if facets else [])]


def map_charts(run: RunTables) -> list[Chart]:
    """Returns maps and distributions over all settings of a run whose page shows only some of them."""
    if run.shown() is run or "rho" not in run.summary:
        return []
    caption = "Means over seeds of every setting beside rho. Boxes: quartiles; line: median."
    drawn = panels.map_panels(run.summary, JUDGED)
    return [Chart("settings", "All settings", caption, run.note(interval=False), drawn, columns=2)]


def method_charts(run: RunTables) -> list[Chart]:
    """Returns the chart of differences between methods; none for one method."""
    if run.comparison.empty:
        return []
    caption = (
        "Differences from the first method of the grid, paired by seed at each rho. Bars are not corrected for "
        "multiple comparisons; the table has the verdicts. Lower is better for flip and gap, higher for IoU."
    )
    drawn = panels.forest_panels(run.comparison)
    return [Chart("methods", "Differences between methods", caption, run.note(dots=True), drawn)]


def class_blocks(run: RunTables) -> list[Numbers | Chart]:
    """Returns the confusion between classes, where a scene's flips go, and the group tables."""
    matrices = []
    for title, _, members in images_by_setting(run):
        confusion = np.sum([images.confusion.sum(0, dtype=np.int64) for images in members], axis=0)
        matrices.append(panels.matrix_panel(confusion, members[0].class_names, title=title))
    charts = [panels.matrix_chart(matrices, note=run.note(interval=False))] if matrices else []
    return [*charts, *pull_charts(run), *group_tables(run)]


def group_tables(run: RunTables) -> list[Numbers]:
    """Returns the means of each group over seeds, with intervals."""
    if not run.cells:
        return []
    cell = next(iter(run.cells.values()))
    test = run.rows[run.rows["split"] == "test"]
    parts = []
    for group in range(cell.groups.count):
        own = test[test["group"] == str(group)]
        title = cell.groups.title_of(group, cell.class_names[1:], cell.results.scene_name.tolist())
        iou = own[f"iou_{cell.class_names[1 + cell.groups.class_of(group)]}"]
        parts.append(own.assign(group=f"{title} ({cell.groups.kind_of(group)})", **{"iou/group": iou}))
    names = ["group", *varying_axes(run.summary)]
    rows, axes = pd.concat(parts), [*names, *(["rho"] if "rho" in test else [])]
    means = means_of(rows[[*axes, "member", "status", *OF_GROUPS]], axes)
    tables = []
    for quantity, title in OF_GROUPS.items():
        table = text.by_rho(means[means["quantity"] == quantity], names)
        caption = f"{title} in each group: mean over seeds and its interval"
        tables.append(Numbers(caption, table, folded=len(table.rows) > 24))
    return tables


def training_charts(run: RunTables) -> list[Chart]:
    """Returns training curves, averaged over the members of a setting that are still training."""
    if run.history.empty:
        return []
    axes = [name for name in varying_axes(run.records, until="member") if name != "seed"]
    levels = ["rho"] if "rho" in run.records else []
    # An axis such as learning_rate is also a history column, with the value of the last step.
    history = run.history.drop(columns=axes, errors="ignore")
    table = history.merge(run.records[["member", *axes, *levels]], on="member")
    drawn = []
    for setting, rows in islice(groups_of(table, axes), TRAINED):
        title = setting_label(dict(zip(axes, setting, strict=True)), axes)
        for measure, (y, most) in MEASURES.items():
            curves = rows.pivot_table(index="epoch", columns=levels, values=measure)
            curves = curves.add_prefix("rho ") if levels else curves
            drawn += [] if curves.empty else [panels.curve_panel(curves, title=title, x="epoch", y=y, most=most)]
    caption = "Each curve is the mean over the seeds that are still training."
    return [Chart("training", "Training curves", caption, run.note(interval=False), drawn)] if drawn else []


def made_of(run: RunTables) -> Numbers:
    """Returns command, commit, device, wall time and versions from config.json."""
    rows = [[key, value] for key, value in run.config.items() if isinstance(value, str) and key != "name"]
    sessions = run.config.get("sessions", [])
    seconds = sum(float(entry.get("seconds", 0)) for entry in sessions)
    rows += [["wall time", f"{seconds:.0f} s in {len(sessions)} sessions"]] if seconds else []
    for place, session in enumerate(sessions[1:], start=2):
        others = differing_software([run.config], session)
        rows += [[f"start {place}, other software", others]] if others else []
    table = TextTable(["fact", "value"], rows or [["nothing", "-"]])
    return Numbers("The run, from config.json", table, words=True)


def members_table(run: RunTables) -> Numbers:
    """Returns axes, status and main test quantities, one row per member."""
    axes = varying_axes(run.records, until="member") + (["rho"] if "rho" in run.records else [])
    names = ["member", *axes, "status"]
    known = [name for name in MEMBER if name in run.records]
    cells = pd.concat([run.records[names].astype(str), run.records[known].map(text.number)], axis=1)
    table = TextTable([*names, *map(title_of, known)], cells.to_numpy().tolist())
    return Numbers("All members, on the test images", table, folded=True, searched=True)


def pull_charts(run: RunTables) -> list[Chart]:
    """Returns the pull over rho and the matrices of scenes and predicted classes; none for two classes."""
    if PULL.quantity not in set(run.summary["quantity"]) or not run.cells:
        return []
    chance = pull_chance(next(iter(run.cells.values())).groups)
    options = {"y": "share of the flips in rare groups", "reference": (chance, f"chance, {chance:.2f}")}
    caption = "Share of the flips in rare groups that go to a class whose usual scene the image shows."
    scene_names = next(iter(run.cells.values())).results.scene_name.tolist()
    matrices = [pull_panel(members, scene_names, title=title) for title, _, members in images_by_setting(run)]
    where = "Predicted class of the flips in each scene that is unusual for the object. Framed: the class whose usual "
    where += f"scene it is; flips spread evenly put {chance:.0%} of all into the frames."
    return [
        line_chart(run, "pull", "Pull of the scene", caption, [PULL], **options),
        Chart("pull_matrix", "Where a scene's flips go", where, run.note(interval=False), matrices),
    ]


def pull_panel(members: Sequence[Images], scene_names: Sequence[str], *, title: str) -> Panel:
    """Returns a panel of the flips in each scene by predicted class, for members of one setting."""
    groups = members[0].groups
    usual = usual_table(groups)
    cubes = [flip_cube(images.confusion, images.group, all_groups=groups) for images in members]
    flips = (np.sum(cubes, axis=0) * ~usual[..., None]).sum(0)
    shares = flips / np.maximum(flips.sum(1, keepdims=True), 1)
    names = scene_names, members[0].class_names[1:]
    pull = (flips * usual.T).sum() / max(flips.sum(), 1)
    head = f"{title}: {pull:.0%} in the frames"
    colours = [[FLIP] * len(names[1])] * len(names[0])
    options = {"framed": np.argwhere(usual.T), "title": head, "y": "flips on"}
    return panels.cell_panel(shares, colours, *names, text=f"{head}.", **options)


def score_blocks(run: RunTables) -> list[Numbers]:
    """Returns tables of all stored scores; nothing if flip-risk is the only one."""
    rows = run.scores
    if len(rows):
        of_rule = rows["selection"] == run.rows["selection"].iloc[0]
        rows = rows[of_rule & rows["member"].isin(run.kept()["member"])]
    if rows.empty or rows["score"].nunique() < 2:
        return []
    names = list(rows.columns)
    axes = [name for name in names[1 : names.index("threshold")] if name != "seed"]
    rows = rows.rename(columns={f"{key}_{side}": key_of(key, side) for key in SCORE_QUANTITIES for side in COMPARED})
    rows = rows.assign(score=rows["score"].map(lambda name: SCORES[name].title), status="")
    means = means_of(rows[[*axes, "status", "auroc", "augrc", *THRESHOLD]], axes)
    auroc, augrc = (means[means["quantity"] == name] for name in ("auroc", "augrc"))
    varying = varying_axes(means)
    carried = [*varying, *(["rho"] if "rho" in means else [])]
    captions = (
        "AUROC of image scores over all groups, for images with a flip share above 0.5; mean and interval",
        "AUGRC of image scores (area under risk times coverage; lower is better). scores.csv also has AURC and "
        "E-AURC, for common and rare groups, too",
        f"Share of images kept by a threshold chosen on validation images for a mean flip of at most {WANTED_RISK:g}, "
        "and their mean flip, on validation and test images; means over the seeds that keep any",
    )
    tables = [text.by_rho(auroc, varying), text.by_rho(augrc, varying)]
    most = means["n"].max()
    tables.append(text.wide(means, carried, text.titles(THRESHOLD), lambda row, first: text.mean_text(row, most)))
    return [Numbers(*pair, folded=len(pair[1].rows) > 24) for pair in zip(captions, tables, strict=True)]


MADE_OF = "made_of.json"


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
    source = token_of(folder.parent)
    if not again and (known := _text_of(folder, source)) is not None:
        return known
    run = read_run(workdir)
    for name in TABLES:
        write_csv(folder / f"{name}.csv", getattr(run, name))
    write_csv(run.folder / "scores.csv", run.scores)
    facts = [f"{run.members()} {run.note()}"]
    attribute = run.config.get("config", {}).get("pool", {}).get("attribute", "scene")
    facts += [f"The scene of an image is its {attribute}."] if attribute != "scene" else []
    lines, whole, run = findings(run), run, run.shown()
    if run is not whole:
        settings = len(whole.summary[varying_axes(whole.summary)].drop_duplicates())
        facts.append(
            f"Shown one by one are {SHOWN} of {settings} settings, from the least to the most Flip in the rare groups; "
            "summary.csv and results.csv hold all."
        )
    items = items_of(run)
    flip, *others = flip_charts(run)
    front = front_chart(run, flip)
    charts = [*map_charts(whole), *(others if front is flip else [flip, *others])]
    document = Document(
        title=run.name,
        facts=facts,
        lines=lines,
        sections=_sections(run, items, charts),
        missing=run.missing,
        config=run.config.get("config", {}),
        front=(front, front_pair(items, palette_of(run)) if items else None),
    )
    if items:
        first = [item for item in items if item.member == items[0].member]
        gallery_chart(first, palette_of(run)).save(folder / "figures")
    shown = write_report(folder, document)
    # Written last, to mark the report as complete.
    write_text(folder / MADE_OF, json.dumps({"source": source, "text": shown}, indent=1) + "\n")
    return shown


def _text_of(folder: Path, source: str) -> str | None:
    """Returns the terminal text of the existing report if it has the same source."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads((folder / MADE_OF).read_text(encoding="utf-8"))
        whole = all((folder / name).is_file() for name in ("index.html", "summary.md", "summary.csv"))
        return str(stored["text"]) if whole and stored["source"] == source else None
    return None


def _sections(run: RunTables, items: Sequence[Item], flips: Sequence[Chart]) -> list[Section]:
    differences = []
    families = {
        "method": (run.comparison, "comparisons of methods"),
        "selection": (run.selection, "comparisons of selection rules"),
    }
    for axis, (table, family) in families.items():
        for reference in table["reference"].unique():
            shown = text.comparison_table(table, axis)
            caption = f"{axis.title()}: difference from {reference}, paired by seed; {text.legend(table, family)}"
            differences.append(Numbers(_with_marks(caption, shown), shown))
    return [
        Section("Results", result_tables(run)),
        Section("Flip over rho", fill_rows(flips)),
        Section("Flip-risk", [*fill_rows(risk_charts(run)), *score_blocks(run)]),
        Section("Methods and selection", [*fill_rows(method_charts(run)), *differences]),
        Section("Classes and groups", class_blocks(run)),
        Section("Training", fill_rows(training_charts(run))),
        Section("Images", [Gallery(items, palette_of(run), CAPTION)] if items else []),
        Section("How it was made", [made_of(run), members_table(run)]),
    ]


def result_tables(run: RunTables) -> list[Numbers]:
    """Returns the table of what a reader compares, the change over rho, and further quantities, folded."""
    first = text.summary_table(run.summary)
    tables = [Numbers(_with_marks("Test results: mean over seeds and its interval", first), first)]
    if len(run.trend):
        changes = text.trend_table(run.trend)
        caption = f"Change over rho, paired by seed; {text.legend(run.trend, 'trends')}"
        tables.append(Numbers(_with_marks(caption, changes), changes))
    further = text.known_quantities(run.summary, FURTHER)
    if further:
        others = text.summary_table(run.summary, further)
        tables.append(Numbers(_with_marks("Further test results", others), others, folded=True))
    return tables


def _with_marks(caption: str, table: TextTable) -> str:
    """Returns a caption with the meaning of the marks in its table."""
    return "; ".join(filter(None, (caption, text.marks(table))))


def findings(run: RunTables) -> list[str]:
    """Returns the findings of a run in sentences that restate rows of its page's tables."""
    unlearnt, few = run.records["member"][run.records["status"] == NOT_LEARNT].tolist(), run.shown()
    return [
        *sentences.unlearnt_warning(unlearnt, members=len(run.records)),
        *sentences.verdicts(few.comparison),
        *sentences.headline(few.summary, few.trend),
    ]


def front_chart(run: RunTables, flip: Chart) -> Chart:
    """Returns `flip` for one setting; for several, one panel of Flip in the rare groups over rho, a line each."""
    axes = varying_axes(run.summary)
    summary, records = run.summary[run.summary["quantity"] == JUDGED[0]], run.kept()
    if len(flip.panels) < 2 or records.empty:
        return flip
    summary, records = (
        # Each setting takes the place of a quantity.
        table.assign(quantity=[", ".join(f"{row[a]}" for a in axes if row[a] == row[a]) for row in records_of(table)])
        for table in (summary, records)
    )
    names = summary["quantity"].unique()
    columns = {name: records[JUDGED[0]].where(records["quantity"] == name) for name in names}
    looks = zip(names, shades(len(names)), cycle("osD^vP*"), strict=False)
    lines = [Line(name, name, *look) for name, *look in looks]
    y = "flip, share of the true foreground"
    drawn = line_panels(summary.drop(columns=axes), records[["rho"]].assign(**columns), lines, y=y)
    caption = f"Pixels of the true foreground predicted as another foreground class; lines by {', '.join(axes)}."
    return Chart("flip_rare", "Flip in the rare groups", caption, run.note(dots=True), drawn)


def front_pair(items: Sequence[Item], palette: Palette) -> Gallery | None:
    """Returns two images of the first member, in a usual and in another scene, with their description.

    Chooses the pair with the largest change of flip, or without pairs the typical images that differ most. Returns None
    if either image is missing.
    """
    own = [item for item in items if item.member == items[0].member]
    pairs = {item.kind: "One object" for item in own if item.pair} or {"typical": "Two images"}
    # The last of each side: the common image of least flip, and the rare one of most.
    ordered = sorted(own, key=lambda item: item.flip if item.group == "rare" else -item.flip)
    sides = ({item.group: item for item in ordered if item.kind == kind} for kind in pairs)
    both = [[own["common"], own["rare"]] for own in sides if {"common", "rare"} <= {*own}]
    what = next(iter(pairs.values()))
    caption = f"{what} in a usual and in another scene, as {items[0].member} sees them."
    return Gallery(max(both, key=lambda two: two[1].flip - two[0].flip), palette, caption) if both else None
