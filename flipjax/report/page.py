"""The report of a run folder: tables, figures and a plain page."""

import re
from functools import partial
from itertools import cycle
from pathlib import Path

from flipjax.report.figures import Line, Panel, decile_chart, line_chart, share_bars
from flipjax.report.forest import forest
from flipjax.report.html import TERMS, Shown, page
from flipjax.report.pictures import gallery_figure
from flipjax.report.run import Run, deciles, read
from flipjax.report.style import CLASSES, COMMON, RARE, WHOLE, save
from flipjax.results import (
    comparison_table,
    gallery,
    headline,
    regret_table,
    replacing,
    setting_label,
    summary_table,
    title_of,
    to_markdown,
    to_text,
    trend_table,
    varying_axes,
    write_csv,
)

FLIP = Panel(
    "Flip (share of the true foreground)",
    (Line("fg_flip/common", "common groups", COMMON), Line("fg_flip/rare", "rare groups", RARE, "s")),
)
RISK = (
    Panel(
        "AUROC of flip-risk",
        (Line("risk_auroc/all", "all images", WHOLE), Line("risk_auroc/rare", "rare groups", RARE, "s")),
        (0.5, "chance"),
    ),
    Panel(
        "share of all flips in the riskiest tenth",
        (Line("top_decile_flip_share/all", "all images", WHOLE),),
        (0.1, "flips spread evenly"),
    ),
)
CAPTIONS = {
    "flip": "Flip: pixels of the true foreground predicted as another foreground class, pooled over a group's images.",
    "gap": "A class's IoU in its common group minus that in its rare group. 0: the scene does not matter.",
    "methods": (
        "Differences between a method and the first one of the grid, same seed and rho. Where a bar crosses 0, the "
        "grid cannot tell the two apart; of many bars, one in twenty misses 0 by chance. Left of 0 is better for Flip "
        "and the gap, right of 0 for IoU."
    ),
    "shares": "Shares of the true foreground, pooled over the images of the groups; they sum to 1.",
    "deciles": "Images sorted by flip-risk, in tenths. A line that rises to the right: flip-risk points at the flips.",
    "risk": (
        "Left: how well flip-risk ranks images with a flip share above 0.5. Right: the part of all flips that the "
        "riskiest tenth of the images holds. Where both fall, the model flips with confidence and "
        "flip-risk is blind to it."
    ),
}
GALLERY = (
    "Flip: share of the image's foreground. Risk: its mean flip-risk in nats; the map goes from 0 (black) to "
    "the largest entropy (bright)."
)


def build(workdir: str | Path) -> str:
    """Writes `report/` into a run folder and returns its tables as text for a terminal.

    Writes summary.csv, trend.csv, comparison.csv (of methods), regret.csv (of selection rules), summary.md,
    figures/*.png and *.svg, and index.html; each file atomically.

    Raises:
        FileNotFoundError: the folder holds no results.
    """
    run = read(workdir)
    folder = run.folder / "report"
    tables = {
        "Test results: mean, or the values of fewer than 4 seeds, and interval of the mean": summary_table(run.summary)
    }
    if run.trends:
        tables["Change over rho, paired by seed, with its interval"] = trend_table(run.trends)
    if run.comparison:
        reference = f"{run.comparison[0]['reference']}, paired by seed; * the interval excludes 0"
        tables[f"Difference from {reference}"] = comparison_table(run.comparison, "method")
    if run.regrets:
        tables["Selection: what a rule loses against one that selects on the quantity itself"] = regret_table(
            run.regrets
        )
    write_csv(folder / "comparison.csv", run.comparison)
    write_csv(folder / "regret.csv", run.regrets)
    write_csv(folder / "summary.csv", run.summary)
    write_csv(folder / "trend.csv", run.trends)
    title = str(run.config.get("name") or run.folder.resolve().name)
    findings = headline(run.summary, run.trends)
    counts = f"{run.members()} {run.note()}"
    lists = ["\n".join(f"- {line}" for line in findings)] if findings else []
    sections = [f"## {name}\n\n{to_markdown(table)}" for name, table in tables.items()]
    _write(folder / "summary.md", "\n\n".join([f"# {title}", counts, *lists, *sections]) + "\n")
    facts = [counts] + [
        f"{key}: {value}" for key, value in run.config.items() if key != "name" and isinstance(value, str)
    ]
    shown = [*_charts(run), *_galleries(run)]
    text = page(
        title=title, lines=findings, facts=facts, tables=tables, shown=shown, terms=list(TERMS), config=run.config
    )
    _write(folder / "index.html", text)
    blocks = [f"{name}\n{to_text(table)}" for name, table in tables.items()]
    return "\n\n".join([f"{title}: {counts}", *blocks, "\n".join(findings)]).rstrip()


def _write(path: Path, text: str) -> None:
    with replacing(path) as stream:
        stream.write(text.encode())


def _charts(run: Run) -> list[Shown]:
    summary, kept, curves = run.summary, run.kept(), deciles(run)
    means, intervals = run.note(interval=False), run.note()
    if run.seeds()[1] > 1:
        intervals += " Small dots: single seeds."
    quantities = dict.fromkeys(row["quantity"] for row in summary if row["quantity"].startswith("gap_"))
    quantities.pop("gap_mean/all", None)
    gaps = [
        Line(quantity, title_of(quantity), colour, marker)
        for quantity, colour, marker in zip(quantities, cycle(CLASSES[1:]), cycle("^v"), strict=False)
    ]
    gap = Panel("IoU of the common minus the rare group", (*gaps, Line("gap_mean/all", "mean", WHOLE)), (0.0, ""))
    charts = [
        ("flip", "Flip of common and rare groups", partial(line_chart, summary, kept, [FLIP], note=intervals)),
        ("gap", "IoU gap of each class", partial(line_chart, summary, kept, [gap], note=intervals)),
        ("shares", "What becomes of the true foreground", partial(share_bars, summary, note=means)),
        ("risk", "How well flip-risk finds flips", partial(line_chart, summary, kept, RISK, note=intervals)),
    ]
    if run.comparison:
        charts.append(("methods", "What each method changes", partial(forest, run.comparison, note=run.note())))
    if curves:
        charts.append(("deciles", "Flips and flip-risk by flip-risk decile", partial(decile_chart, curves, note=means)))
    shown = []
    for name, title, draw in charts:
        figure = draw(title=title)
        for suffix in ("png", "svg"):
            save(run.folder / "report" / "figures" / f"{name}.{suffix}", figure)
        shown.append(Shown(f"figures/{name}.svg", title, CAPTIONS[name]))
    return shown


def _galleries(run: Run) -> list[Shown]:
    records = {record["member"]: record for record in run.records}
    axes = ["rho", "seed", *(axis for axis in varying_axes(run.summary) if axis != "seed")]
    shown = []
    for name, cell in run.cells.items():
        path = run.folder / "cells" / name / "gallery.npz"
        if not path.is_file():
            continue
        images = gallery.load(path)
        for member in dict.fromkeys(images.member.tolist()):
            record = records.get(member, {})
            label = setting_label(record, [axis for axis in axes if axis in record]) or member
            title, note = "The riskiest and typical test images", f"Member: {label}. {GALLERY}"
            names = {"class_names": cell.class_names, "scene_names": cell.scene_names}
            figure = gallery_figure(gallery.of_member(images, member), **names, title=title, note=note)
            file = f"gallery_{re.sub('[^A-Za-z0-9.=-]+', '-', f'{name}_{member}')}.png"
            save(run.folder / "report" / "figures" / file, figure)
            shown.append(Shown(f"figures/{file}", title, note))
    return shown
