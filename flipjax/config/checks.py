"""Checks of a configuration: of each name and value alone, and of keys that belong together. Imports no JAX.

`check` takes each value on its own. The checks below it take two keys or more: methods and the functions that bring
them, folds, networks. Each raises ConfigError for the first that does not fit; `flipjax.config.plan` calls them.
"""

import difflib
from collections.abc import Mapping, Sequence

from flipjax.config.choices import FROZEN, QUANTITIES
from flipjax.config.config_type import Config
from flipjax.config.errors import ConfigError
from flipjax.config.keys import Key, knobs_in
from flipjax.config.methods import (
    KNOB_DEFAULTS,
    METHODS,
    OWN,
    Augmentation,
    Knobs,
    Method,
    active_knobs,
    methods_of,
    parts_of,
)
from flipjax.config.names.former import new_names
from flipjax.config.names.synonyms import IN_PYTHON, meant_key
from flipjax.config.program import Program, Setting
from flipjax.config.ranges import functions_of, is_named_tuple, name_of
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
    """Raises ConfigError for an unknown key, with the nearest one, for a former name, and for a whole section.

    Example:
        >>> check_name("axes.roh")
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.axes.roh: expected a key of the configuration; the nearest is config.axes.rho
    """
    if name in PLACES or name in WHOLE:
        return
    field = f"{prefix}{name}"
    names = [f"{prefix}{new}" for new in new_names(name)]
    if names:
        raise ConfigError(field, f"{' or '.join(names)}, as it is called now")
    home = name.removeprefix("grid.").removeprefix("axes.")
    if home in KEYS:
        raise ConfigError(field, f"a key that varies; {prefix}{home} is one value for all members")
    if home in SECTIONS:
        examples = _names_in(name.replace("grid.", "axes."))
        expected = f"a key that varies; each key of {prefix}{home} is one value for all members"
        if examples:
            expected = f"dotted names of its keys, such as {examples[0]!r}"
        raise ConfigError(field, expected, "a section")
    raise ConfigError(field, f"a key of the configuration; {nearest(name, prefix=prefix)}")


def nearest(name: str, *, prefix: str = "config.") -> str:
    """Suggests a name like an unknown one, of any section; if none is like it, lists those of its section.

    Example:
      >>> nearest("axes.width"), nearest("train.epoch", prefix="--config.")
      ('the nearest is config.axes.model.width', 'the nearest is --config.train.epochs')
      >>> nearest("axes.intervene.qqq")
      'valid are intervene.scenes, intervene.scores'
    """
    section = name.split(".")[0]
    field = name.split(".")[-1]
    if field in IN_PYTHON:
        return f"in Python it is {IN_PYTHON[field]}"
    key = nearest_key(name)
    if key is None and section == "grid":
        return f"{prefix}grid is {prefix}axes or {prefix}members now"
    if key is None:
        return f"valid are {', '.join(_names_beside(name))}"
    place = key.name
    if section in ("axes", "grid") and key.varies:
        place = f"axes.{key.axis}"
    return f"the nearest is {prefix}{place}"


def _names_beside(name: str) -> list[str]:
    """Returns the names of the section of an unknown name. For an axis: the keys that vary, or those of its home."""
    section, _, axis = name.partition(".")
    of_axis = axis.split(".")[0]
    if section != "axes":
        return _names_in(section) or list(SECTIONS)
    if of_axis in SECTIONS:
        return _names_in(f"axes.{of_axis}") or _names_in(of_axis)
    names = [key.name for key in KEYS.values() if key.section == "axes"]
    for other in SECTIONS:
        if _names_in(f"axes.{other}"):
            names.append(f"axes.{other}.KEY")
    return names


def _names_in(section: str) -> list[str]:
    """Returns the names that begin with that of a section, which may be one of the axes."""
    return [place for place in PLACES if place.startswith(f"{section}.")]


def nearest_key(name: str) -> Key | None:
    """Returns the key that an unknown name means: by its last name, what others call it, its initials or its spelling.

    Example:
        >>> [nearest_key(name).name for name in ("axes.width", "train.early_stopping", "wd", "model.wdth")]
        ['model.width', 'train.patience', 'train.weight_decay', 'model.width']
    """
    field = name.split(".")[-1].replace("-", "_")
    meant = meant_key(field)
    if meant is not None:
        return KEYS[meant]
    for key in KEYS.values():
        if field in (key.field, _initials(key.field)):
            return key
    spelt = difflib.get_close_matches(name, PLACES, n=1, cutoff=0.75)
    if spelt:
        return PLACES[spelt[0]]
    by_field = {key.field: key for key in reversed(KEYS.values())}
    alike = difflib.get_close_matches(field, by_field, n=1, cutoff=0.75)
    if not alike:
        return None
    return by_field[alike[0]]


def _initials(field: str) -> str:
    """Returns the initials of the words of a last name, such as lr of learning_rate."""
    return "".join(word[0] for word in field.split("_"))


