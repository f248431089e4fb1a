"""Checks of a configuration: of each name and value alone, and of keys that belong together. Imports no JAX.

`check` takes each value on its own. The checks below it take two keys or more: methods and the functions that bring
them, folds, networks. Each raises ConfigError for the first that does not fit; `flipjax.config.plan` calls them.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from flipjax.config.choices import FROZEN, QUANTITIES
from flipjax.config.config_type import Config
from flipjax.config.errors import ConfigError
from flipjax.config.keys import Key, Kind
from flipjax.config.methods import KNOB_DEFAULTS, METHODS, OWN, Augmentation, Method, active_knobs, methods_of, parts_of
from flipjax.config.program import Program, Setting
from flipjax.config.ranges import functions_of, name_of
from flipjax.config.sections import AXES, KEYS, PLACES, SECTIONS, WHOLE, Cue, Experiment, ModelSpec, SplitSpec
from flipjax.config.values import leaves, values_of

PIXEL_KNOBS = ("swap", "cutmix", "own_augment")
"""Knobs of methods that change the pixels of training images.

Example:
    >>> {*active_knobs(["bg_swap", "ce"])} & {*PIXEL_KNOBS}
    {'swap'}
"""
PIXEL_NUMBERS = tuple(key.field for key in KEYS.values() if key.optional and key.part in (Augmentation, Cue))
"""Optional traced keys that change the pixels of images.

Example:
    >>> [AXES[name].name for name in PIXEL_NUMBERS]
    ['train.crop', 'train.jitter', 'pool.cue_strength']
"""


def check_name(name: str, *, prefix: str = "config.") -> None:
    """Raises ConfigError for an unknown key, with the nearest one, and for a whole section.

    Example:
        >>> check_name("axes.roh")
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.axes.roh: expected a key of the configuration; the nearest is config.axes.rho
    """
    if name in PLACES or name in WHOLE:
        return
    if name.removeprefix("grid.") in SECTIONS:
        examples = [place for place in PLACES if place.startswith(f"{name}.")]
        expected = "a section of the grid"
        if examples:
            expected = f"dotted names of its keys, such as {examples[0]!r}"
        raise ConfigError(f"{prefix}{name}", expected, "a section")
    raise ConfigError(f"{prefix}{name}", f"a key of the configuration; {nearest(name, prefix=prefix)}")


def nearest(name: str, *, prefix: str = "config.") -> str:
    """Suggests a name like an unknown one, by initials or spelling; otherwise lists those of its section.

    Example:
      >>> nearest("train.lr"), nearest("train.epoch", prefix="--config.")
      ('the nearest is config.axes.learning_rate', 'the nearest is --config.train.epochs')
    """
    section = name.split(".")[0]
    field = name.split(".")[-1]
    of_section = [place for place in PLACES if place.startswith(f"{section}.")] or list(PLACES)
    # Of the same section first, then of another.
    abbreviated = [place for place in (*of_section, *PLACES) if field == _initials(place)]
    near = abbreviated or difflib.get_close_matches(name, of_section, n=1)
    if near:
        return f"the nearest is {prefix}{near[0]}"
    return f"valid are {', '.join(of_section)}"


def _initials(place: str) -> str:
    """Returns the initials of the words of a dotted name's last part, such as lr of axes.learning_rate."""
    words = place.split(".")[-1].split("_")
    return "".join(word[0] for word in words)


def check(config: Config) -> None:
    """Raises ConfigError for the first invalid field of `config`, checking each on its own.

    Example:
        >>> from flipjax import configure
        >>> check(configure("smoke", {"axes.rho": (0.5, 1.5)}))
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.axes.rho: expected a number in (0, 1]; found 1.5
    """
    fields = leaves(config)
    # A list of mappings is one leaf; a grid that is a mapping has a leaf for each of its keys.
    grid = fields.pop("grid", None)
    members = fields.pop("members", ())
    quantities = fields.pop("quantities", ())
    if quantities and not QUANTITIES.accepts(quantities):
        raise ConfigError("config.quantities", QUANTITIES.text, repr(quantities))
    for name in sorted(KEYS.keys() - fields.keys()):
        raise ConfigError(f"config.{name}", "a value, as default_config() has it", "none")
    for name, value in fields.items():
        check_name(name)
        if name.startswith(("axes.", "grid.")):
            _check_values(name, value)
        else:
            check_value(name, value)
    if grid is not None:
        _check_grid(grid)
    _check_members(members, config)


def _check_grid(grid: object) -> None:
    """Raises ConfigError unless a grid is a list of mappings from static keys to values."""
    if not grid:
        raise ConfigError("config.grid", "a list of mappings from static keys to values", repr(grid))
    in_grid = {name: key for name, key in KEYS.items() if key.in_grid}
    _check_entries("grid", grid, in_grid, kind="static keys")


