"""Configuration keys, declared by the fields of the frozen dataclasses that hold their values. Imports no JAX.

A new key is a field of a dataclass, and `SECTIONS` says in which section of a configuration the keys of a dataclass
are. `KEYS`, `AXES` and `PLACES` are read from these fields; an `Experiment` holds the values of the static ones. The
values that keys may have are in `flipjax.config.choices`. `flipjax.config.default` makes the `ConfigDict` that a user
changes.

Each field says what another value of it changes: `static` another program, as `config.axes.model.width = (8, 16)`;
`traced` data of a member, as `config.axes.train.crop = (0.0, 1.0)`; `option` only how a run is carried out. Its home,
its axis, its column and its line in `--list_keys` follow from the declaration.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal

from flipjax.config.choices import (
    ANY,
    AUGMENT,
    BUILD,
    COLUMN,
    CUES,
    DTYPES,
    FEATURES,
    FOLDS,
    LARGE,
    LOSS,
    METHOD,
    MODEL_NAMES,
    NAMES,
    OPTIMIZER,
    POOL_NAMES,
    RHO,
    RULES,
    SCENES_OF_SWAPS,
    SEED,
    SELECTIONS,
    SMALL,
    USUAL,
)
from flipjax.config.groups import TWO_BY_TWO, Groups
from flipjax.config.keys import Integer, Key, Scalar, keys_in, option, static, traced, traced_choice
from flipjax.config.methods import Augmentation, Knobs
from flipjax.config.ranges import multiple, name_of, one_of, within


@dataclasses.dataclass(frozen=True)
class PoolSpec:
    """The source of the images. `blended` is no key: it says whether the cue of any member is weaker than 1.

    Example:
        >>> PoolSpec(name="folder", root="photos", attribute="scanner").size
        48
    """

    name: str = static("synthetic", one_of(*POOL_NAMES), "source of the images")
    size: int = static(48, multiple(8, 16, 2**14), "side of the square images in pixels")
    seed: int = static(
        0, SEED, "seed of the drawings. Vary it to repeat a sweep on other images. Only for the synthetic pool"
    )
    objects: int = static(400, within(4), "objects that are drawn of each class. Only for the synthetic pool")
    scenes: int = static(240, within(3), "scenes that are drawn of each kind. Only for the synthetic pool")
    scene_column: str = static(
        "scene",
        COLUMN,
        "column of metadata.csv that holds the scenes. Set it to another attribute, such as site. Only for folders",
    )
    cluster_column: str = static(
        "", ANY, "column of metadata.csv whose equal values stay in one part. Set it to the patient. Only for folders"
    )
    root: str = static("", ANY, "folder of photos, or TFDS data set NAME/CONFIG:VERSION. Empty: the pool's own")
    classes: tuple[str, ...] = static(
        (), NAMES, "names of the classes in order. Empty: as found, or the first two of the synthetic pool"
    )
    scene_kinds: tuple[str, ...] = static(
        (), NAMES, "names of the scenes in order. Empty: as found, or the first two of the synthetic pool"
    )
    cue: str = static(
        "scene",
        CUES,
        "what correlates with the class. Set it to study a cue other than the scene. Only for the synthetic pool",
    )
    usual: tuple[str | tuple[str, ...], ...] = static(
        (), USUAL, "usual scene or scenes of each class. Empty: scene i mod S of class i, for S scenes"
    )
    attribute: str = static(
        "scene",
        ANY,
        "word that pages print for a scene, such as site. Set it for readers; it changes no result",
        same_run=True,
    )
    data_dir: str = static("", ANY, "folder in which TFDS keeps its data sets. Empty: TFDS's own")
    features: tuple[str, ...] = static(
        ("image", "mask", "class", "scene"),
        FEATURES,
        "names of a data set's features. Set it for data that names them otherwise. Only for TFDS",
    )
    blended: bool = False


@dataclasses.dataclass(frozen=True)
class Cue:
    """A member's cue, in training and in every test: keys of `config.pool`.

    Example:
        >>> Cue().cue_strength, KEYS["pool.cue_strength"].places
        (1.0, ['pool.cue_strength', 'axes.pool.cue_strength'])
    """

    cue_strength: Scalar = traced(
        1.0,
        within(0, 1),
        "how strongly the drawn images show the cue, from 0 to 1. Vary it to measure a dose response. "
        "Only for the synthetic pool",
        optional=True,
    )


@dataclasses.dataclass(frozen=True)
class SplitSpec:
    """The number of images in each part, equal at every rho.

    Example:
        >>> SplitSpec(n_train=0, folds=5).n_test
        400
    """

    n_train: int = static(512, within(0), "training images. 0: the largest number that every rho allows")
    n_val: int = static(128, within(4), "validation images, balanced over groups")
    n_test: int = static(400, within(4), "test images, balanced over groups")
    seed: int = static(
        0,
        SEED,
        "seed of the split into training, validation and test images. Vary it to repeat a sweep on another split",
    )
    folds: int = static(
        0,
        FOLDS,
        "folds, each of which is tested once, as found. Set it where images are few. "
        "0: balanced validation and test images",
    )
    fold: int = static(
        0, within(0), "number of the tested fold, from 0. Vary it to test every image once. Only with split.folds"
    )


@dataclasses.dataclass(frozen=True)
class Thinning:
    """The training images that a member keeps: keys of `config.split`, for folds.

    Example:
        >>> Thinning(rare_kept=0.5), KEYS["split.rare_kept"].expected
        (Thinning(rare_kept=0.5), 'a number in [0, 1]')
    """

    rare_kept: Scalar = traced(
        1.0,
        within(0, 1),
        "fraction of the rare training images that is kept. Vary it to measure a dose response. Only with split.folds",
    )


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The network: a small U-Net, an `smp_*` U-Net of fixed size, or a decoder of frozen features.

    Example:
        >>> ModelSpec(width=16).title, ModelSpec(depth=5).stride, ModelSpec("smp_resnet50").stride
        ('unet', 16, 32)
    """

    name: str = static("unet", one_of(*MODEL_NAMES), "network")
    width: int = static(
        8,
        within(1, 2**14),
        "channels at full resolution, doubled at each further level. Vary it to compare sizes. Only for unet",
        networks=SMALL,
    )
    depth: int = static(3, within(1, 6), "levels. Set it higher for larger images. Only for unet", networks=SMALL)
    norm: str = static(
        "batch",
        one_of("batch", "none"),
        "normalisation. Set it to none for small batches. Only for unet",
        networks=SMALL,
    )
    dtype: str = static("float32", one_of(*DTYPES), "type that the network computes in; parameters are float32")
    weights: str = static(
        "",
        ANY,
        "file from flipjax convert to start from. Empty: weights are drawn afresh. Only for smp_* networks",
        networks=LARGE,
    )
    build: Callable | None = static(None, BUILD, "your own network, which takes the place of model.name")

    @property
    def title(self) -> str:
        """The name of the network, or of the user's own."""
        if self.build:
            return f"{name_of(self.build)} (own)"
        return self.name

    @property
    def stride(self) -> int:
        """The required divisor of height and width; 1 for a user's network, which may reject more sizes."""
        if self.build:
            return 1
        if self.name in SMALL:
            return 2 ** (self.depth - 1)
        return 32


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """The recipe shared by all members.

    Each rule of `selection` has rows in the results; reports show the first. The rules are lowest validation loss with
    equal groups or with groups weighted as in the training set (which needs no group labels), highest worst-group IoU,
    lowest Flip, lowest mean flip-risk (which needs no labels), lowest cross-entropy with equal groups, and the last
    epoch. A validation loss is that of the member's own method; the others have one scale for all methods.

    Example:
        >>> TrainSpec(selection=("val_loss", "val_worst_group_iou")).selection[0], TrainSpec().epochs
        ('val_loss', 15)
    """

    epochs: int = static(15, within(1), "largest number of epochs")
    batch_size: int = static(16, within(1), "batch size")
    optimizer: str | Callable = static(
        "adam", OPTIMIZER, "optimiser: Adam, SGD or one of optax. Set it to follow the recipe of a paper"
    )
    patience: int = static(8, within(1), "epochs without improvement of the first rule after which a member stops")
    # Rules are common to all programs; own losses and augmentations are methods, which are an axis.
    selection: tuple[str, ...] = static(
        SELECTIONS[:1],
        RULES,
        "rules that choose the epoch. val_loss and val_loss_at_rho compare by each method's own loss",
        varies=False,
    )
    mirror_labels: str = static(
        "exchange",
        one_of("exchange", "keep"),
        "what becomes of left and right labels in a mirrored image. Set it to keep to see what wrong labels do",
    )
    crop_in: str = static(
        "square",
        one_of("square", "photo"),
        "what is cropped: the pool's squares, or the photos before they become square",
    )
    loss: Callable | tuple[Callable, ...] | None = static(
        None, LOSS, "your own losses. Each is a method by its name", varies=False
    )
    augment: Callable | tuple[Callable, ...] | None = static(
        None, AUGMENT, "your own augmentations. Each is a method by its name", varies=False
    )


