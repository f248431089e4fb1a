"""Panels that compare: which class is taken for which, and differences between methods."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from flipjax.report.chart import Panel
from flipjax.report.style import CORRECT, DARK, FAINT, FLIP, LIGHT, MISS, dress, legend, plain, shades
from flipjax.results.cells import Row
from flipjax.results.quantities import title_of
from flipjax.results.rows import number
from flipjax.results.text import setting_label, varying_axes

LABELLED = 12
QUANTITIES = ("fg_flip/rare", "gap_mean/all", "worst_group_iou/all")


def matrix_panel(
    confusion: np.ndarray,
    class_names: Sequence[str],
    *,
    background: int = 0,
    classes: Sequence[int] | None = None,
    title: str = "",
) -> Panel:
    """Returns a panel of shares of each true class by prediction, coloured by what they mean.

    Args:
        confusion: int (C, C), rows the truth.
        class_names: C names.
        background: its class, which has a column and no row.
        classes: the foreground classes to show; all unless given.
        title: of the panel.
    """
    rows = [c for c in range(len(class_names)) if c != background] if classes is None else list(classes)
    columns = sorted([*rows, background])
    shares = confusion[np.ix_(rows, columns)] / np.maximum(confusion[rows].sum(1, keepdims=True), 1)
    C = len(columns)
    cell = 0.95 if C <= 8 else 0.6 if C <= LABELLED else 0.25
    size = (max(3.9, cell * C + 2.0), max(2.6, cell * 0.75 * len(rows) + 1.2))
    most = shares * (np.array(columns) != np.array(rows)[:, None])
    t, p = np.unravel_index(most.argmax(), most.shape)
    error = f"{class_names[rows[t]]} as {class_names[columns[p]]} {most[t, p]:.1%}"
    text = f"{title or 'Which class is taken for which'}. The largest error: {error} of the class's pixels."
    options: dict[str, Any] = {"rows": rows, "columns": columns, "names": class_names, "background": background}
    return Panel(partial(_draw_matrix, shares=shares, title=title, **options), text, size)


def _draw_matrix(
    axes: Axes,
    *,
    shares: np.ndarray,
    rows: Sequence[int],
    columns: Sequence[int],
    names: Sequence[str],
    background: int,
    title: str,
) -> None:
    C = len(columns)
    outcomes = [[CORRECT if p == t else MISS if p == background else FLIP for p in columns] for t in rows]
    tints = 1 - np.array([[to_rgb(colour) for colour in row] for row in outcomes])
    # The root, so that small shares can be seen.
    axes.imshow(1 - np.sqrt(shares)[..., None] * tints, aspect="auto")
    dress(axes, title=title, x="predicted as", y="truth", ticks=range(C), labels=[names[c] for c in columns])
    axes.set_yticks(range(len(rows)), [plain(names[c], most=20) for c in rows])
    axes.grid(False)
    axes.hlines(np.arange(len(rows) - 1) + 0.5, -0.5, C - 0.5, color=LIGHT, linewidth=1.5)
    axes.vlines(np.arange(C - 1) + 0.5, -0.5, len(rows) - 0.5, color=LIGHT, linewidth=1.5)
    if C > LABELLED:
        axes.tick_params(axis="x", rotation=90)
        return
    for (row, column), share in np.ndenumerate(shares):
        ink = LIGHT if share > 0.7 and outcomes[row][column] != CORRECT else DARK
        axes.text(column, row, f"{share:.1%}" if share else "", ha="center", va="center", fontsize=8.5, color=ink)


def forest_panels(comparison: Sequence[Row], axis: str = "method") -> list[Panel]:
    """Returns a panel for each of QUANTITIES: a row per value of `axis`, a bar per rho, differences from the reference.

    Settings of further axes are rows of their own.

    Args:
        comparison: rows of `flipjax.results.seeds.compare` along `axis`.
        axis: what is compared.
    """
    names = [name for name in varying_axes(comparison) if name not in (axis, "reference")]
    names = [axis, *names] if len({row[axis] for row in comparison}) > 1 or not names else names
    labels = list(dict.fromkeys(_label(row, names, axis) for row in comparison))
    rhos = sorted({row.get("rho", "") for row in comparison}, key=number)
    size = 4.4, 1.5 + len(labels) * (0.2 + 0.1 * len(rhos))
    panels = []
    for quantity in QUANTITIES:
        rows = [row for row in comparison if row["quantity"] == quantity]
        words = "; ".join(
            f"{_label(row, names, axis)} at rho {row.get('rho', '')}: {number(row['difference']):+.2f}"
            for row in rows[:8]
        )
        draw = partial(
            _draw_forest, rows=rows, title=title_of(quantity), labels=labels, rhos=rhos, names=names, axis=axis
        )
        panels.append(
            Panel(draw, f"{title_of(quantity)}, difference from {comparison[0]['reference']}. {words}.", size)
        )
    return panels


def _draw_forest(
    axes: Axes,
    *,
    rows: Sequence[Row],
    title: str,
    labels: Sequence[str],
    rhos: Sequence[Any],
    names: Sequence[str],
    axis: str,
) -> None:
    for place, (rho, colour) in enumerate(zip(rhos, shades(len(rhos)), strict=True)):
        chosen = [row for row in rows if row.get("rho", "") == rho]
        heights = [labels.index(_label(row, names, axis)) + 0.7 * ((place + 0.5) / len(rhos) - 0.5) for row in chosen]
        middle, low, high = (np.array([number(row[key]) for row in chosen]) for key in ("difference", "low", "high"))
        axes.hlines(heights, low, high, linewidth=1.4, color=colour)
        axes.scatter(middle, heights, s=16, zorder=3, label=f"rho {rho}", color=colour)
    limits = axes.get_xlim()
    ticks = [float(tick) for tick in MaxNLocator(4).tick_values(*limits) if limits[0] <= tick <= limits[1]]
    signed = [f"{tick:+g}" if tick else "0" for tick in ticks]
    reference = plain(str(rows[0]["reference"])) if rows else ""
    dress(axes, title=title, x=f"difference from {reference}", y="", ticks=ticks, labels=signed)
    axes.axvline(0, color=FAINT, linewidth=1, zorder=1)
    axes.set_yticks(range(len(labels)), [plain(label, most=30) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    if len(rhos) > 1:
        legend(axes, columns=min(2, len(rhos)))


def _label(row: Row, names: Sequence[str], axis: str) -> str:
    values = [str(row[axis])] if axis in names else []
    return ", ".join(text for text in (*values, setting_label(row, [name for name in names if name != axis])) if text)
