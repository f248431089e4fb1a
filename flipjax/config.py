"""Configuration keys as one table, and the frozen specifications built from them. Imports no JAX.

A key is one annotated field with its default, range and meaning. The fields of `PoolSpec` to `InterveneSpec` are
static: each value compiles a program, as in the grid `config.grid.model.width = (8, 16)`. Those of `Axes`,
`Cue`, `flipjax.methods.Knobs` and `Augmentation` are traced and vary by member, as in `config.axes.crop = (0.0, 1.0)`.
"""

import dataclasses
import difflib
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, get_type_hints

from flipjax.groups import TWO_BY_TWO, Groups
from flipjax.methods import STRENGTHS, Augmentation, Knobs
from flipjax.support.ranges import Range, functions, multiple, name_of, one_of, within

Config = Any
"""A ConfigDict; its attributes are dynamic, so no type checker can follow them."""

POOL_NAMES = ("synthetic", "folder", "tfds", "waterbirds_seg", "coco_cd", "arrays")
MODEL_NAMES = ("unet", "smp_resnet50", "smp_mit_b2", "smp_efficientnet_lite0")
SELECTIONS = ("val_loss", "val_loss_at_rho", "val_worst_group_iou", "val_flip", "label_free_risk", "last")
SWAPPED = one_of("mean", "sampled", "both", "none")
CUES = one_of("scene", "marker", "tint", "texture")
DTYPES = ("float32", "bfloat16")
ANY = Range(lambda value: True, "")
LOSS = functions("(logits, labels, groups)", "(B,)")
AUGMENT = functions("(key, images, labels)", "(images, labels)")
BUILD = functions("(num_classes, rngs)", "nnx.Module")
NAMES = Range(
    lambda names: len(names) != 1 and len(set(names)) == len(names) and all(isinstance(name, str) for name in names),
    "two or more different names, or none",
)
USUAL = Range(
    lambda each: all(names and isinstance(names, str | tuple) for names in each), "a scene, or a tuple of scenes, each"
)
RULES = Range(
    lambda names: 0 < len(names) == len(set(names)) and set(names) <= set(SELECTIONS),
    "a tuple of one or more different names among " + ", ".join(SELECTIONS),
)
FEATURES = Range(lambda names: len(set(names)) == 4, "four names, of image, mask, class and scene")
SEED = within(0, 2**31 - 1)
RHO = Range(lambda rho: 0 < rho <= 1, "a number in (0, 1]")
METHOD = Range(bool, "a method, or several joined by +")  # `flipjax.plan` checks names: a file may add methods.


class ConfigError(ValueError):
    """An invalid request: `field` is the key, flag or file, `problem` the expected and the actual value."""

    exit_code = 2

    def __init__(self, field: str, expected: str = "", found: Any = None, *, problem: str = ""):
        """Builds the message from `expected` and `found`, or takes it as `problem`."""
        self.field = field
        self.problem = problem or f"expected {expected}" + ("" if found is None else f"; found {found}")
        super().__init__(f"{field}: {self.problem}")


@dataclasses.dataclass(frozen=True)
class PoolSpec:
    """The source of the images; `blended`: whether the cue of any member is weaker than 1."""

    name: Annotated[str, one_of(*POOL_NAMES), "source of the images"] = "synthetic"
    size: Annotated[int, multiple(8, 16, 2**14), "image size in pixels (one side)"] = 48
    seed: Annotated[int, SEED, "synthetic: seed of the drawings; for repeats"] = 0
    objects: Annotated[int, within(4), "synthetic: objects per class"] = 400
    scenes: Annotated[int, within(3), "synthetic: scenes per kind"] = 240
    root: Annotated[str, ANY, "folder of photos, or TFDS data set NAME/CONFIG:VERSION (empty: the pool's own)"] = ""
    classes: Annotated[tuple[str, ...], NAMES, "classes in order (empty: as found; synthetic: the first two)"] = ()
    scene_kinds: Annotated[tuple[str, ...], NAMES, "scenes in order (empty: as found; synthetic: the first two)"] = ()
    cue: Annotated[str, CUES, "synthetic: what correlates with the class; for other cues"] = "scene"
    usual: Annotated[tuple, USUAL, "usual scene or scenes of each class (empty: scene i mod S of class i)"] = ()
    attribute: Annotated[str, ANY, "what a scene is, such as site or scanner; for pages"] = "scene"
    data_dir: Annotated[str, ANY, "where TFDS keeps its data sets (empty: TFDS's own)"] = ""
    features: Annotated[tuple[str, ...], FEATURES, "tfds: names; for other data"] = ("image", "mask", "class", "scene")
    blended: bool = False


