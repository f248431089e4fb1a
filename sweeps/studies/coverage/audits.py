"""Whether an audit's intervals hold the truth, and its verdicts on groups are right.

    python sweeps/studies/coverage/audits.py

Draws images whose truth is known: an organ flips as a whole or not at all, or each image flips its own share of pixels;
images are single, or five of each patient are alike. Counts how often the interval of Flip (Korn and Graubard's) holds
it, beside that of a percentile bootstrap; how often the interval of the difference of two models (Bonett and Price's)
does; and how often a site is accused where sites are alike, and where one site flips more, beside Fisher's exact test
of flipped patients. Prints the tables and writes rates.csv, differences.csv, groups.csv and limit.csv (the accused of
many images) beside this file; `--only groups` makes one of them.
"""

import argparse
import functools
import itertools
import pathlib

import numpy as np
from scipy.stats import false_discovery_control, fisher_exact, norm

from flipjax.audit.statistics.flips import compare_groups
from flipjax.metrics import Decomposition
from flipjax.metrics.decomposition import Ratio, divide
from flipjax.metrics.statistics.intervals import estimate_rates
from flipjax.metrics.statistics.paired import paired_differences, paired_mean_difference
from flipjax.metrics.statistics.permutation import LEVEL
from flipjax.metrics.statistics.units import pool_clusters
from flipjax.support.frames import to_frame, write_csv

HERE = pathlib.Path(__file__).parent
KINDS = ("whole organs", "pixels", "borders")
"""What flips: an organ or nothing; a share of pixels from Beta(2 p, 2 - 2 p); a share from Beta(30 p, 30 - 30 p)."""
SPREADS = {"equal": 0.0, "like organs": 0.4, "like lesions": 0.8}
"""Standard deviation of the logarithm of sizes."""
IMAGES = (10, 20, 60, 200)
RATES = (0.0, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3)
TOGETHER = (1, 5)
"""Images of a patient."""
ALIKE = 0.8
"""Probability that an image of several repeats its patient's flip."""
RESAMPLES = 400

MODELS = ((0.0, 0.0), (0.0, 0.01), (0.0, 0.05), (0.05, 0.05), (0.05, 0.1), (0.1, 0.3), (0.3, 0.3), (0.5, 0.5))
"""Flip rates of an old and of a new model."""
UNLIKE = ("equal", "like lesions")
"""Sizes of organs that two models are compared on."""
SHARED = (0.0, 0.8)
"""Probability that the new model flips an organ as the old one does."""
ORGANS = 5
"""Organs whose mean has an interval, too."""

CLASSES = ("background", "liver", "spleen", "left kidney", "right kidney", "lesion")
BASE = 0.03
"""Flip rate of every organ where no fault is planted."""
SITES = {"20, 20, 20": (20, 20, 20), "20, 60": (20, 60), "20, 60, 40, 40": (20, 60, 40, 40)}
"""Patients of each site; a fault is planted in the first."""
WITHOUT_FAULT = 4
"""Audits without a fault for each one with it."""
LIMIT_DRAWS = 100_000
"""Audits of many images each, of a row of limit.csv."""
PLANTED = (0.0, 0.25, 0.35)
"""Flip rate of the first organ in the first site; 0 plants none."""


def draw_shares(generator, kind, rate, shape):
    """Returns flipped shares of the pixels of organs, of mean `rate`."""
    if rate == 0:
        return np.zeros(shape)
    if kind == "whole organs":
        return (generator.random(shape) < rate).astype(float)
    strength = 2 if kind == "pixels" else 30
    return generator.beta(strength * rate, strength * (1 - rate), shape)


def draw_images(generator, kind, rate, patients, together, columns):
    """Returns flipped and all pixels (patients * together, columns), each column another data set.

    Sizes are those of `draw_sizes`; with several images of a patient most repeat the patient's share.
    """
    shares = draw_shares(generator, kind, rate, (patients * together, columns))
    if together > 1:
        of_patient = np.repeat(draw_shares(generator, kind, rate, (patients, columns)), together, axis=0)
        shares = np.where(generator.random(shares.shape) < ALIKE, of_patient, shares)
    return shares


def draw_sizes(generator, spread, shape):
    """Returns the pixels of organs."""
    return np.maximum(np.round(1000 * generator.lognormal(0, spread, shape)), 1)


def bootstrap(generator, part, whole):
    """Returns the ends of percentile intervals of sums of `part` over sums of `whole` (n, k): two arrays (k,)."""
    n = len(part)
    drawn = generator.multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return np.percentile(divide(drawn @ part, drawn @ whole), (2.5, 97.5), axis=0)