@dataclasses.dataclass(frozen=True)
class PopulationSpec:
    """How members run on the machine: in a loop, under vmap, or packed side by side in channels (unet).

    "auto" is the loop on a CPU. On an accelerator a run's first start times a few steps of its own members in each form
    and keeps the fastest in the run folder, unless the run is so short that it takes vmap. "measured" does so on any
    machine and for any run. Members that do not fit in a device's memory wait.

    Example:
        >>> PopulationSpec(map="packed", width=8).map, PopulationSpec().keep
        ('packed', 'first')
    """

    map: str = option(
        "auto",
        one_of("auto", "measured", "loop", "vmap", "packed"),
        "how members share a device. Set it to compare the maps. auto: a loop on a CPU, else the fastest, measured",
    )
    width: int = option(0, within(0), "members trained at once on a device. 0: chosen by population.map")
    devices: int = option(
        0, within(0), "number of devices. Set it on a shared machine. 0: all of them; on a CPU, one for each core"
    )
    batch_devices: int = option(
        0, within(0), "devices that share a batch. Set it for few members. 0: the idle devices are shared; on a CPU, 1"
    )
    convolutions: str = option(
        "auto",
        one_of("auto", "onednn", "xla"),
        "library of convolutions on a CPU. Set it to compare speed; auto takes the faster one",
    )
    memory_gb: float = option(
        0.0,
        within(0, 1e9),
        "memory of a device in GB. Set it on a shared device. 0: as the device reports",
        same_run=True,
    )
    keep: str = option(
        "first",
        one_of("first", "all", "none"),
        "rules whose weights are kept. Set it to all to get a model of each rule",
        same_run=True,
    )