class Cue(NamedTuple):
    """A member's cue, in training and in every test: a traced scalar and key of `config.pool`."""

    cue_strength: Annotated[Any, within(0, 1), "synthetic: weight of the cue; for doses"] = 1.0


@dataclasses.dataclass(frozen=True)
class SplitSpec:
    """The number of images in each part, equal at every rho."""

    n_train: Annotated[int, within(0), "training images; 0: the largest number that every rho allows"] = 512
    n_val: Annotated[int, within(4), "validation images, balanced over groups"] = 128
    n_test: Annotated[int, within(4), "test images, balanced over groups"] = 400
    seed: Annotated[int, SEED, "seed of the train/val/test split; for repeats"] = 0


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The network: a small U-Net, or an `smp_*` U-Net of fixed size."""

    name: Annotated[str, one_of(*MODEL_NAMES), "network"] = "unet"
    width: Annotated[int, within(1, 2**14), "unet: channels at full resolution, doubled at each further level"] = 8
    depth: Annotated[int, within(1, 6), "unet: levels; for larger images"] = 3
    norm: Annotated[str, one_of("batch", "none"), "unet: normalisation, or none; for small batches"] = "batch"
    dtype: Annotated[str, one_of(*DTYPES), "type that the network computes in; parameters are float32"] = "float32"
    weights: Annotated[str, ANY, "smp_*: file from flipjax convert to start from (empty: drawn afresh)"] = ""
    build: Annotated[Any, BUILD, "own network, which takes the place of name (None: none)"] = None

    @property
    def title(self) -> str:
        """The name of the network, or of the user's own."""
        return f"{name_of(self.build)} (own)" if self.build else self.name

    @property
    def stride(self) -> int:
        """The required divisor of height and width; 1 for a user's network, which may reject more sizes."""
        return 1 if self.build else 2 ** (self.depth - 1) if self.name == "unet" else 32


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """The recipe shared by all members.

    Each rule of `selection` has rows in the results; reports show the first. The rules are lowest validation loss with
    equal groups or with groups weighted as in the training set (which needs no group labels), highest worst-group IoU,
    lowest Flip, lowest mean flip-risk (which needs no labels), and the last epoch. `strongest` is the strongest
    augmentation of any member, so that the program holds only what it needs.
    """

    epochs: Annotated[int, within(1), "largest number of epochs"] = 15
    batch_size: Annotated[int, within(1), "batch size"] = 16
    patience: Annotated[int, within(1), "epochs without improvement of the first rule after which a member stops"] = 8
    selection: Annotated[tuple[str, ...], RULES, "rules that choose the epoch"] = SELECTIONS[:1]
    crop_in: Annotated[str, one_of("square", "photo"), "crops of the pool's squares or of the photos"] = "square"
    loss: Annotated[Any, LOSS, "own losses, each a method by its name"] = None
    augment: Annotated[Any, AUGMENT, "own augmentations, each a method by its name"] = None
    strongest: Augmentation = dataclasses.field(default_factory=Augmentation)


@dataclasses.dataclass(frozen=True)
class PopulationSpec:
    """How members run on the machine: in a loop, under vmap, or packed side by side in channels (unet).

    "auto" is the loop on a CPU; elsewhere packed, or vmap for the large U-Nets. Members that do not fit in a device's
    memory wait.
    """

    map: Annotated[str, one_of("auto", "loop", "vmap", "packed"), "members on a device; for comparing maps"] = "auto"
    width: Annotated[int, within(0), "members trained at once on a device (0: chosen by map)"] = 0
    devices: Annotated[int, within(0), "number of devices (0: all; on a CPU, its cores); for shared machines"] = 0
    batch_devices: Annotated[int, within(0), "devices per batch (0: the idle ones; on a CPU 1); for few members"] = 0
    memory_gb: Annotated[float, within(0, 1e9), "memory of a device in GB (0: as reported); for shared devices"] = 0.0
    keep: Annotated[str, one_of("first", "all", "none"), "rules whose weights are kept; for all models"] = "first"


