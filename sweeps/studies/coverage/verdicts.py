"""How often a page without any difference has a verdict, and how many differences have one.

    python sweeps/studies/coverage/verdicts.py

A page compares 1, 4 or 11 methods with a reference that all share: five quantities at two levels of rho, 3 to 8 seeds.
On a null page no method differs from the reference; on the others half of the methods, rounded up, are lower by 0.2 in
each quantity. Both rules judge the same pages: flipjax's (`results.statistics.verdicts`) and the one it had before
(15aa87d: each comparison's own t test, Holm's correction at 0.04). Prints the tables of README.md and writes
verdicts.csv beside this file.
"""

import argparse
import dataclasses
import itertools
import pathlib
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import stdtr

from flipjax.metrics.statistics.permutation import LEVEL
from flipjax.metrics.summary.names import column
from flipjax.results.statistics.verdicts import FEWEST_SEEDS, JUDGED, LEAST_SPREAD, holm, shared_p
from flipjax.support.frames import write_csv

STUDIES = pathlib.Path(__file__).parents[1]
SEEDS = (3, 4, 5, 6, 7, 8)
METHODS = (1, 4, 11)
LEVELS = 2
SPREAD = 0.05
"""Standard deviation of a member's quantity."""
EFFECT = 0.2
OLD_LEVEL = 0.04
RECORDED = ("correlation_grid/results.csv", "scene_swap/results.csv", "scene_swap/fresh.csv")
"""Twelve seeds of one configuration: the default grid at rho 0.5, 0.8, 0.9, 0.95 and 0.99."""
Shape = tuple[int, int, int, int, int]
"""Pages, methods and their reference, quantities, levels of rho, seeds."""
Noise = Callable[[np.random.Generator, Shape], np.ndarray]


def normal(generator, shape):
    """Normal values."""
    return generator.normal(0, SPREAD, shape)


def lognormal(generator, shape):
    """Skewed values, as Flip has near 0."""
    scale = SPREAD / np.sqrt((np.e - 1) * np.e)
    return scale * generator.lognormal(0, 1, shape)


def bistable(probability):
    """Returns the noise of training that collapses with a probability, which adds 0.3."""

    def draw(generator, shape):
        return generator.normal(0, 0.4 * SPREAD, shape) + 0.3 * (generator.random(shape) < probability)

    return draw


def bounded(generator, shape):
    """Values near the end of their range, of which about a third are 0."""
    return np.clip(generator.normal(0.02, SPREAD, shape), 0, 1)


def by_method(generator, shape):
    """Normal values whose spread differs by method: the standard deviation of its logarithm is 0.7."""
    spread = SPREAD * np.exp(0.7 * generator.normal(size=(*shape[:2], 1, 1, 1)))
    return spread * generator.normal(size=shape)


def read_members():
    """Returns the judged quantities of recorded members: (quantity, rho, seed)."""
    tables = [pd.read_csv(STUDIES / path) for path in RECORDED]
    rows = pd.concat([table[(table.split == "test") & (table.selection == table.selection[0])] for table in tables])
    values = []
    for key in JUDGED:
        _, _, name = key.rpartition("rare/")
        group = "all"
        if "rare/" in key:
            group = "rare"
        of_group = rows[rows.group == group]
        wide = of_group.pivot_table(index="rho", columns="seed", values=column(name))
        values.append(wide.dropna().to_numpy())
    shared = min(len(levels) for levels in values)
    return np.stack([levels[-shared:] for levels in values])


def recorded(members):
    """Returns the noise of recorded members: seeds split in two, the reference's and those of which methods draw."""

    def draw(generator, shape):
        pages, methods, _, levels, seeds = shape
        _, rhos, count = members.shape
        if 2 * seeds > count:
            raise ValueError(f"seeds: expected at most {count // 2}, found {seeds}")
        values = np.empty(shape)
        for page in range(pages):
            order = generator.permutation(count)
            chosen = [order[:seeds]]
            chosen += [generator.permutation(order[seeds:])[:seeds] for _ in range(methods - 1)]
            at = generator.choice(rhos, levels, replace=False)
            values[page] = members[:, at][:, :, np.array(chosen)].transpose(2, 0, 1, 3)
        return values

    return draw


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of noise."""

    title: str
    noise: Noise
    most_seeds: int = max(SEEDS)


def kinds():
    """Returns the kinds of noise."""
    members = read_members()
    return [
        Kind("normal", normal),
        Kind("lognormal", lognormal),
        Kind("bistable, 1/2", bistable(1 / 2)),
        Kind("bistable, 1/5", bistable(1 / 5)),
        Kind("bounded", bounded),
        Kind("spreads by method", by_method),
        Kind("recorded members", recorded(members), members.shape[-1] // 2),
    ]


def new_rule(difference, variance, seeds):
    """Returns which comparisons (pages, quantities, m) have a verdict by flipjax's rule."""
    if seeds < FEWEST_SEEDS:
        return np.zeros(difference.shape, bool)
    methods = difference.shape[-1] // LEVELS
    p = np.nan_to_num(shared_p(difference, variance, seeds, sharing=methods), nan=1.0)
    return _rejected(p, LEVEL)


