"""The lines of a dry run: members, model, work and memory of each program, from shapes alone."""

import functools
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

from flipjax.backend.convolutions import ONEDNN, multiplies_bfloat16
from flipjax.config import Experiment, ModelSpec, PoolSpec, PopulationSpec, Recipe
from flipjax.config.groups import Groups
from flipjax.config.methods import Knobs
from flipjax.config.plan import Plan
from flipjax.config.program import Program, Value
from flipjax.data import store
from flipjax.data.sources import flips, tfds_folders
from flipjax.models.weights.files import file_of
from flipjax.sweep.memory import megabytes
from flipjax.training.member import Member, State, init_state
from flipjax.training.population.devices import library_of

LISTED = 7
"""Values of an axis that a line lists, at most."""


def describe_plan(plan: Plan) -> Iterator[str]:
    """Yields the lines that describe a plan: members, model, steps and, as far as known, memory of each program."""
    for program in plan.programs:
        yield from _describe_program(program, plan.population)
    made_by = ""
    if plan.compiling:
        made_by = f" (for each value of {', '.join(plan.compiling)})"
    yield f"programs to compile: {len(plan.programs)}{made_by}; members: {plan.members}; nothing was trained"


def _describe_program(program: Program, spec: PopulationSpec) -> Iterator[str]:
    """Yields the lines on a program: members, network, work, convolutions and memory."""
    experiment = program.experiment
    count = len(program.settings)
    axes_in_words = []
    for name in program.settings[0].axes:
        values = [setting.axes[name] for setting in program.settings]
        text = _values_in_words(values)
        if name == "rho" and experiment.split.folds:
            text += " in a composite pool; photos as they are found have none"
        axes_in_words.append(f"{name} ({text})")
    yield f"program {program.name}: {count} members, {', '.join(axes_in_words)}"
    state = jax.eval_shape(functools.partial(_initial_state, experiment))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.weights.params))
    yield f"  model {_name_of(experiment.model)}: {parameters:,} parameters"
    yield f"  work: {_work_of(program)}"
    yield f"  convolutions on a CPU: {_library_of(program, spec)}"
    states = count * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    pool = _pool_memory(experiment.pool, experiment.groups)
    asks = "--dry_run=compiled adds the compiler's estimate of training"
    yield f"  memory: pool {pool}; states {megabytes(states)}; {asks}"


def _initial_state(experiment: Experiment) -> State:
    """Returns the state of a member before training, of which only the shapes are computed."""
    rows = jnp.zeros((experiment.split.n_train, 2), jnp.int32)
    return init_state(experiment, Member(jax.random.key(0), rows, rows[:, 0], Recipe(learning_rate=0.0), Knobs()))


def _values_in_words(values: Sequence[Value]) -> str:
    """Returns the values of an axis that methods use, or the range of more than LISTED numbers."""
    used = [value for value in dict.fromkeys(values) if value is not None]
    if not used:
        return "unused"
    if len(used) > LISTED and not isinstance(used[0], str):
        return f"{len(used)} values, {min(used):.3g} to {max(used):.3g}"
    return ", ".join(value if isinstance(value, str) else f"{value:.6g}" for value in used)


def _name_of(model: ModelSpec) -> str:
    """Returns the network in words."""
    if model.build:
        return model.title
    if model.name == "unet":
        return f"unet, width {model.width}, depth {model.depth}"
    weights = model.weights or "drawn afresh"
    if model.weights and not file_of(model.weights).is_file():
        weights += " (no such file yet)"
    return f"{model.name} in {model.dtype}, weights {weights}"


def _work_of(program: Program) -> str:
    """Returns how many steps members train, in words."""
    split = program.experiment.split
    batch_size = program.experiment.train.batch_size
    if not split.n_train:
        return f"at most {max(program.epochs)} epochs for a member, over the largest training set that every rho allows"
    steps = [epochs * (split.n_train // batch_size) for epochs in program.epochs]
    return f"at most {max(steps)} steps of {batch_size} images for a member, {sum(steps)} for all members"


def _library_of(program: Program, spec: PopulationSpec) -> str:
    """Returns which library a run would choose; JAX, which knows the devices, is not started for it."""
    experiment = program.experiment
    n_train = experiment.split.n_train
    if spec.convolutions == "auto" and not n_train:
        return "chosen at the start, when the number of images is known"
    library = library_of(program, spec, n_train=n_train, started=False)
    if library == ONEDNN and experiment.model.dtype == "float32" and multiplies_bfloat16():
        return f"{library}; on this processor config.model.dtype=bfloat16 is faster"
    return library


def _pool_memory(pool: PoolSpec, groups: Groups) -> str:
    """Returns the size of a pool on a device, or why it is not known before a run."""
    if pool.name == "synthetic":
        counts = groups.classes * pool.objects, groups.scenes * pool.scenes
        size = sum(map(math.prod, store.drawn_shapes(pool, *counts).values()))
        return f"{megabytes(size)}, shared"
    if pool.name == flips.NAME:
        shapes = store.shapes_of(groups.classes * flips.OBJECTS, groups.scenes * flips.GROUNDS, pool.size)
        return f"{megabytes(sum(map(math.prod, shapes.values())))}, shared"
    size = tfds_folders.stored_bytes(pool)
    if size is not None:
        return f"{megabytes(size)}, shared"
    if pool.name == "folder":
        return "not counted (read at the start)"
    return "not counted (no such data set yet)"
