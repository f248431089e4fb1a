"""Context use in grids: python sweeps/studies/one_scale/study.py RUNS

RUNS holds the run folders one_scale, one_scale_methods, one_scale_size, one_scale_width and one_scale_photos that
make.py trains. Writes members.csv and use.png beside this file, and prints the figures of the page.
"""

import argparse
import pathlib
import sys

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from flipjax.intervene import training_evidence
from flipjax.results import load

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent / "published_models"))
import context  # noqa: E402 - in the folder of the line above

RUNS = {"one_scale": "base", "one_scale_methods": "methods", "one_scale_size": "size", "one_scale_width": "width"}
RUNS |= {"one_scale_photos": "photos", "one_scale_4x4": "4x4"}
VARIED = {"methods": "method", "size": "split.n_train", "width": "model.width"}
"""What varies in a run beside rho and seed."""
KEPT = ("rho", "seed", "method", "split.n_train", "model.width", "scene_shift", "context_use", "scene_reliance")
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"


def read_members(folder):
    """Returns a row a member of all runs: its axes, shift, use, reliance, Flip of rare less that of common groups."""
    parts = []
    for run, name in RUNS.items():
        if not (folder / run / "results.csv").exists():
            continue
        table = pd.read_csv(folder / run / "results.csv")
        table = table[(table["split"] == "test") & (table["selection"] == table["selection"].iloc[0])]
        whole, rare, common = (
            table[table["group"] == group].set_index("member") for group in ("all", "rare", "common")
        )
        part = whole.reindex(columns=KEPT)
        part["gap"] = rare["fg_flip"] - common["fg_flip"]
        parts.append(part.reset_index().assign(run=name))
    return pd.concat(parts, ignore_index=True)


def betas(folder):
    """Yields the members of 4 x 4 of 50 flips or more: rho, seed, beta, its interval, shuffled and within."""
    for cell in load(folder / "one_scale_4x4").cells.values():
        groups = cell.groups
        for member, setting in zip(cell.members, cell.results.settings(), strict=True):
            images, rho = cell.images_of(member, "test"), setting["rho"]
            counts = images.confusion[:, 1:, 1:].sum(1)
            truth, wrong = groups.class_of(images.group), counts.argmax(1)
            shares = np.where(np.isin(np.arange(groups.count), groups.common), rho, (1 - rho) / 3)
            biased = training_evidence(np.repeat(np.arange(groups.count), np.rint(3000 * shares).astype(int)), groups)
            scene = biased[groups.scene_of(images.group)]
            evidence = np.pad(scene - scene[np.arange(len(truth)), truth][:, None], ((0, 0), (1, 0)))
            true = pd.DataFrame({"image": np.arange(len(truth)), "class": truth + 1, "predicted": wrong + 1})
            true["outcome"] = np.where(wrong == truth, "correct", "flip")
            if (wrong != truth).sum() >= context.LEAST_FLIPS:
                yield rho, setting["seed"], *context.context_beta(true, evidence)


def spearman(x, y):
    """Returns the rank correlation of two columns."""
    return pd.Series(x).rank().corr(pd.Series(y).rank())


def ranked(members, column, *, other=None, samples=2000):
    """Returns Spearman's correlation of a column with the gap, less that of another, and its interval over members."""
    generator = np.random.default_rng(0)
    values = members[[column, other or column, "gap"]].to_numpy()

    def statistic(rows):
        return spearman(rows[:, 0], rows[:, 2]) - (spearman(rows[:, 1], rows[:, 2]) if other else 0)

    drawn = [statistic(values[generator.integers(0, len(values), len(values))]) for _ in range(samples)]
    return statistic(values), *np.nanpercentile(drawn, (2.5, 97.5))


def _named(rows, run):
    """Returns the setting by which the members of a run differ from the default."""
    column = VARIED[run]
    names = [each if column == "method" else f"{column.split('.')[1]} {each:g}" for each in rows[column]]
    return pd.Series(names, rows.index, dtype=object)


def draw(members):
    """Draws context use against rho and by setting, and the gap against the shift."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    base = members[members["run"] == "base"]
    biased = base[base["rho"] > 0.5]
    levels = sorted(biased["rho"].unique())
    axes[0].plot([levels.index(rho) for rho in biased["rho"]], biased["context_use"], ".", color=GREY)
    means = biased.groupby("rho")["context_use"].mean()
    axes[0].plot(range(len(means)), means, "o-", color=ORANGE, label="mean of four seeds")
    axes[0].axhspan(0.46, 0.60, color=BLUE, alpha=0.2, label="published models on VOC-val")
    axes[0].set_xticks(range(len(levels)), [f"{rho:g}" for rho in levels])
    axes[0].set(xlabel="rho", ylabel="context use", ylim=(0, 1), title="the drawn grid")
    others = members[members["run"].isin(("methods", "size", "width")) & (members["rho"] > 0.5)]
    names = pd.concat([_named(others[others["run"] == run], run) for run in VARIED]).loc[others.index]
    labels = list(dict.fromkeys(names))
    for rho, colour in ((0.8, BLUE), (0.95, ORANGE)):
        some = others["rho"] == rho
        places = [labels.index(name) for name in names[some]]
        axes[1].plot(others["context_use"][some], places, "o", color=colour, label=f"rho {rho:g}", alpha=0.7)
        axes[1].axvline(base["context_use"][base["rho"] == rho].mean(), color=colour, linewidth=0.8, linestyle=":")
    axes[1].set_yticks(range(len(labels)), labels)
    axes[1].set(xlabel="context use (dotted: the default)", title="by size, width and method")
    for run, colour in (("base", ORANGE), ("photos", BLUE)):
        some = members[members["run"] == run]
        axes[2].plot(some["scene_shift"], some["gap"], "o", color=colour, label={"base": "drawn", "photos": run}[run])
    axes[2].set(xlabel="scene shift, nats", ylabel="Flip, rare less common", title="gap against scene shift")
    for axis in axes:
        axis.legend(frameon=False, fontsize="small")
    figure.savefig(HERE / "use.png", dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=pathlib.Path)
    folder = parser.parse_args().runs
    members = read_members(folder)
    members.to_csv(HERE / "members.csv", index=False, float_format="%.4f")
    base = members[members["run"] == "base"]
    print(base.groupby("rho")[["scene_shift", "context_use"]].agg(["mean", "min", "max"]).round(3).to_string())
    for column in ("scene_shift", "scene_reliance"):
        print(column, *(f"{value:.3f}" for value in ranked(base, column)))
    print("difference", *(f"{value:.3f}" for value in ranked(base, "scene_shift", other="scene_reliance")))
    print(
        members.groupby(["run", "rho", *VARIED.values()], dropna=False)[["scene_shift", "context_use", "gap"]]
        .mean()
        .round(3)
        .to_string()
    )
    draw(members)
    if (folder / "one_scale_4x4").is_dir():
        names = ["rho", "seed", *context.Choice._fields]
        table = pd.DataFrame(betas(folder), columns=names)
        table.to_csv(HERE / "betas_4x4.csv", index=False, float_format="%.4f")
        print(table.round(3).to_string())


if __name__ == "__main__":
    main()
