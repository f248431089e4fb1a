"""The scores of images side by side on a page: tables, risk-coverage curves, and thresholds carried to the test."""

from itertools import product

import numpy as np
import pandas as pd

from flipjax.metrics import selective
from flipjax.report.chart import Chart, Panel
from flipjax.report.html import Numbers, Picture
from flipjax.report.panels import COVERAGE, Curve, at_coverage, curve_panel, mean_curve
from flipjax.report.run import Run
from flipjax.report.style import COMMON, RARE, REPAIRED, WHOLE
from flipjax.results.frames import records_of
from flipjax.results.rows import COMPARED
from flipjax.results.score_tables import SCORES, THRESHOLD, WANTED_RISK, image_scores, score_summary
from flipjax.results.text import score_table, varying_axes

DRAWN = {
    "flip_risk": ("entropy", WHOLE),
    "energy": ("energy", "#56B4E9"),
    "mirror": ("mirror", "#E69F00"),
    "disagreement": ("seeds", RARE),
    "grey_fill": ("smooth: grey", COMMON),
    "swap_risk": ("scene swap", REPAIRED),
}
FACETS = 4
ALONE = "no setting has two seeds, or too many members to store what they predict"
REASONS = {"disagreement": ALONE, "pairwise_dice": ALONE, "swap_risk": "config.intervene.scenes is none"}
REASONS |= dict.fromkeys(("mirror", "grey_fill", "blur_fill"), "config.intervene.scores is not all")


def score_blocks(run: Run) -> list[Numbers | Picture]:
    """Returns the tables and the curves of all scores that are stored; nothing where flip-risk is the only one."""
    rows = _rows(run)
    if rows.empty or rows["score"].nunique() < 2:
        return []
    summary = score_summary(rows)
    caption = (
        "Scores of images, AUROC over all groups: how well each ranks images with a flip share above 0.5; mean and "
        "interval"
    )
    areas = (
        "The same, AUGRC (area under risk times coverage; lower is better). AURC and E-AURC, and all of them for "
        "common and rare groups, are in scores.csv"
    )
    carried = (
        f"A threshold for a mean flip of at most {WANTED_RISK:g}, chosen on validation images and carried to the test: "
        "share of the images it keeps and their mean flip; means over seeds, of those for which it keeps any"
    )
    return [
        Numbers(caption, score_table(summary, "auroc/all")),
        Numbers(areas, score_table(summary, "augrc/all"), folded=True),
        _coverage(run, rows),
        Numbers(carried, score_table(summary, *THRESHOLD)),
    ]


def left_out(run: Run) -> str:
    """Says which scores the run has not, and why."""
    there = {*_rows(run).get("score", ())}
    by_reason: dict[str, list[str]] = {}
    for name, score in SCORES.items():
        if there and name not in there:
            by_reason.setdefault(REASONS.get(name, "config.intervene.scores is none"), []).append(score.title)
    texts = [f"{', '.join(titles)} ({reason})" for reason, titles in by_reason.items()]
    return f"Not in this run: {'; '.join(texts)}." if texts else ""


def _rows(run: Run) -> pd.DataFrame:
    if run.scores.empty:
        return run.scores
    of_rule = run.scores["selection"] == run.rows["selection"].iloc[0]
    return run.scores[of_rule & run.scores["member"].isin(run.kept()["member"])]


def _coverage(run: Run, rows: pd.DataFrame) -> Picture:
    """Returns risk-coverage at the highest rho of each of the first settings: all groups, common and rare ones."""
    highest = rows["rho"].max() if "rho" in rows else None
    axes = [name for name in varying_axes(rows, until="selection") if name not in ("member", "seed")]
    shown = rows if highest is None else rows[rows["rho"] == highest]
    settings = {row["member"]: tuple(row[name] for name in axes) for row in records_of(shown)}
    facets = list(dict.fromkeys(settings.values()))[:FACETS]
    curves: dict[tuple, list[np.ndarray]] = {}
    for cell in run.cells.values():
        for member, scores in image_scores(cell, "test", run.rows, selection=rows["selection"].iloc[0]):
            if settings.get(member) not in facets:
                continue
            losses = np.asarray(cell.decomposition(member, "test").flip, np.float64)
            for name, side in product(DRAWN.keys() & scores.keys(), COMPARED):
                # Shares of all images, and of those left the mean loss of the ones of the side.
                left = selective.risk_coverage(scores[name], losses, inside=cell.on_side("test", side))
                curves.setdefault((settings[member], side, name), []).append(at_coverage(left.risk))
    panels = [_panel(setting, side, curves) for setting, side in product(facets, COMPARED)]
    where = "" if highest is None else f" at rho {highest:g}"
    caption = (
        "Images are set aside by one threshold for all groups; each panel is the mean flip share of those of its "
        "groups that are left. A score that helps on average can leave the rare groups worse off than before (Jones et "
        "al., Selective classification can magnify disparities across groups, 2021)."
    )
    chart = Chart("coverage_scores", f"Risk-coverage of the scores{where}", caption, run.note(interval=False), panels)
    return Picture(chart)


def _panel(setting: tuple, side: str, members: dict[tuple, list[np.ndarray]]) -> Panel:
    drawn = [(*look, members[setting, side, name]) for name, look in DRAWN.items() if (setting, side, name) in members]
    curves = [Curve(label, COVERAGE, mean_curve(of_members), colour) for label, colour, of_members in drawn]
    title = ", ".join([*map(str, setting), side])
    return curve_panel(curves, title=title, x="coverage: share of all images kept", y="mean flip share of those kept")
