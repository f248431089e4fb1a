"""Plans the programs of a configuration, each compiled once, and their members. Imports no JAX."""

import dataclasses
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

from flipjax.config import (
    AXES,
    KEYS,
    Condition,
    Config,
    ConfigError,
    Cue,
    Experiment,
    ModelSpec,
    Recipe,
    SplitSpec,
    Thinning,
    TrainSpec,
)
from flipjax.data.naming import check_sizes, known_groups
from flipjax.identity import digest_of
from flipjax.methods import (
    METHODS,
    OWN,
    STRENGTHS,
    Augmentation,
    Knobs,
    active_knobs,
    knobs_of,
    knobs_set_by,
    methods_of,
    parts_of,
)
from flipjax.settings import (
    active_numbers,
    changed,
    check,
    normalised,
    pool_spec,
    read_static,
    read_traced,
    static_settings,
    unlisted,
    value_of,
    values_of,
)
from flipjax.support.files import sha256
from flipjax.support.keys import Key, Scalar
from flipjax.support.ranges import functions_of, name_of

Value: TypeAlias = "str | Scalar | tuple[Value, ...] | None"
"""A member's value of an axis or of a static key; None where its method does not use one."""

GALLERY_RHO = 0.9
"""rho of the gallery's member: flips are frequent, and training shows both common and rare groups.

Example:
    >>> from flipjax import configure
    >>> [program] = plan(configure("smoke", {"axes.rho": (0.5, 0.85, 1.0), "axes.seed": (0,)}))
    >>> select(program)  # The level nearest to it.
    'm001'
"""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A member without arrays.

    Attributes:
        name: such as m003.
        axes: its values of the grid and of all axes, static ones first, for tables.
        condition: its rho, seed and method.
        recipe: the numbers of its optimiser.
        knobs: the numbers of its method.
        augmentation: the probabilities of its augmentations.
        cue: the strength of its cue.

    Example:
        >>> from flipjax import configure
        >>> [program] = plan(configure("smoke", {"axes.rho": (0.5, 0.9), "axes.seed": (0,)}))
        >>> program.settings[1].name, program.settings[1].condition
        ('m001', Condition(rho=0.9, seed=0, method='ce'))
    """

    name: str
    axes: Mapping[str, Value]
    condition: Condition
    recipe: Recipe
    knobs: Knobs
    augmentation: Augmentation
    cue: Cue
    thinning: Thinning

    @property
    def columns(self) -> dict[str, Value]:
        """The axes as table columns, blank where the member's method does not use one."""
        return {name: "" if value is None else value for name, value in self.axes.items()}


@dataclasses.dataclass(frozen=True)
class Program:
    """One static experiment and the members that share its compiled program.

    Attributes:
        name: such as 000.
        experiment: determines the program.
        settings: of its members.
        rhos: all levels of the grid.
        part: a digest of the names of the members if they are some of the program's; else empty.
        identity: a digest of the configuration and of the program's position in it; stored results with another
            identity are rejected.

    Example:
        >>> from flipjax import configure
        >>> first, second = plan(configure("smoke", {"grid.model.width": (8, 16)}))
        >>> second.name, second.experiment.model.width, second.names, second.epochs, second.rhos
        ('001', 16, ('m004', 'm005', 'm006', 'm007'), (4, 4, 4, 4), (0.5, 0.95))
    """

    name: str
    experiment: Experiment
    settings: tuple[Setting, ...]
    rhos: tuple[float, ...]
    part: str = ""
    identity: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members."""
        return tuple(setting.name for setting in self.settings)

    def setting_of(self, member: str) -> Setting:
        """Returns the setting of a member by its name."""
        return self.settings[self.names.index(member)]

    @property
    def epochs(self) -> tuple[int, ...]:
        """The most epochs of each member, including JTT's first run."""
        return tuple(self.experiment.train.epochs + int(setting.knobs.jtt_epochs) for setting in self.settings)


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
    _check_names(config)
    statics = static_settings(config)
    if any(static in statics[:index] for index, static in enumerate(statics)):
        raise ConfigError("config.grid", "distinct settings", config.grid)
    members = member_axes(config)
    rhos = values_of(config, "rho")
    identity = digest_of(config)
    numbers = itertools.count()
    programs: list[Program] = []
    for index, static in enumerate(statics):
        spec = experiment(config, static)
        _check_folds(spec, config)
        groups = known_groups(spec.pool)
        if groups is not None:
            if not spec.split.folds:
                check_sizes(groups, spec.split, rhos)
            spec = dataclasses.replace(spec, groups=groups)
        settings = [setting_of(config, axes, name=f"m{next(numbers):03d}", static=static) for axes in members]
        name = f"{index:03d}"
        program = Program(name, spec, tuple(settings), rhos, identity=f"{identity}/{name}")
        _check_methods(program)
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


