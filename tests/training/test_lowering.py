"""Every program of every method lowers for a GPU and a TPU: nothing is compiled, and neither need be there."""

import dataclasses
import functools
import re
from unittest import mock

import jax
import numpy as np
import pytest

from flipjax.config import ModelSpec, PopulationSpec
from flipjax.config.methods import METHODS, active_knobs
from flipjax.models.convolutions import tracing
from flipjax.training.assess import Questions
from flipjax.training.epoch import loop
from flipjax.training.member import init_state
from flipjax.training.network.forward import evaluate
from flipjax.training.population import devices
from flipjax.training.population import epochs as population_run
from flipjax.training.population import selected as population_selected

# What JAX's own lowering leaves to the platform: sharding, random bits, and the solution of linear equations.
CALLS = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "cu_threefry2x32_ffi", "cusolver_getrf_ffi"}
CALLS |= {"cu_lu_pivots_to_permutation", "LuDecomposition"}


def check(function, *arguments):
    # Traced as for another backend than this machine's: of an experiment that no other test runs.
    with mock.patch.object(tracing, "for_cpu", lambda: False):
        traced = function.trace(*arguments)
        text = traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
        assert set(re.findall(r"custom_call @([\w$.]+)", text)) <= CALLS


@pytest.fixture(scope="module")
def everything(tiny):
    """An experiment with what all methods need."""
    model = ModelSpec(width=6, depth=1)
    active = {"active_knobs": active_knobs(METHODS), "active_numbers": ("crop", "jitter")}
    return dataclasses.replace(tiny, model=model, **active)


@pytest.fixture(scope="module")
def shapes(make_member, pool, validation):
    """Makes a layout of two members in any form, and the shapes of an epoch's arguments."""

    def make(experiment, form):
        layout = devices.make_layout(PopulationSpec(map=form, devices=1), members=2)
        one = jax.eval_shape(lambda member: (member, init_state(experiment, member)), make_member())
        stacked = devices.shapes_of(layout, one, members=2)
        return layout, *stacked, *devices.shapes_of(layout, (pool, validation))

    return make


@pytest.mark.parametrize("form", ["loop", "packed"])
def test_an_epoch_lowers(shapes, tiny, everything, form):
    # What methods add, a pack has as well.
    experiment = everything if form == "packed" else dataclasses.replace(tiny, model=everything.model)
    layout, *arguments = shapes(experiment, form)
    check(population_run.epoch_program(layout), experiment, layout, *arguments)


@pytest.mark.parametrize("asked", ["the decomposition", "swapped scenes", "surroundings"])
def test_evaluation_lowers(shapes, everything, asked):
    layout, _, states, pool, (rows, *_) = shapes(everything, "packed")
    stacked = states.best["val_loss"].weights, np.ones(2, bool), np.ones(2, np.float32)
    scenes = np.zeros((2, 1, *pool.scenes.shape[1:]), np.float32), np.ones(1, np.float32)
    function, given = {
        "the decomposition": (evaluate, ()),
        "swapped scenes": (Questions(), (scenes,)),
        "surroundings": (Questions("surroundings"), (rows,)),
    }[asked]
    check(population_selected.selected_program(layout), everything, layout, function, *stacked, pool, rows, *given)


def test_the_first_weights_lower(everything, make_member):
    check(jax.jit(functools.partial(init_state, everything)), make_member())


@pytest.fixture
def begun(everything, make_member):
    """A member, and the shapes of its first state."""
    member = make_member()
    return member, jax.eval_shape(functools.partial(init_state, everything), member)


def test_a_second_run_lowers(everything, begun, pool):
    member, state = begun
    check(jax.jit(functools.partial(loop.second_run, everything)), member, pool, state)


def test_a_refit_of_the_head_lowers(everything, begun, pool, validation):
    member, state = begun
    rows, _, _, refit = validation
    check(jax.jit(functools.partial(loop.refit, everything)), member, state, pool, (rows[refit], rows[~refit]))
