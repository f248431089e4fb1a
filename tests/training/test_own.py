"""A configuration's own loss, augmentation and model: what they do, how they are told apart, and what is refused."""

import dataclasses
import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import python
from networks import Net

from flipjax import losses
from flipjax.config import ConfigError, default_config
from flipjax.config.identity import sources_of
from flipjax.config.methods import METHODS, Knobs, methods_of
from flipjax.config.plan import plan
from flipjax.training.epoch import loop
from flipjax.training.epoch.step import make_batch
from flipjax.training.member import init_state
from flipjax.training.network.own import check_own

# One program each: operation by operation each would compile dozens.
start, batch_of = (jax.jit(each, static_argnums=0) for each in (init_state, make_batch))
SCALE = 3.0
KEPT = []


def mine(logits, labels, groups, scale=1.0):
    return scale * losses.cross_entropy(logits, labels) * (1.0 + (groups == 1))


def dark(key, images, labels):
    return SCALE * images / 6, labels


def having(experiment, section, **fields):
    return dataclasses.replace(experiment, **{section: dataclasses.replace(getattr(experiment, section), **fields)})


def test_an_own_loss_takes_the_place_of_the_cross_entropy():
    key = jax.random.key(0)
    logits, labels = jax.random.normal(key, (3, 4, 4, 3)), jax.random.randint(key, (3, 4, 4), 0, 3)
    groups = jnp.array([0, 1, 3])
    ce, dice = losses.cross_entropy(logits, labels), losses.soft_dice_loss(logits, labels)
    doubled = functools.partial(mine, scale=2.0)

    @jax.jit
    def image_loss(knobs):
        return losses.image_loss(logits, labels, groups, knobs, own_losses=(mine, doubled))

    own = ce * np.array([1, 2, 1])
    for knobs, wanted in (({}, ce), ({"own_loss": 1.0}, own), ({"own_loss": 2.0, "dice": 0.5}, 2 * own + dice / 2)):
        np.testing.assert_allclose(image_loss(Knobs(**knobs)), wanted, rtol=1e-5)
    assert np.isinf(losses.guess_loss(Knobs(own_loss=1.0), num_classes=3))


def test_a_nan_of_an_own_loss_reaches_no_other_member():
    logits, labels, groups = jnp.zeros((2, 1, 2, 2, 3)), jnp.ones((2, 1, 2, 2), int), jnp.zeros((2, 1), int)
    zeros = Knobs(*jnp.zeros((len(dataclasses.fields(Knobs)), 2)))
    knobs = dataclasses.replace(zeros, own_loss=jnp.array([0.0, 1.0]))

    def bad(logits, labels, groups):
        return jnp.sqrt(logits).mean((1, 2, 3)) / 0

    def total(logits):
        image_loss = functools.partial(losses.image_loss, own_losses=(bad,))
        return jax.vmap(image_loss)(logits, labels, groups, knobs).sum(1)[0]

    assert np.isfinite(jax.jit(jax.grad(total))(logits)[0]).all()


def test_members_with_and_without_share_a_program(tiny, pool, validation, make_member, run_epoch):
    def record(experiment, **knobs):
        member = make_member(knobs=Knobs(**knobs))
        return run_epoch(experiment, member, pool, start(tiny, member), validation)[1]

    both = having(tiny, "train", loss=mine, augment=dark)
    without, with_own = record(both), record(both, own_loss=1.0)
    assert all(with_own[name] > without[name] for name in ("train_loss", "valid_loss"))


def test_an_own_augmentation_comes_last(tiny, pool, make_member):
    experiment = having(tiny, "train", augment=dark)
    batch = jnp.arange(4)
    plain = batch_of(tiny, make_member(), pool, batch, jax.random.key(0))
    for place, factor in ((0.0, 1.0), (1.0, 0.5)):
        member = make_member(knobs=Knobs(own_augment=place))
        images, *rest = batch_of(experiment, member, pool, batch, jax.random.key(0))
        np.testing.assert_allclose(images, factor * plain[0], rtol=1e-6)
        np.testing.assert_array_equal(rest[0], plain[1])


