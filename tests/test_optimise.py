"""The optimiser against optax's own, its schedule at hand-computed steps, and DFR's head against a minimiser."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize

from flipjax.training import optimise
from flipjax.training.epoch.dfr import fit_head
from flipjax.training.optimise import Recipe

rate_at, kept_share = (jax.jit(each, static_argnames="total") for each in (optimise.rate_at, optimise.kept_share))
TWINS = [
    (Recipe(1e-2), optax.adam(1e-2)),
    (Recipe(1e-2, weight_decay=0.3), optax.adamw(1e-2, weight_decay=0.3)),
    (Recipe(1e-2, clip_norm=0.5), optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2))),
]


@pytest.mark.parametrize(("recipe", "twin"), TWINS, ids=["Adam", "AdamW", "clipped"])
def test_steps_are_those_of_optax(recipe, twin):
    rng = np.random.default_rng(0)
    params = {"a": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), "b": jnp.ones(2)}
    result, opt_state, wanted, state = params, optimise.ADAM.init(params), params, twin.init(params)
    step, twin_step = jax.jit(optimise.update), jax.jit(twin.update)
    for scale in (0.01, 3.0, 1.0):
        drawn = {name: scale * rng.normal(size=leaf.shape) for name, leaf in params.items()}
        gradients = jax.tree.map(np.float32, drawn)
        result, opt_state = step(gradients, opt_state, result, recipe, rate=np.float32(1e-2))
        updates, state = twin_step(gradients, state, wanted)
        wanted = optax.apply_updates(wanted, updates)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), result, wanted)


RATES = {
    "constant": (Recipe(2.0), [2, 2, 2, 2]),
    "warmup": (Recipe(2.0, warmup=0.5), [1, 2, 2, 2]),
    "cosine": (Recipe(2.0, schedule=1.0), [2, 2 * 0.853553, 1, 2 * 0.146447]),
    "warmup alone": (Recipe(2.0, warmup=1.0, schedule=1.0), [0.5, 1, 1.5, 2]),
}


@pytest.mark.parametrize(("recipe", "rates"), RATES.values(), ids=RATES)
def test_rates_of_four_steps(recipe, rates):
    np.testing.assert_allclose(rate_at(np.arange(4), recipe, total=4), rates, rtol=1e-5)


def test_every_number_of_a_recipe_is_compared():
    compared = set()
    for recipe, _ in (*TWINS, *RATES.values()):
        compared |= {name for name, value in dataclasses.asdict(recipe).items() if value != getattr(Recipe(), name)}
    assert compared == {field.name for field in dataclasses.fields(Recipe)}


VALUES = np.array([5.0, 1.0, 2.0, 6.0, 4.0, 0.0])


def averages(*, ema=0.0, swa=0.0):
    """The averages of VALUES, step by step."""
    average, result = 0.0, []
    shares = kept_share(np.arange(6), ema=ema, swa=swa, total=6)
    for value, kept in zip(VALUES, np.asarray(shares), strict=True):
        average = value + kept * (average - value)
        result.append(average)
    return result


def test_without_an_average_the_weights_are_the_last_ones():
    np.testing.assert_allclose(averages(), VALUES, rtol=1e-5)


def test_stochastic_weight_averaging_is_the_mean_of_the_second_half():
    np.testing.assert_allclose(averages(swa=0.5), [5, 1, 2, 6, 5, 10 / 3], rtol=1e-5)


def test_a_moving_average_begins_quickly():
    moving = []
    for step, value in enumerate(VALUES):
        decay = min(0.15, (1 + step) / (10 + step))
        moving.append(decay * (moving[-1] if moving else 0) + (1 - decay) * value)
    np.testing.assert_allclose(averages(ema=0.15), moving, rtol=1e-5)


def test_a_head_is_the_minimum_of_its_convex_problem():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (4, 5, 6))
    features = rng.normal(size=(4, 5, 6, 2)) + masks[..., None] * [0.5, -0.3]
    head = {"kernel": np.float32(rng.normal(size=(2, 3))), "bias": np.ones(3, np.float32)}
    result = jax.jit(fit_head)(np.float32(features), masks, head, ridge=0.05)

    def loss(flat):
        table = flat.reshape(3, 3)
        logits = features.reshape(-1, 2) @ table[:2] + table[2]
        each = np.log(np.exp(logits).sum(1)) - logits[np.arange(masks.size), masks.ravel()]
        return each.mean() + 0.025 * (table**2).sum()

    wanted = minimize(loss, np.zeros(9), tol=1e-12).x.reshape(3, 3)
    np.testing.assert_allclose(result["kernel"], wanted[:2], atol=1e-4)
    np.testing.assert_allclose(result["bias"], wanted[2], atol=1e-4)
