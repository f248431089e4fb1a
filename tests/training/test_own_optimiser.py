"""A user's own optimiser of optax: in every form of training, after a kill, in shards, and what is refused."""

import functools
import random
import shutil

import faults
import jax
import jax.numpy as jnp
import numpy as np
import optax
import populations
import pytest
from conftest import with_optimizer
from populations import assert_same

import flipjax
from flipjax.config import ConfigError, PopulationSpec
from flipjax.data import POOLS
from flipjax.training.member import Status
from flipjax.training.network.own import check_own
from flipjax.training.population.stacks import take_member

pytestmark = pytest.mark.usefixtures("compiled_as_for_users")
KEPT = []


def are_matrices(params):
    return jax.tree.map(lambda array: array.ndim > 1, params)


def mine(learning_rate):
    """States of several types, and a decay that tells arrays apart."""
    return optax.adamw(learning_rate, mu_dtype=jnp.bfloat16, weight_decay=0.01, mask=are_matrices)


@pytest.fixture(scope="module")
def members(make_member):
    return [make_member(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def train(tiny, pool, validation):
    return functools.partial(populations.train, with_optimizer(tiny, mine), pool=pool, validation=validation)


@pytest.fixture(scope="module")
def trained(train, members):
    return train(members, epochs=2)


def test_a_member_in_the_loop_learns_and_equals_itself_alone(trained, train, members):
    for index in (0, 2):
        assert_same(take_member(trained.states[-1], [index]), train([members[index]], epochs=2).states[-1])
    assert (trained.records[1]["train_loss"] < trained.records[0]["train_loss"]).all()
    assert {leaf.dtype.name for leaf in jax.tree.leaves(trained.states[-1].opt_state)} >= {"bfloat16", "float32"}


def test_a_continued_run_equals_an_unbroken_one(trained, train, members):
    assert_same(train(members, states=trained.states[1], epochs=1).states[-1], trained.states[-1])


@pytest.mark.parametrize("form", ["vmap", "packed"])
def test_members_side_by_side_stay_close_to_the_loop(trained, train, members, form):
    spec = PopulationSpec(map=form, width=2)
    mapped = train(members, spec=spec, states=trained.states[0], epochs=1)
    for name in ("train_loss", "valid_loss"):
        np.testing.assert_allclose(mapped.records[0][name], trained.records[0][name], rtol=1e-3)


def lost_when_fast(learning_rate):
    return optax.sgd(jnp.where(learning_rate > 0.1, jnp.nan, learning_rate))


@pytest.mark.parametrize("form", ["loop", "packed"])
def test_a_member_whose_optimiser_returns_nan_diverges_alone(tiny, pool, validation, make_member, form):
    members = [make_member(learning_rate=rate) for rate in (0.01, 1.0)]
    experiment = with_optimizer(tiny, lost_when_fast)
    check_own(experiment)
    spec = PopulationSpec(map=form, width=2)
    states = populations.train(experiment, members, pool, validation, spec=spec, epochs=1).states[-1]
    assert states.status.tolist() == [Status.RUNNING, Status.DIVERGED]
    assert np.isfinite(states.weights.params[0]).all()


OWN_FILE = (
    faults.CONFIG.replace(
        "sizes | {", 'sizes | {"train.optimizer": mine, "intervene.scenes": "none", "intervene.scores": "none", '
    )
    + """
def mine(learning_rate):
    import optax
    return optax.sgd(learning_rate, momentum=0.9, nesterov=True)
"""
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of an own optimiser: its folder, and its file."""
    place = tmp_path_factory.mktemp("own")
    (place / "own.py").write_text(OWN_FILE)
    code, text = faults.sweep("--config", place / "own.py", "--workdir", place / "whole")
    assert code == 0, text
    return place / "whole", place / "own.py"


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(whole, tmp_path):
    finished, file = whole
    shutil.copytree(finished / "checkpoints", tmp_path / "run/checkpoints", ignore=shutil.ignore_patterns("3"))
    shutil.copy(finished / "config.json", tmp_path / "run")
    code, text = faults.sweep("--config", file, "--workdir", tmp_path / "run")
    assert code == 0 and "continues after epoch 2" in text, text
    assert faults.same(tmp_path / "run", "results.csv", "history.csv", whole=finished)


def test_shards_equal_the_whole(whole, tmp_path):
    finished, file = whole
    for shard in ("0/2", "1/2"):
        code, text = faults.sweep("--config", file, "--workdir", tmp_path / "run", "--shard", shard)
        assert code == 0, text
    assert faults.same(tmp_path / "run", "results.csv", "history.csv", whole=finished)


def test_an_edited_one_is_another_run(whole, tmp_path):
    finished, _ = whole
    (tmp_path / "own.py").write_text(OWN_FILE.replace("momentum=0.9", "momentum=0.8"))
    code, text = faults.sweep("--config", tmp_path / "own.py", "--workdir", finished)
    assert code == 2 and "config.train.optimizer: 'mine " in text


def test_an_opened_run_has_the_default_in_its_place(whole):
    opened = flipjax.open_run(whole[0])
    assert opened.config.train.optimizer == "adam"


def transformation(update, init=lambda params: ()):
    """An optimiser of optax with an update, a function of gradients and state."""
    return optax.GradientTransformation(init, lambda gradients, state, params=None: update(gradients, state))


def no_transformation(learning_rate):
    return learning_rate


def shrinks_updates(learning_rate):
    return transformation(lambda gradients, state: (jax.tree.map(jnp.sum, gradients), state))


def halves_precision(learning_rate):
    return transformation(lambda gradients, state: (optax.tree.cast(gradients, jnp.bfloat16), state))


def grows(learning_rate):
    def update(gradients, state):
        return gradients, jnp.zeros(len(state) + 1)

    return transformation(update, lambda params: jnp.zeros(1))


def changes_structure(learning_rate):
    return transformation(lambda gradients, state: (gradients, []))


def keeps_text(learning_rate):
    return transformation(lambda gradients, state: (gradients, state), lambda params: "text")


def needs_the_loss(learning_rate):
    return optax.polyak_sgd(learning_rate)


def asks_the_rate(learning_rate):
    return optax.sgd(learning_rate if learning_rate < 1 else 1.0)


def leaks(learning_rate):
    KEPT.append(learning_rate)
    return optax.sgd(learning_rate)


def prints(learning_rate):
    def update(gradients, state):
        jax.debug.print("{}", learning_rate)
        return gradients, state

    return transformation(update)


def draws_from_python(learning_rate):
    return optax.sgd(learning_rate * random.random())


def keeps_a_key(learning_rate):
    return optax.noisy_sgd(learning_rate, key=0)


def keeps_the_first_rate(learning_rate):
    return optax.inject_hyperparams(optax.adam)(learning_rate=learning_rate)


REFUSED = {
    no_transformation: "to return an optax.GradientTransformation; found an object of type ",
    shrinks_updates: "to return updates of the parameters' types and shapes; found float32[] in place of float32[",
    halves_precision: "to return updates of the parameters' types and shapes; found bfloat16[",
    grows: "to return a state of the first state's types and shapes; found float32[2] in place of float32[1]",
    changes_structure: "to return a state of the first state's types and shapes; found the same arrays in another",
    keeps_text: "'str'",
    needs_the_loss: "'value'",
    asks_the_rate: "TracerBoolConversionError",
    leaks: "Leaked",
    prints: "to be pure; found side effects: Debug",
    draws_from_python: "to be pure; found another program each time",
    keeps_a_key: "to have a state of numbers; found a PRNG key at [0].rng_key",
    keeps_the_first_rate: "to use the learning rate of each step; found one that keeps the first, as optax.inject_",
}


@pytest.mark.parametrize(("own", "found"), REFUSED.items(), ids=[own.__name__ for own in REFUSED])
def test_what_does_not_fit_is_one_sentence(tiny, own, found):
    with pytest.raises(ConfigError) as caught:
        check_own(with_optimizer(tiny, own))
    assert caught.value.field == "config.train.optimizer"
    assert found in str(caught.value) and "\n" not in str(caught.value)


FITTING = {
    "Lion": optax.lion,
    "LAMB": optax.lamb,
    "Muon": optax.contrib.muon,
    "Adafactor": optax.adafactor,
    "without a rate": lambda learning_rate: optax.contrib.dog(),
    "several steps a move": lambda rate: optax.MultiSteps(optax.sgd(rate), 2).gradient_transformation(),
}


@pytest.mark.parametrize("own", FITTING.values(), ids=FITTING)
def test_optimisers_of_optax_fit(tiny, own):
    check_own(with_optimizer(tiny, own))


def test_one_that_does_not_fit_writes_nothing(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.train\.optimizer: expected shrinks_updates to return updates"):
        flipjax.run("smoke", {"train.optimizer": shrinks_updates}, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


TYPED = {
    "no transformation": ("return learning_rate", "to return an optax.GradientTransformation; found an object of type"),
    "side effects": ("KEPT.append(learning_rate)\n    return optax.sgd(learning_rate)", "Leaked"),
}


@pytest.mark.parametrize(("body", "found"), TYPED.values(), ids=TYPED)
def test_one_that_does_not_fit_ends_the_command_with_a_sentence_and_writes_nothing(body, found, tmp_path):
    file = OWN_FILE.partition("def mine")[0] + f"KEPT = []\ndef mine(learning_rate):\n    import optax\n    {body}\n"
    (tmp_path / "own.py").write_text(file)
    code, text = faults.sweep("--config", tmp_path / "own.py", "--workdir", tmp_path / "run")
    assert code == 2 and text.count("\n") == 1
    assert text.startswith("flipjax sweep: config.train.optimizer: expected ") and found in text
    assert not (tmp_path / "run").exists()


def test_make_train_refuses_one_that_does_not_fit_before_it_draws(monkeypatch):
    monkeypatch.delitem(POOLS, "synthetic")
    with pytest.raises(ConfigError, match=r"config\.train\.optimizer: expected shrinks_updates to return updates"):
        flipjax.make_train("smoke", {"train.optimizer": shrinks_updates, "pool.size": 16})
