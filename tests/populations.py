"""Populations trained in tests as a sweep trains them, every epoch kept."""

import functools
from types import SimpleNamespace

import jax
import numpy as np

from flipjax.config import PopulationSpec
from flipjax.training.member import Status
from flipjax.training.network.forward import nested
from flipjax.training.population import devices
from flipjax.training.population import epochs as population_run
from flipjax.training.population import members as population

LOOP = PopulationSpec(map="loop")


def train(experiment, members, pool, validation, *, spec=LOOP, states=None, epochs=99):
    """Returns the layout, what all members read, the last population, and states and records epoch by epoch."""
    layout = devices.make_layout(spec, members=len(members))
    shared = devices.replicate(layout, (pool, validation))
    current = population.create(experiment, layout, members, states)
    states, records = [copied(current)], []
    while (current.status == Status.RUNNING).any() and len(records) < epochs:
        current, record = population_run.run_next_epoch(current, *shared)
        current = population_run.start_second_runs(current, pool)
        states.append(copied(current))
        records.append(record)
    return SimpleNamespace(layout=layout, shared=shared, current=current, states=states, records=records)


def copied(current):
    """Returns the states of a population on the host."""
    return jax.tree.map(np.asarray, population.states_of(current))


def nested_all(experiment, weights):
    """Returns the weights of all members, nested and on the host."""
    return jax.tree.map(np.asarray, jax.vmap(functools.partial(nested, experiment))(weights))


def assert_same(result, wanted):
    jax.tree.map(np.testing.assert_array_equal, result, wanted)
