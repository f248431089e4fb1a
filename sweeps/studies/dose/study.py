"""Correlation or number of rare images: python sweeps/studies/dose/study.py RUN

RUN is the run folder that make.py trains. Writes members.csv, fits.csv and map.png beside this file, and prints the
verdict on each prediction of the page.
"""

import pathlib
import sys

import matplotlib
import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, xlogy
from scipy.stats import t

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patheffects import withStroke

HERE = pathlib.Path(__file__).parent
MODELS = {
    "rare images and rho": ("log_rare", "log_odds"),
    "rare images": ("log_rare",),
    "rho": ("log_odds",),
    "training images and rho": ("log_train", "log_odds"),
}
LINES = (8, 32, 128, 512)
"""Numbers of rare images whose lines are drawn."""
LABELS = ((4.5, 1.5), (3.4, 1.5), (2.4, 2.6), (0.5, 3.5))
"""Where the lines' labels stand, between the numbers: columns and rows of the map."""


def read_members(run, *, rule):
    """Returns a row a member: n_train, rare images, rho, seed, Flip of common and rare groups, foreground IoU."""
    table = pd.read_csv(run / "results.csv")
    table = table[(table["split"] == "test") & (table["selection"] == rule)]
    whole, rare, common = (table[table["group"] == group].set_index("member") for group in ("all", "rare", "common"))
    members = whole[["split.n_train", "rho", "seed", "status", "iou_foreground", "context_use"]]
    members = members.rename(columns={"split.n_train": "n_train"})
    # Of two classes of n / 2 images, the first round(rho n / 2) show the usual scene.
    half = members["n_train"] / 2
    members["n_rare"] = 2 * (half - (members["rho"] * half).round()).astype(int)
    members["log_rare"], members["log_train"] = np.log(members["n_rare"]), np.log(members["n_train"])
    members["log_odds"] = np.log(members["rho"] / (1 - members["rho"]))
    return members.assign(common=common["fg_flip"], rare=rare["fg_flip"]).reset_index()


def fit(members, columns, scales):
    """Returns the logistic fit of Flip (rare), a fraction: intercept and a weight a standardised column."""
    x = np.column_stack([np.ones(len(members)), (members[list(columns)] - scales.loc["mean"]) / scales.loc["std"]])
    y = members["rare"].to_numpy()

    def loss(weights):
        p = expit(x @ weights)
        return -(xlogy(y, p) + xlogy(1 - y, 1 - p)).mean() + 1e-6 * (weights**2).sum()

    return minimize(loss, np.zeros(x.shape[1])).x


def predict(members, columns, scales, weights):
    """Returns the predicted Flip (rare)."""
    return expit(weights[0] + ((members[list(columns)] - scales.loc["mean"]) / scales.loc["std"]) @ weights[1:])


def fits_of(members):
    """Returns, for each model and held-out seed, the weights of a fit on the others and its R2 on that seed."""
    rows = []
    for model, columns in MODELS.items():
        scales = members[list(columns)].agg(["mean", "std"])
        for seed in sorted(members["seed"].unique()):
            held = members["seed"] == seed
            weights = fit(members[~held], columns, scales)
            left = ((members["rare"] - predict(members, columns, scales, weights))[held] ** 2).sum()
            spread = ((members["rare"] - members["rare"][held].mean())[held] ** 2).sum()
            named = dict(zip(columns, weights[1:], strict=True))
            rows.append({"model": model, "seed": seed, "r2": 1 - left / spread, **named})
    return pd.DataFrame(rows)


def interval(values):
    """Returns mean, low and high of leave-one-out estimates: the jackknife with Student's t."""
    n = len(values)
    error = np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum()) * t.ppf(0.975, n - 1)
    return values.mean(), values.mean() - error, values.mean() + error


