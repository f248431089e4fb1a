"""Every program of every method lowers for a GPU and a TPU: nothing is compiled, and neither need be there."""

import dataclasses
import functools
import re
from unittest import mock

import jax
import numpy as np
import pytest

from flipjax.config import ModelSpec, PopulationSpec
from flipjax.methods import METHODS, active_knobs
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
    check(population.epoch_program(layout), experiment, layout, *arguments)


def test_evaluation_lowers(shapes, everything):
    layout, _, states, pool, (rows, *_) = shapes(everything, "packed")
    stacked = states.best["val_loss"].weights, np.ones(2, bool), np.ones(2, np.float32)
    scenes = np.zeros((2, 1, *pool.scenes.shape[1:]), np.float32), np.ones(1, np.float32)
    for function, more in ((evaluate, ()), (Questions(), (scenes,)), (Questions("surroundings"), (rows,))):
        check(population.selected_program(layout), everything, layout, function, *stacked, pool, rows, *more)


def test_the_first_weights_and_what_methods_do_between_epochs_lower(everything, make_member, pool, validation):
    member, (rows, _, _, refit) = make_member(), validation
    state, halves = jax.eval_shape(functools.partial(init_state, everything), member), (rows[refit], rows[~refit])
    calls = (init_state, member), (run.second_run, member, pool, state), (run.refit, member, state, pool, halves)
    for function, *given in calls:
        check(jax.jit(functools.partial(function, everything)), *given)
