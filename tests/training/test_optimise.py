"""The optimiser against optax's own, its schedule at hand-computed steps, and DFR's head against a minimiser."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import with_optimizer
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from flipjax.training import optimise
from flipjax.training.epoch.dfr import fit_head
from flipjax.training.network.forward import NO_WEIGHTS, first_weights
from flipjax.training.optimise import Recipe

rate_at, kept_share = (jax.jit(each, static_argnames="total") for each in (optimise.rate_at, optimise.kept_share))
TOTAL = 8
SCHEDULE = optax.join_schedules([optax.linear_schedule(0.005, 0.01, 1), optax.cosine_decay_schedule(0.01, 6)], [2])
"""The rates of optax for 8 steps at 0.01, of which a quarter warms up and the rest falls as a cosine."""
SCHEDULED = {"warmup": 0.25, "schedule": 1.0}


def nesterov(learning_rate):
    return optax.sgd(learning_rate, momentum=0.9, nesterov=True)


def clipped(optimiser):
    return optax.chain(optax.clip_by_global_norm(0.5), optimiser)


def sgd_with_decoupled_decay(rate):
    return optax.chain(optax.trace(0.9), optax.add_decayed_weights(0.3), optax.scale_by_learning_rate(rate))


TWINS = {
    "Adam": ("adam", {}, optax.adam(0.01)),
    "AdamW": ("adam", {"weight_decay": 0.3}, optax.adamw(0.01, weight_decay=0.3)),
    "Adam, clipped": ("adam", {"clip_norm": 0.5}, clipped(optax.adam(0.01))),
    "AdamW, scheduled": ("adam", {"weight_decay": 0.3, **SCHEDULED}, optax.adamw(SCHEDULE, weight_decay=0.3)),
    "SGD": ("sgd", {}, optax.sgd(0.01)),
    "SGD with momentum": ("sgd", {"momentum": 0.9}, optax.sgd(0.01, momentum=0.9)),
    "SGD, clipped": ("sgd", {"momentum": 0.9, "clip_norm": 0.5}, clipped(optax.sgd(0.01, momentum=0.9))),
    "SGD, decayed": ("sgd", {"momentum": 0.9, "weight_decay": 0.3}, sgd_with_decoupled_decay(0.01)),
    "SGD, scheduled": ("sgd", {"momentum": 0.9, **SCHEDULED}, optax.sgd(SCHEDULE, momentum=0.9)),
    "Nesterov": (nesterov, {}, nesterov(0.01)),
    "Nesterov, clipped": (nesterov, {"clip_norm": 0.5}, clipped(nesterov(0.01))),
    "Nesterov, decayed": (
        nesterov,
        {"weight_decay": 0.3},
        optax.chain(nesterov(0.01), optax.add_decayed_weights(-0.01 * 0.3)),
    ),
    "Nesterov, scheduled": (nesterov, SCHEDULED, nesterov(SCHEDULE)),
    # Each array has a rate of its own.
    "LAMB, scheduled": (optax.lamb, SCHEDULED, optax.lamb(SCHEDULE)),
}


@pytest.mark.parametrize(("optimizer", "numbers", "twin"), TWINS.values(), ids=TWINS)
def test_steps_are_those_of_optax(tiny, optimizer, numbers, twin):
    experiment = with_optimizer(tiny, optimizer)
    recipe = jax.tree.map(jnp.float32, Recipe(learning_rate=0.01, **numbers))
    wanted = first_weights(experiment, jax.random.key(0), NO_WEIGHTS).params
    params, unravel = ravel_pytree(wanted)

    def take_step(gradients, opt_state, params, step):
        rate = optimise.rate_at(step, recipe, total=TOTAL)
        return optimise.update(experiment, gradients, opt_state, params, recipe, rate=rate)

    opt_state = optimise.make_optimiser(experiment, recipe, rate=recipe.learning_rate).init(params)
    twin_state = twin.init(wanted)
    take_step, twin_step = jax.jit(take_step), jax.jit(twin.update)
    rng = np.random.default_rng(0)
    for step in range(TOTAL):
        gradients = np.float32((0.01, 3.0)[step % 2] * rng.normal(size=params.size))
        params, opt_state = take_step(gradients, opt_state, params, step)
        updates, twin_state = twin_step(unravel(gradients), twin_state, wanted)
        wanted = optax.apply_updates(wanted, updates)
        np.testing.assert_allclose(params, ravel_pytree(wanted)[0], rtol=1e-5, atol=1e-7)


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
    for recipe in (Recipe(learning_rate=0.01), *(Recipe(**numbers) for _, numbers, _ in TWINS.values())):
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


def test_a_newton_step_that_is_not_finite_is_not_taken():
    masks = np.array([[[0, 1, 2, 1]]])
    # The square of a feature overflows float32, so the Hessian and each step are not finite; the loss at the start is.
    features = np.full((1, 1, 4, 2), 1e25, np.float32)
    head = {"kernel": np.zeros((2, 3), np.float32), "bias": np.float32([0.5, -0.5, 0.0])}
    result = jax.jit(fit_head)(features, masks, head, ridge=0.05)
    np.testing.assert_array_equal(result["kernel"], head["kernel"])
    np.testing.assert_array_equal(result["bias"], head["bias"])
