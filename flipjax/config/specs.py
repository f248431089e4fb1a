"""What a configuration may hold: sections, axes, names, and the frozen specifications of a run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flipjax.methods import STRENGTHS, Augmentation

Config = Any
"""A ConfigDict; its attributes are dynamic, so no type checker can follow them."""

POOL_NAMES = ("synthetic", "folder", "tfds", "waterbirds_seg", "coco_cd")
MODEL_NAMES = ("unet", "smp_resnet50", "smp_mit_b2")
AXES = {
    "rho": 0.5,
    "seed": 0,
    "method": "ce",
    "learning_rate": 2e-3,
    "weight_decay": 0.0,
    "warmup": 0.0,
    "schedule": "constant",
    "clip_norm": 0.0,
}
KNOB_AXES = {name: f"knobs.{name}" for name in STRENGTHS}
AUGMENTATION_AXES = {name: f"train.{name}" for name in Augmentation._fields}
OPTIONAL_AXES = KNOB_AXES | AUGMENTATION_AXES
"""Axes that are empty unless a config fills them, and the field that holds the one value of all members till then."""
SCHEDULES = ("constant", "cosine")
SELECTIONS = ("val_loss", "val_loss_at_rho", "val_worst_group_iou", "val_flip", "label_free_risk", "last")
GALLERY = {"rho": 0.9, "riskiest": 6, "typical": 6}
INTERVENE = {"scenes": "mean", "count": 1, "views": 2, "center": "auto", "scores": "all"}
"""Scene-swap risk, repair and reliance of what the first selection rule keeps: on the `mean` training scene of each
kind, on `count` that are `sampled`, on `both`, half the weight each, or on `none`; with 2 `views` also mirrored, whose
AUROC was no lower at any level of rho (sweeps/studies/scene_swap). `scores`: those of logits alone, which need no
further pass; `all`: also a mirror and filled surroundings, three passes; or `none`."""
NORMS = ("batch", "group", "none")
DTYPES = ("float32", "bfloat16")
MAPS = ("auto", "loop", "vmap", "packed")


def valid_rho(rho: float) -> bool:
    """Returns whether rho can be the share of a class's images in its usual scene: in [0.5, 1]."""
    return 0.5 <= rho <= 1


RHO = valid_rho, "a number in [0.5, 1]"


class ConfigError(ValueError):
    """A request that cannot be met: `field` names the key, flag or file, `problem` what was expected and what found."""

    def __init__(self, field: str, expected: str = "", found: Any = None, *, problem: str = ""):
        """Makes the sentence from what was expected and found, or takes it as `problem`."""
        self.field = field
        self.problem = problem or f"expected {expected}" + ("" if found is None else f"; found {found}")
        super().__init__(f"{field}: {self.problem}")

    def named(self, names: Mapping[str, str]) -> str:
        """Returns the line with the field under the name that a command has for it, where `names` holds one."""
        return f"{names.get(self.field, self.field)}: {self.problem}"


@dataclasses.dataclass(frozen=True)
class PoolSpec:
    """Where the images come from.

    `seed`, `objects` (per class) to `scene_strength` are for the synthetic pool. `root` is a folder, or a TFDS data set
    NAME/CONFIG:VERSION in `data_dir` (empty: TFDS's own) whose `features` hold image, mask, class and scene. `cache` is
    where decoded arrays are kept (empty: ~/.cache/flipjax/pools), `max_pixels` the largest image that is opened.
    """

    name: str = "synthetic"
    size: int = 48
    seed: int = 0
    objects: int = 400
    scenes: int = 240
    identity_strength: float = 1.0
    scene_strength: float = 1.0
    root: str = ""
    cache: str = ""
    classes: tuple[str, ...] = ()
    scene_kinds: tuple[str, ...] = ()
    data_dir: str = ""
    features: tuple[str, ...] = ("image", "mask", "class", "scene")
    max_pixels: int = 2**26


@dataclasses.dataclass(frozen=True)
class SplitSpec:
    """Numbers of images in each part, the same at every rho; `n_train = 0`: the largest that every rho allows."""

    n_train: int = 512
    n_val: int = 128
    n_test: int = 400
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The small `unet`: `width` channels at full resolution, doubled at each of `depth - 1` further levels.

    The U-Nets `smp_*` have one size, and start from `weights`, a folder that `python -m flipjax.models convert` wrote
    (empty: drawn afresh). `dtype` is what a model computes in; parameters are float32.
    """

    name: str = "unet"
    width: int = 8
    depth: int = 3
    norm: str = "batch"
    dtype: str = "float32"
    weights: str = ""


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """The recipe that all members share: the augmentation (see `Augmentation`), and what selects the epoch.

    `selection` names one rule or more: the lowest validation loss over equal groups, the lowest one with the groups
    weighted as in the member's training set (all that someone without group labels can know), the highest worst-group
    IoU, the lowest Flip or the lowest mean flip-risk (which needs no labels) on the validation images, or the last
    epoch. Each has its rows in the results; reports show the first. `patience_rule` is the one that patience waits for.
    """

    epochs: int = 15
    batch_size: int = 16
    patience: int = 8
    hflip: float = 0.5
    crop: float = 0.0
    jitter: float = 0.0
    crop_scale: float = 0.8
    jitter_strength: float = 0.2
    patience_rule: str = "val_loss"
    selection: tuple[str, ...] = ("val_loss",)


@dataclasses.dataclass(frozen=True)
class PopulationSpec:
    """How members map to the machine: `width` members at once (0: 16), `devices` (0: all; a CPU: its cores).

    `map`: a "loop" over members, "vmap", or "packed", members side by side in channels (unet). "auto" is the loop on a
    CPU, and elsewhere packed, or vmap for the large U-Nets. `batch_devices` share each batch (0: as many as members
    leave idle; of a CPU 1). Members that a device of `memory_gb` (0: as it says itself) does not hold wait for others.
    """

    map: str = "auto"
    width: int = 0
    devices: int = 0
    batch_devices: int = 0
    memory_gb: float = 0.0


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that decides a compiled program, hashable: the static half of a run.

    `active_knobs` names the knobs that any method of the grid sets. The program holds every loss, and of samplers,
    augmentations and averages no more than these need. The augmentation in `train` is the strongest of all members.
    `packed` is the population's: whether members that are mapped are one pack.
    """

    pool: PoolSpec = PoolSpec()
    split: SplitSpec = SplitSpec()
    model: ModelSpec = ModelSpec()
    train: TrainSpec = TrainSpec()
    active_knobs: tuple[str, ...] = ()
    packed: bool = False


SECTIONS = {"pool": PoolSpec, "split": SplitSpec, "model": ModelSpec, "train": TrainSpec, "population": PopulationSpec}
