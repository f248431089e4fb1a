"""`make_train` under the transformations of JAX, against the engine of a sweep."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import populations
import pytest
from jax.sharding import PartitionSpec as P

import flipjax
from flipjax.backend.compiler import fast_jit
from flipjax.backend.random import key_of
from flipjax.config import ConfigError, PopulationSpec
from flipjax.training import train as train_module
from flipjax.training.assess import Questions
from flipjax.training.member import Status, init_state
from flipjax.training.network.forward import flat
from flipjax.training.population import epochs as population_run
from flipjax.training.population import members as population
from flipjax.training.population import selected as population_selected
from flipjax.training.task import make_members

pytestmark = pytest.mark.usefixtures("compiled_as_for_users", "drawn_once")
METHODS = ("ce", "group_dro", "jtt", "dfr", "ema")
SMALL = {"pool.size": 16, "pool.objects": 40, "pool.scenes": 24, "model.width": 4, "model.depth": 1}
SMALL |= {"split.n_train": 32, "split.n_val": 16, "split.n_test": 16}
whole_jit = jax.jit if jax.__version_info__ < (0, 11) else fast_jit
SHORT = {"train__epochs": 2, "axes__method": ("ce", "bg_cutmix"), "axes__rho": (0.5,), "axes__seed": (0,)}


def configuration(**changes):
    return flipjax.configure("smoke", SMALL | {name.replace("__", "."): value for name, value in changes.items()})


def make(**changes):
    return flipjax.make_train(configuration(**changes))


@pytest.fixture(scope="module")
def small():
    return make(**SHORT)


@pytest.fixture(scope="module")
def alone(small):
    return whole_jit(small)


@pytest.fixture
def of_methods():
    """Five methods, of which JTT trains twice."""
    axes = {"axes__method": METHODS, "axes__rho": (0.9,), "axes__seed": (0, 1), "axes__train__learning_rate": (0.05,)}
    return make(**axes, train__epochs=4, train__patience=2, knobs__jtt_epochs=2)


def test_a_sharded_map_of_whole_runs_has_the_weights_and_counts_of_a_sweep(two_devices, of_methods):
    train = of_methods
    setup, experiment = train.setup, train.experiment
    members = make_members(setup.program, setup.task)
    engine = populations.train(experiment, members, train.data.pool, train.data.val)
    current = population_run.refit_heads(engine.current, *engine.shared)
    states = population.states_of(current)
    mesh = jax.make_mesh((2,), ("members",), axis_types=(jax.sharding.AxisType.Auto,))
    of_all, spec = functools.partial(jax.lax.map, train), P("members")
    dealt = jax.shard_map(of_all, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    trained = jax.device_get(whole_jit(dealt)(train.members()))
    assert (trained.status == Status.STOPPED).any() and (trained.epochs > 4).any()
    populations.assert_same((trained.status, trained.epochs), (states.status, states.epoch))
    for rule, kept in populations.copied(current).best.items():
        assert_kept(trained.best[rule], kept, experiment)
    length = len(engine.records)
    for name, rows in trained.history.items():
        wanted = np.stack([record[name] for record in engine.records], axis=1)
        np.testing.assert_allclose(rows[:, :length], wanted, rtol=1e-5)
        assert np.isnan(rows[:, length:]).all()
    # All that a sweep asks, whose program differs most from that of a whole run.
    asked = Questions("none", logit_scores=True, mirror_and_fills=True, masks=True)
    answers = population_selected.map_selected(current, asked, train.data.pool, train.data.test, None).decomposition
    for place, rule in enumerate(experiment.train.selection):
        populations.assert_same(trained.test[rule].confusion, answers.confusion[place])
        # Two programs may round a sum of floats differently.
        np.testing.assert_allclose(trained.test[rule].risk_sum, answers.risk_sum[place], rtol=1e-5)


def assert_kept(found, kept, experiment):
    """The weights that a rule kept are those of a sweep in bits, and their score, a sum of floats, to rounding."""
    populations.assert_same(found.weights, populations.nested_all(experiment, kept.weights))
    populations.assert_same(found.epoch, kept.epoch)
    np.testing.assert_allclose(found.score, kept.score, rtol=1e-5)


def nesterov(learning_rate):
    return optax.sgd(learning_rate, momentum=0.9, nesterov=True)


OPTIMIZERS = {"SGD": {"train.optimizer": "sgd", "train.momentum": 0.9}, "own": {"train.optimizer": nesterov}}


@pytest.mark.parametrize("changes", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_train_map_has_the_weights_of_a_sweep_whatever_optimiser_trains_twice_and_averages(changes):
    """DFR's refit takes no step of an optimiser."""
    methods = {"axes.method": ("jtt", "ema"), "axes.rho": (0.9,), "axes.seed": (0,), "train.epochs": 2}
    train = flipjax.make_train(configuration(), {**changes, **methods, "knobs.jtt_epochs": 1})
    members = make_members(train.setup.program, train.setup.task)
    engine = populations.train(train.experiment, members, train.data.pool, train.data.val)
    states = populations.copied(engine.current)
    trained = jax.device_get(train.map(train.members()))
    assert trained.epochs.tolist() == [3, 2]
    assert (trained.status == Status.FINISHED).all()
    assert_kept(trained.best["val_loss"], states.best["val_loss"], train.experiment)


