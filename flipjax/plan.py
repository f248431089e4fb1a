"""Plans the programs of a configuration, each compiled once, and their members. Imports no JAX."""

import dataclasses
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flipjax.config import (
    AXES,
    Config,
    ConfigError,
    Cue,
    Experiment,
    ModelSpec,
    Recipe,
    SplitSpec,
    Thinning,
    check,
    pool_spec,
    read_static,
    read_traced,
    static_settings,
    train_spec,
    unlisted,
    values_of,
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
from flipjax.support.files import sha256
from flipjax.support.ranges import functions_of, name_of

GALLERY_RHO = 0.9
"""rho of the gallery's member: flips are frequent, and training shows both common and rare groups."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A member without arrays: its name, the values of all axes (static first), and the numbers that it trains with."""

    name: str
    axes: Mapping[str, Any]
    recipe: Recipe
    knobs: Knobs
    augmentation: Augmentation
    cue: Cue
    thinning: Thinning

    @property
    def columns(self) -> dict[str, Any]:
        """The axes as table columns, blank where the member's method does not use one."""
        return {name: "" if value is None else value for name, value in self.axes.items()}


@dataclasses.dataclass(frozen=True)
class Program:
    """One static experiment and the members that share its program; `rhos` are all levels of the grid.

    `part` names a subset of the members, or is empty. `identity` is a digest of the configuration and of the program's
    position in it; stored results with another identity are rejected.
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

    @property
    def epochs(self) -> tuple[int, ...]:
        """The most epochs of each member, including JTT's first run."""
        return tuple(self.experiment.train.epochs + int(setting.knobs.jtt_epochs) for setting in self.settings)


def plan(config: Config) -> list[Program]:
    """Returns the programs of a configuration, one per setting of `config.grid`, each with all members.

    Raises:
      ConfigError: a field is invalid.
    """
    check(config)
    _check_names(config)
    members = member_axes(config)
    rhos = values_of(config, "rho")
    programs: list[Program] = []
    whole, numbers = digest_of(config), itertools.count()
    statics = static_settings(config)
    if any(static in statics[:place] for place, static in enumerate(statics)):
        raise ConfigError("config.grid", "distinct settings", config.grid)
    for static in statics:
        spec = experiment(config, static)
        _check_folds(spec, config)
        groups = known_groups(spec.pool)
        if groups:
            if not spec.split.folds:
                check_sizes(groups, spec.split, rhos)
            spec = dataclasses.replace(spec, groups=groups)
        settings = [setting_of(config, own, name=f"m{next(numbers):03d}", static=static) for own in members]
        name = f"{len(programs):03d}"
        programs.append(Program(name, spec, tuple(settings), rhos, identity=f"{whole}/{name}"))
        _check_methods(programs[-1])
    return programs


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


def member_axes(config: Config) -> list[dict[str, Any]]:
    """Returns each member's axis values: every entry of `config.members` with the product of the other axes.

    Knobs that a method does not use are None, and members with identical training are merged.
    """
    names = [name for name in AXES if name in config.axes or any(name in own for own in config.members)]
    methods = methods_of(config)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for own in config.members or ({},):
        values = [[own[name]] if name in own else unlisted(config, name) for name in names]
        for point in itertools.product(*values):
            member = dict(zip(names, point, strict=True))
            used = knobs_set_by(member["method"], methods)
            for name in names:
                if name in STRENGTHS and name not in used:
                    member[name] = None
            found.setdefault(tuple(member.values()), member)
    return [*found.values()]


def _check_names(config: Config) -> None:
    methods, asked = methods_of(config), values_of(config, "method")
    own = [name_of(each) for field in OWN for each in functions_of(config.train[field])]
    if len(methods) < len(METHODS) + len(own):
        raise ConfigError("config.train.loss", "names that no other method or augmentation has", ", ".join(own))
    for method in asked:
        if parts_of(method, methods) is None:
            expected = f"one of {', '.join(methods)}, or several joined by + that do not exclude each other"
            raise ConfigError("config.axes.method", expected, repr(method))
    unused = set(own).difference(*(method.split("+") for method in asked))
    if unused:
        expected = f"a method with {min(unused)}, which the configuration brings"
        raise ConfigError("config.axes.method", expected, asked)


def experiment(config: Config, overrides: Mapping[str, Any]) -> Experiment:
    """Returns the static half of a checked configuration, with dotted `overrides` from its grid.

    Raises:
      ConfigError: fields are incompatible.
    """
    knobs = active_knobs(values_of(config, "method"), methods_of(config))
    built = Experiment(
        pool=pool_spec(config, overrides),
        split=read_static(SplitSpec, config, overrides),
        model=read_static(ModelSpec, config, overrides),
        train=train_spec(config, overrides),
        active_knobs=knobs,
    )
    _check_model(built)
    n_train, batch_size = built.split.n_train, built.train.batch_size
    if 0 < n_train < batch_size:
        raise ConfigError("config.split.n_train", f"at least train.batch_size ({batch_size}), or 0", n_train)
    return built


def _check_model(built: Experiment) -> None:
    model, size = built.model, built.pool.size
    large = model.title != "unet"
    if large and "dfr" in built.active_knobs:
        raise ConfigError("config.axes.method", "model.name unet for dfr, which refits its head", model.title)
    unset = ("width", "depth", "norm") if large else ("weights",)
    for field in ("name", "dtype", "weights", *unset) if model.build else unset:
        default, value = getattr(type(model)(), field), getattr(model, field)
        if value != default:
            raise ConfigError(f"config.model.{field}", f"{default!r} for model.name {model.title}", repr(value))
    if size % model.stride:
        reason = f"model.name {model.name}" if large else f"model.depth {model.depth}"
        raise ConfigError("config.pool.size", f"a multiple of {model.stride} for {reason}", size)


def setting_of(config: Config, values: Mapping[str, Any], *, name: str, static: Mapping[str, Any]) -> Setting:
    """Returns a member's setting from its axis values, which are unchecked and may be traced.

    `static` holds the values of the grid by dotted name.
    """
    strengths = dict(config.knobs)
    for knob in STRENGTHS:
        if values.get(knob) is not None:
            strengths[knob] = values[knob]
    shown = {field: name_of(value) or ("none" if value is None else value) for field, value in static.items()}
    return Setting(
        name=name,
        axes={**shown, **values},
        recipe=read_traced(Recipe, config, values),
        knobs=knobs_of(values["method"], strengths, methods_of(config)),
        augmentation=read_traced(Augmentation, config, values),
        cue=read_traced(Cue, config, values),
        thinning=read_traced(Thinning, config, values),
    )


def check_setting(experiment: Experiment, setting: Setting, config: Config) -> None:
    """Raises ConfigError if a setting needs a knob, an augmentation or a cue that the program omits."""
    method, methods = setting.axes["method"], methods_of(config)
    if parts_of(method, methods) is None or not {*active_knobs([method], methods)} <= {*experiment.active_knobs}:
        expected = f"one of the program's, {', '.join(values_of(config, 'method'))}"
        raise ConfigError("config.axes.method", expected, repr(method))
    strongest, own = experiment.train.strongest, setting.augmentation
    for name, held, value, plain in (
        ("train.crop", strongest.crop, own.crop, 0),
        ("train.jitter", strongest.jitter, own.jitter, 0),
        ("axes.cue_strength", experiment.pool.blended, setting.cue.cue_strength, 1),
    ):
        if not held and not (isinstance(value, int | float) and value == plain):
            raise ConfigError(f"config.{name}", f"{plain}, since the program's configuration has no other", value)
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
    first, most = setting.knobs.jtt_epochs, experiment.train.epochs
    if isinstance(first, int | float) and first > most:
        raise ConfigError("config.knobs.jtt_epochs", f"at most config.train.epochs ({most})", int(first))


def restrict(program: Program, names: Collection[str]) -> Program:
    """Returns the program with only the members in `names`; the program itself if these are all."""
    chosen = set(names)
    settings = tuple(setting for setting in program.settings if setting.name in chosen)
    if len(settings) == len(program.settings):
        return program
    part = sha256(" ".join(setting.name for setting in settings))[:12]
    return dataclasses.replace(program, settings=settings, part=part)


def shard_members(programs: Sequence[Program], *, index: int, count: int) -> set[str]:
    """Returns the names of the members of shard `index` (from 0) of `count`, dealt in the order of their contents.

    The result does not depend on the order of the grid, and shard sizes differ by at most one.
    """
    settings = [setting for program in programs for setting in program.settings]
    texts = ((json.dumps(dict(setting.axes), sort_keys=True, default=str), setting.name) for setting in settings)
    return {name for _, name in sorted((sha256(text), name) for text, name in texts)[index::count]}


def select(program: Program) -> str:
    """Returns the name of the gallery's member, the first whose rho is nearest to GALLERY_RHO."""
    return min(program.settings, key=lambda setting: abs(setting.axes["rho"] - GALLERY_RHO)).name