@pytest.mark.parametrize(("packed", "model"), [(True, {}), (False, {"build": Net})])
def test_they_are_mapped_over_members(tiny, pool, validation, make_member, packed, model):
    """Shapes alone: as a pack, which takes an own loss and augmentation, and under vmap, which takes any model."""
    experiment = having(having(tiny, "train", loss=mine, augment=dark), "model", **model)
    experiment = dataclasses.replace(experiment, packed=packed)
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(make_member(seed) for seed in range(2)))
    states = jax.eval_shape(jax.vmap(functools.partial(init_state, experiment)), members)
    mapped = jax.vmap(functools.partial(loop.run_epoch, experiment), in_axes=(0, None, 0, None))
    new, record = jax.eval_shape(mapped, members, pool, states, validation)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, states) and record["train_loss"].shape == (2,)


def own_config(**train):
    config = default_config()
    config.train.update(train)
    config.axes.method = ("ce", "mine", "mine+dark+balanced")
    return config


def test_they_are_methods_by_their_names_and_a_grid():
    config = own_config(loss=mine, augment=(dark,))
    config.axes.model = {"build": (None, Net)}
    programs = plan(config).programs
    knobs = {setting.axes["method"]: setting.knobs for setting in programs[0].settings}
    assert knobs["ce"] == Knobs() and knobs["mine"] == Knobs(own_loss=1)
    assert knobs["mine+dark+balanced"] == Knobs(own_loss=1, own_augment=1, balanced=1)
    assert programs[0].experiment.active_knobs == ("balanced", "own_augment", "own_loss")
    assert [program.settings[0].axes["model.build"] for program in programs] == ["none", "Net"]
    assert len({hash(program.experiment) for program in programs}) == 2
    assert sources_of(config).keys() == {"dark", "mine", "Net"}
    config.train.loss = (dark, mine)
    own = {name: method for name, method in methods_of(config).items() if name not in METHODS}
    assert own == {"dark": {"own_augment": 1}, "mine": {"own_loss": 2}}


REFUSED = [
    ({"loss": lambda *arrays: 0}, "train.loss"),
    ({"loss": (mine, mine)}, "train.loss"),
    ({"loss": mine, "augment": mine}, "train.loss"),
    ({"loss": mine}, "axes.method"),
    ({"loss": dark}, "axes.method"),
    ({"loss": mine, "augment": (dark, Net)}, "axes.method"),
]


@pytest.mark.parametrize(("train", "field"), REFUSED)
def test_a_configuration_that_cannot_name_them(train, field):
    with pytest.raises(ConfigError) as caught:
        plan(own_config(**train))
    assert caught.value.field == f"config.{field}"


def scalar(logits, labels, groups):
    return mine(logits, labels, groups).mean()


def leaky(logits, labels, groups):
    KEPT.append(logits)
    return mine(logits, labels, groups)


def two_classes(num_classes, rngs):
    return Net(num_classes - 1, rngs)


DOORS = {
    "train.loss": (
        mine,
        scalar,
        lambda *arrays: mine(*arrays) * random.random(),
        leaky,
        lambda logits, labels, groups: mine(logits, labels, groups) if groups[0] else logits.mean((1, 2, 3)),
    ),
    "train.augment": (dark, lambda key, images, labels: (images.astype(jnp.bfloat16), labels)),
    "model.build": (Net, two_classes, mine),
}


@pytest.mark.parametrize("place", DOORS)
def test_what_does_not_fit_is_one_line(tiny, place):
    section, field = place.split(".")
    fits, *misfits = (having(tiny, section, **{field: function}) for function in DOORS[place])
    check_own(fits)
    for experiment in misfits:
        with pytest.raises(ConfigError) as caught:
            check_own(experiment)
        assert caught.value.field == f"config.{place}" and "\n" not in str(caught.value)


def test_an_array_of_jax_in_the_file_leaves_a_device_a_core(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    text = "import jax.numpy as jnp\nfrom flipjax.config import default_config as get_config\nA = jnp.ones(2)\n"
    (tmp_path / "own.py").write_text(text)
    code = "from flipjax.config.reading import read_config\nfrom flipjax.support.process import as_command\n"
    code += f"with as_command():\n    read_config({str(tmp_path / 'own.py')!r})\n"
    code += "import jax\nfrom flipjax.support.threads import cores\nprint(len(jax.devices()) == cores())"
    assert python(code).stdout == "True\n"
