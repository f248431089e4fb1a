"""A configuration, parsed: a `ConfigDict` becomes a frozen record of checked values. Imports no JAX.

`plan` checks a configuration and makes a `Plan`, which other packages read instead of the configuration. It holds a
`Program` for each setting of the grid: the static half (`experiment`), and a setting for each member (`member_axes`,
`setting_of`).
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flipjax.config.checks import check, check_folds, check_method_names, check_methods, check_model
from flipjax.config.errors import ConfigError
from flipjax.config.identity import digest_of, settings_of, sources_of
from flipjax.config.methods import STRENGTHS, Augmentation, Method, active_knobs, knobs_of, knobs_set_by, methods_of
from flipjax.config.naming import check_sizes, known_groups
from flipjax.config.program import Program, Setting, Value
from flipjax.config.ranges import functions_of, name_of
from flipjax.config.reading import changed, normalised
from flipjax.config.sections import (
    AXES,
    KEYS,
    Condition,
    Config,
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
    pool_spec,
    read_static,
    static_settings,
    unlisted,
    value_of,
    values_of,
)
from flipjax.support.files import JsonObject


@dataclasses.dataclass(frozen=True)
class Plan:
    """A configuration as a record of checked values, which nothing can change.

    Example:
        >>> from flipjax import configure
        >>> planned = plan(configure("smoke", {"grid.model.depth": (2, 3)}))
        >>> len(planned.programs), planned.members, planned.population.map, planned.first_values["rho"]
        (2, 8, 'auto', 0.5)
    """

    programs: tuple[Program, ...]
    """A program for each setting of the grid, each with all members."""
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
    settings: JsonObject
    """The configuration as config.json holds it: a function is its name and a digest."""
    sources: Mapping[str, str]
    """The sources of the user's functions and classes, by their names."""

    @property
    def members(self) -> int:
        """The number of members of all programs."""
        return sum(len(program.settings) for program in self.programs)


def plan(config: Config) -> Plan:
    """Returns the record of a configuration, whose members are numbered through all programs.

    Raises:
      ConfigError: a field is invalid.

    Example:
        >>> from flipjax import configure
        >>> for program in plan(configure("smoke", {"grid.model.depth": (2, 3), "axes.seed": (0,)})).programs:
        ...     print(program.name, program.experiment.model.depth, program.names, program.rhos)
        000 2 ('m000', 'm001') (0.5, 0.95)
        001 3 ('m002', 'm003') (0.5, 0.95)
    """
    config = normalised(config)
    check(config)
    check_method_names(config)
    settings = settings_of(config)
    identity = digest_of(settings)
    return Plan(
        programs=tuple(_programs_of(config, identity)),
        population=read_static(PopulationSpec, config, {}),
        intervene=read_static(InterveneSpec, config, {}),
        quantities=functions_of(config.quantities),
        methods=methods_of(config),
        first_values={name: values_of(config, name)[0] for name in AXES},
        identity=identity,
        settings=settings,
        sources=sources_of(config),
    )


def _programs_of(config: Config, identity: str) -> list[Program]:
    """Returns the programs of a checked configuration, one for each setting of its grid."""
    statics = static_settings(config)
    _check_distinct(statics, config)
    methods = methods_of(config)
    members = member_axes(config)
    listed = members[0].keys()
    unvaried = {name: value_of(config, key) for name, key in AXES.items() if name not in listed}
    programs: list[Program] = []
    member_numbers = itertools.count()
    for index, static in enumerate(statics):
        shown = {field: _shown(value) for field, value in static.items()}
        settings = []
        for axes in members:
            name = f"m{next(member_numbers):03d}"
            settings.append(setting_of({**unvaried, **axes}, methods, name=name, axes={**shown, **axes}))
        program = Program(
            name=f"{index:03d}",
            experiment=_sized_experiment(config, static),
            settings=tuple(settings),
            rhos=values_of(config, "rho"),
            identity=f"{identity}/{index:03d}",
        )
        check_methods(program)
        programs.append(program)
    return programs


def _check_distinct(statics: Sequence[Mapping[str, object]], config: Config) -> None:
    """Raises ConfigError if two settings of the grid are equal."""
    for index, static in enumerate(statics):
        if static in statics[:index]:
            raise ConfigError("config.grid", "distinct settings", config.grid)


def _sized_experiment(config: Config, static: Mapping[str, object]) -> Experiment:
    """Returns the experiment of a setting of the grid, with its groups if known; checks its folds and sizes."""
    spec = experiment(config, static)
    rhos = values_of(config, "rho")
    check_folds(spec.split, rhos=rhos, rare_kept=values_of(config, "rare_kept"))
    groups = known_groups(spec.pool)
    if groups is None:
        # The groups of a pool of files are known once it is loaded.
        return spec
    if not spec.split.folds:
        check_sizes(groups, spec.split, rhos)
    return dataclasses.replace(spec, groups=groups)


def with_model(config: Config, model: ModelSpec) -> Config:
    """Returns a copy of a configuration of one pool and one split with another network, and without a grid.

    Raises:
        ConfigError: the grid has several pools or splits.

    Example:
        >>> from flipjax import configure
        >>> with_model(configure("smoke"), ModelSpec(width=16)).model.width
        16
    """
    _check_one_pool_and_split(config)
    changes: dict[str, object] = {"grid": {}}
    for key in KEYS.values():
        if key.part is ModelSpec:
            changes[key.name] = getattr(model, key.field)
    return changed(config, changes)


