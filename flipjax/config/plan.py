"""Plans the programs of a configuration, each compiled once, and their members. Imports no JAX.

`plan` checks a configuration and makes a `Program` for each setting of its grid: the static half (`experiment`), and a
setting for each member (`member_axes`, `setting_of`). `flipjax.config.checks` checks keys that must fit one another.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from flipjax.config.checks import check_folds, check_method_names, check_methods, check_model
from flipjax.config.errors import ConfigError
from flipjax.config.identity import digest_of
from flipjax.config.methods import STRENGTHS, Augmentation, active_knobs, knobs_of, knobs_set_by, methods_of
from flipjax.config.naming import check_sizes, known_groups
from flipjax.config.program import Program, Setting, Value
from flipjax.config.ranges import name_of
from flipjax.config.sections import (
    AXES,
    KEYS,
    Condition,
    Config,
    Cue,
    Experiment,
    ModelSpec,
    Recipe,
    SplitSpec,
    Thinning,
    TrainSpec,
)
from flipjax.config.settings import (
    active_numbers,
    changed,
    check,
    normalised,
    pool_spec,
    read_static,
    read_traced,
    static_settings,
    unlisted,
    values_of,
)


def plan(config: Config) -> list[Program]:
    """Returns the programs of a configuration, one per setting of `config.grid`, each with all members.

    Raises:
      ConfigError: a field is invalid.

    Example:
        >>> from flipjax import configure
        >>> for program in plan(configure("smoke", {"grid.model.depth": (2, 3), "axes.seed": (0,)})):
        ...     print(program.name, program.experiment.model.depth, program.names, program.rhos)
        000 2 ('m000', 'm001') (0.5, 0.95)
        001 3 ('m002', 'm003') (0.5, 0.95)
    """
    config = normalised(config)
    check(config)
    check_method_names(config)
    statics = static_settings(config)
    if any(static in statics[:index] for index, static in enumerate(statics)):
        raise ConfigError("config.grid", "distinct settings", config.grid)
    members = member_axes(config)
    rhos = values_of(config, "rho")
    identity = digest_of(config)
    # Members are numbered through all programs.
    numbers = itertools.count()
    programs: list[Program] = []
    for index, static in enumerate(statics):
        spec = experiment(config, static)
        check_folds(spec, config)
        # A pool of files has groups that are known once it is loaded.
        groups = known_groups(spec.pool)
        if groups is not None:
            if not spec.split.folds:
                check_sizes(groups, spec.split, rhos)
            spec = dataclasses.replace(spec, groups=groups)
        settings = [setting_of(config, axes, name=f"m{next(numbers):03d}", static=static) for axes in members]
        name = f"{index:03d}"
        program = Program(name, spec, tuple(settings), rhos, identity=f"{identity}/{name}")
        check_methods(program)
        programs.append(program)
    return programs


def with_model(config: Config, model: ModelSpec) -> Config:
    """Returns a copy of a configuration with another network, and without a grid.

    Example:
        >>> from flipjax import configure
        >>> with_model(configure("smoke"), ModelSpec(width=16)).model.width
        16
    """
    changes: dict[str, object] = {"grid": {}}
    for key in KEYS.values():
        if key.part is ModelSpec:
            changes[key.name] = getattr(model, key.field)
    return changed(config, changes)


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
    # By their values, so that equal members are one.
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


def setting_of(config: Config, values: Mapping[str, Value], *, name: str, static: Mapping[str, object]) -> Setting:
    """Returns a member's setting from its axis values, which are unchecked and may be traced.

    `static` holds the values of the grid by dotted name.

    Example:
        >>> from flipjax import configure
        >>> config = configure("smoke", {"axes.method": ("group_dro",)})
        >>> setting = setting_of(config, member_axes(config)[0], name="m000", static={"model.width": 8})
        >>> setting.axes["model.width"], setting.condition.rho, setting.knobs.dro_step
        (8, 0.5, 0.01)
    """
    strengths = dict(config.knobs)
    for knob in STRENGTHS:
        if values.get(knob) is not None:
            strengths[knob] = values[knob]
    condition = read_traced(Condition, config, values)
    static_axes = {field: _shown(value) for field, value in static.items()}
    return Setting(
        name=name,
        axes={**static_axes, **values},
        condition=condition,
        recipe=read_traced(Recipe, config, values),
        knobs=knobs_of(condition.method, strengths, methods_of(config)),
        augmentation=read_traced(Augmentation, config, values),
        cue=read_traced(Cue, config, values),
        thinning=read_traced(Thinning, config, values),
    )


def _shown(value: Any) -> Value:
    """Returns a static key's value as tables show it: a function by its name."""
    if value is None:
        return "none"
    return name_of(value) or value
