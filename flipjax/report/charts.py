"""The charts and tables of a run, by section of its page."""

from collections.abc import Iterable, Sequence
from itertools import cycle, islice

import numpy as np
import pandas as pd

from flipjax.backend import differing_software
from flipjax.metrics import summarize
from flipjax.metrics.decomposition import Decomposition
from flipjax.report import panels
from flipjax.report.chart import Chart
from flipjax.report.html import Numbers, Picture
from flipjax.report.lines import Line, forest_panels, line_chart, line_panels, share_panels
from flipjax.report.pulls import pull_charts
from flipjax.report.run import Run, images_by_setting
from flipjax.report.style import CLASSES, COMMON, RARE, REPAIRED, WHOLE
from flipjax.results.frames import groups_of, records_of
from flipjax.results.quantities import title_of
from flipjax.results.rows import kept_records
from flipjax.results.swapped_scenes import REPAIR_NOTE
from flipjax.results.text import COLUMNS, TextTable, setting_label, varying_axes

FLIP = (
    Line("fg_flip/common", "common groups", COMMON),
    Line("fg_flip/rare", "rare groups", RARE, "s"),
    Line("repair_flip/common", "common, repaired", COMMON, "v"),
    Line("repair_flip/rare", "rare, repaired", REPAIRED, "D"),
)
AUROC = (
    Line("risk_auroc/all", "entropy, all", WHOLE),
    Line("risk_auroc/rare", "entropy, rare", RARE, "s"),
    Line("swap_auroc/all", "scene swap, all", REPAIRED, "D"),
)
MEASURES = {
    "valid_loss": "validation loss",
    "valid_flip": "validation flip",
    "valid_worst_group_iou": "validation worst-group IoU",
}
UNIT = (0.0, 1.0)
QUANTITIES = {"fg_flip": "Flip", "iou": "IoU of the group's class", "risk_auroc": "AUROC of flip-risk"}
TRAINED = 12
MEMBER = ("fg_correct/all", "fg_flip/all", "fg_miss/all", *COLUMNS)
FIELDS = ("command", "started", "host", "device", "commit")


def flip_charts(run: Run) -> list[Chart]:
    """Returns the charts of flips, of the IoU gap, of reliance where it is known, and of the shares."""
    names = dict.fromkeys(run.summary["quantity"])
    looks = cycle(zip(CLASSES[1:], cycle("^v"), strict=False))
    of_classes = [name for name in names if name.startswith("gap_") and name != "gap_mean/all"]
    gaps = [Line(name, title_of(name).removeprefix("IoU gap of "), *next(looks)) for name in of_classes]
    gaps.append(Line("gap_mean/all", "mean", WHOLE))
    options = {"y": "IoU, common minus rare", "limits": _span(run, gaps), "reference": (0.0, "")}
    caption = "A class's IoU in its common groups minus that in its rare groups. 0: the scene does not matter."
    charts = [
        flip_chart(run.summary, run.kept(), note=run.note(dots=True)),
        line_chart(run, "gap", "IoU gap of each class", caption, gaps, **options),
    ]
    if run.summary[run.summary["quantity"] == "context_use/all"]["mean"].notna().any():
        lines = [Line("context_use/all", "context use", REPAIRED)]
        caption = (
            "Of the evidence 2 log(rho / (1 - rho)) that rho gives the scene, the share that members use, from "
            "unlabelled images. 0: none of it; 1: all. Published models use .3 to .5 of what a photo's context says."
        )
        options = {"y": "nat per nat", "reference": (0.0, "")}
        charts.append(line_chart(run, "context_use", "Context use", caption, lines, **options))
    return [*charts, panels.shares_chart(share_panels(run.summary), note=run.note(interval=False))]


def flip_chart(summary: pd.DataFrame, records: pd.DataFrame, *, note: str) -> Chart:
    """Returns the chart of flips over rho, of a summary and the records of the members that it is of."""
    caption = "Flip: pixels of the true foreground predicted as another foreground class, pooled over a group's images."
    caption += f" {REPAIR_NOTE} The test images are balanced." if "repair_flip/rare" in set(summary["quantity"]) else ""
    drawn = line_panels(summary, records, FLIP, y="flip, share of the true foreground")
    return Chart("flip", "Flip of common and rare groups", caption, note, drawn)


def _span(run: Run, lines: Iterable[Line]) -> tuple[float, float]:
    """Returns the limits of an axis of differences: from 0 or the least end to the largest, never beyond -1 and 1."""
    wanted = [line.quantity for line in lines]
    means = run.summary[run.summary["quantity"].isin(wanted)][["mean", "low", "high"]]
    ends = np.concatenate([[0.0], np.ravel(means), np.ravel(run.kept().filter(wanted))])
    return max(-1.0, float(np.nanmin(ends)) - 0.05), min(1.0, float(np.nanmax(ends)) + 0.05)


def risk_charts(run: Run) -> list[Chart]:
    """Returns the charts of how well flip-risk finds flips."""
    caption = (
        "AUROC over the images, those with a flip share above 0.5 being the ones to find. 0.5: the score is blind."
    )
    title = "How well flip-risk ranks flipped images"
    charts = [line_chart(run, "risk", title, caption, AUROC, y="AUROC", reference=(0.5, "chance"))]
    lines = [Line("top_decile_flip_share/all", "all images", WHOLE)]
    options = {"y": "share of all flips", "reference": (0.1, "flips spread evenly")}
    caption = "The part of all flips that the tenth of the images with the highest flip-risk holds."
    charts.append(line_chart(run, "top_decile", "Top-decile flip share", caption, lines, **options))
    facets: dict[str, dict[str, panels.Ranking]] = {}
    for _, setting, members in images_by_setting(run):
        label = setting_label(setting, varying_axes(run.summary))
        facet, name = (label, f"rho {setting['rho']:g}") if "rho" in setting else ("", label or "this run")
        facets.setdefault(facet, {})[name] = _mean_ranking([images for _, images in members])
    return [*charts, *(panels.ranking_charts(facets, note=run.note(interval=False)) if facets else [])]


