"""Checks of keys that belong together: of a network, of methods and of folds. Imports no JAX.

`settings.check` checks each value on its own. These checks take two keys or more, and raise ConfigError for the first
that does not fit the others. `plan` calls them, and `flipjax.training.train` for a single member.
"""

from flipjax.config.errors import ConfigError
from flipjax.config.keys import Key
from flipjax.config.methods import METHODS, OWN, STRENGTHS, active_knobs, methods_of, parts_of
from flipjax.config.program import Program, Setting
from flipjax.config.ranges import functions_of, name_of
from flipjax.config.sections import AXES, FROZEN, KEYS, Config, Experiment, ModelSpec
from flipjax.config.settings import value_of, values_of

PIXEL_KNOBS = ("swap", "cutmix", "own_augment")
"""Knobs of methods that change the pixels of training images."""
PIXEL_NUMBERS = ("crop", "jitter", "cue_strength")
"""Optional traced keys that change the pixels of images."""


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
    for field in OWN:
        own_names += [name_of(function) for function in functions_of(config.train[field])]
    # Methods are known by their names, so of two with one name there is one.
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


def check_folds(spec: Experiment, config: Config) -> None:
    """Raises ConfigError if keys need folds, or folds need other keys.

    Example:
        >>> from flipjax.config import SplitSpec, default_config
        >>> check_folds(Experiment(split=SplitSpec(fold=1)), default_config())
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.split.fold: expected 0 without config.split.folds; found 1
    """
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
    if model.title == FROZEN:
        check_frozen(built)


def check_frozen(built: Experiment) -> None:
    """Raises ConfigError if anything changes pixels that frozen features are computed of, once an image.

    Example:
        >>> check_frozen(Experiment(model=ModelSpec("frozen"), active_numbers=("jitter",)))
        Traceback (most recent call last):
        flipjax.config.errors.ConfigError: config.train.jitter: expected 0 alone for model.name frozen, ...
    """
    because = "for model.name frozen, whose features are computed once an image, of pixels that nothing changes"
    for knob in PIXEL_KNOBS:
        if knob in built.active_knobs:
            found = f"the knob {knob}"
            raise ConfigError("config.axes.method", f"no bg_swap, bg_cutmix or own augmentation {because}", found)
    for number in PIXEL_NUMBERS:
        if number in built.active_numbers:
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


def check_setting(experiment: Experiment, setting: Setting, config: Config) -> None:
    """Raises ConfigError if a setting needs a knob or an optional number that the program leaves out.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config.plan import member_axes, plan, setting_of
        >>> config = configure("smoke")
        >>> [program] = plan(config)
        >>> axes = {**member_axes(config)[0], "method": "group_dro"}
        >>> check_setting(program.experiment, setting_of(config, axes, name="m000", static={}), config)
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.axes.method: expected one of the program's, ce; found 'group_dro'
    """
    method = setting.condition.method
    methods = methods_of(config)
    is_method = parts_of(method, methods) is not None
    if not is_method or not {*active_knobs([method], methods)} <= {*experiment.active_knobs}:
        expected = f"one of the program's, {', '.join(values_of(config, 'method'))}"
        raise ConfigError("config.axes.method", expected, repr(method))
    for key in KEYS.values():
        if not key.optional or key.field in experiment.active_numbers:
            continue
        value = setting.axes.get(key.field, value_of(config, key))
        # A traced value is not known, so it may be another one.
        is_default = isinstance(value, int | float) and value == key.default
        if not is_default:
            expected = f"{key.default:g}, since the program's configuration has no other"
            raise ConfigError(f"config.axes.{key.field}", expected, value)
    _check_first_run(setting, experiment)


def check_methods(program: Program) -> None:
    """Raises ConfigError if an axis is a knob of no method, or dfr has too few images to refit on.

    Example:
        >>> import dataclasses
        >>> from flipjax import configure
        >>> from flipjax.config.plan import plan
        >>> [program] = plan(configure("smoke", {"axes.method": ("dfr",), "split.n_val": 8}))
        >>> small = dataclasses.replace(program.experiment.split, n_val=4)
        >>> check_methods(dataclasses.replace(program, experiment=dataclasses.replace(program.experiment, split=small)))
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.split.n_val: expected at least 8, half of them for dfr to refit on; found 4
    """
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
