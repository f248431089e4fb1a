"""The charts and tables of a run, by section of its page."""

from collections.abc import Iterable
from itertools import cycle

import numpy as np

from flipjax.metrics import summarize
from flipjax.metrics.decomposition import Decomposition
from flipjax.report.chart import Chart
from flipjax.report.html import Numbers, Picture
from flipjax.report.lines import Line, Places, forest_panels, line_panels, share_panels
from flipjax.report.panels import (
    Curve,
    Ranking,
    curve_panel,
    matrix_chart,
    matrix_panel,
    mean_of_finite,
    ranking_charts,
    remaining,
    shares_chart,
)
from flipjax.report.run import Run, images_of
from flipjax.report.style import CLASSES, COMMON, RARE, REPAIRED, WHOLE
from flipjax.results.cells import Row
from flipjax.results.frames import records_of, to_frame
from flipjax.results.quantities import title_of
from flipjax.results.rows import axes_of, kept_records
from flipjax.results.swapped_scenes import REPAIR_NOTE
from flipjax.results.text import TextTable, varying_axes

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
TRAINED = 12


def flip_charts(run: Run) -> list[Chart]:
    """Returns the charts of flips, of the IoU gap, of reliance where it is known, and of the shares."""
    names = dict.fromkeys(run.summary["quantity"])
    note = run.note() + (" Small dots: single seeds." if run.seeds()[1] > 1 else "")
    looks = zip(CLASSES[1:], "^v", strict=False)
    of_classes = [name for name in names if name.startswith("gap_") and name != "gap_mean/all"]
    gaps = [
        Line(name, title_of(name).removeprefix("IoU gap of "), *look)
        for name, look in zip(of_classes, cycle(looks), strict=False)
    ]
    gaps.append(Line("gap_mean/all", "mean", WHOLE))
    charts = [
        Chart(
            "flip",
            "Flip of common and rare groups",
            "Flip: pixels of the true foreground predicted as another foreground class, pooled over a group's images."
            + (f" {REPAIR_NOTE}" if "repair_flip/rare" in names else ""),
            note,
            line_panels(run.summary, run.kept(), FLIP, y="flip, share of the true foreground"),
        ),
        Chart(
            "gap",
            "IoU gap of each class",
            "A class's IoU in its common group minus that in its rare group. 0: the scene does not matter.",
            note,
            line_panels(
                run.summary, run.kept(), gaps, y="IoU, common minus rare", limits=_span(run, gaps), reference=(0.0, "")
            ),
        ),
    ]
    if "scene_reliance/all" in names:
        lines = [Line("scene_reliance/all", "scene reliance", REPAIRED)]
        panels = line_panels(run.summary, run.kept(), lines, y="share of the log-odds")
        caption = "How much of the label the scene makes, from unlabelled images. 0: none of it."
        charts.append(Chart("reliance", "Scene reliance", caption, note, panels))
    return [*charts, shares_chart(share_panels(run.summary), note=run.note(interval=False))]


def _span(run: Run, lines: Iterable[Line]) -> tuple[float, float]:
    """Limits of an axis of differences: from 0 or the least end to the largest, never beyond -1 and 1."""
    wanted = {line.quantity for line in lines}
    means = run.summary[run.summary["quantity"].isin(sorted(wanted))][["mean", "low", "high"]]
    ends = np.concatenate([[0.0], np.ravel(means), np.ravel(run.kept().filter(sorted(wanted)))])
    return max(-1.0, float(np.nanmin(ends)) - 0.05), min(1.0, float(np.nanmax(ends)) + 0.05)


def risk_charts(run: Run) -> list[Chart]:
    """Returns the charts of how well flip-risk finds flips."""
    note = run.note() + (" Small dots: single seeds." if run.seeds()[1] > 1 else "")
    top = [Line("top_decile_flip_share/all", "all images", WHOLE)]
    charts = [
        Chart(
            "risk",
            "How well flip-risk ranks flipped images",
            "AUROC over the images, those with a flip share above 0.5 being the ones to find. 0.5: the score is blind.",
            note,
            line_panels(run.summary, run.kept(), AUROC, y="AUROC", reference=(0.5, "chance")),
        ),
        Chart(
            "top_decile",
            "Top-decile flip share",
            "The part of all flips that the tenth of the images with the highest flip-risk holds.",
            note,
            line_panels(run.summary, run.kept(), top, y="share of all flips", reference=(0.1, "flips spread evenly")),
        ),
    ]
    rankings = _rankings(run)
    if not rankings:
        return charts
    table = [setting | {"quantity": index} for index, (setting, _) in enumerate(rankings)]
    places = Places.of(to_frame(table))
    names = dict(zip(*places.ticks(), strict=True))
    level = "rho " if places.levels else ""
    facets = {
        facet: {f"{level}{names[x]}": rankings[row["quantity"]][1] for x, row in places.within(facet, table)}
        for facet in places.facets()
    }
    return [*charts, *ranking_charts(facets, note=run.note(interval=False))]