def _check_members(members: Any, config: Config) -> None:
    """Raises ConfigError unless `members` is a list of mappings from axes, of which `config.axes` varies none."""
    _check_entries("members", members, AXES, kind="axes")
    for entry in members:
        for name in entry:
            if len(config.axes.get(name, ())) > 1:
                expected = "one value where config.members sets it, too"
                raise ConfigError(f"config.axes.{name}", expected, config.axes[name])


def _check_values(name: str, values: object) -> None:
    """Raises ConfigError unless the values of an axis are distinct and valid."""
    if not isinstance(values, tuple | list) or not values:
        raise ConfigError(f"config.{name}", "a tuple with at least one value", repr(values))
    for value in values:
        check_value(PLACES[name].name, value)
    # Tables show a function by its name.
    shown = {name_of(value) or value for value in values}
    if len(shown) < len(values):
        raise ConfigError(f"config.{name}", "distinct values, functions by their names", tuple(values))


def _check_entries(field: str, entries: object, keys: Mapping[str, Key], *, kind: str) -> None:
    """Raises ConfigError unless `entries` is a list of mappings from the names of `keys` to values."""
    expected = f"a list of mappings from {kind} to values"
    if not isinstance(entries, list | tuple):
        raise ConfigError(f"config.{field}", expected, repr(entries))
    for entry in entries:
        if not hasattr(entry, "items") or not entry:
            raise ConfigError(f"config.{field}", expected, repr(entries))
    for index, entry in enumerate(entries):
        for name, value in entry.items():
            if name not in keys:
                raise ConfigError(f"config.{field}[{index}].{name}", f"one of the {kind}: {', '.join(keys)}")
            check_value(keys[name].name, value)


def check_value(name: str, value: object) -> None:
    """Raises ConfigError unless `value` has the type and range of the dotted key `name`.

    Example:
        >>> check_value("train.hflip", 1.5)
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.train.hflip: expected a number in [0, 1]; found 1.5
    """
    key = KEYS[name]
    if key.accepts(value):
        return
    expected = key.expected
    if isinstance(key.default, int) and isinstance(value, float):
        expected += ", an integer"
    elif _is_several(key, value):
        expected += f"; several go to {_place_of_several(key)}"
    raise ConfigError(f"config.{name}", expected, repr(value))


def _is_several(key: Key, value: object) -> bool:
    """Whether a value is a tuple of values of the key, which can be varied."""
    varies = key.in_grid or key.kind is Kind.TRACED
    return varies and isinstance(value, tuple | list) and len(value) > 0 and all(map(key.accepts, value))


def _place_of_several(key: Key) -> str:
    """Returns the dotted name of a section that takes several values of a key."""
    if key.kind is Kind.TRACED:
        return f"config.axes.{key.field}"
    return f"config.grid.{key.name}"


def check_method_names(config: Config) -> None:
    """Raises ConfigError if the axis of methods has an unknown one, or leaves out one that the configuration brings.

    Example:
        >>> from flipjax import configure
        >>> def focal(logits, labels, groups):
        ...     return logits.mean((1, 2, 3))
        >>> try:
        ...     check_method_names(configure("smoke", {"train.loss": focal}))
        ... except ConfigError as error:
        ...     print(error.problem)
        expected a method with focal, which the configuration brings; found ('ce',)
    """
    methods = methods_of(config)
    asked = values_of(config, "method")
    own_names = []
    for key in OWN:
        own_names += [name_of(function) for function in functions_of(config.train[key])]
    # `methods` holds one of two that have the same name.
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


def check_folds(split: SplitSpec, *, rhos: Sequence[object], rare_kept: Sequence[object]) -> None:
    """Raises ConfigError if keys need folds, or folds need other keys; `rhos` and `rare_kept` are all values of these.

    Example:
        >>> check_folds(SplitSpec(fold=1), rhos=(0.5,), rare_kept=(1.0,))
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.split.fold: expected 0 without config.split.folds; found 1
    """
    if split.folds:
        if split.fold >= split.folds:
            raise ConfigError("config.split.fold", f"0 to {split.folds - 1}, below config.split.folds", split.fold)
        if len(rhos) > 1:
            raise ConfigError("config.axes.rho", "one value with config.split.folds, which takes images as found", rhos)
        return
    if split.fold:
        raise ConfigError("config.split.fold", "0 without config.split.folds", split.fold)
    if any(share != 1 for share in rare_kept):
        raise ConfigError("config.split.rare_kept", "1 without config.split.folds", rare_kept)


def check_model(experiment: Experiment) -> None:
    """Raises ConfigError if the network cannot be made as asked, from the pool's images or by a method.

    Example:
        >>> from flipjax.config import PoolSpec
        >>> check_model(Experiment(pool=PoolSpec(size=40), model=ModelSpec(depth=5)))
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.pool.size: expected a multiple of 16 for model.depth 5; found 40
    """
    model = experiment.model
    if model.title != "unet" and "dfr" in experiment.active_knobs:
        raise ConfigError("config.axes.method", "model.name unet for dfr, which refits its head", model.title)
    for key in unused_keys(model):
        value = getattr(model, key.field)
        if value != key.default:
            raise ConfigError(f"config.{key.name}", f"{key.default!r} for model.name {model.title}", repr(value))
    if experiment.pool.size % model.stride:
        reason = f"model.name {model.name}"
        if model.name == "unet":
            reason = f"model.depth {model.depth}"
        raise ConfigError("config.pool.size", f"a multiple of {model.stride} for {reason}", experiment.pool.size)
    if model.title == FROZEN:
        check_frozen(experiment)


