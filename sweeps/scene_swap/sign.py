"""Does a label-free sign say whether repair helps or harms a member?

    python sweeps/scene_swap/sign.py measure RUN ...
    python sweeps/scene_swap/sign.py looked_at [RUN ...]
    python sweeps/scene_swap/sign.py confirm [RUN ...]

`measure` takes finished runs, with their checkpoints, and writes sign.csv: a row a member and kind of data, with the
candidates, all from unlabelled validation images, and the Flip that repair takes away on the test images. The data are
those of the study, all four groups equally often, or still at the member's training rho: images of the rare groups are
left out in validation, from which the centre comes, and weigh less in the test. The others read sign.csv and print
tables, of seeds 20 and 21, and of 22 and 23.

Candidates: `reliance`; `kinds`, Spearman of L_0 and L_1; `draws`, mean Spearman of L between four draws of real scenes,
one of each kind; `seeds`, Spearman of L with the member of the next seed (20 with 21, 22 with 23); `kappa`, Cohen's
between the repaired classes of the two; `crossed`, what repair takes away with the repaired class of that member in
place of the truth: the share of images whose label differs from it, before less after (right in sign where the other
is better than chance and errs by itself); `plain`, Spearman of L and the plain log-odds; `relabelled`, share of the
regions that get another label; `same`, share of those whose own scene speaks for the class that L says: what the plain
log-odds have above L is the voice of the scene. `same` estimates how often class and scene go together.
"""

import csv
import functools
import itertools
import json
import pathlib
import sys

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.stats import spearmanr

from flipjax import intervene, results
from flipjax.config import PopulationSpec
from flipjax.data.pool import gather
from flipjax.metrics import selective
from flipjax.plan import plan
from flipjax.sweep.program import blank_history, checkpoints_of, load_pool, make_members, make_study
from flipjax.sweep.workdir import Workdir
from flipjax.training import placement, population
from flipjax.training.forms import logits_of
from flipjax.training.predict import map_batches

DRAWS = 4
SIGNS = ("reliance", "kinds", "draws", "seeds", "kappa", "crossed", "plain", "relabelled", "same")
LOOKED_AT = (20, 21)
CROSSED, KAPPA = 0.02, 0.6
"""Rules chosen on the seeds looked at: on balanced data repair helps where `crossed` is above the one; on either kind
of data it does no harm to speak of (Flip up by at most .05) where `kappa` is at least the other."""
MARGIN = 0.02
FILE = pathlib.Path(__file__).parent / "sign.csv"


def answers(experiment, weights, pool, rows, scenes):
    """Log-odds logit_2 - logit_1 of each region: plain, then on scenes (DRAWS, 2, H, W, 3): (n, 1 + DRAWS * 2)."""

    def of_batch(batch):
        model = functools.partial(logits_of, experiment, weights)
        images, _ = gather(pool, batch)
        logits = model(images)
        plain = 2 * intervene.region_log_odds(logits, intervene.foreground(logits))[:, 1:]
        odds = [2 * intervene.scene_marginal(model, images, draw, logits=logits)[:, :, 1] for draw in scenes]
        return jnp.concatenate([plain, *odds], axis=1)

    return map_batches(of_batch, rows)


