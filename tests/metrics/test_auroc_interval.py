"""Intervals of an AUROC: against the inequality that defines them, their limits, pairs, and the study of coverage."""

import functools
import pathlib

import jax
import numpy as np
import pytest

from flipjax import metrics
from flipjax.metrics import Decomposition, bootstrap
from flipjax.metrics.selective import auroc_ends

STUDY = pathlib.Path(__file__).parents[2] / "sweeps/studies/coverage/study.py"


@pytest.mark.parametrize(("auroc", "events", "others"), [(0.5, 1, 1), (0.8, 3, 17), (0.0, 2, 9), (1.0, 1, 40)])
def test_ends_are_the_outermost_values_within_196_of_their_own_errors(auroc, events, others):
    values = np.linspace(0, 1, 100_001)
    # Hanley and McNeil's variance, with (m + n) / 2 - 1 in place of m - 1 and n - 1.
    one, other = values / (2 - values) - values**2, 2 * values**2 / (1 + values) - values**2
    variance = (values * (1 - values) + ((events + others) / 2 - 1) * (one + other)) / (events * others)
    within = values[(values - auroc) ** 2 <= 1.959964**2 * variance + 1e-12]
    np.testing.assert_allclose(auroc_ends(auroc, events, others), [within[0], within[-1]], atol=3e-5)


def drawn(n):
    generator = np.random.default_rng(4)
    confusion = np.zeros((n, 3, 3), np.int64)
    confusion[:, 1, 2] = generator.integers(0, 21, n)
    confusion[:, 1, 1] = 20 - confusion[:, 1, 2]
    return Decomposition(confusion, generator.random(n) * 20)


def test_bootstrap_of_an_auroc_has_these_ends_and_images_of_one_object_count_once():
    model, groups = drawn(24), np.arange(24) % 4
    ends = functools.partial(bootstrap, statistic="risk_auroc", key=jax.random.key(0))
    events = int((np.asarray(model.flip) > 0.5).sum())
    assert ends(model) == auroc_ends(metrics.summarize(model)["risk_auroc"], events, 24 - events)
    twice = Decomposition(np.repeat(model.confusion, 2, 0), np.repeat(model.risk_sum, 2))
    np.testing.assert_allclose(ends(twice, pairs=np.repeat(np.arange(24), 2)), ends(model), rtol=1e-9)
    keys, inside = ["group/rare/risk_auroc", "fg_flip"], np.isin(groups, (1, 2))
    both = bootstrap(model, keys, key=jax.random.key(0), groups=groups, samples=20)
    rare = Decomposition(model.confusion[inside], model.risk_sum[inside])
    assert list(both) == keys and both[keys[0]] == ends(rare)
