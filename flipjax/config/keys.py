"""The keys of a configuration in words, for `--list_keys` and readers."""

from typing import Any

from flipjax.config.ranges import CHECKS

VARIED = {
    "train": ("hflip", "crop", "crop_scale", "jitter", "jitter_strength"),
    "knobs": ("dice", "dro_step", "cutmix", "swap", "ema", "swa", "jtt_epochs", "jtt_weight"),
}
"""Keys of which an axis may take the place."""

AXES_OF_KEYS = {
    f"axes.{name}": f"values of config.{section}.{name} (empty: that one)"
    for section, names in VARIED.items()
    for name in names
}

MEANINGS: dict[str, str] = {
    "pool.name": "where the images come from",
    "pool.size": "pixels a side",
    "pool.seed": "seed of the synthetic pool's drawings",
    "pool.objects": "synthetic: objects a class",
    "pool.scenes": "synthetic: scenes a kind",
    "pool.identity_strength": "synthetic: how well shape and colour tell the classes apart",
    "pool.scene_strength": "synthetic: how well the scenes' kinds can be told apart",
    "pool.root": "the folder of photos, or where a data set was prepared (empty: its default)",
    "pool.data_dir": "tfds data sets: where TFDS keeps them (empty: its default)",
    "pool.features": "tfds: names of the image, mask, class and scene (empty: the usual ones)",
    "pool.max_pixels": "pixels of the largest image that is read",
    "pool.cache": "where decoded photos are kept (empty: the user's cache)",
    "pool.classes": "folder: names of the two classes in order (empty: as found)",
    "pool.scene_kinds": "folder: usual scene of the first class, then of the second (empty: as found)",
    "split.n_train": "training images, the same number at every rho; 0: the largest that every rho allows",
    "split.n_val": "validation images",
    "split.n_test": "test images",
    "split.seed": "who is in which part",
    "model.name": "the network",
    "model.width": "unet: channels at full resolution",
    "model.depth": "unet: levels",
    "model.norm": "unet: what normalises activations",
    "model.dtype": "what the network computes in; parameters are float32",
    "model.weights": "smp_*: folder of converted weights to start from (empty: drawn afresh)",
    "train.epochs": "passes over the training images at most",
    "train.batch_size": "images a step",
    "train.patience": "epochs without a better validation loss after which a member stops",
    "train.hflip": "probability of the mirror",
    "train.patience_rule": "the selection rule whose score patience waits for",
    "train.crop_scale": "least share of the image that the random resized crop keeps",
    "train.jitter_strength": "how far brightness, contrast and saturation may go",
    "train.crop": "probability of the random resized crop",
    "train.jitter": "probability of the colour jitter",
    "train.selection": "rules that choose the epoch, each with rows of its own",
    "population.map": "how members share a device",
    "population.width": "members at once on a device (0: as the map has it)",
    "population.devices": "devices (0: all; of a CPU its cores)",
    "population.batch_devices": "devices that share each batch (0: idle ones; of a CPU 1; 2 speed up one member)",
    "population.memory_gb": "memory of a device in GB, of which waves of members are made (0: what it says itself)",
    "axes.rho": "share of a class's training images that show its usual scene",
    "axes.seed": "start and order of training, and who stands where",
    "axes.method": "what trains; names joined by + are combined",
    "axes.learning_rate": "of Adam",
    "axes.weight_decay": "above 0: AdamW",
    "axes.warmup": "share of the steps over which the learning rate rises",
    "axes.schedule": "of the learning rate",
    "axes.clip_norm": "largest norm of the gradients (0: any)",
    **AXES_OF_KEYS,
    "knobs.dice": "weight of the foreground Dice loss",
    "knobs.dro_step": "step size of GroupDRO's group weights",
    "knobs.cutmix": "probability of background CutMix",
    "knobs.swap": "probability of a background swap",
    "knobs.ema": "decay a step of the average of the weights",
    "knobs.swa": "share of the epochs after which the average of the weights starts",
    "knobs.jtt_epochs": "epochs of JTT's first run",
    "knobs.jtt_weight": "how many times as often an image that JTT's first run flips is drawn",
    "intervene.scenes": "training scenes that each predicted region is put on: the mean of each kind, sampled, both",
    "intervene.count": "scenes of each kind that are sampled, a pass each",
    "intervene.views": "2: each region on another scene is also asked mirrored, a pass more each; 1: it is not",
    "intervene.center": "where an identity is split: auto bears unequal classes, median is for equal ones",
    "intervene.scores": "scores beside flip-risk: of logits, without a further pass; all: also three passes; none",
    "gallery.rho": "the gallery shows the member whose rho is nearest",
    "gallery.riskiest": "images of the highest flip-risk in the gallery",
    "gallery.typical": "images between in the gallery",
}
"""What each key means; its range is in `CHECKS`, its default in `default_config()`."""

TRACED = ("axes", "knobs")
"""Sections whose values are data: another one compiles nothing."""


def describe_keys(defaults: dict[str, Any]) -> str:
    """Returns a paragraph of lines for each key: default, range, meaning, and whether it is traced or static.

    Args:
      defaults: dotted keys and their values, as `flipjax.config.leaves` returns them.
    """
    lines = ["Traced keys are data, and no value of theirs compiles anything; a static one is part of the program."]
    for key, meaning in MEANINGS.items():
        kind = "traced" if key.split(".")[0] in TRACED else "static"
        expected = CHECKS[key][1] if key in CHECKS else type(defaults[key]).__name__
        lines += ["", f"--config.{key}={defaults[key]!r}", f"  {meaning}; {kind}", f"  {expected}"]
    return "\n".join(lines)