OF_ONEDNN = {
    "pool.size": 16,
    "pool.objects": 40,
    "pool.scenes": 24,
    "model.width": 8,
    "model.depth": 2,
    "split.n_train": 32,
    "split.n_val": 16,
    "split.n_test": 16,
    "train.epochs": 2,
    "axes.method": ("ce",),
    "axes.rho": (0.9,),
    "axes.seed": (0, 1),
    "population.convolutions": "onednn",
}


@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="fast_jit has the weights of a sweep from JAX 0.11 on")
def test_of_oneDNN_a_whole_run_in_one_program_has_the_weights_of_a_sweep(onednn):  # noqa: N802
    train = flipjax.make_train("smoke", OF_ONEDNN)
    assert train.convolutions == "onednn"
    spec = PopulationSpec(map="loop", convolutions="onednn")
    members = make_members(train.setup.program, train.setup.task)
    engine = populations.train(train.experiment, members, train.data.pool, train.data.val, spec=spec)
    mapped = fast_jit(functools.partial(jax.lax.map, train), convolutions=train.convolutions)
    trained = jax.device_get(mapped(train.members()))
    for rule, kept in populations.copied(engine.current).best.items():
        assert_kept(trained.best[rule], kept, train.experiment)


def test_cue_strength_is_a_traced_number_of_a_member(small, alone):
    train = make(**SHORT, axes__pool__cue_strength=(0.0, 1.0))
    compiled = whole_jit(train)
    none, whole = (compiled(train.member(rho=0.9, cue_strength=level)) for level in (0.0, 1.0))
    assert compiled._cache_size() == 1
    # Another program.
    without = alone(small.member(rho=0.9))
    np.testing.assert_allclose(whole.history["train_loss"], without.history["train_loss"], rtol=1e-4)
    sets = np.argsort(train.setup.task.tables["test"].pairs, kind="stable").reshape(-1, 2).T
    one, other = np.asarray(none.test["val_loss"].confusion)[sets]
    np.testing.assert_array_equal(one, other)  # So that Flip of common and rare groups is the same.
    one, other = np.asarray(whole.test["val_loss"].confusion)[sets]
    assert (one != other).any()
    with pytest.raises(ConfigError, match="cue_strength"):
        train.member(cue_strength=1.5)


def test_a_traced_value_out_of_range_ends_without_numbers(small):
    made = jax.jit(jax.vmap(lambda rate, mirrored: small.member(learning_rate=rate, hflip=mirrored)))
    members = made(np.float32([2e-3, 2e-3, -1.0]), np.float32([0.5, 1.5, 0.5]))
    assert np.isnan(members.recipe.learning_rate).tolist() == [False, True, True]


@pytest.mark.parametrize("levels", [np.array([0.5, 0.9]), [0.5, 0.9]], ids=["array", "list"])
def test_several_values_of_a_member_are_one_sentence(small, levels):
    message = r"config.axes.rho: expected one value; found an array of shape \(2,\); train.members\(rho=...\) makes"
    with pytest.raises(ConfigError, match=message):
        small.member(rho=levels)


def test_vmap_over_traced_levels_seeds_and_rates(small, alone):
    def run(train, rho, seed, rate):
        return train(train.member(rho=rho, seed=seed, learning_rate=rate))

    rhos, rates = np.float32([0.5, 0.75, 0.3, 0.5]), np.float32([2e-3, 2e-3, 2e-3, np.nan])
    trained = jax.jit(jax.vmap(run, (None, 0, None, 0)))(small, rhos, np.int32(1), rates)
    assert trained.status.tolist() == [Status.FINISHED] * 2 + [Status.DIVERGED] * 2
    assert trained.epochs.tolist() == [2, 2, 1, 1]
    # What raises no error gives no number.
    flips = np.asarray(trained.test["val_loss"].flip)
    assert np.isnan(flips[2:]).all() and np.isfinite(flips[:2]).any()
    for place, rho in enumerate((0.5, 0.75)):
        one = alone(small.member(rho=rho, seed=1))
        np.testing.assert_allclose(trained.history["valid_loss"][place], one.history["valid_loss"], atol=1e-2)
    assert alone._cache_size() == 1
    traced = alone(jax.jit(small.member)(rho=rhos[1], seed=np.int32(1)))
    populations.assert_same(traced, one)
    with pytest.raises(ValueError, match="expected one member"):
        small.model(trained)
    model = small.model(one, "val_loss")
    tuned = flipjax.make_train(configuration(**SHORT), start=model)
    began = jax.jit(init_state, static_argnums=0)(small.experiment, small.member(), tuned.start).weights
    populations.assert_same(began, flat(one.best["val_loss"].weights))
    with pytest.raises(ValueError, match=r"start: .*first"):
        flipjax.make_train(configuration(**SHORT), {"model.width": 8}, start=model)


