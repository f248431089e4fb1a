"""One member: what an epoch visits, what it learns, when it stops, and what validation sees."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GROUPS
from jax.flatten_util import ravel_pytree

from flipjax import losses
from flipjax.config.methods import METHODS, Knobs, active_knobs
from flipjax.data.pool import gather
from flipjax.metrics import decompose, flip_risk, summarize
from flipjax.training.epoch import loop, step
from flipjax.training.epoch.step import train_epoch
from flipjax.training.epoch.validation import Validation, validate
from flipjax.training.member import Best, Member, State, Status, init_state
from flipjax.training.network import forward
from flipjax.training.network.forward import NO_WEIGHTS, apply, first_weights, flat, map_batches, nested

RUNNING, STOPPED, DIVERGED, FINISHED = Status
NAN, INF = float("nan"), float("inf")


def state_of(**fields):
    """A state of these fields alone."""
    return State(**dict.fromkeys(field.name for field in dataclasses.fields(State)) | fields)


@pytest.fixture(scope="module")
def epochs(tiny, pool, make_member, validation, run_epoch):
    """A member's states and records, epoch after epoch; the first state is the untrained one."""
    member = make_member(learning_rate=0.02)
    states, records = [jax.jit(init_state, static_argnums=0)(tiny, member)], []
    while states[-1].status == RUNNING:
        state, record = run_epoch(tiny, member, pool, states[-1], validation)
        states.append(state)
        records.append(record)
    return SimpleNamespace(member=member, states=states, records=records)


def test_loss_falls(epochs):
    for name, share in (("train_loss", 0.7), ("valid_loss", 0.9)):
        curve = [float(record[name]) for record in epochs.records]
        assert min(curve) < share * curve[0]
    assert epochs.states[-1].epoch == len(epochs.records)


def test_long_and_mixed_weights_stay_nested(monkeypatch, tiny):
    drawn = first_weights(tiny, jax.random.key(0), NO_WEIGHTS)
    mixed = drawn._replace(statistics={**drawn.statistics, "count": jnp.int32(0)})
    monkeypatch.setattr(forward, "FLAT", ravel_pytree(mixed.statistics)[0].size)
    assert flat(drawn).statistics.ndim == 1 and [*map(id, flat(mixed))] == [*map(id, mixed)]


@pytest.mark.parametrize("count", [24, 29])
def test_epoch_visits_every_row_once_in_a_fresh_order(monkeypatch, tiny, count):
    def note_positions(experiment, member, pool, state, batch, key):
        # What a state carries is free here: `weights` holds the step at which each row was seen.
        step = state.opt_state + 1
        assert batch.shape == (8,)
        return dataclasses.replace(state, weights=state.weights.at[batch].add(step), opt_state=step), step

    monkeypatch.setattr(step, "train_step", note_positions)
    member = Member(jax.random.key(3), np.zeros((count, 2), int), None, None, None)
    orders = []
    for number in (0, 1):
        state = state_of(weights=jnp.zeros(count, int), opt_state=jnp.int32(0), epoch=number)
        state, mean = jax.jit(train_epoch, static_argnums=(0, 2))(tiny, member, None, state)
        assert np.bincount(state.weights).tolist() == [count - 24, 8, 8, 8] and mean == 2
        orders.append(state.weights)
    assert (orders[0] != orders[1]).any()


@pytest.fixture(scope="module")
def settle():
    return jax.jit(loop.settle, static_argnums=0)


