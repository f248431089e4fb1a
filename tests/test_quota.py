"""The quota centre against an assignment solver, by hand, and at its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from flipjax import intervene

quota = jax.jit(lambda values, prior: intervene.split_point(values[:, None], center="quota", prior=prior))


def largest_remainders(shares, n):
    exact = n * shares
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: n - counts.sum()]] += 1
    return counts


@pytest.mark.parametrize(("F", "n", "seed"), [(2, 17, 0), (3, 40, 1), (7, 40, 2), (7, 40, 3), (20, 40, 4)])
def test_quota_equals_the_best_assignment_to_the_counts(F, n, seed):
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(n, F)) * 3 + rng.normal(size=F) * 3).astype(np.float32)
    prior = rng.dirichlet(np.full(F, 0.7)).astype(np.float32)
    if F > 2:
        prior[seed] = 0
        prior /= prior.sum()
    values[5] = np.nan  # No region.
    center = np.asarray(quota(values, prior))
    assert (np.isinf(center) == (prior == 0)).all()
    known = np.delete(values, 5, axis=0)
    counts = largest_remainders(prior, n - 1)
    columns = np.repeat(np.arange(F), counts)
    places = linear_sum_assignment(-known.astype(float)[:, columns])[1]
    np.testing.assert_array_equal((known - center).argmax(1), columns[places])
    order = np.arange(n)[::-1]
    np.testing.assert_allclose(quota(values[order], prior), center, atol=1e-4)
    # Where the classes move, the centre does, summing to 0 over those in use.
    moved = np.where(prior > 0, np.arange(F, dtype=np.float32), np.nan)
    shifted = quota(values + np.arange(F, dtype=np.float32), prior) - center
    np.testing.assert_allclose(shifted, moved - np.nanmean(moved), atol=1e-4)


def test_the_median_is_the_quota_of_two_even_classes():
    identity = np.random.default_rng(0).normal(size=40)[:, None] * np.array([-0.5, 0.5])
    median = intervene.split_point(identity[:, None], center="median")
    np.testing.assert_allclose(quota(identity, np.array([0.5, 0.5])), median, atol=1e-6)


def test_the_default_centre_of_more_classes_is_the_quota_and_a_class_left_out_is_never_named():
    rng = np.random.default_rng(1)
    identity = rng.normal(size=(30, 1, 3)).astype(np.float32)
    prior = intervene.label_shares(np.repeat([0, 1, 2], [4, 20, 10]), num_classes=4)
    center = intervene.split_point(identity, prior=prior)
    labels = intervene.repaired_class(identity, center=center)
    assert np.bincount(labels, minlength=4).tolist() == [0, 20, 10, 0]
    logits = jax.nn.one_hot(jnp.full((30, 1, 2), 3), 4)
    assert np.isinf(intervene.scene_swap_risk(logits, identity, center=center)).all()
    assert np.isnan(intervene.split_point(np.full((2, 1, 3), np.nan), prior=prior)).all()
