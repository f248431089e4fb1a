"""The charts of an audit: pure functions from what was found to panels."""

import numpy as np

from flipjax.audit.results import Audit, most_flipped
from flipjax.report.chart import Chart
from flipjax.report.curves import COVERAGE, remaining
from flipjax.report.figures import DECILE, Curve, bar_panel, curve_panel
from flipjax.report.matrix import matrix_panel
from flipjax.report.style import FLIP, WHOLE

BARS = 24
CELLS = 40


def note(audit: Audit) -> str:
    """Says what the numbers are of."""
    return f"{len(audit.names)} images, {len(audit.foreground)} foreground classes."


def charts(audit: Audit) -> list[Chart]:
    """Returns all charts."""
    return [_shares(audit), _deciles(audit), _coverage(audit), _matrix(audit)]


def _shares(audit: Audit) -> Chart:
    """Correct, flip and miss as stacked shares: of all images and of each group, and of each true class."""
    keys = [key for key in audit.summary if key.startswith("group/") and key.endswith("/fg_flip")]
    groups = {"all": ""} | {key.split("/")[1]: key.removesuffix("fg_flip") for key in keys[:BARS]}
    names = ("fg_correct", "fg_flip", "fg_miss")
    by_group = [[audit.summary[f"{prefix}{name}"] for prefix in groups.values()] for name in names]
    classes = most_flipped(audit, limit=BARS)
    rows = audit.confusion[classes]
    correct = audit.confusion[classes, classes]
    miss = rows[:, audit.background]
    shares = np.stack([correct, rows.sum(1) - correct - miss, miss]) / np.maximum(rows.sum(1), 1)
    title = "by group" if keys else "all images"
    panels = [
        bar_panel(by_group, [_group_label(audit, name) for name in groups], title=title, width=_width(len(groups))),
        bar_panel(
            shares.tolist(),
            [audit.class_names[c] for c in classes],
            title="by true class",
            width=_width(len(classes)),
        ),
    ]
    caption = "Shares of the true foreground, pooled over the images; they sum to 1."
    return Chart(
        "shares", "What becomes of the true foreground", caption, _part(audit, len(classes)), panels, columns=2
    )


def _width(bars: int) -> float:
    return max(3.9, 0.45 * bars)


def _part(audit: Audit, shown: int) -> str:
    """Says which classes are left out."""
    if shown == len(audit.foreground):
        return note(audit)
    return f"{note(audit)} Shown are the {shown} classes in the most flips."


def _group_label(audit: Audit, name: str) -> str:
    """For two foreground classes groups are 2 * class + scene."""
    if len(audit.class_names) != 3 or not name.isdecimal():
        return name
    y, scene = divmod(int(name), 2)
    return f"{name}: {audit.class_names[audit.foreground[y]]}\nscene {scene}"


def _deciles(audit: Audit) -> Chart:
    """Mean flip share and mean flip-risk of each tenth of the images, sorted by flip-risk, with intervals."""
    intervals = f"{note(audit)} Bars: 95% bootstrap intervals over the images." if audit.intervals else note(audit)
    mean = audit.summary["flip_image_mean"]
    sides = {
        "flip_by_risk_decile": ("mean flip share", FLIP, (mean, f"mean of all images, {mean:.2f}")),
        "risk_decile": ("mean flip-risk (nats)", WHOLE, None),
    }
    panels = [
        curve_panel(
            [Curve("", np.arange(1.0, 11.0), np.array(audit.summary[key]))],
            title="",
            x=DECILE,
            y=y,
            ticks=range(1, 11),
            colours=[colour],
            reference=reference,
            interval=audit.intervals.get(key),
        )
        for key, (y, colour, reference) in sides.items()
    ]
    caption = "Images sorted by flip-risk, in tenths. A line that rises to the right: flip-risk points at the flips."
    return Chart("deciles", "Flips and flip-risk by flip-risk decile", caption, intervals, panels, columns=2)


def _coverage(audit: Audit) -> Chart:
    """The flip share of the images that are left when the riskiest are set aside."""
    mean = audit.summary["flip_image_mean"]
    panel = curve_panel(
        [Curve("", COVERAGE, remaining(audit.decomposition))],
        title="",
        x="coverage: share of the images kept, least risk first",
        y="mean flip share of the images kept",
        colours=[FLIP],
        reference=(mean, f"mean of all images, {mean:.2f}"),
    )
    caption = (
        "What is left when the riskiest images are set aside. A curve that rises to the right: setting aside helps."
    )
    return Chart("coverage", "Risk-coverage", caption, note(audit), [panel])


def _matrix(audit: Audit) -> Chart:
    """Which true class is predicted as which: shares of each true class, coloured by what they mean."""
    rows = most_flipped(audit, limit=CELLS)
    panel = matrix_panel(audit.confusion, audit.class_names, background=audit.background, classes=rows)
    caption = "Of each true class, the share of its pixels that is predicted as each class."
    return Chart("flip_matrix", "Which class is taken for which", caption, _part(audit, len(rows)), [panel])
