"""Writes the paper's table and figure: `flipjax report --table paper RUN [RUN ...]`."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from flipjax.files import replacing, write_text
from flipjax.report.chart import Chart, Panel, draw_chart
from flipjax.report.document import to_latex
from flipjax.report.style import dress, legend
from flipjax.results.estimates import SEEDS_INTERVAL
from flipjax.results.frames import write_csv
from flipjax.results.paper import decile_curves, paper_table, paper_text, published_curves
from flipjax.results.text import to_markdown, to_text

COLOURS = ("#3F74D6", "#D4672F", "#222222", "#B8860B")


def write_paper(runs: Sequence[str | Path], folder: Path, *, published: bool = False) -> str:
    """Writes paper.csv, paper.md, paper.tex and paper_deciles.svg and .png, and returns the table as text.

    Args:
        runs: run folders.
        folder: the output folder.
        published: whether to add the paper's published curves, dashed.
    """
    table = paper_table(runs)
    text = paper_text(table)
    curves = decile_curves(runs)
    chart = decile_chart(curves, published_curves() if published else curves[:0])
    write_csv(folder / "paper.csv", table)
    write_text(folder / "paper.md", f"{to_markdown(text)}\n\nMeans over seeds; {SEEDS_INTERVAL}.\n")
    caption = f"Means over seeds with the {SEEDS_INTERVAL}."
    write_text(folder / "paper.tex", f"% \\usepackage{{booktabs}}\n{to_latex(text, caption=caption)}\n")
    for kind, data in draw_chart(chart).items():
        with replacing(folder / f"paper_deciles.{kind}") as stream:
            stream.write(data)
    return to_text(text)


def decile_chart(curves: pd.DataFrame, published: pd.DataFrame) -> Chart:
    """Returns mean Flip by decile of flip-risk: a panel per data set, a line per encoder, published curves dashed."""
    whole = pd.concat([curves.assign(style="-"), published.assign(style="--")])
    encoders = list(dict.fromkeys(whole["encoder"]))
    top = 1.05 * float(whole["mean_flip"].max())

    def panel(name: str) -> Panel:
        rows = whole[whole["dataset"] == name]

        def draw(axes: Axes) -> None:
            for (encoder, style), line in rows.groupby(["encoder", "style"], sort=False):
                label = f"{encoder}, published" if style == "--" else str(encoder)
                look = {"color": COLOURS[encoders.index(encoder) % len(COLOURS)], "linestyle": style}
                axes.plot(line["decile"], line["mean_flip"], marker=".", label=label, **look)
            deciles = range(1, 11)
            dress(axes, title=name, x="decile of flip-risk", y="mean Flip", ticks=deciles, labels=[*map(str, deciles)])
            axes.set_ylim(0, top)
            legend(axes, columns=1)

        return Panel(draw, f"{name}: mean Flip by decile of flip-risk.")

    panels = [panel(name) for name in dict.fromkeys(whole["dataset"])]
    return Chart(
        "paper_deciles", "Flip by decile of flip-risk", "Images sorted by flip-risk.", "Means over seeds.", panels
    )