def _rankings(run: Run) -> list[tuple[Row, Ranking]]:
    """Each setting, and the means over its seeds of the test images sorted by flip-risk."""
    names = [name for name in axes_of(run.rows) if name != "seed"]
    members: dict[tuple, list[tuple]] = {}
    for images in images_of(run):
        decomposition = Decomposition(images.confusion, images.risk_sum)
        summary = summarize(decomposition)
        values = summary["risk_decile"], summary["flip_by_risk_decile"], remaining(decomposition)
        members.setdefault(tuple(images.record[name] for name in names), []).append(values)
    return [
        (
            dict(zip(names, setting, strict=True)),
            Ranking(*(mean_of_finite(np.stack(part)) for part in zip(*values, strict=True))),
        )
        for setting, values in members.items()
    ]


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
    """Returns which class is taken for which, and the four groups."""
    names = [name for name in axes_of(run.rows) if name != "seed"]
    sums: dict[tuple, np.ndarray] = {}
    for images in images_of(run):
        key = tuple(images.record[name] for name in names), images.class_names
        sums[key] = sums.get(key, 0) + images.confusion.sum(0, dtype=np.int64)
    settings = [dict(zip(names, values, strict=True)) for values, _ in sums]
    varying = varying_axes(to_frame(setting | {"quantity": ""} for setting in settings))
    axes = [name for name in (*varying, "rho") if name in names]
    panels = []
    for setting, ((_, class_names), confusion) in zip(settings, sums.items(), strict=True):
        title = ", ".join(f"{name} {setting[name]}" for name in axes)
        panels.append(matrix_panel(confusion, class_names, title=title))
    charts = [Picture(matrix_chart(panels, note=run.note(interval=False)))] if panels else []
    return [*charts, *_group_tables(run)]


def _group_tables(run: Run) -> list[Numbers]:
    """The four groups: means over seeds with the lowest and the highest seed."""
    if not run.cells:
        return []
    cell = next(iter(run.cells.values()))
    rows = records_of(kept_records(run.rows[run.rows["split"] == "test"]))
    names = varying_axes(run.summary)
    levels = sorted({row["rho"] for row in rows if "rho" in row}) or [""]
    settings = list(dict.fromkeys(tuple(row[name] for name in names) for row in rows))
    tables = []
    for column, title in (("fg_flip", "Flip"), ("", "IoU of the group's class"), ("risk_auroc", "AUROC of flip-risk")):
        body = []
        for setting in settings:
            for group in range(4):
                y, scene = divmod(group, 2)
                name = cell.class_names[1 + y]
                chosen = [r for r in rows if str(r["group"]) == str(group) and tuple(r[n] for n in names) == setting]
                field = column or f"iou_{name}"
                texts = [_range([r.get(field, np.nan) for r in chosen if r.get("rho", "") == rho]) for rho in levels]
                kind = "common" if y == scene else "rare"
                body.append([f"{name} on {cell.scene_names[scene]} ({kind})", *map(str, setting), *texts])
        header = ["group", *names, *(f"rho {rho}" if rho != "" else "all" for rho in levels)]
        caption = f"{title} in each group: mean over seeds (lowest to highest seed)"
        tables.append(Numbers(caption, TextTable(header, body), folded=len(body) > 24))
    return tables


def _range(values: list[float]) -> str:
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "-"
    ends = f" ({min(known):.3f} to {max(known):.3f})" if len(known) > 1 else ""
    return f"{np.mean(known):.3f}{ends}"


def training_charts(run: Run) -> list[Chart]:
    """Returns the curves of training: means over the members of a setting that still run."""
    records = {record["member"]: record for record in records_of(run.records)}
    rows = [row for row in records_of(run.history) if row["member"] in records]
    if not rows:
        return []
    table = [records[row["member"]] for row in rows]
    axes = [name for name in varying_axes(run.records, until="member") if name != "seed"]
    settings = list(dict.fromkeys(tuple(record[name] for name in axes) for record in table))[:TRAINED]
    panels = []
    for setting in settings:
        chosen = [
            (row, record)
            for row, record in zip(rows, table, strict=True)
            if tuple(record[name] for name in axes) == setting
        ]
        title = ", ".join(f"{name} {value}" for name, value in zip(axes, setting, strict=True))
        for measure, y in MEASURES.items():
            curves = _epochs(chosen, measure)
            limits = (0.0, None) if measure == "valid_loss" else UNIT
            if curves:
                panels.append(curve_panel(curves, title=title, x="epoch", y=y, limits=limits))
    caption = "Each curve is the mean over the seeds that still train; a member that stops early leaves it."
    return [Chart("training", "Training curves", caption, run.note(interval=False), panels)] if panels else []


def _epochs(chosen: list[tuple[Row, Row]], measure: str) -> list[Curve]:
    values: dict[object, dict[int, list[float]]] = {}
    for row, record in chosen:
        value = row.get(measure, np.nan)
        if np.isfinite(value):
            values.setdefault(record.get("rho", ""), {}).setdefault(int(row["epoch"]), []).append(value)
    return [
        Curve(
            f"rho {rho}" if rho != "" else "",
            np.array(sorted(by_epoch), np.float64),
            np.array([np.mean(by_epoch[epoch]) for epoch in sorted(by_epoch)]),
        )
        for rho, by_epoch in sorted(values.items())
    ]
