"""A population against its members trained alone, bit for bit: dealt over two devices, stopped, diverged, continued."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flipjax.config import ConfigError, PopulationSpec
from flipjax.training import placement, population
from flipjax.training.member import Status
from flipjax.training.predict import evaluate

LOOP = PopulationSpec(map="loop")
PACKED = PopulationSpec(map="packed", width=2)


def assert_same(result, wanted):
    jax.tree.map(np.testing.assert_array_equal, result, wanted)


@pytest.fixture(scope="module")
def members(make_member):
    """Five members of one experiment, some of which lose patience early."""
    settings = [(0, 0.5, 5e-3), (1, 0.75, 0.3), (3, 0.9, 0.03), (2, 1.0, 1e-3), (4, 0.6, 100)]
    return [make_member(seed, rho, learning_rate) for seed, rho, learning_rate in settings]


@pytest.fixture(scope="module")
def start(tiny, members, pool, validation):
    """Makes a population, and what all members read, on its devices."""

    def make(spec=LOOP, states=None, members=members):
        layout = placement.make_layout(spec, members=len(members))
        shared = placement.share(layout, (pool, validation))
        return layout, population.create(tiny, layout, members, states), shared

    return make


@pytest.fixture(scope="module")
def trained(tiny, start):
    """The five trained to the end: the last population, its layout, the states and records after each epoch."""
    layout, current, shared = start()
    states, records = [population.states_of(current)], []
    while (current.status == Status.RUNNING).any():
        current, record = population.run_epoch(tiny, layout, current, *shared)
        states.append(population.states_of(current))
        records.append(record)
    return SimpleNamespace(layout=layout, current=current, states=states, records=records)


@pytest.fixture(scope="module")
def alone(tiny, members, start):
    """The five, each a population of its own: the states and records after each epoch."""
    runs = []
    for member in members:
        layout, current, shared = start(members=[member])
        states, records = [population.states_of(current)], []
        while (current.status == Status.RUNNING).any():
            current, record = population.run_epoch(tiny, layout, current, *shared)
            states.append(population.states_of(current))
            records.append(record)
        runs.append((states, records))
    return runs


def test_members_stop_at_different_epochs_and_are_dealt_anew(trained):
    last = trained.states[-1]
    assert trained.layout.devices == 2 and trained.current.states.status.sharding.num_devices == 2
    assert len(set(last.epoch.tolist())) > 1
    # A learning rate of 100 ends beyond a guess, one of 0.3 learns hard.
    assert set(last.status[:4].tolist()) == {Status.STOPPED, Status.FINISHED} and last.status[4] == Status.DIVERGED
    assert trained.current.slots.tolist() != [0, 1, 2, 3, 4]


def test_a_member_equals_itself_trained_alone_bit_for_bit(trained, alone):
    for index, (states, records) in enumerate(alone):
        for turn, state in enumerate(states):
            assert_same(population.take_member(trained.states[turn], [index]), state)
        for turn, record in enumerate(records):
            assert_same({name: leaf[[index]] for name, leaf in trained.records[turn].items()}, record)


def test_a_stopped_member_is_left_as_it_is(trained, alone):
    for index, (states, records) in enumerate(alone):
        for turn in range(len(records), len(trained.records)):
            assert_same(population.take_member(trained.states[turn + 1], [index]), states[-1])
            assert all(np.isnan(leaf[index]).all() for leaf in trained.records[turn].values())


@pytest.mark.parametrize("epoch", [1, 4])
def test_a_continued_run_equals_an_unbroken_one(tiny, start, trained, epoch):
    states = trained.states[epoch]
    kept = jax.tree.map(np.copy, states)
    layout, current, shared = start(states=states)
    assert_same(population.states_of(current), kept)
    for record in trained.records[epoch:]:
        current, result = population.run_epoch(tiny, layout, current, *shared)
        assert_same(result, record)
    assert_same(population.states_of(current), trained.states[-1])
    assert_same(states, kept)  # Donated buffers are not those of the checkpoint.


def test_a_diverged_member_is_frozen_and_harms_no_other(tiny, start, trained, members):
    lost = 1
    changed = [*members]
    changed[lost] = dataclasses.replace(
        members[lost], recipe=members[lost].recipe._replace(learning_rate=np.float32(np.inf))
    )
    layout, current, shared = start(members=changed)
    others = np.array([0, 2, 3, 4])
    for turn in range(3):
        current, record = population.run_epoch(tiny, layout, current, *shared)
        states = population.states_of(current)
        assert_same(population.take_member(states, others), population.take_member(trained.states[turn + 1], others))
        wanted = {name: leaf[others] for name, leaf in trained.records[turn].items()}
        assert_same({name: leaf[others] for name, leaf in record.items()}, wanted)
        assert np.isnan(record["train_loss"][lost])
    frozen = population.take_member(states, lost)
    assert (frozen.status, frozen.epoch, frozen.best_epoch) == (Status.DIVERGED, 1, 0)
    assert_same(frozen.best["val_loss"].weights, population.take_member(trained.states[0], lost).weights)


def test_packed_members_stay_close_to_the_loop_and_skip_who_stopped(tiny, start, trained):
    layout, current, shared = start(PACKED, states=trained.states[0])
    assert (layout.devices, layout.width) == (2, 2)  # Three slots a device: the second chunk has one member.
    current, record = population.run_epoch(tiny, layout, current, *shared)
    calm = [0, 1, 2, 3]  # A learning rate of 100 magnifies what rounding does.
    for name in ("train_loss", "valid_loss"):
        np.testing.assert_allclose(record[name][calm], trained.records[0][name][calm], rtol=1e-4)
    assert np.isfinite(record["valid_loss"]).all()
    before = population.states_of(current)
    before.status[[1, 2]] = Status.STOPPED  # The first device has one member left, and one lane too many.
    layout, current, shared = start(PACKED, states=before)
    current, record = population.run_epoch(tiny, layout, current, *shared)
    assert np.isnan(record["train_loss"]).tolist() == [False, True, True, False, False]
    after = population.states_of(current)
    assert after.epoch.tolist() == [2, 1, 1, 2, 2]
    assert_same(population.take_member(after, np.array([1, 2])), population.take_member(before, np.array([1, 2])))


@pytest.mark.parametrize("spec", [LOOP, PACKED], ids=["loop", "packed"])
def test_decompositions_are_those_of_each_member(tiny, start, trained, pool, validation, spec):
    layout, current, _ = start(spec, states=trained.states[-1])
    stacked = population.map_selected(tiny, layout, current, evaluate, *placement.share(layout, (pool, validation[0])))
    assert (stacked.confusion.shape, stacked.risk_sum.shape) == ((1, 5, 8, 3, 3), (1, 5, 8))
    stacked = jax.tree.map(lambda leaf: leaf[0], stacked)
    compiled = jax.jit(evaluate, static_argnums=0)
    for index in range(5):
        wanted = compiled(
            tiny, population.take_member(trained.states[-1].best["val_loss"].weights, index), pool, validation[0]
        )
        if spec is LOOP:
            np.testing.assert_array_equal(stacked.confusion[index], wanted.confusion)
        # Rounding may turn a pixel whose classes tie.
        assert np.abs(stacked.confusion[index] - wanted.confusion).sum() <= 4
        np.testing.assert_allclose(stacked.risk_sum[index], wanted.risk_sum, rtol=1e-3, atol=0.5)


def test_layout_follows_the_backend_the_members_and_the_config():
    def outline(members, **spec):
        layout = placement.make_layout(PopulationSpec(**spec), members=members)
        return layout.devices, layout.width

    assert jax.default_backend() == "cpu"
    assert outline(5) == (2, 1)
    assert outline(1) == (1, 1)
    assert outline(5, devices=1, map="loop") == (1, 1)
    assert outline(5, map="vmap") == (2, 3)
    assert outline(5, map="packed") == (2, 4)
    with pytest.raises(ConfigError, match=r"config\.population\.map: expected auto, loop or vmap"):
        placement.make_layout(PACKED, members=5, model="smp_mit_b2")
    assert outline(100, map="vmap") == (2, placement.DEFAULT_WIDTH)
    with pytest.raises(ValueError, match=r"config\.population\.devices: expected at most 2 \(cpu\); found 3"):
        placement.make_layout(PopulationSpec(devices=3), members=5)


@st.composite
def slots(draw):
    devices, share = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    running = draw(st.lists(st.booleans(), min_size=devices * share, max_size=devices * share))
    return np.array(running), devices, share


law = settings(derandomize=True, deadline=None, max_examples=150, database=None)


@law
@given(case=slots(), width=st.integers(1, 8))
def test_every_running_slot_is_queued_once(case, width):
    running, devices, share = case
    positions, counts = placement.queue(running, devices=devices, width=width)
    positions = positions.reshape(devices, -1)
    assert positions.shape[1] % width == 0
    for device, (queued, count) in enumerate(zip(positions, counts, strict=True)):
        # What is past the count is out of bounds, and the chunks that run hold all that is before it.
        assert queued[:count].tolist() == np.flatnonzero(running[device * share :][:share]).tolist()
        assert (queued[count:] == share).all() and -(-count // width) * width <= len(queued)


@law
@given(case=slots())
def test_a_deal_is_a_balanced_permutation(case):
    running, devices, _ = case
    order = placement.deal(running, devices=devices)
    if order is not None:
        assert sorted(order.tolist()) == list(range(len(running)))
        running = running[order]
        assert np.ptp(running.reshape(devices, -1).sum(1)) <= 1
    # Time goes by the fullest device, and no deal makes that emptier.
    assert running.reshape(devices, -1).sum(1).max() == -(-running.sum() // devices)