@dataclasses.dataclass(frozen=True)
class InterveneSpec:
    """Scene-swap risk, repair and reliance, for the first selection rule's weights.

    `scenes`: the training scenes onto which each predicted region is pasted, the mean of each kind or samples.
    `scores`: the scores computed besides flip-risk: those of the logits, or all, which need three more forward passes.
    """

    scenes: Annotated[str, SWAPPED, "scenes behind pasted regions; for real scenes"] = "mean"
    scores: Annotated[str, one_of("all", "logits", "none"), "scores besides flip-risk; for speed, logits"] = "all"


@dataclasses.dataclass(frozen=True)
class Axes:
    """The axes of every run, each a tuple in `config.axes` and a column of results.csv."""

    rho: Annotated[float, RHO, "fraction of a class's training images that show a usual scene"] = 0.5
    seed: Annotated[int, SEED, "seed of initial weights, batch order and object-scene pairing"] = 0
    method: Annotated[str, METHOD, "method; names joined by + are combined"] = "ce"
    learning_rate: Annotated[float, within(1e-30, 1e30), "learning rate of Adam"] = 2e-3
    weight_decay: Annotated[float, within(0, 1e3), "above 0: AdamW; for transformers"] = 0.0
    warmup: Annotated[float, within(0, 1), "fraction of the steps with a rising learning rate; for transformers"] = 0.0
    schedule: Annotated[str, one_of("constant", "cosine"), "learning-rate schedule; for long training"] = "constant"
    clip_norm: Annotated[float, within(0, 1e9), "gradient-norm clipping (0: none); for divergence"] = 0.0


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The static, hashable half of a run, which determines the compiled program.

    `active_knobs` names the knobs set by any method of the grid. The program contains every loss, but only the
    samplers, augmentations and averages that these need. `packed`: whether mapped members form one pack. `groups` are
    the pool's; two classes and two scenes before it is loaded.
    """

    pool: PoolSpec = PoolSpec()
    split: SplitSpec = SplitSpec()
    model: ModelSpec = ModelSpec()
    train: TrainSpec = TrainSpec()
    active_knobs: tuple[str, ...] = ()
    packed: bool = False
    groups: Groups = TWO_BY_TWO

    @property
    def num_classes(self) -> int:
        """The pool's classes plus background."""
        return self.groups.classes + 1


class Key(NamedTuple):
    """A key of the configuration: the values allowed at one dotted name."""

    default: Any
    values: Range
    meaning: str
    traced: bool


STATIC = {"pool": PoolSpec, "split": SplitSpec, "model": ModelSpec, "train": TrainSpec}
SECTIONS = {"axes": (Axes,), "knobs": (Knobs,), "train": (TrainSpec, Augmentation), "pool": (PoolSpec, Cue)}
SECTIONS |= {"split": (SplitSpec,), "model": (ModelSpec,), "population": (PopulationSpec,)}
SECTIONS |= {"intervene": (InterveneSpec,)}


def _keys() -> Iterator[tuple[str, Key]]:
    for section, part in ((section, part) for section, parts in SECTIONS.items() for part in parts):
        for name, hint in get_type_hints(part, include_extras=True).items():
            *_, values, meaning = (None, None, *getattr(hint, "__metadata__", ()))
            if values is not None:
                default = STRENGTHS[name] if part is Knobs else getattr(part(), name)
                yield f"{section}.{name}", Key(default, values, meaning, part in (Axes, Augmentation, Cue, Knobs))


KEYS = dict(_keys())
"""Every key by its dotted name."""

AXES = {name.split(".")[1]: name for name, key in KEYS.items() if key.traced}
"""Keys that `config.axes` may vary, in the order of the columns: the traced ones, by their last name."""