def tuples(value):
    """A configuration as JSON has it, with tuples for its lists."""
    if isinstance(value, dict):
        return {name: tuples(entry) for name, entry in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def read(run):
    """Every member of a run: axes, stored test and validation images, plain log-odds and those of single scenes."""
    config = ConfigDict(tuples(json.loads((run / "config.json").read_text())["config"]))
    for program in plan(config):
        study = make_study(program, *load_pool(program))
        layout = placement.make_layout(PopulationSpec(**config.population), members=len(program.settings))
        current = population.create(program.experiment, layout, make_members(program, study))
        store = checkpoints_of(program, Workdir(run))
        _, (states, _) = store.restore((population.states_of(current), blank_history(program)), say=print)
        store.close()
        current = population.create(program.experiment, layout, make_members(program, study), states)
        scenes, generator = study.split.train.scenes, np.random.default_rng(0)
        kinds = study.catalog.scene_kind[scenes]
        chosen = np.stack([generator.choice(scenes[kinds == kind], DRAWS, replace=False) for kind in (0, 1)], axis=1)
        photos = jnp.asarray(np.asarray(study.pool.scenes)[chosen] / np.float32(255))
        shared = placement.share(layout, (study.pool, study.tables["val"].rows, photos))
        values = population.map_selected(program.experiment, layout, current, answers, *shared)[0]
        cell = results.load_cell(run / "cells" / program.name / "decomposition.npz")
        for index, setting in enumerate(program.settings):
            yield setting, cell, values[index, :, 0], values[index, :, 1:].reshape(-1, DRAWS, 2)


def at_rho(groups, rho, generator):
    """Places of images among which a class stands in its usual scene as often as in training: rare ones left out."""
    places = np.arange(len(groups))
    common = np.isin(groups, (0, 3))
    rare = generator.permutation(places[~common])[: round(common.sum() * (1 - rho) / rho)]
    return np.sort(np.concatenate([places[common], rare]))


def rank_correlation(first, second):
    known = np.isfinite(first) & np.isfinite(second)
    return spearmanr(first[known], second[known]).statistic if known.sum() > 2 else np.nan


def flip(decomposition, weights):
    """Flip pooled over images, each with a weight."""
    counts = np.asarray(decomposition.confusion)[:, 1:]
    flips = counts[:, 0, 2] + counts[:, 1, 1]
    return weights @ flips / (weights @ counts.sum((1, 2)))


def measure(runs):
    """Writes sign.csv."""
    table = []
    for run in map(pathlib.Path, runs):
        members = list(read(run))
        odds = {setting.name: cell.scene_log_odds(setting.name, "val") for setting, cell, _, _ in members}
        by_axes = {tuple(sorted(setting.axes.items())): setting.name for setting, *_ in members}
        for setting, cell, plain, draws in members:
            val, test = cell.parts["val"], cell.parts["test"]
            # Seeds 20 and 21, 22 and 23.
            twin = by_axes[tuple(sorted({**setting.axes, "seed": setting.axes["seed"] ^ 1}.items()))]
            rho = setting.axes["rho"]
            for data in ("balanced", "at rho") if rho > 0.5 else ("balanced",):
                inside = np.arange(len(val.groups))
                weights = np.ones(len(test.groups))
                if data == "at rho":
                    inside = at_rho(val.groups, rho, np.random.default_rng(0))
                    weights = np.where(np.isin(test.groups, (0, 3)), rho, 1 - rho)
                name, one, other = setting.name, odds[setting.name][inside], odds[twin][inside]
                center, other_center = (np.asarray(intervene.split_point(each)) for each in (one, other))
                identity = 2 * one.mean(1)[:, 1]
                before = cell.counts(name, "test")
                swap = results.scene_swap(before, cell.scene_log_odds(name, "test"), center)
                classes = np.asarray(intervene.repaired_class(one, center=center))
                others = np.asarray(intervene.repaired_class(other, center=other_center))
                own = results.region_class(cell.counts(name, "val"))[inside]
                known = np.isfinite(identity)
                voice = np.sign(plain[inside] - identity)
                by_draw = draws[inside].mean(2)
                pairs = itertools.combinations(range(DRAWS), 2)
                signs = {
                    "reliance": float(intervene.scene_reliance(one)),
                    "kinds": rank_correlation(one[:, 0, 1], one[:, 1, 1]),
                    "draws": np.mean([rank_correlation(by_draw[:, a], by_draw[:, b]) for a, b in pairs]),
                    "seeds": rank_correlation(identity, 2 * other.mean(1)[:, 1]),
                    "kappa": results.agreement(classes, others, np.arange(len(classes))[None])[0],
                    "crossed": ((own != others) * 1.0 - (classes != others))[known & (others > 0)].mean(),
                    "plain": rank_correlation(identity, plain[inside]),
                    "relabelled": (classes != own)[known].mean(),
                    "same": (voice == np.sign(classes - 1.5))[known].mean(),
                }
                none, after = flip(before, weights), flip(swap.repaired, weights)
                row = {"run": run.name, "member": name, "n_train": setting.axes.get("split.n_train", "")}
                row |= {"rho": rho, "seed": setting.axes["seed"], "data": data}
                row |= {key: round(float(value), 4) for key, value in signs.items()}
                table.append(row | {"flip": round(none, 4), "repaired": round(after, 4)})
    with FILE.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def judge(which, runs):
    """Prints how each candidate goes with what repair takes away, over the members of some seeds and runs."""
    with FILE.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if (int(row["seed"]) in LOOKED_AT) == (which == "looked_at")]
    rows = [row for row in rows if not runs or row["run"] in runs]
    for data in ("balanced", "at rho", "both"):
        chosen = [row for row in rows if data in (row["data"], "both")]
        fall = np.array([float(row["flip"]) - float(row["repaired"]) for row in chosen])
        helped, harmed = (fall > MARGIN).sum(), (fall < -MARGIN).sum()
        print(f"\n{data}: {len(chosen)} members; Flip falls by over .02 in {helped}, rises by over .02 in {harmed}")
        picks = np.random.default_rng(0).integers(0, len(chosen), (1000, len(chosen)))
        for sign in SIGNS:
            values = np.array([float(row[sign]) for row in chosen])
            low, high = np.nanpercentile([rank_correlation(values[p], fall[p]) for p in picks], (2.5, 97.5))
            print(
                f"  {sign:<11} Spearman with what repair takes away {rank_correlation(values, fall):+.2f} "
                f"[{low:+.2f}, {high:+.2f}]; AUROC of helped {selective.auroc(values, fall > MARGIN):.2f}, "
                f"of harmed (low) {selective.auroc(-values, fall < -MARGIN):.2f}"
            )
        for sign, threshold in (("crossed", CROSSED), ("kappa", KAPPA)):
            inside = np.array([float(row[sign]) >= threshold for row in chosen])
            for word, part in (("from", inside), ("below", ~inside)):
                helped, harmed = (fall[part] > MARGIN).sum(), (fall[part] < -MARGIN).sum()
                counts = f"{part.sum()} members, helped {helped}, harmed {harmed}"
                ends = f"; mean {fall[part].mean():+.3f}, least {fall[part].min():+.3f}" if part.any() else ""
                print(f"  {sign} {word} {threshold}: {counts}{ends}")


if __name__ == "__main__":
    if sys.argv[1] == "measure":
        measure(sys.argv[2:])
    else:
        judge(sys.argv[1], sys.argv[2:])