@dataclasses.dataclass(frozen=True)
class InterveneSpec:
    """Scene-swap risk, repair and reliance, for the first selection rule's weights.

    `scenes`: the training scenes onto which each predicted region is pasted, the mean of each kind or samples.
    `scores`: the scores computed besides flip-risk: those of the logits, or all, which need three more forward passes.

    Example:
        >>> InterveneSpec(scores="logits").scenes
        'mean'
    """

    scenes: Literal["mean", "sampled", "both", "none"] = option(
        "mean",
        SCENES_OF_SWAPS,
        "scenes onto which predicted regions are pasted. Set it to sampled for real scenes in place of their mean",
    )
    scores: str = option("all", one_of("all", "logits", "none"), "scores besides flip-risk. Set it to logits for speed")


@dataclasses.dataclass(frozen=True)
class Condition:
    """What a member is trained under: keys whose home is `config.axes`.

    rho becomes its training table, the seed its PRNG key, and the method its knobs.

    Example:
        >>> Condition(rho=0.95, method="balanced+group_dro").seed
        0
    """

    rho: Scalar = traced(0.5, RHO, "fraction of a class's training images that show a usual scene", shown=True)
    seed: Integer = traced(0, SEED, "seed of initial weights, batch order and object-scene pairing", shown=True)
    method: str = traced("ce", METHOD, "method; names joined by + are combined", shown=True)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A member's optimiser: keys of `config.train`.

    All but `momentum` act on every optimiser of `config.train.optimizer`. `weight_decay` is decoupled (above 0, Adam is
    AdamW; Loshchilov and Hutter, 2019). `schedule` is 0 for a constant rate and 1 for half-cosine decay to 0, both
    after the warm-up.

    Example:
        >>> Recipe(learning_rate=1e-3, schedule=1.0).warmup  # Cosine decay from the first step on.
        0.0
    """

    learning_rate: Scalar = traced(2e-3, within(1e-30, 1e30), "learning rate", shown=True)
    weight_decay: Scalar = traced(
        0.0, within(0, 1e3), "decoupled weight decay. Set it for transformers; above 0, Adam is AdamW", shown=True
    )
    warmup: Scalar = traced(
        0.0, within(0, 1), "fraction of the steps in which the learning rate rises. Set it for transformers", shown=True
    )
    schedule: Scalar = traced_choice(
        ("constant", "cosine"), "schedule of the learning rate. Set it to cosine for long training", shown=True
    )
    clip_norm: Scalar = traced(
        0.0, within(0, 1e9), "largest norm of the gradient. Set it where members diverge. 0: no limit", shown=True
    )
    momentum: Scalar = traced(
        0.0, within(0, 1), "momentum of SGD. Set it to follow the recipe of a paper. Only for train.optimizer sgd"
    )


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The static, hashable half of a run, which determines the compiled program.

    The program contains every loss, but only the samplers, augmentations and averages that any member needs.

    Example:
        >>> small = Experiment(model=ModelSpec(width=4), train=TrainSpec(epochs=2))
        >>> small == Experiment(model=ModelSpec(width=4), train=TrainSpec(epochs=2)), len({small, Experiment()})
        (True, 2)
        >>> small.num_classes
        3
    """

    pool: PoolSpec = PoolSpec()
    split: SplitSpec = SplitSpec()
    model: ModelSpec = ModelSpec()
    train: TrainSpec = TrainSpec()
    active_knobs: tuple[str, ...] = ()
    """The knobs that any method of the configuration sets."""
    active_numbers: tuple[str, ...] = ()
    """The optional traced keys of which any member has another value than the default."""
    mirror: tuple[tuple[int, int], ...] = ()
    """Pairs of labels that a mirrored image exchanges, found in the names of the pool's classes."""
    packed: bool = False
    """Whether mapped members form one pack."""
    groups: Groups = TWO_BY_TWO
    """Groups of the pool; two classes and two scenes before it is loaded."""

    @property
    def num_classes(self) -> int:
        """The pool's classes plus background."""
        return self.groups.classes + 1


