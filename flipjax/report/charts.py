"""The charts and tables of a run, by section of its page."""

from collections.abc import Iterable
from itertools import cycle

import numpy as np

from flipjax.report.chart import Chart, Panel
from flipjax.report.curves import COVERAGE, matrices, rankings
from flipjax.report.figures import DECILE, Curve, Line, Places, curve_panel, line_panels, share_panels
from flipjax.report.html import Numbers, Picture
from flipjax.report.matrix import forest_panels, matrix_panel
from flipjax.report.run import Run
from flipjax.report.style import CLASSES, COMMON, RARE, REPAIRED, WHOLE
from flipjax.results.cells import Row
from flipjax.results.quantities import title_of
from flipjax.results.rows import number
from flipjax.results.seeds import LEFT_OUT
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
    names = dict.fromkeys(row["quantity"] for row in run.summary)
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
        panels = line_panels(run.summary, run.kept(), lines, y="share of the log-odds that the scene makes")
        caption = "How much of the label the scene makes, from unlabelled images. 0: none of it."
        charts.append(Chart("reliance", "Scene reliance", caption, note, panels))
    shares = Chart(
        "shares",
        "What becomes of the true foreground",
        "Shares of the true foreground, pooled over the images of the groups; they sum to 1.",
        run.note(interval=False),
        share_panels(run.summary),
        columns=2,
    )
    return [*charts, shares]


def _span(run: Run, lines: Iterable[Line]) -> tuple[float, float]:
    """Limits of an axis of differences: from 0 or the least end to the largest, never beyond -1 and 1."""
    wanted = {line.quantity for line in lines}
    ends = [number(row[name]) for row in run.summary if row["quantity"] in wanted for name in ("mean", "low", "high")]
    ends += [record[name] for record in run.kept() for name in wanted if name in record]
    ends = [end for end in ends if np.isfinite(end)] or [0.0]
    return max(-1.0, min(0.0, min(ends)) - 0.05), min(1.0, max(0.0, max(ends)) + 0.05)


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
    curves = rankings(run)
    if not curves:
        return charts
    means = run.note(interval=False)
    table: list[Row] = [curve.setting | {"quantity": index} for index, curve in enumerate(curves)]
    places = Places.of(table)
    coverage = []
    deciles = []
    for facet in places.facets():
        rows = [(_level(places, x), curves[row["quantity"]]) for x, row in places.within(facet, table)]
        left = [Curve(name, COVERAGE, curve.remaining) for name, curve in rows]
        tenths = np.arange(1.0, 11.0)
        flips = [Curve(name, tenths, curve.flip) for name, curve in rows]
        risks = [Curve(name, tenths, curve.risk) for name, curve in rows]
        x = "coverage: share of the images kept, least risk first"
        coverage.append(curve_panel(left, title=facet, x=x, y="mean flip share of the images kept"))
        deciles.append(curve_panel(flips, title=facet, x=DECILE, y="mean flip share", ticks=range(1, 11)))
        deciles.append(curve_panel(risks, title=facet, x=DECILE, y="mean flip-risk (nats)", ticks=range(1, 11)))
    kept = (
        "Mean flip share of the images that are left when the riskiest are set aside. A curve that rises to the right: "
        "setting aside helps."
    )
    tenth = "Images sorted by flip-risk, in tenths. A line that rises to the right: flip-risk points at the flips."
    return [
        *charts,
        Chart("coverage", "Risk-coverage", kept, means, coverage),
        Chart("deciles", "Flips and flip-risk by flip-risk decile", tenth, means, deciles, columns=2),
    ]


def _level(places: Places, x: float) -> str:
    ticks, labels = places.ticks()
    label = labels[ticks.index(x)]
    return f"rho {label}" if places.levels else label


def method_charts(run: Run) -> list[Chart]:
    """Returns the chart of what each method changes; none where there is one method."""
    if not run.comparison:
        return []
    caption = (
        "Differences between a method and the first one of the grid, same seed and rho. Where a bar crosses 0, the "
        "grid cannot tell the two apart; of many bars, one in twenty misses 0 by chance. Left of 0 is better for flip "
        "and the gap, right of 0 for IoU."
    )
    return [Chart("methods", "What each method changes", caption, run.note(), forest_panels(run.comparison))]


def class_sections(run: Run) -> list[Numbers | Picture]:
    """Returns which class is taken for which, and the four groups."""
    blocks: list[Numbers | Picture] = []
    sums = matrices(run)
    axes = varying_axes([matrix.setting | {"quantity": ""} for matrix in sums])
    panels: list[Panel] = []
    for matrix in sums:
        title = ", ".join(f"{name} {matrix.setting[name]}" for name in (*axes, "rho") if name in matrix.setting)
        panels.append(matrix_panel(matrix.confusion, matrix.class_names, title=title))
    if panels:
        caption = "Of each true class, the share of its pixels that is predicted as each class, over all seeds."
        note = run.note(interval=False)
        blocks.append(Picture(Chart("flip_matrix", "Which class is taken for which", caption, note, panels)))
    return [*blocks, *_group_tables(run)]


def _group_tables(run: Run) -> list[Numbers]:
    """The four groups: means over seeds with the lowest and the highest seed."""
    if not run.cells:
        return []
    cell = next(iter(run.cells.values()))
    rows = [row for row in run.rows if row["split"] == "test" and row["status"] not in LEFT_OUT]
    names = varying_axes(run.summary)
    levels = sorted({row["rho"] for row in rows if "rho" in row}, key=number) or [""]
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
                texts = [
                    _range([number(r.get(field, "")) for r in chosen if r.get("rho", "") == rho]) for rho in levels
                ]
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
    records = {record["member"]: record for record in run.records}
    rows = [row for row in run.history if row["member"] in records]
    if not rows:
        return []
    table = [records[row["member"]] | {"quantity": ""} for row in rows]
    axes = [name for name in varying_axes([_setting(record) for record in table]) if name != "seed"]
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


def _setting(record: Row) -> Row:
    """The axes of a record, as `varying_axes` reads them."""
    names = list(record)
    return {name: record[name] for name in names[: names.index("member")]} | {"quantity": ""}


def _epochs(chosen: list[tuple[Row, Row]], measure: str) -> list[Curve]:
    values: dict[object, dict[int, list[float]]] = {}
    for row, record in chosen:
        value = number(row.get(measure, ""))
        if np.isfinite(value):
            values.setdefault(record.get("rho", ""), {}).setdefault(int(row["epoch"]), []).append(value)
    return [
        Curve(
            f"rho {rho}" if rho != "" else "",
            np.array(sorted(by_epoch), np.float64),
            np.array([np.mean(by_epoch[epoch]) for epoch in sorted(by_epoch)]),
        )
        for rho, by_epoch in sorted(values.items(), key=lambda entry: number(entry[0]))
    ]
