"""Laws of the orders and draws of a member."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flipjax.training.epoch import sampling

# One program each: operation by operation each would compile dozens.
balanced_order, weighted_order, draw = map(jax.jit, (sampling.balanced_order, sampling.weighted_order, sampling.draw))
directory = jax.jit(sampling.directory, static_argnames="size")
law = settings(max_examples=25)
GROUPS = st.lists(st.integers(0, 3), min_size=24, max_size=24).map(np.array)


@law
@given(groups=GROUPS, seed=st.integers(0, 9))
def test_balanced_batches_hold_the_groups_evenly(groups, seed):
    order = np.random.default_rng(seed).permutation(24)
    result = np.asarray(balanced_order(order, groups))
    present = np.unique(groups)
    for batch in result.reshape(3, 8):
        counts = np.bincount(groups[batch], minlength=4)[present]
        assert counts.max() - counts.min() <= 1
    for g in present:
        # Within a group every image comes once before any comes again.
        times = np.bincount(result[groups[result] == g], minlength=24)[groups == g]
        assert times.max() - times.min() <= 1


@law
@given(weights=st.lists(st.floats(0.1, 20), min_size=16, max_size=16), seed=st.integers(0, 9))
def test_weighted_draws_come_floor_or_ceil_of_their_share(weights, seed):
    weights = np.array(weights, np.float32)
    drawn = np.asarray(weighted_order(jax.random.key(seed), weights))
    assert drawn.shape == (16,)
    share = 16 * weights.astype(np.float64) / weights.sum()
    counts = np.bincount(drawn, minlength=16)
    assert (counts >= np.floor(share - 1e-3)).all() and (counts <= np.ceil(share + 1e-3)).all()


def test_equal_weights_draw_a_permutation():
    orders = [weighted_order(jax.random.key(seed), np.full(512, 3.0)) for seed in range(2)]
    assert all(sorted(order.tolist()) == list(range(512)) for order in orders)
    assert (np.asarray(orders[0]) != orders[1]).any()


@law
@given(groups=GROUPS, seed=st.integers(0, 9))
def test_a_draw_is_of_the_wanted_group(groups, seed):
    wanted = np.arange(40) % 4
    positions, result = draw(jax.random.key(seed), directory(groups, size=4), wanted)
    assert result.tolist() == np.isin(wanted, groups).tolist()
    drawn = groups[np.asarray(positions)]
    assert (drawn[np.asarray(result)] == wanted[np.asarray(result)]).all()


def test_draws_are_uniform():
    groups = np.array([0, 1, 0, 1, 1, 0, 0])
    wanted = np.zeros(4000, int)
    positions, _ = draw(jax.random.key(0), directory(groups, size=2), wanted)
    counts = np.bincount(positions, minlength=7)
    assert counts[[1, 3, 4]].sum() == 0 and (abs(counts[[0, 2, 5, 6]] - 1000) < 120).all()