def _check_folds(spec: Experiment, config: Config) -> None:
    """Raises ConfigError if keys need folds, or folds need other keys."""
    split = spec.split
    if split.folds:
        rhos = values_of(config, "rho")
        if split.fold >= split.folds:
            raise ConfigError("config.split.fold", f"0 to {split.folds - 1}, below config.split.folds", split.fold)
        if len(rhos) > 1:
            raise ConfigError("config.axes.rho", "one value with config.split.folds, which takes images as found", rhos)
        return
    if split.fold:
        raise ConfigError("config.split.fold", "0 without config.split.folds", split.fold)
    kept = values_of(config, "rare_kept")
    if any(share != 1 for share in kept):
        raise ConfigError("config.split.rare_kept", "1 without config.split.folds", kept)


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
    members: dict[tuple[Value, ...], dict[str, Value]] = {}
    for setting in config.members or ({},):
        values = [[setting[name]] if name in setting else unlisted(config, name) for name in names]
        for point in itertools.product(*values):
            axes = dict(zip(names, point, strict=True))
            used = knobs_set_by(axes["method"], methods)
            for name in names:
                if name in STRENGTHS and name not in used:
                    axes[name] = None
            members.setdefault(tuple(axes.values()), axes)
    return list(members.values())


def _check_names(config: Config) -> None:
    methods = methods_of(config)
    asked = values_of(config, "method")
    own_names = []
    for field in OWN:
        own_names += [name_of(function) for function in functions_of(config.train[field])]
    if len(methods) < len(METHODS) + len(own_names):
        expected = "names that no other method or augmentation has"
        raise ConfigError("config.train.loss", expected, ", ".join(own_names))
    for method in asked:
        if parts_of(method, methods) is None:
            expected = f"one of {', '.join(methods)}, or several joined by + that do not exclude each other"
            raise ConfigError("config.axes.method", expected, repr(method))
    unused = set(own_names)
    for method in asked:
        unused.difference_update(method.split("+"))
    if unused:
        expected = f"a method with {min(unused)}, which the configuration brings"
        raise ConfigError("config.axes.method", expected, asked)


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


def check_model(built: Experiment) -> None:
    """Raises ConfigError if the network cannot be made as asked, from the pool's images or by a method.

    Example:
        >>> from flipjax.config import PoolSpec
        >>> check_model(Experiment(pool=PoolSpec(size=40), model=ModelSpec(depth=5)))
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.pool.size: expected a multiple of 16 for model.depth 5; found 40
    """
    model = built.model
    if model.title != "unet" and "dfr" in built.active_knobs:
        raise ConfigError("config.axes.method", "model.name unet for dfr, which refits its head", model.title)
    for key in unused_keys(model):
        value = getattr(model, key.field)
        if value != key.default:
            raise ConfigError(f"config.{key.name}", f"{key.default!r} for model.name {model.title}", repr(value))
    if built.pool.size % model.stride:
        reason = f"model.name {model.name}"
        if model.name == "unet":
            reason = f"model.depth {model.depth}"
        raise ConfigError("config.pool.size", f"a multiple of {model.stride} for {reason}", built.pool.size)


