"""Flip over rho and strength of four cues: python sweeps/studies/phase_diagram/study.py RUN

RUN is the run folder that make.py trains. Writes members.csv, fits.csv and map.png beside this file, and prints the
line of half flips, context use along it and the verdict on each prediction of the page.
"""

import pathlib
import sys

import matplotlib
import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = pathlib.Path(__file__).parent
CUES = ("scene", "texture", "marker", "tint")
AXES = ["pool.cue", "rho", "cue_strength", "seed"]
POWERS = np.linspace(0.1, 2, 39)
NEAR = (0.35, 0.65)
"""Flip (rare) of members that count as on the line."""


def read_members(run):
    """Returns a row a member: its axes, Flip of common and rare groups, foreground IoU and context use."""
    table = pd.read_csv(run / "results.csv")
    table = table[(table["split"] == "test") & (table["selection"] == table["selection"].iloc[0])]
    whole, rare, common = (table[table["group"] == group].set_index("member") for group in ("all", "rare", "common"))
    members = whole[[*AXES, "status", "iou_foreground", "context_use"]].rename(columns={"pool.cue": "cue"})
    return members.assign(common=common["fg_flip"], rare=rare["fg_flip"]).reset_index()


def log_odds(rho):
    """Returns the log-odds of rho, the evidence of a cue of strength 1 in nats."""
    return np.log(rho / (1 - rho))


def monotone(x, y):
    """Returns the rising function of x that is nearest to y."""
    means = pd.DataFrame({"x": x, "y": y}).groupby("x")["y"].agg(["mean", "size"])
    fitted = isotonic_regression(means["mean"].to_numpy(), weights=means["size"].to_numpy()).x
    return lambda other: np.interp(other, means.index.to_numpy(), fitted)


def evidence(rows, power=1.0):
    """Returns s**power log(rho / (1 - rho))."""
    return rows["cue_strength"] ** power * log_odds(rows["rho"])


def best_power(rows):
    """Returns the power of the strength whose evidence fits Flip (rare) best."""

    def error(power):
        x = evidence(rows, power).round(9)
        return ((monotone(x, rows["rare"])(x) - rows["rare"]) ** 2).sum()

    return min(POWERS, key=error)


def predictions_of(known, rows):
    """Returns predictions of Flip (rare) of rows, by model, from members of other seeds of the same cue."""
    power = best_power(known)
    columns = {
        "evidence s log(rho / (1 - rho))": lambda part: evidence(part).round(9),
        "evidence with a fitted power of s": lambda part: evidence(part, power).round(9),
        "log-odds of rho alone": lambda part: log_odds(part["rho"]),
        "strength alone": lambda part: part["cue_strength"],
    }
    made = {name: monotone(x(known), known["rare"])(x(rows)) for name, x in columns.items()}
    cells = known.groupby(["rho", "cue_strength"])["rare"].mean()
    made["mean of the other two seeds"] = cells.loc[pd.MultiIndex.from_frame(rows[["rho", "cue_strength"]])].to_numpy()
    return made, power


def fits_of(members):
    """Returns R2 on the held-out seed for each cue and model, and the fitted power."""
    rows = []
    for seed in sorted(members["seed"].unique()):
        known, held = members[members["seed"] != seed], members[members["seed"] == seed]
        shared = monotone(evidence(known).round(9), known["rare"])
        for cue, own in held.groupby("cue"):
            made, power = predictions_of(known[known["cue"] == cue], own)
            made["evidence, one curve for all cues"] = shared(evidence(own).round(9))
            spread = ((own["rare"] - own["rare"].mean()) ** 2).sum()
            for model, values in made.items():
                left = ((own["rare"] - values) ** 2).sum()
                rows.append({"cue": cue, "seed": seed, "model": model, "r2": 1 - left / spread, "power": power})
    return pd.DataFrame(rows)


def half_line(members):
    """Returns the least strength, by cue and rho, at which Flip (rare) averaged over seeds is a half; NaN: none."""
    rows = []
    for (cue, rho), own in members.groupby(["cue", "rho"]):
        means = own.groupby("cue_strength")["rare"].mean()
        strengths, flips = np.log(means.index.to_numpy()), means.to_numpy()
        above = np.flatnonzero(flips > 0.5)
        where = np.nan
        if len(above):
            last = above[0]
            where = means.index[0] if last == 0 else np.exp(
                np.interp(0.5, flips[last - 1 : last + 1], strengths[last - 1 : last + 1])
            )  # fmt: skip
        rows.append({"cue": cue, "rho": rho, "strength": where})
    return pd.DataFrame(rows).pivot(index="cue", columns="rho", values="strength")


