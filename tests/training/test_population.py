"""A population against its members trained alone, bit for bit: dealt over two devices, stopped, diverged, continued."""

import dataclasses
import functools

import jax
import numpy as np
import populations
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Net
from populations import assert_same

from flipjax.config import ConfigError, ModelSpec, PopulationSpec
from flipjax.training.member import Status
from flipjax.training.network.forward import evaluate
from flipjax.training.network.own import check_own
from flipjax.training.population import epochs as population_run
from flipjax.training.population import selected as population_selected
from flipjax.training.population import stacks
from flipjax.training.population.devices import DEFAULT_WIDTH, deal, make_layout
from flipjax.training.population.stacks import take_member

pytestmark = pytest.mark.usefixtures("compiled_as_for_users")
PACKED = PopulationSpec(map="packed", width=2)
ONEDNN = PopulationSpec(map="loop", convolutions="onednn")


@pytest.fixture(scope="module")
def members(make_member):
    """Five members of one experiment, some of which lose patience early."""
    settings = [(0, 0.5, 5e-3), (1, 0.75, 0.3), (3, 0.9, 0.03), (2, 1.0, 1e-3), (4, 0.6, 100)]
    return [make_member(seed, rho, learning_rate) for seed, rho, learning_rate in settings]


@pytest.fixture(scope="module")
def train(tiny, pool, validation):
    return functools.partial(populations.train, tiny, pool=pool, validation=validation)


@pytest.fixture(scope="module")
def trained(train, members):
    return train(members)


def test_members_stop_at_different_epochs_and_are_dealt_anew(two_devices, trained):
    last = trained.states[-1]
    assert trained.layout.devices == 2 and trained.current.states.status.sharding.num_devices == 2
    assert len(set(last.epoch.tolist())) > 1
    # A learning rate of 100 ends beyond a guess, one of 0.3 learns hard.
    assert set(last.status[:4].tolist()) == {Status.STOPPED, Status.FINISHED} and last.status[4] == Status.DIVERGED
    assert trained.current.slots.tolist() != [0, 1, 2, 3, 4]


def test_a_member_equals_itself_trained_alone_bit_for_bit_and_stays_as_it_stopped(trained, train, members):
    for index, member in enumerate(members):
        alone = train([member])
        last = len(alone.records)
        for turn, states in enumerate(trained.states):
            assert_same(take_member(states, [index]), alone.states[min(turn, last)])
        for turn, record in enumerate(trained.records):
            own = take_member(record, [index])
            assert_same(own, alone.records[turn] if turn < last else jax.tree.map(lambda leaf: leaf * np.nan, own))


@pytest.mark.parametrize("epoch", [1, 4])
def test_a_continued_run_equals_an_unbroken_one_in_the_same_program(train, trained, members, epoch):
    kept = jax.tree.map(np.copy, trained.states[epoch])
    program = population_run.epoch_program(trained.layout)
    compiled = program._cache_size()
    again = train(members, states=trained.states[epoch])
    assert_same(again.states, trained.states[epoch:])
    assert_same(again.records, trained.records[epoch:])
    assert program._cache_size() == compiled
    assert_same(trained.states[epoch], kept)  # Donated buffers are not those of the checkpoint.


def test_a_diverged_member_is_frozen_and_harms_no_other(train, trained, members, make_member):
    others = np.array([0, 2, 3, 4])
    changed = train([members[0], make_member(1, 0.75, np.inf), *members[2:]], epochs=3)
    for turn in range(3):
        for result, wanted in ((changed.states[1:], trained.states[1:]), (changed.records, trained.records)):
            assert_same(take_member(result[turn], others), take_member(wanted[turn], others))
        assert np.isnan(changed.records[turn]["train_loss"][1])
    frozen = take_member(changed.states[-1], 1)
    assert (frozen.status, frozen.epoch, frozen.best["val_loss"].epoch) == (Status.DIVERGED, 1, 0)
    assert_same(frozen.best["val_loss"].weights, take_member(trained.states[0], 1).weights)


def test_of_onednn_alone_is_among_others_and_continued_is_unbroken(onednn, tiny, make_member, pool, validation):
    members = [make_member(seed=seed) for seed in (1, 2, 3)]
    whole = populations.train(tiny, members, pool, validation, spec=ONEDNN, epochs=2)
    assert whole.layout.convolutions == "onednn"
    alone = populations.train(tiny, members[1:2], pool, validation, spec=ONEDNN, epochs=2)
    assert_same(take_member(whole.states[-1], [1]), alone.states[-1])
    again = populations.train(tiny, members, pool, validation, spec=ONEDNN, states=whole.states[1], epochs=1)
    assert_same(again.states[-1], whole.states[-1])


