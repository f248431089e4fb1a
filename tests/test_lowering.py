"""Every program of every method lowers for a GPU and a TPU: nothing is compiled, and neither need be there."""

import dataclasses
import functools
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flipjax.config import ModelSpec, PopulationSpec
from flipjax.methods import METHODS, Augmentation, active_knobs
from flipjax.models import convolution
from flipjax.training import devices, population, run
from flipjax.training.assess import Questions
from flipjax.training.member import init_state
from flipjax.training.network import evaluate

# What JAX's own lowering leaves to the platform: sharding, random bits, and the solution of linear equations.
CALLS = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "cu_threefry2x32_ffi", "cusolver_getrf_ffi"}
CALLS |= {"cu_lu_pivots_to_permutation", "LuDecomposition"}


def check(function, *arguments):
    # Traced as for another backend than this machine's: of an experiment that no other test runs.
    with mock.patch.object(convolution, "for_cpu", lambda: False):
        traced = function.trace(*arguments)
        text = traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
        assert set(re.findall(r"custom_call @([\w$.]+)", text)) <= CALLS


@pytest.fixture(scope="module")
def given(tiny, make_member, pool, validation):
    """An experiment with what all methods need, its arguments, and a population of two in any form."""
    experiment = dataclasses.replace(tiny, model=ModelSpec(width=6, depth=1), active_knobs=active_knobs(METHODS))
    train = dataclasses.replace(experiment.train, strongest=Augmentation(crop=1.0, jitter=0.3))
    experiment = dataclasses.replace(experiment, train=train)
    members = [make_member(seed) for seed in range(2)]

    def make(form):
        layout = devices.make_layout(PopulationSpec(map=form, devices=1), members=2)
        current = population.create(experiment, layout, members)
        return layout, current, devices.replicate(layout, (pool, validation))

    return experiment, make


@pytest.mark.parametrize("form", ["loop", "packed"])
def test_an_epoch_lowers(given, tiny, form):
    experiment, make = given
    layout, current, shared = make(form)
    members, states = current.members, current.states
    if form == "loop":  # What methods add, a pack has as well.
        experiment = dataclasses.replace(tiny, model=experiment.model)
        states = jax.eval_shape(jax.vmap(functools.partial(init_state, experiment)), members)
    check(population._epoch, experiment, layout, members, states, *shared)


def test_evaluation_lowers(given):
    experiment, make = given
    layout, current, (pool, (rows, *_)) = make("packed")
    weights = current.states.best["val_loss"].weights
    scenes = jnp.zeros((2, 1, *pool.scenes.shape[1:]), jnp.float32), jnp.ones(1)
    for function, more in ((evaluate, ()), (Questions(), (scenes,)), (Questions("surroundings"), (rows,))):
        stacked = (weights, np.ones(2, bool), np.ones(2, np.float32))
        check(population._map_selected, experiment, layout, function, *stacked, pool, rows, *more)


def test_the_first_weights_and_what_methods_do_between_epochs_lower(given):
    experiment, make = given
    _, current, (pool, (rows, _, _, refit)) = make("loop")
    member, state = jax.tree.map(lambda leaf: leaf[0], (current.members, current.states))
    check(jax.jit(functools.partial(init_state, experiment)), member)
    check(jax.jit(functools.partial(run.second_run, experiment)), member, pool, state)
    check(jax.jit(functools.partial(run.refit, experiment)), member, state, pool, (rows[refit], rows[~refit]))