def play(settle, experiment, valid, *, train_losses=None, knobs=None, restart=0, risk=0.0, selection=("val_loss",)):
    """Plays losses to `settle`, to a second run after the epoch `restart`; the weights after epoch e are e."""
    experiment = dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, selection=selection))
    member = Member(None, None, None, None, knobs or Knobs())
    unplayed = Best(jnp.float32(0), jnp.float32(INF), jnp.int32(0))
    fresh = {"best": dict.fromkeys(selection, unplayed)}
    zeros = dict.fromkeys(("epoch", "restart", "status", "lost"), jnp.int32(RUNNING))
    state = state_of(weights=jnp.float32(0), **zeros, **fresh)
    for number, pair in enumerate(zip(valid, train_losses or valid, strict=True), start=1):
        assert state.status == RUNNING
        loss, train_loss = map(np.float32, pair)
        result = Validation(loss, loss, np.float32(0), np.float32(0), np.float32(risk), loss)
        state = settle(experiment, member, dataclasses.replace(state, weights=jnp.float32(number)), train_loss, result)
        if number == restart:
            state = dataclasses.replace(state, restart=state.epoch, **fresh)
    return state


RULES = ("val_loss", "label_free_risk")
SWA, JTT = Knobs(swa=0.5), Knobs(jtt_epochs=3.0)


# Six epochs, a patience of 2. Three epochs above twice log 4 are divergence.
PLAYED = [
    ([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], {}, FINISHED, 6),
    ([0.1, 0.1, 0.1], {}, STOPPED, 1),
    ([0.4, 0.5, 0.3, 0.5, 0.4], {}, STOPPED, 3),
    ([0.3, INF], {}, DIVERGED, 1),
    ([NAN], {}, DIVERGED, 0),
    ([0.3, 0.2, 0.25], {"train_losses": [0.3, 0.2, NAN]}, DIVERGED, 2),
    ([50, 40, 30], {}, DIVERGED, 3),
    ([30, 1e11, 1], {}, RUNNING, 3),  # It recovered.
    ([30, 40, 50], {"train_losses": [0.9, 0.8, 0.7]}, STOPPED, 1),  # It learns, and is sure where it is wrong.
    ([0.9, 0.8, 0.7], {"train_losses": [30, 40, 50]}, RUNNING, 3),
    ([2, 1.9, 2.1], {}, RUNNING, 2),  # Worse than a guess, but not beyond it.
    ([1, 1, 30], {}, DIVERGED, 1),  # Out of patience, and lost.
    ([1, 0.9, 0.8, 0.7, 0.6, 30], {}, DIVERGED, 5),
    ([0.3, 0.2, 0.1], {"selection": RULES[::-1]}, STOPPED, (1, 3)),  # The risk stays as it is.
    ([0.3, 0.2, 0.1], {"selection": RULES, "risk": NAN}, RUNNING, (3, 0)),
    ([0.1, 0.2, 0.3, 0.9, 0.8, 0.85], {"knobs": SWA}, FINISHED, 5),  # The average begins in the fourth.
    ([0.3, 0.3, 0.3, 0.5, 0.6, 0.7], {"knobs": SWA}, STOPPED, 4),
    ([0.1, NAN], {"knobs": SWA}, DIVERGED, 0),
    ([0.1, 0.2, 0.3, 0.5, 0.6, 0.7], {"knobs": JTT, "restart": 3}, STOPPED, 4),
    ([0.1, 0.2, 0.3, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], {"knobs": JTT, "restart": 3}, FINISHED, 9),
]


@pytest.mark.parametrize(("valid", "options", "status", "best"), PLAYED)
def test_settle(settle, tiny, valid, options, status, best):
    state = play(settle, tiny, valid, **options)
    assert (Status(int(state.status)), state.epoch) == (status, len(valid))
    kept = [state.best[rule] for rule in options.get("selection", ("val_loss",))]
    wanted = best if isinstance(best, tuple) else (best,)
    assert [each.epoch for each in kept] == [each.weights for each in kept] == [*wanted]
    assert state.best["val_loss"].score == np.float32(valid[max(wanted) - 1] if max(wanted) else INF)