def coverage(generator, repetitions):
    """Yields rows: how often intervals of Flip hold it."""
    for kind, spread, together, patients, rate in itertools.product(KINDS, SPREADS, TOGETHER, IMAGES, RATES):
        shares = draw_images(generator, kind, rate, patients, together, repetitions)
        sizes = draw_sizes(generator, SPREADS[spread], shares.shape)
        patient = np.repeat(np.arange(patients), together)
        part = pool_clusters(shares * sizes, patient)
        whole = pool_clusters(sizes, patient)
        _, low, high = estimate_rates(Ratio(part, whole))
        first, last = bootstrap(generator, part, whole)
        yield {
            "flips": kind,
            "sizes": spread,
            "images of a patient": together,
            "patients": patients,
            "rate": rate,
            "coverage": ((low <= rate) & (rate <= high)).mean(),
            "width": (high - low).mean(),
            "bootstrap": ((first <= rate) & (rate <= last)).mean(),
            "bootstrap width": (last - first).mean(),
        }


def draw_models(generator, kind, rates, shared, patients, together, columns):
    """Returns flipped shares of an old and of a new model, (patients * together, columns), and the true difference."""
    old_rate, new_rate = rates
    old = draw_images(generator, kind, old_rate, patients, together, columns)
    new = draw_images(generator, kind, new_rate, patients, together, columns)
    kept = np.repeat(generator.random((patients, columns)) < shared, together, axis=0)
    return old, np.where(kept, old, new), (1 - shared) * (new_rate - old_rate)


def columns_of(ratio, columns):
    """Returns some of the rates (n, k)."""
    return Ratio(ratio.part[:, columns], ratio.whole[:, columns])


def held(estimate, truth):
    """Returns which intervals hold the truth."""
    return (estimate.low <= truth + 1e-9) & (truth - 1e-9 <= estimate.high)