PLACES = {name: name for name in KEYS} | {f"axes.{name}": key for name, key in AXES.items()}
# Selection rules are common to all programs; own losses and augmentations are methods, which are an axis.
ALIKE = ("train.selection", "train.loss", "train.augment")
STATIC_KEYS = {n: n for n, key in KEYS.items() if n.split(".")[0] in STATIC and not key.traced and n not in ALIKE}
"""Keys that `config.grid` may vary."""
PLACES |= {f"grid.{name}": name for name in STATIC_KEYS}
"""Key of each dotted name that a configuration may contain."""


LISTS = ("grid", "members")
"""Fields that take a list of settings instead of a product."""


def default_config() -> Config:
    """Returns the locked default configuration, which files in `configs/` override."""
    # Imported here because an audit needs this module's errors but no configuration.
    from ml_collections import ConfigDict

    # A grid may be a mapping or a list; `check` reports any other type.
    config: Config = ConfigDict({section: {} for section in SECTIONS}, type_safe=False)
    for name, key in KEYS.items():
        section, field = name.split(".")
        config[section][field] = (key.default,) if section == "axes" else key.default
    config.axes.rho = (0.5, 0.95)
    # Empty sections let the command line set `--config.grid.model.width=8,16`.
    config.grid = ConfigDict({name: {} for name in STATIC})
    config.members = ()
    config.lock()
    config.axes.unlock()
    config.grid.unlock()
    return config


def set_paper_recipe(config: Config) -> None:
    """Sets the recipe, encoders and methods of the paper's code, and Sagawa's GroupDRO, at rho 0.5 and 0.95."""
    config.pool.size = 512
    config.model.dtype = "bfloat16"
    encoders = ("resnet50", "mit_b2")
    config.grid = [{"model.name": f"smp_{name}", "model.weights": f"weights/{name}"} for name in encoders]
    config.train.update(epochs=200, patience=25, batch_size=8, hflip=0.5, crop=1.0, crop_in="photo", jitter=0.3)
    methods = ("ce", "dice_ce", "group_dro_reference", "group_dro", "bg_cutmix_reference")
    config.axes.update(rho=(0.5, 0.95), method=methods, learning_rate=(1e-4,))
    # One member fills a GPU, and a vmap over kernels would become a grouped convolution.
    config.population.width = 1


def leaves(tree: Config, prefix: str = "") -> dict[str, Any]:
    """Flattens a nested mapping to dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= leaves(value, f"{prefix}{name}.") if hasattr(value, "items") else {prefix + name: value}
    return flat


def static_settings(config: Config) -> list[dict[str, Any]]:
    """Returns the dotted static keys of each program: the items of a list, or the product of a mapping."""
    if hasattr(config.grid, "items"):
        grid = leaves(config.grid)
        return [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]
    alike = {name: leaves(config)[name] for own in config.grid for name in own}
    return [alike | dict(own) for own in config.grid]


def spec_of(config: Config, section: str, overrides: Mapping[str, Any]) -> Any:
    """Returns the specification of a static section, with dotted `overrides` from a grid."""
    values = {field.name: config[section].get(field.name) for field in dataclasses.fields(STATIC[section])}
    values |= {name.split(".")[1]: value for name, value in overrides.items() if name.startswith(f"{section}.")}
    if section == "pool":
        values["blended"] = any(strength != 1 for strength in values_of(config, "cue_strength"))
    if section == "train":
        values["strongest"] = Augmentation(**{name: max(values_of(config, name)) for name in Augmentation._fields})
    return STATIC[section](**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def specs_of(config: Config, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the specification of every static section, by its name."""
    return {section: spec_of(config, section, overrides) for section in STATIC}


def nearest(name: str, *, prefix: str = "config.") -> str:
    """Suggests a name like an unknown one, by initials or spelling; otherwise lists those of its section.

    Example:
      >>> nearest("train.lr"), nearest("train.epoch", prefix="--config.")
      ('the nearest is config.axes.learning_rate', 'the nearest is --config.train.epochs')
    """
    section, last = name.split(".")[0], name.split(".")[-1]
    names = [full for full in PLACES if full.startswith(f"{section}.")] or list(PLACES)
    short = [full for full in PLACES if last == "".join(word[0] for word in full.split(".")[-1].split("_"))]
    near = [full for full in short if full in names] or short or difflib.get_close_matches(name, names, n=1)
    return f"the nearest is {prefix}{near[0]}" if near else f"valid are {', '.join(names)}"