def check(config: Config) -> None:
    """Raises ConfigError for the first invalid field of `config`, checking each on its own.

    Example:
        >>> from flipjax import configure
        >>> check(configure("smoke", {"axes.rho": (0.5, 1.5)}))
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.axes.rho: expected a number in (0, 1]; found 1.5
    """
    fields = leaves(config)
    members = fields.pop("members", ())
    quantities = fields.pop("quantities", ())
    if quantities and not QUANTITIES.accepts(quantities):
        raise ConfigError("config.quantities", QUANTITIES.text, repr(quantities))
    for name in sorted(KEYS.keys() - fields.keys()):
        raise ConfigError(f"config.{name}", "a value, as default_config() has it", "none")
    for name, value in fields.items():
        check_name(name)
        if name.startswith("axes."):
            _check_axis(name, value)
        else:
            check_value(name, value)
    _check_members(members, fields)


def _check_axis(name: str, values: object) -> None:
    """Raises ConfigError unless the values of an axis are distinct and valid."""
    if not isinstance(values, tuple | list) or not values:
        raise ConfigError(f"config.{name}", "a tuple with at least one value", repr(values))
    for value in values:
        check_value(name, value)
    # Tables show a function by its name.
    shown = {name_of(value) or value for value in values}
    if len(shown) < len(values):
        raise ConfigError(f"config.{name}", "distinct values, functions by their names", tuple(values))


def _check_members(members: object, fields: Mapping[str, object]) -> None:
    """Raises ConfigError unless `members` is a list of settings of keys that vary, of which no axis has several values.

    `fields` are the values of the configuration by dotted name.
    """
    expected = "a list of mappings from names of axes to values, such as {'rho': 0.9, 'train.learning_rate': 0.001}"
    if not isinstance(members, list | tuple) or not all(hasattr(entry, "items") and entry for entry in members):
        raise ConfigError("config.members", expected, repr(members))
    for index, entry in enumerate(members):
        for name, value in entry.items():
            place = f"axes.{name}"
            _check_member_name(name, f"config.members[{index}].{name}")
            check_value(place, value, field=f"members[{index}].{name}")
            of_axis = fields.get(place, ())
            if isinstance(of_axis, tuple | list) and len(of_axis) > 1:
                raise ConfigError(f"config.{place}", "one value where config.members sets it, too", of_axis)


def _check_member_name(name: str, field: str) -> None:
    """Raises ConfigError unless an entry of `members` may set a name, with the nearest that it may set."""
    if f"axes.{name}" in PLACES:
        return
    if name in PLACES and PLACES[name].varies:
        raise ConfigError(field, f"the name of an axis; the nearest is {PLACES[name].axis}")
    if name in KEYS:
        raise ConfigError(field, f"a key that varies; config.{name} is one value for all members")
    if name in AXES:
        raise ConfigError(field, f"{AXES[name].axis}, as it is called now")
    for spelt in (name, f"axes.{name}"):
        key = nearest_key(spelt)
        if key is not None and key.varies:
            raise ConfigError(field, f"the name of an axis; the nearest is {key.axis}")
    last_name = name.split(".")[-1]
    if last_name in IN_PYTHON:
        raise ConfigError(field, f"the name of an axis; in Python it is {IN_PYTHON[last_name]}")
    names = [place.removeprefix("axes.") for place in _names_beside(f"axes.{name}")]
    section = name.split(".")[0]
    if section in SECTIONS and not _names_in(f"axes.{section}"):
        raise ConfigError(field, f"a key that varies; each key of config.{section} is one value for all members")
    raise ConfigError(field, f"the name of an axis; valid are {', '.join(names)}")


def check_value(name: str, value: object, *, field: str = "") -> None:
    """Raises ConfigError unless `value` has the type and range of the key at a dotted name.

    `field` is the place to name in the error, if it is another one.

    Example:
        >>> check_value("train.hflip", 1.5)
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.train.hflip: expected a number in [0, 1]; found 1.5
    """
    key = PLACES[name]
    if key.accepts(value):
        return
    expected = key.expected
    if isinstance(key.default, int) and isinstance(value, float):
        expected += ", an integer"
    elif _is_several(key, value):
        expected += f"; several go to config.axes.{key.axis}"
    raise ConfigError(f"config.{field or name}", expected, _shown(value))


def _shown(value: object) -> str:
    """Returns a value as errors show it: functions by their names, and what has named parts by its type."""
    if is_named_tuple(value):
        return f"an object of type {type(value).__name__}"
    functions = functions_of(value)
    if not functions:
        return repr(value)
    return ", ".join(name_of(function) or repr(function) for function in functions)


def _is_several(key: Key, value: object) -> bool:
    """Whether a value is a tuple of values of the key, which can be varied."""
    if is_named_tuple(value) or not isinstance(value, tuple | list):
        return False
    return key.varies and len(value) > 0 and all(map(key.accepts, value))


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
        flipjax.config.ConfigError: config.train.jitter: expected 0 for model.name frozen, ...
    """
    because = "for model.name frozen, which computes the features of each image once, before training"
    for knob in PIXEL_KNOBS:
        if knob in experiment.active_knobs:
            found = f"a method that sets {knob}"
            raise ConfigError("config.axes.method", f"no bg_swap, bg_cutmix or own augmentation {because}", found)
    for number in PIXEL_NUMBERS:
        if number in experiment.active_numbers:
            key = AXES[number]
            raise ConfigError(f"config.{key.name}", f"{key.default:g} {because}", "another value")


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
            raise ConfigError(f"config.{key.name}", expected, value)
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
            using = " or ".join(knobs_in(Knobs)[name].methods)
            expected = f"{using} in config.axes.method, since no other method uses it"
            raise ConfigError(f"config.axes.{AXES[name].axis}", expected)
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
