"""Tables of scene swap from a finished run: python sweeps/studies/scene_swap/study.py RUN

From the stored log-odds of each member, without inference: AUROC of entropy and of scene-swap risk, Flip before and
after repair, by rho; the centre also from validation images of unequal classes; the seeds of a rho
joined; reliance against the Flip gap. Intervals: 95% bootstrap over test objects, both scenes of an object together,
for these members.
"""

import pathlib
import sys

import numpy as np
from scipy.stats import spearmanr

from flipjax import intervene
from flipjax.metrics import Decomposition, selective
from flipjax.metrics.decomposition import flips_of
from flipjax.results.cells import load_cell
from flipjax.results.frames import read_csv

SAMPLES, DRAWS = 1000, 8


def flips(decomposition):
    """Returns flipped and true foreground pixels of each image."""
    confusion = np.asarray(decomposition.confusion)
    return flips_of(confusion).sum((1, 2)), confusion[:, 1:].sum((1, 2))


def numbers(member, rows, groups):
    """Returns AUROC of entropy and of the swap, and Flip of each side before and after repair, of test rows."""
    plain, entropy, swap = member["plain"], member["entropy"], member["swap"]
    flipped = member["share"][rows] > 0.5
    values = {"entropy": selective.auroc(entropy[rows], flipped), "swap": selective.auroc(swap.risk[rows], flipped)}
    values["difference"] = values["swap"] - values["entropy"]
    sides = {"all": range(4), "rare": (1, 2), "common": (0, 3)}
    for name, ids in sides.items():
        inside = rows[np.isin(groups[rows], ids)]
        for when, (part, whole) in (("none", plain), ("repair", flips(swap.repaired))):
            values[f"{when}/{name}"] = part[inside].sum() / whole[inside].sum()
    values["fall"] = values["none/all"] - values["repair/all"]
    return values


def read(run):
    """Returns every member's stored decompositions and log-odds, with its rho."""
    members = []
    rho = read_csv(run / "results.csv").groupby("member")["rho"].first()
    for path in sorted(run.glob("cells/*/decomposition.npz")):
        cell = load_cell(path)
        for name in cell.members:
            test = cell.decomposition(name, "test")
            part, whole = flips(test)
            members.append(
                {
                    "rho": rho[name],
                    "test": Decomposition(np.asarray(test.confusion), np.asarray(test.risk_sum)),
                    "entropy": np.asarray(test.flip_risk),
                    "plain": (part, whole),
                    "share": part / np.maximum(whole, 1),
                    "odds": {p: cell.scene_log_odds(name, p) for p in ("val", "test")},
                }
            )
    return members, cell.parts["test"], cell.parts["val"]


def uneven(part, minor, generator):
    """Returns validation images at 80:20: all objects of one class, and a quarter as many of class `minor`."""
    y = part.groups // 2
    objects = [np.unique(part.pairs[y == c]) for c in (0, 1)]
    few = generator.choice(objects[minor], len(objects[1 - minor]) // 4, replace=False)
    return np.isin(part.pairs, np.concatenate([objects[1 - minor], few]))


def join(group):
    """Gives each member of a group the scene swap of all of them together: each centred and scaled, then averaged."""
    odds, test = (np.stack([member["odds"][part] for member in group]) for part in ("val", "test"))
    center = np.stack([np.asarray(intervene.split_point(each)) for each in odds])
    scale = np.sqrt(np.nanvar(odds.mean(2), axis=1).mean(1))
    joined = np.nanmean((test - center[:, None, None]) / scale[:, None, None, None], axis=0)
    for member in group:
        member["swap"] = intervene.scene_swap(member["test"], joined, np.zeros(2))


def swap_alone(member, chosen=slice(None)):
    """Returns a member's scene swap by the centre of the validation images that are chosen."""
    point = intervene.split_point(member["odds"]["val"][chosen])
    return intervene.scene_swap(member["test"], member["odds"]["test"], point)


def describe(group, groups, resamples, keys=None, *, told):
    """Returns means over members as a text, with the intervals of those that are told."""
    every = [numbers(m, np.arange(len(groups)), groups) for m in group]
    draws = [[numbers(m, rows, groups) for m in group] for rows in resamples]
    text = []
    for key in keys or every[0]:
        text.append(f"{key} {np.nanmean([m[key] for m in every]):.3f}")
        if draws and key in told:
            low, high = np.nanpercentile([np.nanmean([m[key] for m in one]) for one in draws], (2.5, 97.5))
            text[-1] += f" [{low:.3f}, {high:.3f}]"
    return ", ".join(text)


def main(run):
    members, test, val = read(pathlib.Path(run))
    by_rho = {rho: [m for m in members if m["rho"] == rho] for rho in sorted({m["rho"] for m in members})}
    every = np.arange(len(test.groups))
    pairs = np.stack([np.flatnonzero(test.pairs == pair) for pair in np.unique(test.pairs)])
    generator = np.random.default_rng(0)
    resamples = [pairs[generator.integers(0, len(pairs), len(pairs))].ravel() for _ in range(SAMPLES)]
    told = ("swap", "difference", "repair/all", "repair/common", "fall")
    print("\nmean over members [95%]")
    for member in members:
        member["swap"] = swap_alone(member)
    for rho, group in by_rho.items():
        print(f"rho {rho}: {describe(group, test.groups, resamples, told=told)}")
    line = [f"50:50 {np.mean([numbers(m, every, test.groups)['repair/all'] for m in members]):.3f}"]
    for minor, name in ((1, "80:20"), (0, "20:80")):
        masks = [uneven(val, minor, generator) for _ in range(DRAWS)]
        swaps = [flips(swap_alone(member, mask).repaired) for member in members for mask in masks]
        line.append(f"{name} {np.mean([part.sum() / whole.sum() for part, whole in swaps]):.3f}")
    print("Flip all after repair over all rho, validation at " + ", ".join(line))
    print("\nmembers of all seeds joined, centre auto, each member's regions: mean over members [95%]")
    keys = ("swap", "repair/all", "repair/rare", "repair/common")
    for rho, group in by_rho.items():
        join(group)
        print(f"rho {rho}: {describe(group, test.groups, resamples, keys, told=keys)}")
    gaps = [numbers(m, every, test.groups) for m in members]
    gaps = [n["none/rare"] - n["none/common"] for n in gaps]
    reliance = [float(intervene.scene_reliance(m["odds"]["test"])) for m in members]
    picks = [generator.integers(0, len(gaps), len(gaps)) for _ in range(SAMPLES)]
    draws = [spearmanr(np.take(reliance, p), np.take(gaps, p)).statistic for p in picks]
    low, high = np.percentile(draws, (2.5, 97.5))
    print(
        f"\nreliance against Flip(rare) - Flip(common), Spearman over {len(gaps)} members: "
        f"{spearmanr(reliance, gaps).statistic:.3f} [{low:.3f}, {high:.3f}], bootstrap over members"
    )


if __name__ == "__main__":
    main(sys.argv[1])
