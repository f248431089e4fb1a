"""A configuration, parsed: a `ConfigDict` becomes a frozen record of checked values. Imports no JAX.

`plan` checks a configuration and makes a `Plan`, which other packages read instead of the configuration. It holds a
`Program` for each point of the static keys: its static half (`experiment_of`), and a `Setting` of each member
(`member_axes`, `setting_of`).
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flipjax.config.checks import check, check_folds, check_method_names, check_methods, check_model
from flipjax.config.config_type import Config
from flipjax.config.errors import ConfigError
from flipjax.config.groups import Groups
from flipjax.config.identity import digest_of, json_of, sources_of
from flipjax.config.methods import KNOB_DEFAULTS, Augmentation, Method, active_knobs, knobs_of, knobs_set_by, methods_of
from flipjax.config.naming import check_rho, check_sizes, known_groups
from flipjax.config.program import Program, Setting, Value
from flipjax.config.ranges import functions_of, name_of
from flipjax.config.reading import changed, normalised
from flipjax.config.sections import (
    AXES,
    KEYS,
    PLACES,
    Condition,
    Cue,
    Experiment,
    InterveneSpec,
    ModelSpec,
    PoolSpec,
    PopulationSpec,
    Recipe,
    SplitSpec,
    Thinning,
    TrainSpec,
)
from flipjax.config.values import (
    Part,
    active_numbers,
    leaves,
    points_of,
    pool_spec,
    read_static,
    value_in_section,
    values_if_unlisted,
    values_of,
    varied_names,
)
from flipjax.support.files import JsonObject


@dataclasses.dataclass(frozen=True)
class Plan:
    """A configuration as a record of checked values, which nothing can change.

    Example:
        >>> from flipjax import configure
        >>> planned = plan(configure("smoke", {"axes.model.depth": (2, 3)}))
        >>> len(planned.programs), planned.members, planned.population.map, planned.first_values["rho"]
        (2, 8, 'auto', 0.5)
    """

    programs: tuple[Program, ...]
    """A program for each point of the static keys, with its members."""
    population: PopulationSpec
    """How members run on the machine."""
    intervene: InterveneSpec
    """What is asked of other scenes, and the scores."""
    quantities: tuple[Callable, ...]
    """The user's own quantities of images, functions of logits and labels."""
    methods: Mapping[str, Method]
    """The methods by name, the user's own among them."""
    first_values: Mapping[str, Value]
    """The first value of every axis, by name."""
    identity: str
    """A digest of everything that distinguishes runs."""
    config_json: JsonObject
    """The configuration as config.json holds it: a function is its name and a digest."""
    sources: Mapping[str, str]
    """The sources of the user's functions and classes, by their names."""

    @property
    def members(self) -> int:
        """The number of members of all programs."""
        return sum(len(program.settings) for program in self.programs)

    @property
    def compiling(self) -> list[str]:
        """The names of the keys that made several programs.

        Example:
            >>> from flipjax import configure
            >>> plan(configure("smoke", {"axes.model.depth": (2, 3), "axes.pool.size": (48,)})).compiling
            ['model.depth']
        """
        first, *others = [program.settings[0].axes for program in self.programs]
        return [name for name in first if name not in AXES and any(other[name] != first[name] for other in others)]


def plan(config: Config) -> Plan:
    """Returns the record of a configuration, whose members are numbered through all programs.

    Raises:
        ConfigError: a field is invalid.

    Example:
        >>> from flipjax import configure
        >>> for program in plan(configure("smoke", {"axes.model.depth": (2, 3), "axes.seed": (0,)})).programs:
        ...     print(program.name, program.experiment.model.depth, program.names, program.rhos)
        000 2 ('m000', 'm001') (0.5, 0.95)
        001 3 ('m002', 'm003') (0.5, 0.95)
    """
    config = normalised(config)
    check(config)
    check_method_names(config)
    methods = methods_of(config)
    config_json = json_of(config)
    identity = digest_of(config_json)
    return Plan(
        programs=tuple(_programs_of(config, methods, identity)),
        population=read_static(PopulationSpec, config, {}),
        intervene=read_static(InterveneSpec, config, {}),
        quantities=functions_of(config.quantities),
        methods=methods,
        first_values={name: values_of(config, name)[0] for name in AXES},
        identity=identity,
        config_json=config_json,
        sources=sources_of(config),
    )


