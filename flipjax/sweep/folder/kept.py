"""The networks of members that have no results yet, from the last checkpoint of their run."""

import jax

from flipjax.config import ConfigError
from flipjax.config.program import Program
from flipjax.data.loaders import list_pool
from flipjax.data.sources.arrays import ArrayData
from flipjax.models.weights.initial import weight_shapes
from flipjax.support.terminal import listed
from flipjax.sweep.checkpoint import epochs_in, member_weights
from flipjax.sweep.folder.workdir import Workdir
from flipjax.training.model import Model


def kept_model(
    workdir: Workdir, program: Program, member: str, *, rule: str | None = None, data: ArrayData | None = None
) -> Model:
    """Returns the network with the weights that a selection rule has kept up to the last checkpoint.

    Args:
        workdir: of the run.
        program: the members of a program that have no results.
        member: one of them.
        rule: of `config.train.selection`; None: the first.
        data: the images in memory that the run was made of.

    Raises:
        ConfigError: another rule, or the names of the classes are not at hand.
        DamagedError: the checkpoint is damaged.
        FileNotFoundError: there is no checkpoint of these members together.
    """
    experiment = program.experiment
    rules = experiment.train.selection
    if rule not in (None, *rules):
        raise ConfigError("rule", f"one of {', '.join(rules)}", rule)
    names = ("background", *_class_names(program, data))
    place = workdir.checkpoints_of(program)
    epochs = epochs_in(place)
    if not epochs:
        expected = f"{place}: expected a checkpoint of {listed(program.names)}"
        raise FileNotFoundError(f"{expected}; found none, since they have not trained together")
    row = program.names.index(member)
    stored = member_weights(place / str(epochs[-1]), row, part=f"best/{rule or rules[0]}/weights")
    paths, structure = jax.tree_util.tree_flatten_with_path(weight_shapes(experiment.model, len(names)))
    leaves = [stored[jax.tree_util.keystr(path, simple=True, separator="/")] for path, _ in paths]
    weights = jax.device_put(jax.tree.unflatten(structure, leaves))
    return Model(weights, experiment.model, names, experiment.pool.size)


def _class_names(program: Program, data: ArrayData | None) -> tuple[str, ...]:
    """Returns the names of the foreground classes; raises ConfigError without the images in memory of the run."""
    pool = program.experiment.pool
    if data is not None:
        return tuple(data.catalog.class_names)
    if pool.name == "arrays":
        expected = "the images in memory that the run was made of, as flipjax.open_run takes them"
        raise ConfigError("data", expected, "none")
    return tuple(list_pool(pool).class_names)
