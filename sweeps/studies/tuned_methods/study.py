"""Methods compared once tuned: python sweeps/studies/tuned_methods/study.py FOLDER

FOLDER is that of `flipjax.tune`, which this calls: eight draws of each method of config.py, three rules that choose the
draw, and five fresh seeds. Writes winners.csv, methods.csv, ranks.csv, comparison.csv and tuned.png beside this file.
As on a run's page, members that hardly find the object are in no mean.
"""

import json
import pathlib
import sys

import matplotlib
import numpy as np
import pandas as pd
from scipy.stats import kendalltau, t

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import flipjax
from flipjax.results.rows import NOT_LEARNT
from flipjax.results.statistics.estimates import compare
from flipjax.results.statistics.verdicts import JUDGED, judge
from flipjax.tuning import draw_settings
from flipjax.tuning.protocol import RULES

HERE = pathlib.Path(__file__).parent
CHOOSERS = {
    "worst-group IoU, with group labels": "val_worst_group_iou",
    "loss at rho, without": "val_loss_at_rho",
    "flip-risk, without labels": "label_free_risk",
}
"""How a draw is chosen: the rule of the epoch and the draw."""
LABELLED = next(iter(CHOOSERS))
UNTUNED = "untuned"
RULE_OF = {UNTUNED: UNTUNED} | CHOOSERS
"""What stands in the column `selection` of the tuned results."""
NAME_OF = {rule: name for name, rule in RULE_OF.items()}
DRAWS, DRAWN, FRESH, TEST = 8, 35, range(10, 15), 400
"""Draws of a method and their seed; seeds and test images of the winners."""
SAMPLES = 2000
BLUE, ORANGE, GREY, GREEN = "#0072b2", "#d55e00", "#8a8a8a", "#009e73"


def winners_of(tuned):
    """Returns the chosen draw, by method, rho and chooser; the least score is best."""
    chosen = tuned.chosen.assign(chooser=tuned.chosen["rule"].map(NAME_OF))
    drawn = draw_settings(flipjax.configure("methods_grid").axes.method, draws=DRAWS, seed=DRAWN)
    settings = [json.dumps(drawn[number]) for number in chosen["draw"]]
    signed = chosen["score"] * [RULES[rule].sign for rule in chosen["rule"]]
    winners = chosen.assign(score=signed, setting=settings)[["method", "rho", "chooser", "draw", "score", "setting"]]
    return winners.sort_values(["method", "rho", "chooser"]).reset_index(drop=True)


def members_of(rows):
    """Returns a row a method, rho, chooser and seed: Flip, foreground missed and foreground IoU of the test, epoch."""
    axes = ["method", "rho", "selection", "seed"]
    rare, common, whole = (rows[rows["group"] == group].set_index(axes) for group in ("rare", "common", "all"))
    members = pd.DataFrame({
        "rare": rare["fg_flip"],
        "common": common["fg_flip"],
        "missed": whole["fg_miss"],
        "iou": whole["iou_foreground"],
        "epoch": whole["best_epoch"],
        "status": whole["status"],
    })  # fmt: skip
    return members.reset_index().rename(columns={"selection": "chooser"})


def in_means(members):
    """Returns the members that means hold: not those that hardly find the object; diverged ones flip everything."""
    flips_all = members["status"] == "diverged"
    return members.assign(rare=members["rare"].mask(flips_all, 1.0))[members["status"] != NOT_LEARNT]


def interval(values):
    """Returns mean, low and high of Student's t over seeds."""
    values = values.dropna()
    half = t.ppf(0.975, len(values) - 1) * values.std() / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return values.mean(), values.mean() - half, values.mean() + half


def ranks_of(values):
    """Returns the rank of each method by Flip (rare), with bootstrap intervals over seeds; 1 flips least."""
    random, rows = np.random.default_rng(0), []
    for (rho, chooser), own in values.groupby(["rho", "chooser"]):
        wide = own.pivot(index="seed", columns="method", values="rare")
        drawn = [wide.iloc[random.integers(0, len(wide), len(wide))].mean().rank() for _ in range(SAMPLES)]
        low, high = (pd.DataFrame(drawn).quantile(q) for q in (0.025, 0.975))
        ranks, ious = wide.mean().rank(), own.groupby("method")["iou"].mean()
        for method in wide:
            mean, least, most = interval(wide[method])
            rows.append({
                "rho": rho, "chooser": chooser, "method": method, "n": wide[method].count(),
                "rare": mean, "rare_low": least, "rare_high": most, "iou": ious[method],
                "rank": ranks[method], "rank_low": low[method], "rank_high": high[method],
            })  # fmt: skip
    return pd.DataFrame(rows)


def cost_of(values):
    """Returns, by rho, method and chooser, Flip (rare) less that of the draw chosen with group labels, over seeds."""
    wide = values.pivot(index=["rho", "method", "seed"], columns="chooser", values="rare")
    less = wide.drop(columns=LABELLED).sub(wide[LABELLED], axis=0).stack().rename("cost")
    return less.groupby(level=["rho", "chooser", "method"]).apply(interval)