def test_validation_is_the_members_loss_over_equal_groups(tiny, pool, validation, epochs):
    rows, groups, _, refit = validation
    state = dataclasses.replace(epochs.states[-1], group_weights=jnp.linspace(0.01, 0.2, GROUPS.count))
    validate_member = jax.jit(validate, static_argnums=0)

    @jax.jit
    def answered(weights, rows):
        images, labels = gather(pool, rows)
        logits, _ = apply(tiny, nested(tiny, weights), images, training=False)
        own = losses.image_loss(logits, labels, None, Knobs(dice=0.5))
        return logits, labels, own, losses.cross_entropy(logits, labels), flip_risk(logits)

    logits, labels, each, entropies, risks = map(np.asarray, answered(state.weights, rows))
    for dfr, kept in ((0.0, refit | True), (1.0, ~refit)):  # DFR keeps half of each group to itself.
        member = dataclasses.replace(epochs.member, knobs=Knobs(dice=0.5, dfr=dfr))
        result, weights = validate_member(tiny, member, pool, state, validation)
        of_group = [each[kept & (groups == g)].mean() for g in range(GROUPS.count)]
        of_entropy = [entropies[kept & (groups == g)].mean() for g in range(GROUPS.count)]
        np.testing.assert_allclose(result.cross_entropy, np.mean(of_entropy), rtol=1e-5)
        assert result.cross_entropy < result.loss  # By the Dice loss, which other methods lack.
        np.testing.assert_allclose(result.loss, np.mean(of_group), rtol=1e-5)  # Whatever the group weights are by now.
        shares = np.bincount(member.groups, minlength=GROUPS.count) / len(member.groups)
        np.testing.assert_allclose(result.loss_at_rho, shares @ of_group, rtol=1e-5)
        np.testing.assert_array_equal(weights, state.group_weights)
        summary = summarize(decompose(logits[kept], labels[kept]), groups[kept], all_groups=GROUPS)
        np.testing.assert_allclose(result.flip, summary["fg_flip"], rtol=1e-5)
        worst = min(summary[f"group/{g}/iou/class{1 + g // 4}"] for g in range(GROUPS.count))
        np.testing.assert_allclose(result.worst_group_iou, worst, rtol=1e-5)
        np.testing.assert_allclose(result.risk, np.nanmean(risks[kept]), rtol=1e-4)


@pytest.mark.parametrize("count", [1, 6, 7, 8, 13, 14, 50])
def test_batches_cover_counts_that_do_not_divide(count):
    rows = np.arange(2 * count).reshape(count, 2)
    sizes = []

    def function(batch):
        sizes.append(batch.shape[0])
        return {"sum": batch.sum(1), "rows": batch}

    mapped = jax.jit(functools.partial(map_batches, function, largest=7))(rows)
    jax.tree.map(np.testing.assert_array_equal, mapped, function(rows))
    assert max(sizes[:-1]) <= 7


INDEXING = {"slice", "squeeze", "dynamic_slice", "gather", "reshape", "broadcast_in_dim", "concatenate"}


def uses_of_keys(jaxpr):
    """Yields the primitives that use each key of a program and of the programs in it, other than to index them."""
    uses = {}
    for equation in jaxpr.eqns:
        for variable in equation.invars:
            is_key = jnp.issubdtype(variable.aval.dtype, jax.dtypes.prng_key)
            if is_key and equation.primitive.name not in INDEXING:
                uses.setdefault(variable, []).append(equation.primitive.name)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from uses_of_keys(inner)
    yield from uses.values()


def test_a_key_is_used_once(tiny, pool, make_member):
    names = [name for name in METHODS if name != "dfr"]
    active = {"active_knobs": active_knobs(names), "active_numbers": ("crop", "jitter")}
    experiment = dataclasses.replace(tiny, **active)
    member = make_member()
    state = jax.eval_shape(functools.partial(init_state, experiment), member)
    program = jax.make_jaxpr(train_epoch, static_argnums=0)(experiment, member, pool, state)
    uses = [names for names in uses_of_keys(program.jaxpr) if set(names) != {"random_fold_in"}]
    assert len(uses) > 20 and [names for names in uses if len(names) > 1] == []
