"""`make_train`: the training of a configuration as a pure function, for the transformations of JAX.

train = flipjax.make_train("smoke")
trained = jax.jit(train)(train.member(rho=0.9, seed=0))
grid = jax.jit(lambda members: jax.lax.map(train, members))(train.members(rho=(0.5, 0.95), seed=range(4)))
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from flipjax.backend import check_settings
from flipjax.command import find_config, read_config
from flipjax.config import AXES, LISTS, PLACES, Config, ConfigError, Experiment, PopulationSpec, check_value, nearest
from flipjax.identity import digest_of
from flipjax.model import Model
from flipjax.plan import Program, Setting, check_setting, plan, setting_of, values_of
from flipjax.task import Task, check_pool, make_member, make_task, starting_weights, training_size, with_data
from flipjax.training.devices import form_of
from flipjax.training.member import Member
from flipjax.training.network import NO_WEIGHTS, Weights, first_weights
from flipjax.training.own import check_own
from flipjax.training.run import Data, Trained, train_member


def configure(config: Any, changes: Mapping[str, Any] | None = None) -> Config:
    """Returns a configuration of its own: a shipped one by name, that of a file, or a copy, with dotted keys changed.

    Raises:
        ConfigError: there is no such configuration or key.

    Example:
        >>> config = configure("smoke", {"train.epochs": 2, "axes.rho": (0.5, 0.9)})
        >>> config.train.epochs, config.axes.rho
        (2, (0.5, 0.9))
    """
    if isinstance(config, str | Path):
        name, _, variant = str(config).partition(":")
        config = read_config(find_config(name), [], variant=variant)
    else:
        config = config.copy_and_resolve_references()
    for name, value in (changes or {}).items():
        if name not in PLACES and name not in LISTS:
            raise ConfigError(f"config.{name}", f"a key of the configuration; {nearest(name)}")
        *sections, field = name.split(".")
        section = functools.reduce(lambda tree, part: tree[part], sections, config)
        with section.unlocked(), section.ignore_type():
            section[field] = value
    return config


@dataclasses.dataclass(frozen=True)
class Setup:
    """All that members are made from, on the host; equal where `identity` is, so that equal setups share programs."""

    identity: str
    config: Config = dataclasses.field(compare=False)
    program: Program = dataclasses.field(compare=False)
    task: Task = dataclasses.field(compare=False)
    n_train: int = dataclasses.field(compare=False)

    def setting(self, values: Mapping[str, Any]) -> Setting:
        """Returns the setting of some axes, the configuration's first values for the others; numbers are checked.

        Raises:
            ConfigError: there is no such axis, a value is out of its range, or the program has no such method.
        """
        for name, value in values.items():
            if name not in AXES:
                raise ConfigError(f"config.axes.{name}", f"an axis; {nearest(f'axes.{name}')}")
            if not isinstance(value, jax.Array):
                check_value(AXES[name], value)
        values = {name: values_of(self.config, name)[0] for name in AXES} | dict(values)
        setting = setting_of(self.config, values, name="", static={})
        check_setting(self.program.experiment, setting, self.config)
        return setting

    def member(self, setting: Setting) -> Member:
        """Returns the member of a setting."""
        return make_member(setting, self.task, n_train=self.n_train, rhos=self.program.rhos)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["data", "start"], meta_fields=["experiment", "setup"])
@dataclasses.dataclass(frozen=True, eq=False)
class Train:
    """The training of a configuration: a pure function of a member, for jit, vmap, `lax.map` and `shard_map`.

    It is a pytree as well, of the pool, the tables and the starting weights. Closed over they are constants of the
    program; a large pool is better an argument: `jax.jit(lambda train, member: train(member))`.

    On a CPU `lax.map` is faster than vmap and has the bits of a sweep; on accelerators vmap trains members side by
    side, equal to rounding.

    Attributes:
        data: pool and tables.
        start: weights to start from; those that are absent are drawn from the member's key.
        experiment: decides the program.
        setup: makes the members.
    """

    data: Data
    start: Weights
    experiment: Experiment
    setup: Setup

    def __call__(self, member: Member) -> Trained:
        """Trains a member from its first weights to its test images.

        Raises:
            ConfigError: an axis of the mesh is of type Explicit.
        """
        return train_member(self.experiment, _on_automatic_axes(member), self.data, self.start)

    def member(self, **axes: Any) -> Member:
        """Returns a member, with the configuration's first value for each axis that is not given.

        Args:
            **axes: rho, seed, method, learning_rate and all else that `config.axes` may have. Python numbers are
                checked. Arrays of JAX may be traced, all but `method` and `schedule`: a rho that the pool does not
                allow ends as DIVERGED, and rho n is rounded in float32.

        Raises:
            ConfigError: there is no such axis, or a value is out of its range.
            ValueError: the pool is too small for this rho.
        """
        return self.setup.member(self.setup.setting(axes))

    def members(self, settings: Iterable[Mapping[str, Any]] | None = None, **axes: Iterable[Any]) -> Member:
        """Returns members stacked, leaves (K, ...); without arguments those of the configuration's sweep, in order.

        Args:
            settings: the axes of each member; None: one without any.
            **axes: the values of further axes, of which every combination is made of every setting.

        Raises:
            ConfigError: as `member`; an axis is both in `settings` and in `axes`.
            ValueError: as `member`.
        """
        if settings is None and not axes:
            chosen = list(self.setup.program.settings)
        else:
            settings = [{}] if settings is None else list(settings)
            doubled = {name for setting in settings for name in setting} & axes.keys()
            if doubled:
                raise ConfigError(f"config.axes.{min(doubled)}", "values in the settings or of an axis", "both")
            points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
            chosen = [self.setup.setting({**setting, **point}) for setting in settings for point in points]
        if not chosen:
            raise ConfigError("config.members", "at least one setting", "none")
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(self.setup.member, chosen))

    def model(self, trained: Trained, rule: str | None = None) -> Model:
        """Returns the network that a selection rule kept, the first one by default.

        Args:
            trained: one member; of a map's result `jax.tree.map(lambda leaf: leaf[i], trained)` takes one.
            rule: a name in `config.train.selection`.

        Raises:
            ValueError: several members, or another rule.
        """
        if jnp.ndim(trained.status):
            raise ValueError(f"trained: expected one member, found {jnp.shape(trained.status)} of a map")
        if rule not in (None, *trained.best):
            raise ValueError(f"rule: expected one of {', '.join(trained.best)}; found {rule!r}")
        spec, names = self.experiment.model, ("background", *self.setup.task.catalog.class_names)
        kept = trained.best[rule or self.experiment.train.selection[0]]
        return Model(kept.weights, spec, names, self.experiment.pool.size)


def make_train(
    config: Any,
    changes: Mapping[str, Any] | None = None,
    *,
    data: Any = None,
    start: Model | Weights | None = None,
) -> Train:
    """Returns the training of a configuration; reads its pool, and changes no setting of JAX.

    Args:
        config: a shipped configuration's name, a file, or a ConfigDict, of one program.
        changes: values by dotted keys, as `{"train.epochs": 4}`.
        data: a pool in memory (`flipjax.data.from_arrays`) in place of `config.pool`.
        start: a model, or parts of its weights, to fine-tune.

    Raises:
        ConfigError: a field that cannot run; a grid of several programs; settings of JAX that give other numbers.
        ValueError: the pool is too small, or `start` does not fit the network.

    Example:
        >>> train = make_train("smoke", {"axes.rho": (0.5,)})
        >>> train.member(rho=0.9).rows.shape, train.members(rho=(0.5, 0.9), seed=(0, 1)).knobs.dro.shape
        ((192, 2), (4,))
    """
    check_settings()
    own = configure(config, changes)
    if data is not None:
        own = with_data(own, data)
    programs = plan(own)
    if len(programs) > 1:
        raise ConfigError("config.grid", "one program; make_train is called for each", f"{len(programs)} programs")
    program, task = make_task(programs[0], data)
    check_own(program.experiment)
    check_pool(program, task.catalog)
    packed = form_of(PopulationSpec(**own.population), model=program.experiment.model.title) == "packed"
    experiment = dataclasses.replace(program.experiment, packed=packed)
    n_train = training_size(program, task.catalog, task.split)
    val = task.tables["val"]
    # Cut here, where they are no traced values.
    halves = val.rows[val.refit], val.rows[~val.refit]
    shared = Data(task.pool, val, task.tables["test"].rows, halves)
    weights = starting_weights(experiment) if start is None else _fitting(experiment, start)
    return Train(shared, weights, experiment, Setup(digest_of(own), own, program, task, n_train))


def _fitting(experiment: Experiment, start: Model | Weights) -> Weights:
    """Returns the weights of `start`; ValueError where the experiment's network has no such leaf."""
    weights = start.weights if isinstance(start, Model) else start
    shapes = jax.eval_shape(lambda: first_weights(experiment, jax.random.key(0), NO_WEIGHTS))
    given, wanted = (
        {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in jax.tree.leaves_with_path(Weights(*tree))}
        for tree in (weights, shapes)
    )
    for name, shape in given.items():
        if shape != wanted.get(name):
            expected = wanted.get(name, "no such leaf")
            raise ValueError(f"start: {name}: expected {expected} for {experiment.model.title}; found {shape}")
    return weights


def _on_automatic_axes(member: Member) -> Member:
    """Returns the member; ConfigError where it, or the mesh that is set, has axes of type Explicit."""
    explicit = jax.sharding.AxisType.Explicit
    meshes = [jax.sharding.get_abstract_mesh(), *(jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(member))]
    if any(explicit in mesh.axis_types for mesh in meshes):
        expected = "axes of type Auto (axis_types= of jax.make_mesh), or a shard_map over them"
        raise ConfigError("mesh", expected, "an axis of type Explicit")
    return member
