"""Draws the figures of scene_swap and monitor from their csv files: python sweeps/studies/figures.py."""

import pathlib

import matplotlib
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"
PAIRS = (
    (("risk_auroc", "entropy"), ("swap_auroc", "scene swap")),
    (("fg_flip", "Flip"), ("repair_flip", "after repair")),
)


def draw_scene_swap(folder):
    """Draws AUROC of entropy and of scene-swap risk, and Flip before and after repair, over rho; two sets of seeds."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, style, seeds in (("results.csv", "-", "seeds 10 to 13"), ("fresh.csv", "--", "seeds 20 to 23")):
        table = pd.read_csv(folder / name, dtype={"group": str})
        rows = table[(table.split == "test") & (table.group == "all") & (table.rho < 1)]
        means = rows.groupby("rho").mean(numeric_only=True)
        for axis, pair in zip(axes, PAIRS, strict=True):
            for (column, label), colour in zip(pair, (ORANGE, BLUE), strict=True):
                axis.plot(range(len(means)), means[column], style, color=colour, label=f"{label}, {seeds}")
                places = [list(means.index).index(rho) for rho in rows.rho]
                axis.plot(places, rows[column], ".", color=colour, alpha=0.4)
        for axis in axes:
            axis.set_xticks(range(len(means)), [f"{rho:g}" for rho in means.index])
    for axis, label in zip(axes, ("AUROC for flipped images", "Flip, all groups"), strict=True):
        axis.set(xlabel="rho", ylabel=label)
        axis.legend(frameon=False, fontsize="small")
    figure.savefig(folder / "swap.png", dpi=120)


def draw_monitor(folder):
    """Draws the share of streams that ever alarm without drift, against the level that was promised."""
    table = pd.read_csv(folder / "results.csv")
    rows = table[(table.study == "no drift") & (table.scores == "normal") & (table.reference == 200)]
    figure, axis = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for (test, group), colour in zip(rows.groupby("test"), (ORANGE, GREY, BLUE), strict=True):
        axis.plot(group.level, group.alarms, "o-", color=colour, label=test)
    axis.plot([0, 0.1], [0, 0.1], ":", color="black", label="promised")
    axis.set(xlabel="false-alarm level", ylabel="streams of 1,000 images with an alarm")
    axis.legend(frameon=False, fontsize="small")
    figure.savefig(folder / "alarms.png", dpi=120)


DRAWN = {"scene_swap": draw_scene_swap, "monitor": draw_monitor}

if __name__ == "__main__":
    for study, draw in DRAWN.items():
        draw(pathlib.Path(__file__).parent / study)