def verdicts(members, fits):
    """Returns a row for each prediction of the page: what was measured, and whether it holds."""
    both = fits[fits["model"] == "rare images and rho"]
    more = interval(both["log_odds"].abs() - both["log_rare"].abs())
    means = members.groupby(["n_train", "rho"])["rare"].mean().unstack()
    r2 = fits.groupby("model")["r2"].mean()
    least, most = means.index[0], means.index[-1]
    common = members[members["rho"] == members["rho"].max()].groupby("n_train")["common"].mean()
    # Cells of about 26 rare images: rho 0.8 of 128, 0.9 of 256, 0.95 of 512.
    first, *_, last = [means.loc[n, rho] for n, rho in ((128, 0.8), (256, 0.9), (512, 0.95)) if n in means.index]
    rows = [
        ("1 rho weighs more than rare images", "{:.2f} [{:.2f}, {:.2f}]".format(*more), more[1] > 0),
        ("2 more rare images, fewer flips", f"weight {both['log_rare'].mean():.2f}", (both["log_rare"] < 0).all()),
        ("3 rare images alone: R2 below 0.7", f"{r2['rare images']:.2f}", r2["rare images"] < 0.7),
        ("3 both: R2 of 0.85 or more", f"{r2['rare images and rho']:.2f}", r2["rare images and rho"] >= 0.85),
        ("4 along 26 rare images Flip rises by 0.2 or more", f"{last - first:+.2f}", last - first >= 0.2),
        ("5 sixteenfold data at 0.95: lower by 0.2 or more", f"{means.loc[most, 0.95] - means.loc[least, 0.95]:+.2f}",
         means.loc[least, 0.95] - means.loc[most, 0.95] >= 0.2),
        ("5 at 0.99 lower by less than 0.2", f"{means.loc[most, 0.99] - means.loc[least, 0.99]:+.2f}",
         means.loc[least, 0.99] - means.loc[most, 0.99] < 0.2),
        ("6 common groups at 0.99 flip on less than 0.05", common.round(3).to_dict(), (common < 0.05).all()),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["prediction", "measured", "holds"])


def draw(members):
    """Draws Flip (rare) over rho and the number of training images, with lines of equal numbers of rare images."""
    means = members.groupby(["n_train", "rho"])["rare"].mean().unstack()
    counts = members.groupby(["n_train", "rho"])["n_rare"].first().unstack()
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    shown = axis.imshow(means, origin="lower", vmin=0, vmax=1, cmap="magma", aspect="auto")
    lines = axis.contour(np.log2(counts), levels=np.log2(LINES), colors="cyan", linewidths=0.8)
    labels = axis.clabel(lines, fmt=lambda level: f"{2**level:.0f} rare", manual=LABELS)
    # Readable on pale cells, too.
    plt.setp(labels, path_effects=[withStroke(linewidth=2, foreground="black")])
    for row, column in np.ndindex(means.shape):
        colour = "white" if means.iloc[row, column] < 0.6 else "black"
        axis.text(column, row, f"{means.iloc[row, column]:.2f}", ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(len(means.columns)), [f"{rho:g}" for rho in means.columns])
    axis.set_yticks(range(len(means)), means.index)
    axis.set(xlabel="rho", ylabel="training images")
    figure.colorbar(shown, label="Flip, rare groups")
    figure.savefig(HERE / "map.png", dpi=120)


def main():
    run = pathlib.Path(sys.argv[1])
    members = read_members(run, rule="last")
    fits = fits_of(members)
    members.to_csv(HERE / "members.csv", index=False, float_format="%.4f")
    fits.to_csv(HERE / "fits.csv", index=False, float_format="%.4f")
    print(f"{len(members)} members, {(members['status'] == 'diverged').sum()} diverged")
    print(members.groupby(["n_train", "rho"])["rare"].mean().unstack().round(2).to_string())
    print(members.groupby(["n_train", "rho"])["iou_foreground"].mean().unstack().round(2).to_string())
    for (model, column), values in fits.set_index(["model", "seed"]).stack().dropna().groupby(level=[0, 2]):
        print(model, column, "{:.3f} [{:.3f}, {:.3f}]".format(*interval(values)))
    print(verdicts(members, fits).to_string(index=False))
    chosen = fits_of(read_members(run, rule="val_loss"))
    print("with the epoch of lowest validation loss:")
    print(chosen.groupby("model")[["log_rare", "log_odds", "r2"]].mean().round(3).to_string())
    draw(members)


if __name__ == "__main__":
    main()