def unused_keys(model: ModelSpec) -> list[Key]:
    """Returns the keys that a network does not use: `networks` of each key says so, and a user's own uses none.

    Example:
        >>> [key.name for key in unused_keys(ModelSpec("smp_resnet50"))], [key.name for key in unused_keys(ModelSpec())]
        (['model.width', 'model.depth', 'model.norm'], ['model.weights'])
    """
    unused = []
    for key in KEYS.values():
        if key.part is not ModelSpec or key.holds_functions:
            continue
        if model.build or (key.networks is not None and model.name not in key.networks):
            unused.append(key)
    return unused


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
    return Setting(
        name=name,
        axes={**{field: _shown(value) for field, value in static.items()}, **values},
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


def check_setting(experiment: Experiment, setting: Setting, config: Config) -> None:
    """Raises ConfigError if a setting needs a knob or an optional number that the program leaves out.

    Example:
        >>> from flipjax import configure
        >>> config = configure("smoke")
        >>> [program] = plan(config)
        >>> axes = {**member_axes(config)[0], "method": "group_dro"}
        >>> check_setting(program.experiment, setting_of(config, axes, name="m000", static={}), config)
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.axes.method: expected one of the program's, ce; found 'group_dro'
    """
    method = setting.condition.method
    methods = methods_of(config)
    if parts_of(method, methods) is None or not {*active_knobs([method], methods)} <= {*experiment.active_knobs}:
        expected = f"one of the program's, {', '.join(values_of(config, 'method'))}"
        raise ConfigError("config.axes.method", expected, repr(method))
    for key in KEYS.values():
        if not key.optional or key.field in experiment.active_numbers:
            continue
        value = setting.axes.get(key.field, value_of(config, key))
        if not (isinstance(value, int | float) and value == key.default):
            expected = f"{key.default:g}, since the program's configuration has no other"
            raise ConfigError(f"config.axes.{key.field}", expected, value)
    _check_first_run(setting, experiment)


def _check_methods(program: Program) -> None:
    spec = program.experiment
    for name in program.settings[0].axes:
        if name in STRENGTHS and name not in spec.active_knobs:
            raise ConfigError(f"config.axes.{name}", f"a method with the knob {name} in config.axes.method")
    least = 2 * spec.groups.count
    if "dfr" in spec.active_knobs and spec.split.n_val < least:
        raise ConfigError("config.split.n_val", f"at least {least}, half of them for dfr to refit on", spec.split.n_val)
    for setting in program.settings:
        _check_first_run(setting, spec)


def _check_first_run(setting: Setting, experiment: Experiment) -> None:
    """Raises ConfigError if JTT's first run is longer than the second; a traced length is taken as it is."""
    first = setting.knobs.jtt_epochs
    longest = experiment.train.epochs
    if isinstance(first, int | float) and first > longest:
        raise ConfigError("config.knobs.jtt_epochs", f"at most config.train.epochs ({longest})", int(first))


def restrict(program: Program, names: Collection[str]) -> Program:
    """Returns the program with only the members in `names`; the program itself if these are all.

    Example:
        >>> from flipjax import configure
        >>> [program] = plan(configure("smoke"))
        >>> restrict(program, ["m001", "m003"]).names, restrict(program, program.names) is program
        (('m001', 'm003'), True)
    """
    chosen = set(names)
    settings = tuple(setting for setting in program.settings if setting.name in chosen)
    if len(settings) == len(program.settings):
        return program
    part = sha256(" ".join(setting.name for setting in settings))[:12]
    return dataclasses.replace(program, settings=settings, part=part)


def shard_members(programs: Sequence[Program], *, index: int, count: int) -> set[str]:
    """Returns the names of the members of shard `index` (from 0) of `count`, dealt in the order of their contents.

    The result does not depend on the order of the grid, and shard sizes differ by at most one.

    Example:
        >>> from flipjax import configure
        >>> programs = plan(configure("smoke"))
        >>> shards = [shard_members(programs, index=index, count=3) for index in range(3)]
        >>> [len(shard) for shard in shards], sorted(set.union(*shards))
        ([2, 1, 1], ['m000', 'm001', 'm002', 'm003'])
    """
    dealt = []
    for program in programs:
        for setting in program.settings:
            content = json.dumps(dict(setting.axes), sort_keys=True, default=str)
            dealt.append((sha256(content), setting.name))
    return {name for _, name in sorted(dealt)[index::count]}


def select(program: Program) -> str:
    """Returns the name of the gallery's member, the first whose rho is nearest to GALLERY_RHO.

    Example:
        >>> from flipjax import configure
        >>> [program] = plan(configure("smoke"))
        >>> select(program), program.settings[2].condition.rho
        ('m002', 0.95)
    """
    return min(program.settings, key=_distance_from_gallery).name


def _distance_from_gallery(setting: Setting) -> float:
    return abs(float(setting.condition.rho) - GALLERY_RHO)