def _mean_ranking(members: Sequence[Decomposition]) -> panels.Ranking:
    """Averages the members' images sorted by flip-risk."""
    summaries = [summarize(images) for images in members]
    tenths = {name: panels.mean_curve([summary[name] for summary in summaries]) for name in panels.DECILES}
    return panels.Ranking(**tenths, remaining=panels.mean_curve([panels.remaining(images) for images in members]))


def method_charts(run: Run) -> list[Chart]:
    """Returns the chart of what each method changes; none where there is one method."""
    if run.comparison.empty:
        return []
    caption = (
        "Differences between a method and the first one of the grid, same seed and rho. Where a bar crosses 0, the "
        "grid cannot tell the two apart; of many bars, one in twenty misses 0 by chance. Left of 0 is better for flip "
        "and the gap, right of 0 for IoU."
    )
    return [Chart("methods", "What each method changes", caption, run.note(), forest_panels(run.comparison))]


def class_sections(run: Run) -> list[Numbers | Picture]:
    """Returns which class is taken for which, and the groups."""
    matrices = []
    for title, _, members in images_by_setting(run):
        confusion = np.sum([images.confusion.sum(0, dtype=np.int64) for _, images in members], axis=0)
        matrices.append(panels.matrix_panel(confusion, members[0][0].class_names, title=title))
    charts = [Picture(panels.matrix_chart(matrices, note=run.note(interval=False)))] if matrices else []
    return [*charts, *map(Picture, pull_charts(run)), *_group_tables(run)]


def _group_tables(run: Run) -> list[Numbers]:
    """Returns the groups: means over seeds with the lowest and the highest seed."""
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


def training_charts(run: Run) -> list[Chart]:
    """Returns the curves of training: means over the members of a setting that still run."""
    if run.history.empty:
        return []
    axes = [name for name in varying_axes(run.records, until="member") if name != "seed"]
    levels = [name for name in ("rho",) if name in run.records]
    # An axis such as learning_rate is a column of the history, too, where it is that of the last step.
    history = run.history.drop(columns=axes, errors="ignore")
    table = history.merge(run.records[["member", *axes, *levels]], on="member")
    drawn = []
    for setting, rows in islice(groups_of(table, axes), TRAINED):
        title = setting_label(dict(zip(axes, setting, strict=True)), axes)
        for measure, y in MEASURES.items():
            curves = []
            known = rows[rows[measure].notna()] if measure in rows else rows[:0]
            for level, part in groups_of(known.sort_values([*levels, "epoch"]), levels):
                means = part.groupby("epoch")[measure].mean()
                label = f"rho {level[0]}" if level else ""
                curves.append(panels.Curve(label, means.index.to_numpy(np.float64), means.to_numpy()))
            limits = (0.0, None) if measure == "valid_loss" else UNIT
            drawn += [panels.curve_panel(curves, title=title, x="epoch", y=y, limits=limits)] if curves else []
    caption = "Each curve is the mean over the seeds that still train; a member that stops early leaves it."
    return [Chart("training", "Training curves", caption, run.note(interval=False), drawn)] if drawn else []


def made_of(run: Run) -> Numbers:
    """Returns what config.json says of the run: command, commit, device, time and versions."""
    facts = {key: value for key, value in run.config.items() if isinstance(value, str) and key != "name"}
    rows = [[key, facts[key]] for key in FIELDS if key in facts]
    sessions = run.config.get("sessions", [])
    rows += _time(run, [float(entry["seconds"]) for entry in sessions if "seconds" in entry])
    for number, session in enumerate(sessions[1:], start=2):
        others = differing_software([run.config], session)
        rows += [[f"start {number}, other software", others]] if others else []
    rows += [[key, value] for key, value in facts.items() if key not in FIELDS]
    rows = rows or [["nothing", "-"]]
    return Numbers("What config.json says of the run", TextTable(["fact", "value"], rows), words=True)


def _time(run: Run, sessions: Sequence[float]) -> list[list[str]]:
    """Returns the wall time over all sessions, of seconds each, and the training images a second of it."""
    seconds = sum(sessions)
    if not seconds:
        return []
    minutes, rest = divmod(round(seconds), 60)
    times = f" in {len(sessions)} sessions" if len(sessions) > 1 else ""
    rows = [["wall time", f"{minutes} min {rest} s{times}" if minutes else f"{seconds:.1f} s"]]
    images = len(run.history) * int(run.config.get("config", {}).get("split", {}).get("n_train", 0))
    return [*rows, ["training images a second", f"{images / seconds:,.0f}, all members"]] if images else rows


def members_table(run: Run) -> Numbers:
    """Returns a row a member: its axes, its end, and its main quantities on the test images."""
    axes = varying_axes(run.records, until="member")
    axes += ["rho"] if "rho" in run.records else []
    known = [name for name in MEMBER if name in run.records]
    body: list[list[str]] = []
    exact: list[list[str | None]] = []
    for record in records_of(run.records):
        names = [str(record[name]) for name in ("member", *axes, "status")]
        values = [record[name] for name in known]
        body.append([*names, *(f"{value:.3f}" if value == value else "-" for value in values)])
        exact.append([*(None for _ in names), *(repr(value) if value == value else None for value in values)])
    header = ["member", *axes, "status", *map(title_of, known)]
    return Numbers("All members, on the test images", TextTable(header, body), exact, folded=True, searched=True)
