"""Draws figure.png from results.csv and results_0.12.csv of `bench.py`, and prints the rows of the page's table.

    python sweeps/benchmarks/throughput/figure.py

Needs no other run: each of the two files is one run of `bench.py`, with JAX 0.10 and with JAX 0.12.
"""

import dataclasses
import functools
import pathlib

import pandas as pd
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator, ScalarFormatter

from flipjax.page import style
from flipjax.page.charts import Chart, Panel, draw_chart
from flipjax.support.files import replacing

HERE = pathlib.Path(__file__).parent
RUNS = {"JAX 0.10": "results.csv", "JAX 0.12": "results_0.12.csv"}
LOOP, PLAIN, AS_RUN, BEST = "flipjax loop", "plain vmap", "PyTorch", "PyTorch's best"
LIMIT = "limit_samples_per_second"
SPEED = "samples_per_second"


@dataclasses.dataclass(frozen=True)
class Line:
    """A contender of the figure."""

    contender: str
    label: str
    colour: str
    style: str = "-"


LINES = (
    Line(LOOP, "flipjax, loop", style.FLIP),
    Line("flipjax vmap", "flipjax, vmap", style.RARE),
    Line("flipjax packed", "flipjax, packed", style.REPAIRED),
    Line(PLAIN, "plain JAX, vmap", style.COMMON),
    Line(BEST, "PyTorch, tuned", style.CORRECT),
    Line(AS_RUN, "PyTorch, not tuned", style.CORRECT, "--"),
)


def read(name):
    """Returns the rows of a run, with rows of PyTorch's best: the fastest of its contenders in each cell."""
    rows = pd.read_csv(HERE / name)
    of_pytorch = rows[rows["contender"].str.startswith(AS_RUN)]
    fastest = of_pytorch.loc[of_pytorch.groupby(["size", "members"])[SPEED].idxmax()]
    return pd.concat([rows, fastest.assign(contender=BEST)], ignore_index=True)


def draw(axes, rows, title):
    """Draws images a second over the number of networks, one line a contender, with the range over rounds."""
    for line in LINES:
        cells = rows[rows["contender"] == line.contender].sort_values("members")
        below = cells[SPEED] - cells["lowest"]
        above = cells["highest"] - cells[SPEED]
        axes.errorbar(
            cells["members"],
            cells[SPEED],
            yerr=[below, above],
            color=line.colour,
            linestyle=line.style,
            marker="o",
            markersize=3,
            capsize=2,
            label=line.label,
        )
    limit = rows[LIMIT].median()
    axes.axhline(limit, color=style.INK, linestyle=":", label="limit: matrix products")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    # The same fractions of the limit in every panel, with room for the legend.
    axes.set_ylim(limit / 110, 1.4 * limit)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_locator(FixedLocator(sorted(rows["members"].unique())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("networks trained at once, K")
    axes.set_ylabel("images per second")
    axes.set_title(title)


def make_chart(runs):
    """Returns the figure: a row for each version of JAX, a column for each size of image."""
    panels = []
    for version, rows in runs.items():
        for size, cells in rows.groupby("size"):
            title = f"{size} px, {version}"
            panels.append(Panel(functools.partial(draw, rows=cells, title=title), title))
    first = panels[0].draw

    def with_legend(axes):
        first(axes)
        axes.legend(fontsize=7, loc="lower left", ncols=2, handlelength=3.4)

    panels[0] = dataclasses.replace(panels[0], draw=with_legend)
    note = "U-Nets of width 16 and three levels, batches of 16, float32. Bars: range over rounds."
    return Chart("figure", "Images per second", "Training on two CPU cores.", note, panels)


def describe(version, rows):
    """Returns the page's row for each size: speeds of the loop, and their ratios to others at the same K."""
    lines = []
    for size, cells in rows.groupby("size"):
        row = [f"{size} px, {version}"]
        for members in (1, 16):
            speed = cells[cells["members"] == members].set_index("contender")[SPEED]
            row += [f"{speed[LOOP]:,.0f}", f"{speed[LOOP] / speed[BEST]:.2f}"]
        row += [f"{speed[LOOP] / speed[AS_RUN]:.2f}", f"{speed[LOOP] / speed[PLAIN]:.1f}"]
        limit = cells.loc[cells["members"] == members, LIMIT].iloc[0]
        row.append(f"{speed[LOOP] / limit:.2f}")
        lines.append(f"| {' | '.join(row)} |")
    return lines


def main():
    runs = {version: read(name) for version, name in RUNS.items()}
    for version, rows in runs.items():
        print("\n".join(describe(version, rows)))
    with replacing(HERE / "figure.png") as stream:
        stream.write(draw_chart(make_chart(runs))["png"])
    print(HERE / "figure.png")


if __name__ == "__main__":
    main()