def _programs_of(config: Config, methods: Mapping[str, Method], identity: str) -> list[Program]:
    """Returns the programs of a checked configuration, one for each point of its static keys."""
    programs: list[Program] = []
    member_numbers = itertools.count()
    for index, point in enumerate(points_of(config)):
        shown_point = {name: _shown(value) for name, value in point.values.items()}
        members = member_axes(config, methods, point.entries)
        # All members vary the same axes, so the first one tells them.
        constant_axes = {name: value_in_section(config, key) for name, key in AXES.items() if name not in members[0]}
        settings = []
        for varied_axes in members:
            setting = setting_of(
                {**constant_axes, **varied_axes},
                methods,
                name=f"m{next(member_numbers):03d}",
                shown_axes={**shown_point, **varied_axes},
            )
            settings.append(setting)
        program = Program(
            name=f"{index:03d}",
            experiment=experiment_of(config, point.values),
            settings=tuple(settings),
            rhos=values_of(config, "rho"),
            identity=f"{identity}/{index:03d}",
        )
        check_methods(program)
        programs.append(program)
    return programs


def experiment_of(config: Config, point: Mapping[str, object]) -> Experiment:
    """Returns the static half of a program of a checked configuration, at a point of its static keys.

    A pool of files tells its groups only once it is loaded; until then they are two classes in two scenes.

    Raises:
        ConfigError: fields are incompatible.

    Example:
        >>> from flipjax import configure
        >>> experiment_of(configure("smoke", {"axes.method": ("group_dro",)}), {"model.width": 16}).active_knobs
        ('dro', 'dro_step')
    """
    experiment = Experiment(
        pool=pool_spec(config, point),
        split=read_static(SplitSpec, config, point),
        model=read_static(ModelSpec, config, point),
        train=read_static(TrainSpec, config, point),
        active_knobs=active_knobs(values_of(config, "method"), methods_of(config)),
        active_numbers=active_numbers(config),
    )
    _check_together(config, experiment)
    groups = known_groups(experiment.pool)
    if groups is None:
        return experiment
    if not experiment.split.folds:
        check_sizes(groups, experiment.split)
        _check_rhos(config, groups)
    return dataclasses.replace(experiment, groups=groups)


def _check_rhos(config: Config, groups: Groups) -> None:
    """Raises ConfigError for a level of rho that the groups rule out, and names the place that sets it."""
    for index, entry in enumerate(config.members):
        if "rho" in entry:
            check_rho(groups, entry["rho"], field=f"config.members[{index}].rho")
    for rho in values_of(config, "rho"):
        check_rho(groups, rho)


def _check_together(config: Config, experiment: Experiment) -> None:
    """Raises ConfigError if fields that are valid alone are incompatible, whatever the groups of the pool are."""
    check_model(experiment)
    n_train = experiment.split.n_train
    batch_size = experiment.train.batch_size
    if 0 < n_train < batch_size:
        raise ConfigError("config.split.n_train", f"at least train.batch_size ({batch_size}), or 0", n_train)
    check_folds(experiment.split, rhos=values_of(config, "rho"), rare_kept=values_of(config, "rare_kept"))


def with_model(config: Config, model: ModelSpec) -> Config:
    """Returns a copy of a configuration of one pool and one split with another network, and of one program.

    Raises:
        ConfigError: a field is invalid, or the configuration has several pools or splits.

    Example:
        >>> from flipjax import configure
        >>> with_model(configure("smoke", {"axes.pool.size": (48,)}), ModelSpec(width=16)).pool.size
        48
    """
    config = normalised(config)
    check(config)
    values = _pool_and_split(config)
    for key in KEYS.values():
        if key.part is ModelSpec:
            values[key.name] = getattr(model, key.field)
    return of_one_program(config, values)


def of_one_program(config: Config, values: Mapping[str, object]) -> Config:
    """Returns a copy of a configuration that varies no static key, with some values by dotted name.

    Example:
        >>> from flipjax import configure
        >>> members = [{"model.width": 4, "rho": 0.9}, {"model.depth": 2, "rho": 0.9}]
        >>> config = configure("smoke", {"members": members, "axes.rho": (0.5,), "axes.pool.size": (16, 32)})
        >>> one = of_one_program(config, {"pool.size": 48})
        >>> one.members, one.pool.size, "size" in one.axes.pool
        (({'rho': 0.9},), 48, False)
    """
    copy = normalised(config)
    for name in leaves(config.axes):
        key = PLACES[f"axes.{name}"]
        if key.compiles:
            section = copy.axes[key.section]
            with section.unlocked():
                del section[key.field]
    listed = dict.fromkeys(itertools.chain.from_iterable(config.members))
    traced_keys = [PLACES[f"axes.{name}"] for name in listed if not PLACES[f"axes.{name}"].compiles]
    entries: list[dict[str, object]] = []
    for entry in config.members:
        # Where an entry sets a key, its axis has one value.
        traced = {key.axis: entry.get(key.axis, values_if_unlisted(config, key)[0]) for key in traced_keys}
        if traced and traced not in entries:
            entries.append(traced)
    return changed(copy, {"members": entries, **values})


def _pool_and_split(config: Config) -> dict[str, object]:
    """Returns the values of varied keys of the pool and the split; raises ConfigError if one has several."""
    first, *others = [point.values for point in points_of(config)]
    values = {name: value for name, value in first.items() if name.startswith(("pool.", "split."))}
    for name, value in values.items():
        if any(point[name] != value for point in others):
            raise ConfigError(f"config.axes.{name}", f"one value, as config.{name}", "several")
    return values