def check_frozen(experiment: Experiment) -> None:
    """Raises ConfigError if anything changes pixels that frozen features are computed of, once an image.

    Example:
        >>> check_frozen(Experiment(model=ModelSpec("frozen"), active_numbers=("jitter",)))
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.train.jitter: expected 0 alone for model.name frozen, ...
    """
    because = "for model.name frozen, whose features are computed once an image, of pixels that nothing changes"
    for knob in PIXEL_KNOBS:
        if knob in experiment.active_knobs:
            found = f"the knob {knob}"
            raise ConfigError("config.axes.method", f"no bg_swap, bg_cutmix or own augmentation {because}", found)
    for number in PIXEL_NUMBERS:
        if number in experiment.active_numbers:
            key = AXES[number]
            raise ConfigError(f"config.{key.name}", f"{key.default:g} alone {because}", "others")


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


def check_setting(setting: Setting, program: Program, methods: Mapping[str, Method]) -> None:
    """Raises ConfigError if a setting needs a knob or an optional number that the program leaves out.

    Args:
        setting: with a value of every axis.
        program: in which it would train.
        methods: those of the configuration.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config.plan import plan, setting_of
        >>> planned = plan(configure("smoke"))
        >>> setting = setting_of({**planned.first_values, "method": "group_dro"}, planned.methods)
        >>> check_setting(setting, planned.programs[0], planned.methods)
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.axes.method: expected one of the program's, ce; found 'group_dro'
    """
    experiment = program.experiment
    method = setting.condition.method
    is_method = parts_of(method, methods) is not None
    if not is_method or not set(active_knobs([method], methods)) <= set(experiment.active_knobs):
        of_program = dict.fromkeys(other.condition.method for other in program.settings)
        raise ConfigError("config.axes.method", f"one of the program's, {', '.join(of_program)}", repr(method))
    for key in KEYS.values():
        if not key.optional or key.field in experiment.active_numbers:
            continue
        value = setting.axes[key.field]
        # A traced value may be any.
        is_default = isinstance(value, int | float) and value == key.default
        if not is_default:
            expected = f"{key.default:g}, since the program's configuration has no other"
            raise ConfigError(f"config.axes.{key.field}", expected, value)
    _check_first_run(setting, experiment)
    _check_momentum(setting, experiment)


def check_methods(program: Program) -> None:
    """Raises ConfigError if a program lacks what its members need: the method of a knob, images for dfr, or sgd.

    Example:
        >>> import dataclasses
        >>> from flipjax import configure
        >>> from flipjax.config.plan import plan
        >>> [program] = plan(configure("smoke", {"axes.method": ("dfr",), "split.n_val": 8})).programs
        >>> small = dataclasses.replace(program.experiment.split, n_val=4)
        >>> check_methods(dataclasses.replace(program, experiment=dataclasses.replace(program.experiment, split=small)))
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.split.n_val: expected at least 8, half of them for dfr to refit on; found 4
    """
    experiment = program.experiment
    for name in program.settings[0].axes:
        if name in KNOB_DEFAULTS and name not in experiment.active_knobs:
            raise ConfigError(f"config.axes.{name}", f"a method with the knob {name} in config.axes.method")
    fewest = 2 * experiment.groups.count
    if "dfr" in experiment.active_knobs and experiment.split.n_val < fewest:
        expected = f"at least {fewest}, half of them for dfr to refit on"
        raise ConfigError("config.split.n_val", expected, experiment.split.n_val)
    for setting in program.settings:
        _check_first_run(setting, experiment)
        _check_momentum(setting, experiment)


def _check_first_run(setting: Setting, experiment: Experiment) -> None:
    """Raises ConfigError if JTT's first run is longer than the second; a traced length is taken as it is."""
    first = setting.knobs.jtt_epochs
    longest = experiment.train.epochs
    if isinstance(first, int | float) and first > longest:
        raise ConfigError("config.knobs.jtt_epochs", f"at most config.train.epochs ({longest})", int(first))


def _check_momentum(setting: Setting, experiment: Experiment) -> None:
    """Raises ConfigError if a member has a momentum that its optimiser would not use."""
    momentum = setting.recipe.momentum
    optimizer = experiment.train.optimizer
    # A traced value may be any.
    is_none = isinstance(momentum, int | float) and momentum == 0
    if optimizer == "sgd" or is_none:
        return
    title = name_of(optimizer) or optimizer
    raise ConfigError("config.train.momentum", f"0 for train.optimizer {title}; train.optimizer sgd has one", momentum)
