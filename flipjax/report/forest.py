"""A forest plot: differences between methods, with their intervals."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from flipjax.report.style import FAINT, canvas, dress
from flipjax.results import Row, number, setting_label, title_of, varying_axes

PANELS = ("fg_flip/rare", "gap_mean/all", "worst_group_iou/all")


def forest(comparison: Sequence[Row], *, title: str, note: str) -> Figure:
    """Draws a row per method, a panel per quantity, and a bar per rho: the difference from the reference method.

    Settings of further axes are rows of their own.

    Args:
        comparison: rows of `flipjax.results.compare` along `method`.
        title: of the figure.
        note: n and the kind of interval.
    """
    axes_names = [name for name in varying_axes(comparison) if name not in ("method", "reference")]
    labels = list(dict.fromkeys(_label(row, axes_names) for row in comparison))
    rhos = sorted({row.get("rho", "") for row in comparison}, key=number)
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(rhos)))
    size = 4.2, 0.6 + len(labels) * (0.16 + 0.11 * len(rhos))
    figure, grid = canvas(1, len(PANELS), size=size, share="all", title=title, note=note)
    for panel, quantity in zip(grid[0], PANELS, strict=True):
        for place, rho in enumerate(rhos):
            drawn = [row for row in comparison if row["quantity"] == quantity and row.get("rho", "") == rho]
            heights = [labels.index(_label(row, axes_names)) + _shift(place, len(rhos)) for row in drawn]
            middle, low, high = (np.array([number(row[key]) for row in drawn]) for key in ("difference", "low", "high"))
            look: dict[str, Any] = {"color": shades[place]}
            panel.hlines(heights, low, high, linewidth=1.4, **look)
            panel.scatter(middle, heights, s=16, zorder=3, label=f"{rho}", **look)
        ticks = _ticks(panel.get_xlim())
        signed = [f"{tick:+g}" if tick else "0" for tick in ticks]
        dress(
            panel,
            title=title_of(quantity),
            x=f"difference from {comparison[0]['reference']}",
            y="",
            ticks=ticks,
            labels=signed,
        )
        panel.axvline(0, color=FAINT, linewidth=1, zorder=1)
    grid[0, 0].set_yticks(range(len(labels)), labels)
    grid[0, 0].set_ylim(len(labels) - 0.5, -0.5)
    if len(rhos) > 1:
        handles = grid[0, 0].get_legend_handles_labels()
        look = {"loc": "outside upper right", "title": "rho", "ncols": len(rhos), "frameon": False}
        figure.legend(*handles, fontsize=8, title_fontsize=8, **look)
    return figure


def _label(row: Row, axes: Sequence[str]) -> str:
    return ", ".join(text for text in (str(row["method"]), setting_label(row, axes)) if text)


def _shift(place: int, count: int) -> float:
    return 0.7 * ((place + 0.5) / count - 0.5)


def _ticks(limits: tuple[float, float]) -> list[float]:
    return [float(tick) for tick in MaxNLocator(5).tick_values(*limits) if limits[0] <= tick <= limits[1]]