def _check_one_pool_and_split(config: Config) -> None:
    """Raises ConfigError if the grid has several pools or splits."""
    for name in static_settings(config)[0]:
        if name.startswith(("pool.", "split.")):
            raise ConfigError(f"config.grid.{name}", f"one value, as config.{name}", "several")


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
        ConfigError: a field is invalid, or the grid has several pools or splits.

    Example:
        >>> from flipjax import configure
        >>> plan_images(configure("smoke", {"axes.cue_strength": (0.5, 1.0)})).cue_strength
        0.5
    """
    config = normalised(config)
    check(config)
    _check_one_pool_and_split(config)
    return ImagePlan(
        pool=pool_spec(config, {}),
        split=read_static(SplitSpec, config, {}),
        rhos=values_of(config, "rho"),
        cue_strength=values_of(config, "cue_strength")[0],
    )


def member_axes(config: Config) -> list[dict[str, Value]]:
    """Returns each member's axis values: every entry of `config.members` with the product of the other axes.

    Knobs that a method does not use are None, and members with identical training are merged.

    Example:
        >>> from flipjax import configure
        >>> one = {"axes.rho": (0.9,), "axes.seed": (0,)}
        >>> tuned = {"axes.method": ("ce", "group_dro"), "axes.dro_step": (0.01, 0.1)}
        >>> [(member["method"], member["dro_step"]) for member in member_axes(configure("smoke", {**one, **tuned}))]
        [('ce', None), ('group_dro', 0.01), ('group_dro', 0.1)]
    """
    listed = set(config.axes).union(*config.members)
    names = [name for name in AXES if name in listed]
    methods = methods_of(config)
    # Keyed by values, which merges equal members.
    members: dict[tuple[Value, ...], dict[str, Value]] = {}
    for entry in config.members or ({},):
        values = []
        for name in names:
            if name in entry:
                values.append((entry[name],))
            else:
                values.append(unlisted(config, name))
        for combination in itertools.product(*values):
            axes = dict(zip(names, combination, strict=True))
            used = knobs_set_by(axes["method"], methods)
            for name in names:
                if name in STRENGTHS and name not in used:
                    axes[name] = None
            members.setdefault(tuple(axes.values()), axes)
    return list(members.values())


def experiment(config: Config, overrides: Mapping[str, object]) -> Experiment:
    """Returns the static half of a checked configuration, with dotted `overrides` from its grid.

    Raises:
      ConfigError: fields are incompatible.

    Example:
        >>> from flipjax import configure
        >>> experiment(configure("smoke", {"axes.method": ("group_dro",)}), {"model.width": 16}).active_knobs
        ('dro', 'dro_step')
    """
    built = Experiment(
        pool=pool_spec(config, overrides),
        split=read_static(SplitSpec, config, overrides),
        model=read_static(ModelSpec, config, overrides),
        train=read_static(TrainSpec, config, overrides),
        active_knobs=active_knobs(values_of(config, "method"), methods_of(config)),
        active_numbers=active_numbers(config),
    )
    check_model(built)
    n_train = built.split.n_train
    batch_size = built.train.batch_size
    if 0 < n_train < batch_size:
        raise ConfigError("config.split.n_train", f"at least train.batch_size ({batch_size}), or 0", n_train)
    return built


def setting_of(
    values: Mapping[str, Any],
    methods: Mapping[str, Method],
    *,
    name: str = "",
    axes: Mapping[str, Value] | None = None,
) -> Setting:
    """Returns a member's setting.

    Args:
        values: a value of every axis, unchecked and perhaps traced; None for a knob that its method does not use.
        methods: the configuration's methods by name.
        name: of the member.
        axes: its columns in tables; None: one for each of `values`.

    Example:
        >>> from flipjax import configure
        >>> planned = plan(configure("smoke", {"axes.method": ("group_dro",)}))
        >>> setting = setting_of({**planned.first_values, "rho": 0.9}, planned.methods)
        >>> setting.condition.rho, setting.knobs.dro_step, setting.knobs.cutmix
        (0.9, 0.01, 0.0)
    """
    condition = _part_of(Condition, values)
    strengths = {knob: values[knob] for knob in STRENGTHS}
    return Setting(
        name=name,
        axes=values if axes is None else axes,
        condition=condition,
        recipe=_part_of(Recipe, values),
        knobs=knobs_of(condition.method, strengths, methods),
        augmentation=_part_of(Augmentation, values),
        cue=_part_of(Cue, values),
        thinning=_part_of(Thinning, values),
    )


def _part_of(part: type[Part], values: Mapping[str, Any]) -> Part:
    """Returns a traced part of a member from the values of all axes."""
    fields = {key.field: key.encode(values[key.field]) for key in KEYS.values() if key.part is part}
    return part(**fields)


def _shown(value: Any) -> Value:
    """Returns a static key's value as tables show it: a function by its name."""
    if value is None:
        return "none"
    return name_of(value) or value