def verdicts(members, fits, line):
    """Returns a row for each prediction of the page: what was measured, and whether it holds."""
    means = members.groupby(["cue", "cue_strength", "rho"])["rare"].mean().unstack()
    strong = means[means.columns[means.columns > 0.5]].unstack("cue_strength").stack("rho", future_stack=True)
    falls = max((-means.diff(axis=1)).max().max(), (-strong.diff(axis=1)).max().max())
    r2 = fits.groupby(["cue", "model"])["r2"].mean().unstack()
    alone, ceiling = r2["evidence s log(rho / (1 - rho))"], r2["mean of the other two seeds"]
    powers = fits.groupby("cue")["power"].mean()
    near = members[members["rare"].between(*NEAR) & (members["rho"] > 0.5)]
    use = near.groupby("cue")["context_use"].mean()
    at = line[0.95].fillna(np.inf)
    rows = [
        ("1 rises with rho and strength, to 0.1", f"largest fall {falls:.2f}", falls <= 0.1),
        ("2 tint needs less than scene at 0.95", at[["tint", "scene"]].round(2).to_dict(), at["tint"] < at["scene"]),
        ("2 marker flips no half at full strength below 0.99", f"{at['marker']:.2f}", np.isinf(at["marker"])),
        ("3 R2 of evidence, each cue 0.6 to 0.9", alone.round(2).to_dict(), alone.between(0.6, 0.9).all()),
        ("3 fitted power of s below 1, each cue", powers.round(2).to_dict(), (powers < 1).all()),
        ("3 one curve for all cues: R2 below 0.5 for a cue", f"{r2['evidence, one curve for all cues'].min():.2f}",
         r2["evidence, one curve for all cues"].min() < 0.5),
        ("3 seeds leave R2 of 0.85 or more", ceiling.round(2).to_dict(), (ceiling >= 0.85).all()),
        ("4 context use on the line 0.4 to 0.6, each cue", use.round(2).to_dict(), use.between(0.4, 0.6).all()),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["prediction", "measured", "holds"])


def draw(members):
    """Draws Flip (rare) over rho and strength, a panel a cue, with the line of half flips."""
    figure, axes = plt.subplots(1, len(CUES), figsize=(13, 3.4), layout="constrained", sharey=True)
    for axis, cue in zip(axes, CUES, strict=True):
        own = members[members["cue"] == cue]
        means = own.groupby(["cue_strength", "rho"])["rare"].mean().unstack()
        shown = axis.imshow(means, origin="lower", vmin=0, vmax=1, cmap="magma", aspect="auto")
        if means.min().min() < 0.5 < means.max().max():
            axis.contour(means, levels=[0.5], colors="cyan")
        axis.set_xticks(range(len(means.columns)), [f"{rho:g}" for rho in means.columns])
        axis.set_yticks(range(len(means)), [f"{strength:g}" for strength in means.index])
        axis.set(xlabel="rho", title=cue)
    axes[0].set_ylabel("strength of the cue")
    figure.colorbar(shown, ax=axes, label="Flip, rare groups")
    figure.savefig(HERE / "map.png", dpi=120)


def main():
    members = read_members(pathlib.Path(sys.argv[1]))
    members.to_csv(HERE / "members.csv", index=False, float_format="%.4f")
    fits = fits_of(members)
    fits.to_csv(HERE / "fits.csv", index=False, float_format="%.4f")
    line = half_line(members)
    print(f"{len(members)} members, {(members['status'] == 'diverged').sum()} diverged")
    print(fits.groupby(["model", "cue"])["r2"].agg(["mean", "min", "max"]).round(3).to_string())
    print(line.round(2).to_string())
    near = members[members["rare"].between(*NEAR) & (members["rho"] > 0.5)]
    print(near.groupby("cue")["context_use"].agg(["mean", "std", "size"]).round(3).to_string())
    print(verdicts(members, fits, line).to_string(index=False))
    draw(members)


if __name__ == "__main__":
    main()