def differences(generator, repetitions):
    """Yields rows: how often intervals of the difference of two models hold it, and that of a mean over organs."""
    for kind, spread, together, patients in itertools.product(KINDS, UNLIKE, TOGETHER, IMAGES):
        patient = np.repeat(np.arange(patients), together)
        for rates, shared in itertools.product(MODELS, SHARED):
            old, new, truth = draw_models(generator, kind, rates, shared, patients, together, repetitions)
            sizes = draw_sizes(generator, SPREADS[spread], old.shape)
            whole = pool_clusters(sizes, patient)
            old_rate = Ratio(pool_clusters(old * sizes, patient), whole)
            new_rate = Ratio(pool_clusters(new * sizes, patient), whole)
            estimate = paired_differences(old_rate, new_rate)
            covered = held(estimate, truth)
            # Where both models flip the same, the interval is [0, 0].
            differ = (old_rate.part != new_rate.part).any(0)
            coverage_of_those = np.nan
            if differ.any():
                coverage_of_those = covered[differ].mean()
            means = []
            for first in range(0, repetitions // 4, ORGANS):
                # Data sets are alike in truth, so they stand for the organs of one.
                organs = slice(first, first + ORGANS)
                difference = paired_mean_difference(columns_of(old_rate, organs), columns_of(new_rate, organs))
                means.append(held(difference, truth))
            yield {
                "flips": kind,
                "sizes": spread,
                "images of a patient": together,
                "patients": patients,
                "old rate": rates[0],
                "new rate": rates[1],
                "shared": shared,
                "coverage": covered.mean(),
                "predictions differ": differ.mean(),
                "coverage of those": coverage_of_those,
                "width": (estimate.high - estimate.low).mean(),
                "coverage of a mean": np.mean(means),
            }


def draw_audit(generator, kind, sizes, together, planted):
    """Returns counts of images, their sites and patients; `planted` is the rate of one organ in the first site."""
    site_of_patient = np.repeat(np.arange(len(sizes)), sizes)
    patients = len(site_of_patient)
    site = np.repeat(site_of_patient, together)
    confusion = np.zeros((patients * together, len(CLASSES), len(CLASSES)), np.int64)
    for c in range(1, len(CLASSES)):
        shares = draw_images(generator, kind, BASE, patients, together, 1)[:, 0]
        if c == 1 and planted:
            faulty = draw_images(generator, kind, planted, patients, together, 1)[:, 0]
            shares = np.where(site == 0, faulty, shares)
        pixels = draw_sizes(generator, SPREADS["like organs"], len(site)).astype(int)
        flipped = np.round(shares * pixels).astype(int)
        confusion[:, c, c] = pixels - flipped
        confusion[:, c, 1 + c % (len(CLASSES) - 1)] = flipped
    return Decomposition(confusion, np.zeros(len(site))), site, np.repeat(np.arange(patients), together)


def audited(counts, site, patient):
    """Returns the q of each organ in each site, as an audit has them."""
    places = {f"site {s}": dict.fromkeys(range(1, len(CLASSES)), np.flatnonzero(site == s)) for s in np.unique(site)}
    rows = compare_groups(counts, places, CLASSES, clusters=patient)
    return {(row.class_name, row.group): row.q for row in rows if not row.repeats}


@functools.cache
def fisher_p(flipped, patients, others_flipped, others):
    """Returns p of Fisher's exact test of flipped patients of a site and of the other sites."""
    return fisher_exact([[flipped, patients - flipped], [others_flipped, others - others_flipped]]).pvalue


def fisher(counts, site, patient):
    """Returns q by Fisher's exact test of patients with more than half of an organ flipped."""
    confusion = counts.confusion
    _, first_image = np.unique(patient, return_index=True)
    site_of = site[first_image]
    p_values = {}
    for c, name in enumerate(CLASSES[1:], 1):
        pixels = pool_clusters(confusion[:, c].sum(1, keepdims=True), patient)[:, 0]
        correct = pool_clusters(confusion[:, c, c, None], patient)[:, 0]
        flipped = correct < 0.5 * pixels
        if not flipped.any():
            continue
        compared = np.unique(site_of)
        if len(compared) == 2:
            # Two sites are one comparison.
            compared = compared[:1]
        for s in compared:
            here = site_of == s
            p_values[name, f"site {s}"] = fisher_p(
                int((flipped & here).sum()), int(here.sum()), int((flipped & ~here).sum()), int((~here).sum())
            )
    if not p_values:
        return {}
    return dict(zip(p_values, false_discovery_control(list(p_values.values())), strict=True))


def verdicts(generator, repetitions):
    """Yields rows: how often any site is accused without a fault, and the faulty one with it."""
    for kind, name, together, planted in itertools.product(("whole organs", "pixels"), SITES, TOGETHER, PLANTED):
        sites = len(SITES[name])
        accused = {"permutation": 0, "Fisher": 0}
        # Few audits are accused without a fault, so more are needed to tell their share.
        audits = WITHOUT_FAULT * repetitions
        if planted:
            audits = repetitions
        for _ in range(audits):
            drawn = draw_audit(generator, kind, SITES[name], together, planted)
            for test, run in (("permutation", audited), ("Fisher", fisher)):
                q = run(*drawn)
                judged = q.values()
                if planted:
                    judged = q_of_fault(q, sites)
                accused[test] += min(judged, default=1.0) < LEVEL
        row = {"flips": kind, "patients of sites": name, "images of a patient": together, "planted rate": planted}
        for test, count in accused.items():
            row[test] = count / audits
        yield row


def q_of_fault(q, sites):
    """Returns the q of the organ and the site in which a fault is planted."""
    places = ["site 0"]
    if sites == 2:
        # Either is the one comparison.
        places.append("site 1")
    return [q.get((CLASSES[1], place), 1.0) for place in places]


def limit(generator, repetitions):
    """Yields rows: how often a site is accused without a fault if there are many images, so that means are normal."""
    for name, sizes in SITES.items():
        patients = np.array(sizes)
        mean = generator.standard_normal((repetitions, len(CLASSES) - 1, len(sizes))) / np.sqrt(patients)
        others = patients.sum() - patients
        rest = ((mean * patients).sum(-1, keepdims=True) - mean * patients) / others
        distance = np.abs(mean - rest) / np.sqrt(1 / patients + 1 / others)
        if len(sizes) == 2:
            # Two sites are one comparison.
            distance = distance[..., :1]
        p_values = 2 * norm.sf(distance)
        q_values = false_discovery_control(p_values.reshape(repetitions, -1), axis=1)
        yield {"patients of sites": name, "permutation": float((q_values < LEVEL).any(1).mean())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2000, help="data sets of a row of rates.csv")
    parser.add_argument("--pairs", type=int, default=1000, help="data sets of a row of differences.csv")
    parser.add_argument(
        "--audits", type=int, default=150, help=f"audits of a row of groups.csv; {WITHOUT_FAULT} times without fault"
    )
    parser.add_argument("--only", choices=("rates", "differences", "groups", "limit"), help="one table")
    options = parser.parse_args()
    tables = {
        "rates": coverage(np.random.default_rng(0), options.repetitions),
        "groups": verdicts(np.random.default_rng(1), options.audits),
        "limit": limit(np.random.default_rng(3), LIMIT_DRAWS),
        "differences": differences(np.random.default_rng(2), options.pairs),
    }
    for name, rows in tables.items():
        if options.only in (None, name):
            table = to_frame(list(rows)).round(4)
            print(table.to_string(index=False))
            write_csv(HERE / f"{name}.csv", table)


if __name__ == "__main__":
    main()