def test_vmap_on_a_cpu_is_noted_once_and_a_loop_is_not(small, capsys, monkeypatch):
    monkeypatch.setattr(train_module, "_say_once", functools.cache(train_module.say))
    members = small.members(rho=(0.5, 0.75))
    jax.eval_shape(functools.partial(jax.lax.map, small), members)
    assert capsys.readouterr().err == ""

    def of_rho_and_seed(rho, seed):
        return small(small.member(rho=rho, seed=seed))

    for _ in range(2):
        seeds = jax.vmap(of_rho_and_seed, (None, 0))
        jax.eval_shape(jax.vmap(seeds, (0, None)), np.float32([0.5, 0.75]), np.arange(2))
    jax.eval_shape(jax.vmap(small), members)
    said = capsys.readouterr().err
    assert said.count("note: on a CPU jax.vmap") == said.count("\n") == 1


def test_data_in_memory_takes_the_place_of_the_pool(small):
    # Equal configurations share programs.
    assert jax.tree.structure(make(**SHORT)) == jax.tree.structure(small)
    given = flipjax.make_train(configuration(**SHORT), data=small.setup.task)
    populations.assert_same(given.member(rho=0.9).rows, small.member(rho=0.9).rows)


REFUSED = [
    (lambda train: train.member(roh=0.9), "the nearest is rho"),
    (lambda train: train.member(rho=0.3), "rho"),
    (lambda train: train.member(learning_rate=-1.0), "config.train.learning_rate"),
    (lambda train: train.member(method="jtt"), "method"),
    (lambda train: train.member(momentum=0.9), "train.momentum"),
    (lambda train: train.member(crop=1.0), "crop"),
    (lambda train: train.member(cue_strength=0.5), "cue_strength"),
    (lambda train: train.members([{"rho": 0.9}], rho=(0.5,)), "rho"),
    (lambda train: train.members([]), "members"),
    (lambda train: flipjax.make_train("smoke", {"axes.model.width": (4, 8)}), "axes.model.width"),
    (lambda train: make(**SHORT, pool__name="arrays"), "arrays"),
    (lambda train: make(**SHORT, split__n_train=400), "^config.split: n_train 400 at rho 0.5 needs"),
]


@pytest.mark.parametrize(("call", "names"), REFUSED)
def test_what_is_refused_is_named(small, call, names):
    with pytest.raises(ValueError, match=names):
        call(small)


def test_numbers_of_numpy_make_the_same_member(small):
    def words(member):
        return dataclasses.replace(member, key=jax.random.key_data(member.key))

    plain = small.member(rho=0.75, seed=1, learning_rate=0.25)
    numpys = small.member(rho=np.float32(0.75), seed=np.int64(1), learning_rate=np.array(0.25))
    populations.assert_same(words(plain), words(numpys))
    stacked = small.members(rho=np.array([0.5, 0.75]), seed=range(2))
    populations.assert_same(words(stacked), words(small.members(rho=(0.5, 0.75), seed=(0, 1))))


def test_explicit_axes_and_other_settings_of_jax_are_refused(two_devices, small):
    member = small.member()
    with jax.set_mesh(jax.make_mesh((2,), ("members",))), pytest.raises(ConfigError, match="Explicit"):
        jax.eval_shape(small, small.member())
    with jax.enable_x64(True), pytest.raises(ConfigError, match="JAX_ENABLE_X64"):
        flipjax.make_train("smoke")
    with jax.enable_x64(True), pytest.raises(ConfigError, match="JAX_ENABLE_X64"):
        small(member)


def test_keys_depend_on_the_seed_alone():
    seeds = (0, 5, 2**31 - 1)
    wanted = [jax.random.key(seed, impl="threefry2x32") for seed in seeds]
    jax.config.update("jax_random_seed_offset", 3)
    try:
        with jax.default_prng_impl("rbg"):
            found = [key_of(seed) for seed in seeds]
    finally:
        jax.config.update("jax_random_seed_offset", 0)
    np.testing.assert_array_equal(*([jax.random.key_data(key) for key in keys] for keys in (found, wanted)))