@dataclasses.dataclass(frozen=True)
class ImagePlan:
    """The part of a configuration that determines the images.

    Example:
        >>> from flipjax import configure
        >>> plan_images(configure("smoke")).split.n_train
        192
    """

    pool: PoolSpec
    """The pool."""
    split: SplitSpec
    """The sizes of its parts."""
    rhos: tuple[float, ...]
    """All levels of rho."""
    cue_strength: float
    """The first strength of the cue."""


def plan_images(config: Config) -> ImagePlan:
    """Returns the part of a configuration that determines the images; networks and methods may be another machine's.

    Raises:
        ConfigError: a field is invalid, or the configuration has several pools or splits.

    Example:
        >>> from flipjax import configure
        >>> plan_images(configure("smoke", {"axes.pool.cue_strength": (0.5, 1.0)})).cue_strength
        0.5
    """
    config = normalised(config)
    check(config)
    point = _pool_and_split(config)
    return ImagePlan(
        pool=pool_spec(config, point),
        split=read_static(SplitSpec, config, point),
        rhos=values_of(config, "rho"),
        cue_strength=values_of(config, "cue_strength")[0],
    )


def member_axes(
    config: Config, methods: Mapping[str, Method], entries: Sequence[Mapping[str, Value]] = ({},)
) -> list[dict[str, Value]]:
    """Returns each member's values of the axes that vary, by column: every entry with all values of the rest.

    Knobs that a method does not use are None, and members with identical training are merged.

    Args:
        config: checked.
        methods: those of the configuration.
        entries: those of `config.members` that are in the members' program, with their traced keys alone.

    Example:
        >>> from flipjax import configure
        >>> one = {"axes.rho": (0.9,), "axes.seed": (0,)}
        >>> tuned = {"axes.method": ("ce", "group_dro"), "axes.knobs.dro_step": (0.01, 0.1)}
        >>> config = configure("smoke", {**one, **tuned})
        >>> [(member["method"], member["dro_step"]) for member in member_axes(config, methods_of(config))]
        [('ce', None), ('group_dro', 0.01), ('group_dro', 0.1)]
    """
    varied = set(varied_names(config))
    columns = {column: key for column, key in AXES.items() if key.shown or key.axis in varied}
    # Keyed by values, which merges equal members.
    members: dict[tuple[Value, ...], dict[str, Value]] = {}
    for entry in entries:
        values = []
        for key in columns.values():
            if key.axis in entry:
                values.append((entry[key.axis],))
            else:
                values.append(values_if_unlisted(config, key))
        for combination in itertools.product(*values):
            axes = dict(zip(columns, combination, strict=True))
            used = knobs_set_by(axes["method"], methods)
            for name in columns:
                if name in KNOB_DEFAULTS and name not in used:
                    axes[name] = None
            members.setdefault(tuple(axes.values()), axes)
    return list(members.values())


def setting_of(
    values: Mapping[str, Any],
    methods: Mapping[str, Method],
    *,
    name: str = "",
    shown_axes: Mapping[str, Value] | None = None,
) -> Setting:
    """Returns a member's setting.

    Args:
        values: a value of every axis, perhaps traced; None for a knob that its method does not use.
        methods: the configuration's methods by name.
        name: of the member.
        shown_axes: what tables show of it, see `Setting.axes`; None: all of `values`.

    Example:
        >>> from flipjax import configure
        >>> planned = plan(configure("smoke", {"axes.method": ("group_dro",)}))
        >>> setting = setting_of({**planned.first_values, "rho": 0.9}, planned.methods)
        >>> setting.condition.rho, setting.knobs.dro_step, setting.knobs.cutmix
        (0.9, 0.01, 0.0)
    """
    if shown_axes is None:
        shown_axes = values
    condition = _part_of(Condition, values)
    knob_values = {name: values[name] for name in KNOB_DEFAULTS}
    return Setting(
        name=name,
        axes=shown_axes,
        condition=condition,
        recipe=_part_of(Recipe, values),
        knobs=knobs_of(condition.method, knob_values, methods),
        augmentation=_part_of(Augmentation, values),
        cue=_part_of(Cue, values),
        thinning=_part_of(Thinning, values),
    )


def _part_of(part: type[Part], values: Mapping[str, Any]) -> Part:
    """Returns a traced part of a member from the values of all axes."""
    # `encode` makes numbers of values that name a choice, as a traced program takes arrays alone.
    fields = {key.field: key.encode(values[key.field]) for key in KEYS.values() if key.part is part}
    return part(**fields)


def _shown(value: Any) -> Value:
    """Returns a static key's value as tables show it: a function by its name."""
    if value is None:
        return "none"
    return name_of(value) or value