def check_name(name: str, *, prefix: str = "config.") -> None:
    """Raises ConfigError for an unknown key, with the nearest one."""
    if name not in PLACES and name not in LISTS:
        raise ConfigError(f"{prefix}{name}", f"a key of the configuration; {nearest(name, prefix=prefix)}")


def assign(config: Config, name: str, value: Any) -> None:
    """Sets a dotted key of a configuration; `check` reports wrong types together with ranges.

    Raises:
        ConfigError: an unknown key, with the nearest one.
    """
    check_name(name)
    *sections, field = name.split(".")
    if sections[:1] == ["grid"] and not hasattr(config.grid, "items"):
        raise ConfigError(f"config.{name}", "config.grid as a whole, which is a list here", "one key of it")
    section = functools.reduce(lambda tree, part: tree[part], sections, config)
    with section.unlocked(), section.ignore_type():
        section[field] = value


def check(config: Config) -> None:
    """Raises ConfigError for the first invalid field of `config`, checking each on its own."""
    fields = leaves(config)
    lists = {name: fields.pop(name) for name in LISTS if name in fields}
    for name in sorted(KEYS.keys() - fields.keys()):
        raise ConfigError(f"config.{name}", "a value, as default_config() has it", "none")
    for name, value in fields.items():
        check_name(name)
        varied = name.startswith(("axes.", "grid."))
        if varied and not (isinstance(value, tuple | list) and value):
            raise ConfigError(f"config.{name}", "a tuple with at least one value", repr(value))
        for each in value if varied else (value,):
            check_value(PLACES[name], each)
        if varied and len(set(value)) < len(value):
            raise ConfigError(f"config.{name}", "distinct values", tuple(value))

    for name, settings in lists.items():
        _check_settings(name, settings)
    for name in {name: 0 for own in lists.get("members", ()) for name in own}:
        if len(config.axes.get(name, ())) > 1:
            raise ConfigError(f"config.axes.{name}", "one value where config.members sets it, too", config.axes[name])


def _check_settings(field: str, settings: Any) -> None:
    """Raises ConfigError unless `settings` is a list of mappings from axes (in a grid: static keys) to values."""
    kind, names = ("axes", AXES) if field == "members" else ("static keys", STATIC_KEYS)
    listed = isinstance(settings, list | tuple) and (settings or field != "grid")
    if not listed or not all(hasattr(own, "items") and own for own in settings):
        raise ConfigError(f"config.{field}", f"a list of mappings from {kind} to values", repr(settings))
    for place, own in enumerate(settings):
        for name, value in own.items():
            if name not in names:
                raise ConfigError(f"config.{field}[{place}].{name}", f"one of the {kind}: {', '.join(names)}")
            check_value(names[name], value)


def check_value(field: str, value: Any) -> None:
    """Raises ConfigError unless `value` has the type and range of the dotted `field`."""
    default, (accepts, text), *_ = KEYS[field]
    kinds = object if default is None else (int, float) if isinstance(default, float) else type(default)
    if isinstance(value, bool) or not isinstance(value, kinds) or not accepts(value):
        whole = ", an integer" if isinstance(default, int) and isinstance(value, float) else ""
        raise ConfigError(f"config.{field}", f"{text or f'a value such as {default!r}'}{whole}", repr(value))


def values_of(config: Config, name: str) -> tuple[Any, ...]:
    """Returns all values of an axis, including those of `config.members`."""
    listed = [own[name] for own in config.members if name in own]
    others = () if listed and all(name in own for own in config.members) else unlisted(config, name)
    return tuple(dict.fromkeys([*listed, *others]))


def unlisted(config: Config, name: str) -> tuple[Any, ...]:
    """Returns the values of an axis for members whose entry in `config.members` omits it."""
    section, _, key = AXES[name].partition(".")
    return tuple(config.axes.get(name, (config[section].get(key),)))
