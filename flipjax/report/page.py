"""The report of a run folder: its charts and tables, section by section, and the page that holds them."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.backend import differing_software
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.summary import flip_cube, pull_chance, usual_table
from flipjax.report import panels
from flipjax.report.document import Document, Numbers, Section
from flipjax.report.html import Gallery, Picture, pictures_of, write_report
from flipjax.report.panels import Chart, Curve, Line, Panel, line_chart, line_panels
from flipjax.report.pictures import CAPTION, Item, Palette, items_of, palette_of, save_gallery
from flipjax.report.run import SHOWN, TABLES, RunTables, images_by_setting, read_run
from flipjax.report.style import CLASSES, COMMON, FLIP, RARE, REPAIRED, WHOLE
from flipjax.results import text
from flipjax.results.cells import StoredCell
from flipjax.results.estimates import JUDGED
from flipjax.results.frames import groups_of, records_of, write_csv
from flipjax.results.quantities import title_of
from flipjax.results.rows import NOT_LEARNT, kept_records
from flipjax.results.scores import THRESHOLD, WANTED_RISK, score_summary
from flipjax.results.text import COLUMNS, TextTable, comparison_table, score_table, setting_label, varying_axes
from flipjax.support.files import write_text


def _sides(key: str) -> list[Line]:
    """Returns the lines of a quantity in the common and in the rare groups."""
    return [
        Line(f"group/common/{key}", "common groups", COMMON),
        Line(f"group/rare/{key}", "rare groups", RARE, "s"),
    ]


REPAIRS = [
    Line("group/common/repair_flip", "common, repaired", COMMON, "v"),
    Line("group/rare/repair_flip", "rare, repaired", REPAIRED, "D"),
]
AUROC = (
    Line("risk_auroc", "entropy, all", WHOLE),
    Line("group/rare/risk_auroc", "entropy, rare", RARE, "s"),
    Line("swap_auroc", "scene swap, all", REPAIRED, "D"),
)
MEASURES = {
    "valid_loss": ("validation loss", None),
    "valid_flip": ("validation flip", 1.0),
    "valid_worst_group_iou": ("validation worst-group IoU", 1.0),
}
"""Columns of history.csv that are drawn, with their names and upper limits."""
QUANTITIES = {"fg_flip": "Flip", "iou": "IoU of the group's class", "risk_auroc": "AUROC of flip-risk"}
TRAINED = 12
MEMBER = ("fg_correct", "fg_flip", "fg_miss", *COLUMNS)
FIELDS = ("command", "started", "host", "device", "commit")


def flip_charts(run: RunTables) -> list[Chart]:
    """Returns charts of flips, the IoU gap, reliance if it was measured, and pixel shares."""
    names = dict.fromkeys(run.summary["quantity"])
    looks = cycle(zip(CLASSES[1:], cycle("^v"), strict=False))
    of_classes = [name for name in names if name.startswith("gap/") and name != "gap/mean"]
    gaps = [Line(name, title_of(name).removeprefix("IoU gap of "), *next(looks)) for name in of_classes]
    gaps.append(Line("gap/mean", "mean", WHOLE))
    options = {"y": "IoU, common minus rare", "limits": _span(run, gaps), "reference": (0.0, "")}
    caption = "IoU of a class in its common groups minus that in its rare groups. 0: the scene does not matter."
    charts = [
        flip_chart(run.summary, run.kept(), note=run.note(dots=True)),
        line_chart(run, "gap", "IoU gap of each class", caption, gaps, **options),
    ]
    if run.has("context_use"):
        lines = [Line("context_use", "context use", REPAIRED)]
        caption = (
            "Share of the evidence 2 log(rho / (1 - rho)) of the scene that members use, measured on unlabelled "
            "images. 0: none of it; 1: all."
        )
        options = {"y": "nat per nat", "reference": (0.0, "")}
        charts.append(line_chart(run, "context_use", "Context use", caption, lines, **options))
    return [*charts, panels.shares_chart(panels.share_panels(run.summary), note=run.note(interval=False))]


def flip_chart(summary: pd.DataFrame, records: pd.DataFrame, *, note: str) -> Chart:
    """Returns the chart of flips over rho, from a summary and the records of its members."""
    caption = "Flip: pixels of the true foreground predicted as another foreground class, pooled over a group's images."
    if "group/rare/repair_flip" in set(summary["quantity"]):
        caption += " The test images are balanced over scenes; repair raises Flip where scenes stay correlated."
    lines = _sides("fg_flip") + REPAIRS
    drawn = line_panels(summary, records, lines, y="flip, share of the true foreground")
    return Chart("flip", "Flip of common and rare groups", caption, note, drawn)


def _span(run: RunTables, lines: Iterable[Line]) -> tuple[float, float]:
    """Returns limits that cover 0, all means, intervals and seeds, within -1 and 1."""
    wanted = [line.quantity for line in lines]
    means = run.summary[run.summary["quantity"].isin(wanted)][["mean", "low", "high"]]
    ends = np.concatenate([[0.0], np.ravel(means), np.ravel(run.kept().filter(wanted))])
    return max(-1.0, float(np.nanmin(ends)) - 0.05), min(1.0, float(np.nanmax(ends)) + 0.05)


def risk_charts(run: RunTables) -> list[Chart]:
    """Returns charts of how well flip-risk ranks flips."""
    caption = "AUROC for images with a flip share above 0.5. At 0.5 the score is no better than chance."
    title = "How well flip-risk ranks flipped images"
    charts = [line_chart(run, "risk", title, caption, AUROC, y="AUROC", reference=(0.5, "chance"))]
    lines = [Line("top_decile_flip_share", "flip-risk", WHOLE), Line("top_decile_ceiling", "best ranking", COMMON, "^")]
    options = {"y": "share of all flips", "reference": (0.1, "flips spread evenly")}
    caption = (
        "Part of all flips in the tenth of the images with the highest flip-risk, and the largest part of any tenth."
    )
    charts.append(line_chart(run, "top_decile", "Top-decile flip share", caption, lines, **options))
    if run.has("group/rare/fg_ece"):
        caption = "Expected calibration error of the class of predicted regions. 0: confidence equals accuracy."
        lines, title = _sides("fg_ece"), "Calibration inside regions"
        charts.append(line_chart(run, "calibration", title, caption, lines, y="calibration error"))
    facets: dict[str, dict[str, panels.Ranking]] = {}
    for _, setting, members in images_by_setting(run):
        label = setting_label(setting, varying_axes(run.summary))
        facet, name = (label, f"rho {setting['rho']:g}") if "rho" in setting else ("", label or "this run")
        facets.setdefault(facet, {})[name] = panels.mean_ranking([images for _, images in members])
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


def class_sections(run: RunTables) -> list[Numbers | Picture]:
    """Returns the confusion between classes, and the group tables."""
    matrices = []
    for title, _, members in images_by_setting(run):
        confusion = np.sum([images.confusion.sum(0, dtype=np.int64) for _, images in members], axis=0)
        matrices.append(panels.matrix_panel(confusion, members[0][0].class_names, title=title))
    charts = [Picture(panels.matrix_chart(matrices, note=run.note(interval=False)))] if matrices else []
    return [*charts, *map(Picture, pull_charts(run)), *_group_tables(run)]


def _group_tables(run: RunTables) -> list[Numbers]:
    """Returns group means over seeds, with the lowest and highest seed."""
    if not run.cells:
        return []
    cell = next(iter(run.cells.values()))
    names = varying_axes(run.summary)
    groups = {str(group): group for group in range(cell.groups.count)}
    rows = kept_records(run.rows[(run.rows["split"] == "test") & run.rows["group"].isin(groups.keys())])
    rows = rows if "rho" in rows else rows.assign(rho="")
    own = [f"iou_{cell.class_names[1 + cell.groups.class_of(groups[name])]}" for name in rows["group"]]
    iou = [row[column] for row, column in zip(records_of(rows), own, strict=True)]
    levels = sorted(rows["rho"].unique())
    tables = []
    for column, title in QUANTITIES.items():
        body = []
        for (group, *setting), members in groups_of(rows.assign(iou=iou), ["group", *names]):
            label = cell.groups.title_of(groups[group], cell.class_names[1:], cell.scene_names)
            texts = [_range(members[column][members["rho"] == level].dropna()) for level in levels]
            body.append([f"{label} ({cell.groups.kind_of(groups[group])})", *map(str, setting), *texts])
        header = ["group", *names, *(f"rho {rho}" if rho != "" else "all" for rho in levels)]
        caption = f"{title} in each group: mean over seeds (lowest to highest seed)"
        tables.append(Numbers(caption, TextTable(header, body), folded=len(body) > 24))
    return tables


def _range(values: pd.Series) -> str:
    if values.empty:
        return "-"
    return f"{values.mean():.3f}" + (f" ({values.min():.3f} to {values.max():.3f})" if len(values) > 1 else "")


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
            curves = []
            known = rows[rows[measure].notna()] if measure in rows else rows[:0]
            for level, part in groups_of(known.sort_values([*levels, "epoch"]), levels):
                means = part.groupby("epoch")[measure].mean()
                label = f"rho {level[0]}" if level else ""
                curves.append(Curve(label, means.index.to_numpy(np.float64), means.to_numpy()))
            options = {"title": title, "x": "epoch", "y": y, "limits": (0.0, most)}
            drawn += [panels.curve_panel(curves, **options)] if curves else []
    caption = "Each curve is the mean over the seeds that are still training."
    return [Chart("training", "Training curves", caption, run.note(interval=False), drawn)] if drawn else []


def made_of(run: RunTables) -> Numbers:
    """Returns command, commit, device, wall time and versions from config.json."""
    facts = {key: value for key, value in run.config.items() if isinstance(value, str) and key != "name"}
    rows = [[key, facts[key]] for key in FIELDS if key in facts]
    sessions = run.config.get("sessions", [])
    seconds = sum(float(entry.get("seconds", 0)) for entry in sessions)
    rows += [["wall time", f"{seconds:.0f} s in {len(sessions)} sessions"]] if seconds else []
    for place, session in enumerate(sessions[1:], start=2):
        others = differing_software([run.config], session)
        rows += [[f"start {place}, other software", others]] if others else []
    rows += [[key, value] for key, value in facts.items() if key not in FIELDS]
    rows = rows or [["nothing", "-"]]
    return Numbers("The run, from config.json", TextTable(["fact", "value"], rows), words=True)


def members_table(run: RunTables) -> Numbers:
    """Returns axes, status and main test quantities, one row per member."""
    axes = varying_axes(run.records, until="member")
    axes += ["rho"] if "rho" in run.records else []
    known = [name for name in MEMBER if name in run.records]
    body = [
        [*(str(record[name]) for name in ("member", *axes, "status")), *(text.number(record[name]) for name in known)]
        for record in records_of(run.records)
    ]
    header = ["member", *axes, "status", *map(title_of, known)]
    return Numbers("All members, on the test images", TextTable(header, body), folded=True, searched=True)


PULL = Line("scene_pull", "pull of the scene", FLIP)


def pull_charts(run: RunTables) -> list[Chart]:
    """Returns the pull over rho and the matrices of scenes and predicted classes; none for two classes."""
    if PULL.quantity not in set(run.summary["quantity"]) or not run.cells:
        return []
    chance = pull_chance(next(iter(run.cells.values())).groups)
    options = {"y": "share of the flips in rare groups", "reference": (chance, f"chance, {chance:.2f}")}
    caption = "Share of the flips in rare groups that go to a class whose usual scene the image shows."
    matrices = [pull_panel(members, title=title) for title, _, members in images_by_setting(run)]
    where = "Predicted class of the flips in each scene that is unusual for the object. Framed: the class whose usual "
    where += f"scene it is; flips spread evenly put {chance:.0%} of all into the frames."
    return [
        line_chart(run, "pull", "Pull of the scene", caption, [PULL], **options),
        Chart("pull_matrix", "Where a scene's flips go", where, run.note(interval=False), matrices),
    ]


def pull_panel(members: Sequence[tuple[StoredCell, Decomposition]], *, title: str) -> Panel:
    """Returns a panel of the flips in each scene by predicted class, for members of one setting."""
    cell, _ = members[0]
    usual = usual_table(cell.groups)
    cubes = [flip_cube(images.confusion, own.parts["test"].groups, all_groups=cell.groups) for own, images in members]
    flips = (np.sum(cubes, axis=0) * ~usual[..., None]).sum(0)
    shares = flips / np.maximum(flips.sum(1, keepdims=True), 1)
    names = cell.scene_names, cell.class_names[1:]
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
    summary = score_summary(rows)
    caption = "AUROC of image scores over all groups, for images with a flip share above 0.5; mean and interval"
    areas = (
        "AUGRC of image scores (area under risk times coverage; lower is better). scores.csv also has AURC and E-AURC, "
        "for common and rare groups, too"
    )
    carried = (
        f"Share of images kept by a threshold chosen on validation images for a mean flip of at most {WANTED_RISK:g}, "
        "and their mean flip, on validation and test images; means over the seeds that keep any"
    )
    return [
        Numbers(caption, score_table(summary, "auroc")),
        Numbers(areas, score_table(summary, "augrc"), folded=True),
        Numbers(carried, score_table(summary, *THRESHOLD)),
    ]


MADE_OF = "made_of.json"
PAIR, TYPICAL = "pair", "typical"
LOOKS = dict(zip(("#222222", "#D4672F", "#3F74D6", "#B8860B", "#5BB5C9", "#C2527F", "#8C939B"), "osD^vP*", strict=True))
"""Colours and markers of settings, distinct from class colours."""


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
    maps, lines, few = map_charts(run), findings(run), run.shown()
    if few is not run:
        settings = len(run.summary[varying_axes(run.summary)].drop_duplicates())
        facts.append(
            f"Shown one by one are {SHOWN} of {settings} settings, from the least to the most Flip in the rare groups; "
            "summary.csv and results.csv hold all."
        )
    run = few
    items = items_of(run)
    flip, *others = flip_charts(run)
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
    shown = write_report(folder, document)
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
                # Sessions are ignored: a start that trains nothing only appends one.
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
    references = [",".join(table["reference"][:1]) for table in (run.comparison, run.selection)]
    selection = [(f"Difference from {references[0]}, {rule}", run.comparison, comparison_table)]
    selection += [(f"Selection: difference from {references[1]}, {rule}", run.selection, rules)]
    first = Numbers("Test results: mean over seeds and its interval", text.summary_table(run.summary))
    return [
        Section("Results", [first, *_numbers(trends)]),
        Section("Flip over rho", pictures_of(flips)),
        Section("Flip-risk", [*pictures_of(risk_charts(run)), *score_blocks(run)]),
        Section("Methods and selection", [*pictures_of(method_charts(run)), *_numbers(selection)]),
        Section("Classes and groups", class_sections(run)),
        Section("Training", pictures_of(training_charts(run))),
        Section("Images", [Gallery(items, palette_of(run), CAPTION)] if items else []),
        Section("How it was made", [made_of(run), members_table(run)]),
    ]


def _numbers(tables: Iterable[tuple[str, pd.DataFrame, Callable[[pd.DataFrame], TextTable]]]) -> list[Numbers]:
    return [Numbers(caption, make(table)) for caption, table, make in tables if len(table)]


def findings(run: RunTables) -> list[str]:
    """Returns the findings of a run in sentences that restate rows of its page's tables."""
    unlearnt, few = run.records["member"][run.records["status"] == NOT_LEARNT].tolist(), run.shown()
    return [
        *text.unlearnt_warning(unlearnt, members=len(run.records)),
        *text.verdicts(few.comparison),
        *text.headline(few.summary, few.trend),
    ]


def front_chart(run: RunTables, flip: Chart) -> Chart:
    """Returns `flip` for one setting; for several, one panel of Flip in the rare groups over rho, a line each."""
    axes = varying_axes(run.summary)
    tables = [run.summary[run.summary["quantity"] == JUDGED[0]], run.kept()]
    if len(flip.panels) < 2 or tables[1].empty:
        return flip
    summary, records = (
        # Each setting takes the place of a quantity.
        table.assign(quantity=[", ".join(f"{row[a]}" for a in axes if row[a] == row[a]) for row in records_of(table)])
        for table in tables
    )
    names = summary["quantity"].unique()[: len(LOOKS)]
    columns = {name: records[JUDGED[0]].where(records["quantity"] == name) for name in names}
    lines = [Line(name, name, *look) for name, look in zip(names, LOOKS.items(), strict=False)]
    y = "flip, share of the true foreground"
    panels = line_panels(summary.drop(columns=axes), records[["rho"]].assign(**columns), lines, y=y)
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
