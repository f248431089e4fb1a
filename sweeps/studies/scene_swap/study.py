"""Tables of scene swap from finished runs: python sweeps/studies/scene_swap/study.py RUN

From the stored log-odds of each member, without inference: AUROC of entropy and of scene-swap risk, Flip before and
after repair, by rho; the centre also from validation images of unequal classes; the seeds of a rho joined; reliance
against the Flip gap. Brackets are 95% Student t intervals over seeds.
"""

import pathlib
import sys

import numpy as np
from scipy.stats import spearmanr, t

from flipjax import intervene
from flipjax.metrics.decomposition import flips_of
from flipjax.metrics.statistics import selective
from flipjax.results import load

SIDES = {"all": range(4), "common": (0, 3), "rare": (1, 2)}
SAMPLES, DRAWS = 1000, 8


def flips(decomposition):
    """Returns flipped and true foreground pixels of each image."""
    confusion = np.asarray(decomposition.confusion)
    return flips_of(confusion).sum((1, 2)), confusion[:, 1:].sum((1, 2))


def numbers(member, swap, groups):
    """Returns AUROC of entropy and of a swap's risk, and Flip of each side before and after its repair."""
    part, whole = flips(member["test"])
    flipped = part > 0.5 * whole
    values = {"entropy": selective.auroc(member["test"].flip_risk, flipped)}
    values["swap"] = selective.auroc(swap.risk, flipped)
    values["difference"] = values["swap"] - values["entropy"]
    for side, ids in SIDES.items():
        inside = np.isin(groups, ids)
        for when, counts in (("none", part), ("repair", flips(swap.repaired)[0])):
            values[f"{when}/{side}"] = counts[inside].sum() / whole[inside].sum()
        values[f"fall/{side}"] = values[f"none/{side}"] - values[f"repair/{side}"]
    return values


def read(run):
    """Returns the members of a run, each with its rho, test counts and log-odds, and the images of its two parts."""
    members = []
    for cell in load(run).cells.values():
        for name, setting in zip(cell.members, cell.results.settings(), strict=True):
            images = {part: cell.images_of(name, part) for part in ("val", "test")}
            odds = {part: own.log_odds for part, own in images.items()}
            members.append({"rho": setting["rho"], "test": images["test"].decomposition, "odds": odds})
    return members, images["test"], images["val"]


def uneven(part, minor, generator):
    """Returns validation images at 80:20: all objects of one class, and a quarter as many of class `minor`."""
    y = part.group // 2
    objects = [np.unique(part.pair[y == c]) for c in (0, 1)]
    few = generator.choice(objects[minor], len(objects[1 - minor]) // 4, replace=False)
    return np.isin(part.pair, np.concatenate([objects[1 - minor], few]))


def swap_alone(member, chosen=slice(None)):
    """Returns a member's scene swap with the centre of the chosen validation images."""
    point = intervene.split_point(member["odds"]["val"][chosen])
    return intervene.scene_swap(member["test"], member["odds"]["test"], point)


def joined(group):
    """Returns each member's scene swap with log-odds averaged over the group, each member's centred and scaled."""
    odds, test = (np.stack([member["odds"][part] for member in group]) for part in ("val", "test"))
    center = np.stack([np.asarray(intervene.split_point(each)) for each in odds])
    scale = np.sqrt(np.nanvar(odds.mean(2), axis=1).mean(1))
    mean = np.nanmean((test - center[:, None, None]) / scale[:, None, None, None], axis=0)
    return [intervene.scene_swap(member["test"], mean, np.zeros(2)) for member in group]


def describe(group, swaps, groups):
    """Returns the mean over members of each quantity, with its interval over seeds."""
    table = [numbers(member, swap, groups) for member, swap in zip(group, swaps, strict=True)]
    text = []
    for key in table[0]:
        values = np.array([row[key] for row in table])
        half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        text.append(f"{key} {values.mean():.3f} [{values.mean() - half:.3f}, {values.mean() + half:.3f}]")
    return ", ".join(text)


def main(run):
    members, test, val = read(pathlib.Path(run))
    by_rho = {rho: [m for m in members if m["rho"] == rho] for rho in sorted({m["rho"] for m in members})}
    generator = np.random.default_rng(0)
    print("\neach member alone")
    for rho, group in by_rho.items():
        print(f"rho {rho}: {describe(group, [swap_alone(m) for m in group], test.group)}")
    print("\nthe seeds of a rho joined")
    for rho, group in by_rho.items():
        print(f"rho {rho}: {describe(group, joined(group), test.group)}")
    alone = [numbers(m, swap_alone(m), test.group) for m in members]
    line = [f"50:50 {np.mean([values['repair/all'] for values in alone]):.3f}"]
    for minor, name in ((1, "80:20"), (0, "20:80")):
        masks = [uneven(val, minor, generator) for _ in range(DRAWS)]
        repaired = [numbers(m, swap_alone(m, mask), test.group)["repair/all"] for m in members for mask in masks]
        line.append(f"{name} {np.mean(repaired):.3f}")
    print("\nFlip all after repair, mean over rho, validation at " + ", ".join(line))
    gaps = np.array([values["none/rare"] - values["none/common"] for values in alone])
    reliance = np.array([float(intervene.scene_reliance(m["odds"]["test"])) for m in members])
    picks = generator.integers(0, len(gaps), (SAMPLES, len(gaps)))
    low, high = np.percentile([spearmanr(reliance[p], gaps[p]).statistic for p in picks], (2.5, 97.5))
    print(
        f"reliance against Flip(rare) - Flip(common), Spearman over {len(gaps)} members: "
        f"{spearmanr(reliance, gaps).statistic:.3f} [{low:.3f}, {high:.3f}], bootstrap over members"
    )


if __name__ == "__main__":
    main(sys.argv[1])