def verdicts(ranks, costs):
    """Returns a row for each prediction of the page: what was measured, and whether it holds."""
    labelled, at_rho, risk = CHOOSERS
    high = ranks[ranks["rho"] == ranks["rho"].max()].pivot(index="method", columns="chooser")
    gain = high["rare"][UNTUNED] - high["rare"][labelled]
    best = set(high["rank"][labelled].nsmallest(3).index)
    inert = [method for method in ("ce", "dice_ce", "bg_cutmix", "ema", "swa") if method in gain]
    mean = {name: costs.xs(name, level="chooser").map(lambda each: each[0]).mean() for name in (at_rho, risk)}
    tau = kendalltau(high["rank"][UNTUNED], high["rank"][labelled])[0]
    lost = costs.xs(at_rho, level="chooser").map(lambda each: each[0]).groupby("method").mean()
    rows = [
        ("1 the best three: bg_swap, balanced, balanced+group_dro", ", ".join(sorted(best)),
         best == {"bg_swap", "balanced", "balanced+group_dro"}),
        ("2 ce, dice_ce, bg_cutmix, ema, swa gain less than 0.1", gain[inert].round(2).to_dict(),
         (gain[inert] < 0.1).all()),
        ("3 group_dro gains 0.15 or more", f"{gain.get('group_dro', np.nan):.2f}", gain.get("group_dro", 0) >= 0.15),
        ("4 loss at rho costs 0.1 or more on average", f"{mean[at_rho]:.2f}", mean[at_rho] >= 0.1),
        ("4 flip-risk costs more than loss at rho", f"{mean[risk]:.2f}", mean[risk] > mean[at_rho]),
        ("5 ranks with and without tuning: tau of 0.6 or more", f"{tau:.2f}", tau >= 0.6),
        ("6 loss at rho costs JTT or group_dro most", str(lost.idxmax()), lost.idxmax() in ("jtt", "group_dro")),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["prediction", "measured", "holds"])


def draw(ranks):
    """Draws Flip (rare) of every method, by chooser, a panel a level of rho."""
    levels, colours = sorted(ranks["rho"].unique()), dict(zip(RULE_OF, (GREY, BLUE, ORANGE, GREEN), strict=True))
    figure, axes = plt.subplots(1, len(levels), figsize=(11, 5), layout="constrained", sharey=True, squeeze=False)
    order = ranks[ranks["chooser"] == UNTUNED].groupby("method")["rare"].mean().sort_values().index[::-1]
    for axis, rho in zip(axes[0], levels, strict=True):
        for turn, (chooser, colour) in enumerate(colours.items()):
            own = ranks[(ranks["rho"] == rho) & (ranks["chooser"] == chooser)].set_index("method").loc[order]
            places = np.arange(len(own)) + 0.18 * (1.5 - turn)
            error = [own["rare"] - own["rare_low"], own["rare_high"] - own["rare"]]
            axis.errorbar(own["rare"], places, xerr=error, fmt="o", markersize=4, color=colour, label=chooser)
        axis.set_yticks(range(len(order)), order)
        axis.set(xlabel="Flip, rare groups", title=f"rho {rho:g}", xlim=(0, 1))
    axes[0][0].legend(frameon=False, fontsize="small")
    figure.savefig(HERE / "tuned.png", dpi=120)


def main():
    flipjax.setup()
    tuned = flipjax.tune(
        HERE / "config.py",
        draws=DRAWS,
        rules=tuple(CHOOSERS.values()),
        fresh=FRESH,
        fresh_changes={"split.n_test": TEST},
        seed=DRAWN,
        workdir=sys.argv[1],
    )
    winners = winners_of(tuned)
    winners.to_csv(HERE / "winners.csv", index=False)
    rows = tuned.results.assign(selection=tuned.results["selection"].map(NAME_OF))
    members = members_of(rows)
    members.to_csv(HERE / "methods.csv", index=False, float_format="%.4f")
    comparison = judge(compare(rows, axis="selection", reference=LABELLED))
    comparison = comparison[comparison["quantity"].isin(JUDGED)]
    comparison.to_csv(HERE / "comparison.csv", index=False)
    values = in_means(members)
    ranks, costs = ranks_of(values), cost_of(values)
    ranks.to_csv(HERE / "ranks.csv", index=False, float_format="%.4f")
    print(winners.to_string(index=False))
    print(ranks.round(3).to_string(index=False))
    print(costs.map(lambda each: "{:+.2f} [{:+.2f}, {:+.2f}]".format(*each)).unstack().to_string())
    judged = comparison[comparison["verdict"] != ""]
    print(f"{len(judged)} verdicts of {comparison['comparisons'].iloc[0]} comparisons with {LABELLED}")
    print(judged[["rho", "method", "selection", "quantity", "n", "difference", "verdict"]].to_string(index=False))
    print(verdicts(ranks, costs).to_string(index=False))
    draw(ranks)


if __name__ == "__main__":
    main()