SECTIONS: dict[str, tuple[type, ...]] = {
    "axes": (Condition,),
    "train": (TrainSpec, Recipe, Augmentation),
    "knobs": (Knobs,),
    "pool": (PoolSpec, Cue),
    "split": (SplitSpec, Thinning),
    "model": (ModelSpec,),
    "population": (PopulationSpec,),
    "intervene": (InterveneSpec,),
}
"""The dataclasses whose fields are the keys of each section.

Example:
    >>> [part.__name__ for part in SECTIONS["train"]]
    ['TrainSpec', 'Recipe', 'Augmentation']
"""


def _all_keys() -> Iterator[Key]:
    """Yields the keys of all sections, in the order of their fields."""
    for section, parts in SECTIONS.items():
        for part in parts:
            yield from keys_in(section, part)


KEYS: dict[str, Key] = {key.name: key for key in _all_keys()}
"""Every key by its dotted name.

Example:
    >>> KEYS["train.epochs"].meaning, KEYS["train.epochs"].default
    ('largest number of epochs', 15)
"""

PARTS_OF_MEMBERS = (Condition, Recipe, Knobs, Augmentation, Cue, Thinning)
"""The dataclasses of traced keys, in the order of the columns of results.csv.

Example:
    >>> {key.part for key in KEYS.values() if key.kind is Kind.TRACED} == set(PARTS_OF_MEMBERS)
    True
"""


def _by_column() -> dict[str, Key]:
    """Returns the traced keys by column: their last name, or the full one where another traced key has that."""
    traced_keys = [key for part in PARTS_OF_MEMBERS for key in KEYS.values() if key.part is part]
    last_names = [key.field for key in traced_keys]
    by_column = {}
    for key in traced_keys:
        column = key.axis
        if last_names.count(key.field) == 1:
            column = key.field
        by_column[column] = key
    return by_column


AXES = _by_column()
"""The traced keys by their columns of results.csv, which are arguments of `train.member`. The column of a static key is
its full name, since sections share last names: `pool.seed` and `split.seed`, `model.width` and `population.width`.

Example:
    >>> list(AXES)[:4], AXES["crop"].name, AXES["crop"].axis, AXES["rho"].axis
    (['rho', 'seed', 'method', 'learning_rate'], 'train.crop', 'train.crop', 'rho')
"""

PLACES = {place: key for key in KEYS.values() for place in key.places}
"""The key of each dotted name that a configuration may contain.

Example:
    >>> PLACES["axes.model.width"] is PLACES["model.width"], PLACES["axes.train.crop"] is PLACES["train.crop"]
    (True, True)
"""

WHOLE = ("members", "quantities")
"""Keys without a section: a list of settings, and a user's own quantities of images.

Example:
    >>> from flipjax.config import default_config
    >>> [name for name in WHOLE if name not in default_config()]
    []
"""