def old_rule(difference, variance, seeds):
    """Returns which have one by the rule of 15aa87d."""
    if seeds < FEWEST_SEEDS:
        return np.zeros(difference.shape, bool)
    spread = np.maximum(np.sqrt(variance), LEAST_SPREAD)
    p = 2 * stdtr(seeds - 1, -np.abs(difference) / spread * np.sqrt(seeds))
    return _rejected(p, OLD_LEVEL)


def _rejected(p, level):
    """Returns which p values (pages, quantities, m) are below a level after Holm's correction over their page."""
    return (holm(p.reshape(len(p), -1)) < level).reshape(p.shape)


def count(kind, *, seeds, methods, effect, pages, seed):
    """Returns the share of pages with a verdict on no difference, and the share of the differences found, by rule."""
    generator = np.random.default_rng(seed)
    values = kind.noise(generator, (pages, methods + 1, len(JUDGED), LEVELS, seeds))
    differences = values[:, 1:] - values[:, :1]
    real = np.zeros(methods, bool)
    if effect:
        real[: (methods + 1) // 2] = True
    differences[:, real] -= effect
    means = differences.mean(-1).transpose(0, 2, 1, 3)
    variances = differences.var(-1, ddof=1).transpose(0, 2, 1, 3)
    flat = (pages, len(JUDGED), methods * LEVELS)
    row = {"noise": kind.title, "seeds": seeds, "methods": methods, "effect": effect, "pages": pages}
    for name, rule in {"": new_rule, "_15aa87d": old_rule}.items():
        verdicts = rule(means.reshape(flat), variances.reshape(flat), seeds).reshape(means.shape)
        false = verdicts[:, :, ~real].any((1, 2, 3)).mean()
        found = np.nan
        if effect:
            found = verdicts[:, :, real].mean()
        row[f"false{name}"] = round(float(false), 4)
        row[f"found{name}"] = round(float(found), 4)
    return row


def show(table):
    """Returns a Markdown table: rows of noise and seeds, columns of methods; this rule, then 15aa87d's."""
    rows = table[table.seeds >= FEWEST_SEEDS]
    titles = [f"{methods} methods" for methods in METHODS]
    titles[METHODS.index(1)] = "1 method"
    heads = [f"null pages, {title}" for title in titles] + [f"found, {title}" for title in titles]
    lines = [f"| noise | seeds | {' | '.join(heads)} |", "| --- | ---: |" + " ---: |" * len(heads)]
    for (noise, seeds), of_noise in rows.groupby(["noise", "seeds"], sort=False):
        cells = []
        for effect, name in ((0.0, "false"), (EFFECT, "found")):
            for methods in METHODS:
                (row,) = of_noise[(of_noise.effect == effect) & (of_noise.methods == methods)].to_dict("records")
                cells.append(f"{row[name]:.3f}, {row[f'{name}_15aa87d']:.3f}")
        lines.append(f"| {noise} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines).replace("0.", ".")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=10_000, help="pages a row (default %(default)s)")
    pages = parser.parse_args().pages
    rows = []
    for place, (kind, methods) in enumerate(itertools.product(kinds(), METHODS)):
        for seeds, effect in itertools.product(SEEDS, (0.0, EFFECT)):
            if seeds <= kind.most_seeds:
                judged = pages
                if seeds < FEWEST_SEEDS:
                    # No page has a verdict.
                    judged = min(pages, 100)
                seed = 1000 * place + seeds
                rows.append(count(kind, seeds=seeds, methods=methods, effect=effect, pages=judged, seed=seed))
    table = pd.DataFrame(rows)
    write_csv(pathlib.Path(__file__).with_name("verdicts.csv"), table)
    null = table[(table.effect == 0) & (table.seeds >= FEWEST_SEEDS)]
    worst = null.loc[null.false.idxmax()]
    error = np.sqrt(worst.false * (1 - worst.false) / worst.pages)
    print(f"Share of null pages with a verdict, and of differences of {EFFECT} found\n\n{show(table)}\n")
    print(f"Most null pages with a verdict: {worst.false} (standard error {error:.4f}) of {worst.noise}, ", end="")
    print(f"{worst.seeds} seeds, {worst.methods} methods; by 15aa87d's rule {null.false_15aa87d.max()}")
    print(f"Mean over all rows: {null.false.mean():.4f}; by 15aa87d's rule {null.false_15aa87d.mean():.4f}")
    mixed = table[table.effect > 0]
    print(f"With differences, most pages with a verdict on none: {mixed.false.max()}; {mixed.false_15aa87d.max()}")


if __name__ == "__main__":
    main()