def test_packed_members_stay_close_to_the_loop_and_skip_who_stopped(two_devices, train, trained, members):
    packed = train(members, spec=PACKED, states=trained.states[0], epochs=1)
    assert (packed.layout.devices, packed.layout.width) == (2, 2)  # Three slots a device: the second chunk has one.
    for name in ("train_loss", "valid_loss"):  # A learning rate of 100 magnifies what rounding does.
        np.testing.assert_allclose(packed.records[0][name][:4], trained.records[0][name][:4], rtol=1e-4)
    assert np.isfinite(packed.records[0]["valid_loss"]).all()
    before = packed.states[1]
    before.status[[1, 2]] = Status.STOPPED  # The first device has one member left, and one lane too many.
    after = train(members, spec=PACKED, states=before, epochs=1)
    assert np.isnan(after.records[0]["train_loss"]).tolist() == [False, True, True, False, False]
    assert after.states[1].epoch.tolist() == [2, 1, 1, 2, 2]
    assert_same(*(take_member(states, np.array([1, 2])) for states in (after.states[1], before)))


def test_packed_decompositions_are_those_of_the_loop(train, trained, members):
    pool, (rows, *_) = trained.shared
    made = trained.current, train(members, spec=PACKED, states=trained.states[-1]).current
    loop, packed = (population_selected.map_selected(each, evaluate, pool, rows) for each in made)
    assert (loop.confusion.shape, loop.risk_sum.shape) == ((1, 5, 24, 4, 4), (1, 5, 24))
    # Rounding may turn a pixel whose classes tie.
    assert np.abs(packed.confusion - loop.confusion).sum((2, 3, 4)).max() <= 4
    np.testing.assert_allclose(packed.risk_sum, loop.risk_sum, rtol=1e-3, atol=0.5)


def dropping(num_classes, rngs):
    return nnx.Sequential(Net(num_classes, rngs), nnx.Dropout(0.5, rngs=rngs))


def test_dropout_is_a_members_own_and_continued(tiny, pool, validation, make_member):
    recipe = dataclasses.replace(tiny.train, epochs=2)
    experiment = dataclasses.replace(tiny, train=recipe, model=ModelSpec(build=dropping))
    check_own(experiment)
    members = [make_member(seed) for seed in range(2)]
    both = populations.train(experiment, members, pool, validation).states
    streams = [state.weights.statistics["layers"][1]["rngs"] for state in both]
    assert [stream["count"].tolist() for stream in streams] == [[0, 0], [3, 3], [6, 6]]
    assert len(np.unique(streams[-1]["key"], axis=0)) == 2
    turned = populations.train(experiment, members[::-1], pool, validation, states=take_member(both[1], np.s_[::-1]))
    assert_same(take_member(turned.states[-1], np.s_[::-1]), both[-1])


@pytest.mark.parametrize(
    ("members", "spec", "devices", "width"),
    [
        (5, {}, 2, 1),
        (1, {}, 1, 1),
        (5, {"devices": 1, "map": "loop"}, 1, 1),
        (5, {"map": "vmap"}, 2, 3),
        (5, {"map": "packed"}, 2, 4),
        (100, {"map": "vmap"}, 2, DEFAULT_WIDTH),
    ],
    ids=["five", "one", "one device", "vmap", "packed", "many under vmap"],
)
def test_layout_follows_the_backend_the_members_and_the_config(two_devices, members, spec, devices, width):
    layout = make_layout(PopulationSpec(**spec), members=members)
    assert (layout.devices, layout.width) == (devices, width)


def test_a_pack_of_a_network_that_has_none_is_refused():
    with pytest.raises(ConfigError, match=r"config\.population\.map: expected auto, measured, loop or vmap"):
        make_layout(PACKED, members=5, model="smp_mit_b2")


def test_more_devices_than_there_are_are_refused():
    devices = jax.device_count()
    message = rf"config\.population\.devices: expected at most {devices} \(cpu\); found {devices + 1}"
    with pytest.raises(ConfigError, match=message):
        make_layout(PopulationSpec(devices=devices + 1), members=9)


@settings(max_examples=150)
@given(running=st.lists(st.booleans(), min_size=1, max_size=30), devices=st.integers(1, 5))
def test_a_deal_is_a_balanced_permutation(running, devices):
    running = np.resize(running, len(running) + -len(running) % devices)
    order = deal(running, devices=devices)
    if order is not None:
        assert sorted(order.tolist()) == list(range(len(running)))
        running = running[order]
        assert np.ptp(running.reshape(devices, -1).sum(1)) <= 1
    # Time goes by the fullest device, and no deal makes that emptier.
    assert running.reshape(devices, -1).sum(1).max() == -(-running.sum() // devices)


def test_rows_pass_the_host_so_that_no_device_waits_for_another(trained):
    current = trained.current
    rows = stacks.host_row((current.members, current.states), 0)
    held = [leaf for leaf in jax.tree.leaves(rows) if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    assert held and not any(isinstance(leaf, jax.Array) for leaf in held)
    assert_same(rows[1].epoch, np.asarray(current.states.epoch)[0])
    assert (jax.random.key_data(rows[0].key) == jax.random.key_data(current.members.key[0])).all()
