"""`make_train`: training of a configuration as a pure function, for JAX transformations.

In three lines::

    train = flipjax.make_train("smoke")
    trained = jax.jit(train)(train.member(rho=0.9, seed=0))
    grid = train.map(train.members(rho=(0.5, 0.95), seed=range(4)))

`train.map` trains as a sweep does, in the form that is fastest here (a loop on a CPU). A traced *seed* goes through a
callback on the host, one member after the other; rho and all other numbers do not.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from flipjax.backend.compiler import Jitted, fast_jit
from flipjax.backend.random import random_bits
from flipjax.backend.start import check_mesh, check_settings
from flipjax.config import AXES, Config, ConfigError, Experiment, PopulationSpec
from flipjax.config.checks import check_setting, check_value, nearest_key
from flipjax.config.keys import Scalar, as_python
from flipjax.config.plan import Plan, plan, setting_of
from flipjax.config.program import Program, Setting, Value
from flipjax.config.reading import configure
from flipjax.data.sources.arrays import ArrayData, keys_of
from flipjax.support.terminal import say
from flipjax.training.epoch.loop import Data, Trained, train_member
from flipjax.training.member import Member
from flipjax.training.model import Model
from flipjax.training.network.forward import NO_WEIGHTS, Weights, first_weights
from flipjax.training.network.own import check_functions, check_own
from flipjax.training.population.devices import known_form, library_of, make_layout
from flipjax.training.population.fastest import fastest_form
from flipjax.training.population.stacks import take_member
from flipjax.training.task import Task, check_sizes, make_member, make_task, starting_weights, training_size


@dataclasses.dataclass(frozen=True)
class Setup:
    """Host data from which members are made; equal if `identity` is, so that equal setups share programs."""

    identity: str
    """The digest of the configuration."""
    plan: Plan = dataclasses.field(compare=False)
    """What was asked for."""
    program: Program = dataclasses.field(compare=False)
    """Its one program, with the groups of its pool."""
    task: Task = dataclasses.field(compare=False)
    """The images, their parts and tables."""
    n_train: int = dataclasses.field(compare=False)
    """Training images of each member."""

    def setting(self, values: Mapping[str, Any]) -> Setting:
        """Returns the setting of some axes, with the configuration's first values for the others; checks numbers.

        Raises:
            ConfigError: unknown axis, value out of range, or method not in the program.
        """
        axes: dict[str, Any] = dict(self.plan.first_values)
        in_range: list[jax.Array] = []
        for name, value in values.items():
            if name not in AXES:
                raise ConfigError(f"train.member({name}=...)", f"a traced key; {_nearest_column(name)}")
            if np.ndim(value):
                several = f"an array of shape {np.shape(value)}; train.members({name}=...) makes a member of each value"
                raise ConfigError(f"config.axes.{AXES[name].axis}", "one value", several)
            if isinstance(value, jax.Array):
                axes[name] = value
                limits = AXES[name].values
                number = value.astype(jnp.float32)
                in_range.append((number >= limits.low) & (number <= limits.high))
            else:
                axes[name] = as_python(value)
                check_value(AXES[name].name, axes[name])
        setting = setting_of(axes, self.plan.methods)
        check_setting(setting, self.program, self.plan.methods)
        if in_range:
            # A traced value raises nothing: a learning rate of NaN ends as DIVERGED, without any number.
            rate = jnp.where(jnp.stack(in_range).all(), setting.recipe.learning_rate, jnp.nan)
            setting = dataclasses.replace(setting, recipe=dataclasses.replace(setting.recipe, learning_rate=rate))
        return setting

    @random_bits()
    def member(self, setting: Setting) -> Member:
        """Returns the member of a setting."""
        return make_member(setting, self.task, n_train=self.n_train, rhos=self.program.rhos)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["data", "start"], meta_fields=["experiment", "setup"])
@dataclasses.dataclass(frozen=True, eq=False)
class Train:
    """Training of a configuration as a pure function of a member, for jit, vmap, `lax.map` and `shard_map`.

    It is also a pytree of the pool, the tables and the starting weights. When closed over, these are constants of the
    program; pass a large pool as an argument instead: `jax.jit(lambda train, member: train(member))`.

    `map` trains several members in the form that is fastest here. On a CPU this is a loop, whose weights and counts
    equal a sweep's in bits; vmap is slower there, as a note says once a process. Losses and entropies agree to
    rounding, and so do members that train side by side on accelerators.

    Attributes:
        data: pool and tables.
        start: initial weights; absent ones are drawn from the member's key.
        experiment: determines the program.
        setup: makes the members.
    """

    data: Data
    start: Weights
    experiment: Experiment
    setup: Setup

    @random_bits()
    def __call__(self, member: Member) -> Trained:
        """Trains a member and evaluates it on the test images.

        Raises:
            ConfigError: a mesh axis has type Explicit, or a setting of JAX does not let it train.
        """
        # Its result is not needed, so that no program changes.
        _notice_vmap(member.rows, member.recipe.learning_rate)
        return self._train_quietly(member)

    def _train_quietly(self, member: Member) -> Trained:
        """Trains a member, which vmap may map without a note."""
        check_settings()
        shardings = [jax.typeof(leaf).sharding for leaf in jax.tree.leaves(member)]
        check_mesh([jax.sharding.get_abstract_mesh(), *(sharding.mesh for sharding in shardings)])
        return train_member(self.experiment, member, self.data, self.start)

    @random_bits()
    def map(self, members: Member) -> Trained:
        """Trains stacked members as a sweep does, compiled as it is.

        On a CPU they train one after another, with the weights and counts of the sweep, bit by bit. Elsewhere they
        train in the form that is fastest here, a loop, vmap or packed, as `config.population.map` says: the first call
        for a number of members measures it, and prints what it took. Members in other forms agree to rounding.

        Each train compiles once for each number of members. `jax.jit` of `lax.map` compiles with other options, and
        from JAX 0.11 on its trained weights differ from a sweep's.

        Args:
            members: leaves (K, ...), as from `members`.

        Returns:
            Results with leaves (K, ...).

        Raises:
            ConfigError: as a call of `train`.
        """
        return self._mapped(members, form=self._form_for(members))

    @functools.cached_property
    def _mapped(self) -> Jitted:
        return fast_jit(self._map_in_form, convolutions=self.convolutions, static_argnames="form")

    def _map_in_form(self, members: Member, *, form: str) -> Trained:
        """Trains stacked members in a form, as many at once as on one device of a sweep."""
        experiment = dataclasses.replace(self.experiment, packed=form == "packed")
        train = dataclasses.replace(self, experiment=experiment)
        spec = dataclasses.replace(self._population_of_one_device, map=form)
        count = len(members.rows)
        width = min(count, make_layout(spec, members=count, model=experiment.model.title).width)
        if width == 1:
            return jax.lax.map(train, members)
        return jax.lax.map(train._train_quietly, members, batch_size=width)

    def _form_for(self, members: Member) -> str:
        """Returns the form in which stacked members train: loop, vmap or packed."""
        spec = self._population_of_one_device
        form = known_form(spec, model=self.experiment.model.title)
        if form is not None:
            return form
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(members)):
            # There is nothing to time while a program is traced.
            return "vmap"
        count = len(members.rows)
        if count not in self._measured_forms:
            listed = [take_member(members, position) for position in range(count)]
            data = self.data
            choice = fastest_form(self.experiment, listed, spec, pool=data.pool, table=data.val, start=self.start)
            say(f"train.map of {count} members: {choice.line}")
            self._measured_forms[count] = choice.form
        return self._measured_forms[count]

    @functools.cached_property
    def _measured_forms(self) -> dict[int, str]:
        """The fastest form by number of members, as measured."""
        return {}

    @property
    def _population_of_one_device(self) -> PopulationSpec:
        population = self.setup.plan.population
        return dataclasses.replace(population, devices=1, batch_devices=1, convolutions=self.convolutions)

    @property
    def convolutions(self) -> str:
        """The library of convolutions with which a sweep compiles it, an argument of `flipjax.backend.fast_jit`."""
        setup = self.setup
        return library_of(setup.program, setup.plan.population, n_train=setup.n_train)

    def member(self, **axes: Value) -> Member:
        """Returns a member, with the configuration's first value for each omitted axis.

        Args:
            **axes: rho, seed, method, learning_rate and any other traced key, by its last name, as results.csv has it.
                Python numbers are checked. All but `method` and `schedule` may be traced JAX arrays: then a value out
                of range, or a rho that the pool does not allow, ends as DIVERGED with NaN in place of numbers, and
                rho n is rounded in float32.

        Raises:
            ConfigError: unknown axis or value out of range.
            ValueError: the pool is too small for this rho.
        """
        return self.setup.member(self.setup.setting(axes))

    def members(self, settings: Iterable[Mapping[str, Value]] | None = None, **axes: Iterable[Value]) -> Member:
        """Returns stacked members, leaves (K, ...); without arguments those of the configuration's sweep, in order.

        Args:
            settings: the axes of each member; None: one member without any.
            **axes: values of further axes; every combination is applied to every setting.

        Raises:
            ConfigError: as `member`; or an axis is in both `settings` and `axes`.
            ValueError: as `member`.
        """
        if settings is None and not axes:
            chosen = list(self.setup.program.settings)
        else:
            settings = [{}] if settings is None else list(settings)
            doubled = set(itertools.chain.from_iterable(settings)) & axes.keys()
            if doubled:
                raise ConfigError(f"train.members({min(doubled)}=...)", "values in the settings or of an axis", "both")
            points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
            chosen = []
            for setting in settings:
                chosen += [self.setup.setting({**setting, **point}) for point in points]
        if not chosen:
            raise ConfigError("config.members", "at least one setting", "none")
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(self.setup.member, chosen))

    def model(self, trained: Trained, rule: str | None = None) -> Model:
        """Returns the network kept by a selection rule, the first by default.

        Args:
            trained: one member; `jax.tree.map(lambda leaf: leaf[i], trained)` takes one from a map's result.
            rule: a name in `config.train.selection`.

        Raises:
            ValueError: several members, or an unknown rule.
        """
        if jnp.ndim(trained.status):
            raise ValueError(f"trained: expected one member, found {jnp.shape(trained.status)} of a map")
        if rule not in (None, *trained.best):
            raise ValueError(f"rule: expected one of {', '.join(trained.best)}; found {rule!r}")
        names = ("background", *self.setup.task.catalog.class_names)
        kept = trained.best[rule or self.experiment.train.selection[0]]
        return Model(kept.weights, self.experiment.model, names, self.experiment.pool.size)


@jax.custom_batching.custom_vmap
def _notice_vmap(rows: jax.Array, learning_rate: Scalar) -> jax.Array:
    """Returns `rows`; a batching rule notes that the member of these arrays is mapped by vmap."""
    return rows


@_notice_vmap.def_vmap
def _note_vmap(size: int, batched: Sequence[bool], rows: jax.Array, learning_rate: Scalar) -> tuple[jax.Array, bool]:
    """Notes that vmap maps members on a CPU; returns the rows, and whether they are mapped."""
    if jax.default_backend() == "cpu":
        _say_once("note: on a CPU jax.vmap of train takes longer than train.map, which trains one member after another")
    return rows, batched[0]


@functools.cache
def _say_once(line: str) -> None:
    """Says a line on stderr, once a process."""
    say(line)


def _nearest_column(name: str) -> str:
    """Suggests an argument of `Train.member` in place of an unknown one."""
    key = nearest_key(f"axes.{name}")
    for column, traced in AXES.items():
        if traced is key:
            return f"the nearest is {column}"
    return f"valid are {', '.join(AXES)}"


@random_bits()
def make_train(
    config: Config | str | Path,
    changes: Mapping[str, object] | None = None,
    *,
    data: ArrayData | None = None,
    start: Model | Weights | None = None,
) -> Train:
    """Returns the training of a configuration as a pure function, and reads its pool.

    It and what it returns leave the process as it was, as `flipjax.run` does, and their random bits are those of a
    sweep. A traced seed goes through a callback on the host, one member after the other; rho and all other numbers do
    not.

    Args:
        config: as in `flipjax.configure`, with one program.
        changes: values by dotted key, such as `{"train.epochs": 4}`.
        data: a pool in memory (`flipjax.data.from_arrays`) in place of `config.pool`.
        start: a model, or parts of its weights, to fine-tune.

    Returns:
        A `flipjax.training.Train`: `train.members(...)` makes stacked members, and `train(member)` trains one and
        returns its weights and the decomposition of the test images.

    Raises:
        ConfigError: invalid field, several programs, a pool that is too small for a level of rho, or JAX settings that
            would change results.
        ValueError: `start` does not fit the network.

    Example:
        >>> train = make_train("smoke", {"axes.rho": (0.5,), "pool.size": 16})
        >>> train.member(rho=0.9).rows.shape, train.members(rho=(0.5, 0.9), seed=(0, 1)).knobs.dro.shape
        ((192, 2), (4,))
    """
    check_settings()
    planned = plan(configure(configure(config, changes), keys_of(data)))
    if planned.compiling:
        several = f"{len(planned.programs)} programs"
        raise ConfigError(f"config.axes.{planned.compiling[0]}", "one program; make_train is called for each", several)
    check_functions(planned)
    program, task = make_task(planned.programs[0], data)
    check_sizes(program, task.catalog)
    check_own(program.experiment)
    packed = known_form(planned.population, model=program.experiment.model.title) == "packed"
    experiment = dataclasses.replace(program.experiment, packed=packed)
    n_train = training_size(program, task.parts)
    val = task.tables["val"]
    # Boolean masks need concrete values, so index before tracing.
    halves = val.rows[val.refit], val.rows[~val.refit]
    shared = Data(jax.device_put(task.pool), val, task.tables["test"].rows, halves)
    if start is not None and task.pool.features is not None:
        raise ConfigError("start", "none for model.name frozen, whose features are those of its own training images")
    if start is None:
        weights = starting_weights(experiment, task.pool)
    else:
        weights = _fitting(experiment, start)
    return Train(shared, weights, experiment, Setup(planned.identity, planned, program, task, n_train))


def _fitting(experiment: Experiment, start: Model | Weights) -> Weights:
    """Returns the weights of `start`; raises ValueError if a leaf does not fit the experiment's network."""
    weights = start.weights if isinstance(start, Model) else Weights(*start)
    shapes = jax.eval_shape(lambda: first_weights(experiment, jax.random.key(0), NO_WEIGHTS))
    misfits = sorted(_places_and_shapes(weights) - _places_and_shapes(shapes))
    if misfits:
        raise ValueError(f"start: expected weights of {experiment.model.title}; found others: {misfits[:4]}")
    return weights


def _places_and_shapes(tree: Weights) -> set[tuple[str, tuple[int, ...]]]:
    """Returns the place and the shape of each leaf."""
    return {(jax.tree_util.keystr(path), jnp.shape(leaf)) for path, leaf in jax.tree.leaves_with_path(tree)}
