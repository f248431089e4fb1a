"""False alarms and delays of the drift alarm: python sweeps/studies/monitor/study.py [RUN] [--streams 1000]

Drawn scores: how often the alarm is ever raised without drift, and how many images it needs with it, beside a
Kolmogorov-Smirnov test of every 50 images, plain and with Bonferroni's correction for the 20 windows of the stream.
Scores of the members of sweeps in RUN: reference and stream are test images of the common groups, then come all four.
Prints the tables and writes results.csv beside this file.
"""

import argparse
import pathlib

import numpy as np
from scipy.stats import ks_2samp

from flipjax import intervene, monitor
from flipjax.results import load
from flipjax.support.frames import write_csv

LENGTH, WINDOW, CHANGE = 1000, 50, 200
LEVELS = (0.01, 0.05, 0.1)
ORDERS, BALANCED = 100, 300
RHOS = ("rho 0.5 ", "rho 0.95 ")
DRIFTS = {
    "shift 0.5": lambda z: z + 0.5,
    "shift 1": lambda z: z + 1,
    "shift 2": lambda z: z + 2,
    "a fifth of the images at +3": lambda z: z + 3 * (np.arange(len(z)) % 5 == 0),
    "spread 2": lambda z: 2 * z,
}


def evidence(reference, scores):
    """Returns the p-value of no drift after each image."""
    # An alarm would end the test.
    fitted = monitor.fit(reference, flag_rate=0.5, false_alarm=1e-12)
    return np.array([verdict.p_value for verdict in monitor.watch(fitted, scores)])


def windows(reference, scores):
    """Returns the p-value of each whole window of the stream against the reference, alone."""
    ends = range(WINDOW, len(scores) + 1, WINDOW)
    return np.array([ks_2samp(reference, scores[end - WINDOW : end]).pvalue for end in ends])


def without_drift(generator, streams):
    """Returns the shares of streams that ever alarm."""
    rows = []
    draws = {
        "normal": generator.normal,
        "rounded to 0.5 (ties)": lambda size: np.round(2 * generator.normal(size=size)) / 2,
        "frames, AR(1) 0.8 (not exchangeable)": lambda size: dependent(generator.normal(size=size)),
    }
    settings = [(50, "normal"), (200, "normal"), (1000, "normal"), *((200, name) for name in list(draws)[1:])]
    for n, name in settings:
        both = [draws[name](size=n + LENGTH) for _ in range(streams)]
        last = np.array([evidence(scores[:n], scores[n:])[-1] for scores in both])
        least = np.array([windows(scores[:n], scores[n:]).min() for scores in both])
        for level in LEVELS:
            for test, value in (
                ("martingale", (last <= level).mean()),
                ("KS", (least <= level).mean()),
                ("KS, Bonferroni", (least <= level * WINDOW / LENGTH).mean()),
            ):
                rows.append({"study": "no drift", "scores": name, "reference": n, "test": test, "level": level})
                rows[-1] |= {"alarms": value, "streams": streams}
    return rows


def dependent(noise, memory=0.8):
    values = np.empty_like(noise)
    value = 0.0
    for index, innovation in enumerate(noise):
        value = memory * value + (1 - memory**2) ** 0.5 * innovation
        values[index] = value
    return values


def delays(first, before):
    """Returns shares of alarms before and after the change, and the median delay of those after it (none: inf)."""
    early = first < before
    delay = np.where(first == np.inf, np.inf, first - before + 1)[~early]
    return {"early": early.mean(), "alarms": np.isfinite(first).mean(), "delay": np.median(delay)}


def first_alarm(p_values, level, step=1):
    hits = np.flatnonzero(p_values <= level)
    return step * (hits[0] + 1) - 1 if len(hits) else np.inf


def with_drift(generator, streams, level=0.01):
    """Returns delays where scores change after CHANGE images."""
    rows = []
    for n in (100, 1000):
        for name, drift in DRIFTS.items():
            first = {"martingale": [], "KS, Bonferroni": []}
            for _ in range(streams):
                scores = generator.normal(size=n + LENGTH)
                scores[n + CHANGE :] = drift(scores[n + CHANGE :])
                first["martingale"].append(first_alarm(evidence(scores[:n], scores[n:]), level))
                p = windows(scores[:n], scores[n:])
                first["KS, Bonferroni"].append(first_alarm(p, level * WINDOW / LENGTH, WINDOW))
            for test, values in first.items():
                rows.append({"study": "drift", "scores": name, "reference": n, "test": test, "level": level})
                rows[-1] |= delays(np.array(values), CHANGE) | {"streams": streams}
    return rows


def members(run):
    """Yields name, groups, and scores by name, of members at RHOS in a run's folder."""
    for cell in load(run).cells.values():
        for member, setting in zip(cell.members, cell.results.settings(), strict=True):
            label = f"rho {setting['rho']} seed {setting['seed']}"
            if label.startswith(RHOS):
                val, test = (cell.images_of(member, part) for part in ("val", "test"))
                yield f"{run.name} {label}", test.group, scores_of(test.decomposition, val.log_odds, test.log_odds)


def scores_of(test, val_odds, test_odds):
    point = np.asarray(intervene.split_point(val_odds))
    return {
        "flip-risk": np.asarray(test.flip_risk),
        "scene-swap risk": intervene.scene_swap(test, test_odds, point).risk,
    }


def real(run, generator, level=0.01):
    """Returns delays on a member's own scores: half of the common test images is the reference, a quarter comes first.

    Then come BALANCED images, drawn with replacement: half from the last quarter, half from the rare groups.
    """
    rows = []
    for name, groups, by_name in members(run):
        common, rare = (np.flatnonzero(np.isin(groups, ids)) for ids in ((0, 3), (1, 2)))
        quarter = len(common) // 4
        for score, values in by_name.items():
            first, flagged = [], []
            for _ in range(ORDERS):
                order = generator.permutation(common)
                mixed = [generator.choice(side, BALANCED // 2) for side in (order[3 * quarter :], rare)]
                stream = np.concatenate(
                    [order[2 * quarter : 3 * quarter], generator.permutation(np.concatenate(mixed))]
                )
                first.append(first_alarm(evidence(values[order[: 2 * quarter]], values[stream]), level))
                fitted = monitor.fit(values[order[: 2 * quarter]], flag_rate=0.1)
                flags = monitor.flag(fitted, values[stream])
                flagged.append((flags[:quarter].mean(), flags[quarter:].mean()))
            rows.append(
                {"study": name, "scores": score, "reference": 2 * quarter, "test": "martingale", "level": level}
            )
            rows[-1] |= delays(np.array(first), quarter) | {"streams": ORDERS}
            rows[-1] |= dict(zip(("flagged before", "flagged after"), np.mean(flagged, 0), strict=True))
    return rows


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=pathlib.Path, nargs="*", metavar="RUN")
    parser.add_argument("--streams", type=int, default=1000)
    options = parser.parse_args(arguments)
    generator = np.random.default_rng(0)
    rows = without_drift(generator, options.streams) + with_drift(generator, options.streams // 10)
    rows += [row for run in options.runs for row in real(run, generator)]
    for row in rows:
        print(", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{value}" for key, value in row.items()))
    write_csv(
        pathlib.Path(__file__).parent / "results.csv",
        [{key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows],
    )


if __name__ == "__main__":
    main()
