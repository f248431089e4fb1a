"""Prepares COCO-CD: cats and dogs of COCO 2017, indoors and outdoors."""

import re
from pathlib import Path
from typing import Any

from flipjax.config import ConfigError
from flipjax.groups import Groups

CLASSES = ("cat", "dog")
"""Class y; its label in a mask is 1 + y."""
SCENES = ("indoor", "outdoor")
"""Default scenes."""
N_VAL = 50
N_TEST = 125
"""Validation and test images per group in the reference's split."""


def prepare(
    *,
    coco_root: Path | None = None,
    download: bool = False,
    stuff_dir: Path | None = None,
    split: str = "reference",
    data_dir: Path,
    **options: Any,
) -> str:
    """Makes the data set and returns a sentence about its content; raises as `builders.prepare_data_set` does.

    Args:
        coco_root: has train2017/, val2017/ and annotations/.
        download: whether to fetch COCO 2017 in place of `coco_root`.
        stuff_dir: has stuff_train2017.json and stuff_val2017.json; None: annotations/.
        split: `reference` for the paper's val and test, `free` for a sweep's own.
        data_dir: of TFDS.
        options: the other fields of `CocoCDConfig`.

    Raises:
        ConfigError: an option is out of range.
        ModuleNotFoundError: pycocotools or ijson is missing.
    """
    from flipjax.data import builders
    from flipjax.data.coco_cd import coco_cd_dataset_builder as own

    about = "Made by flipjax data prepare."
    config = own.CocoCDConfig(name="photos", description=about, divided=split == "reference", **options)
    config.name = _name_of(config)
    if download:
        coco_root = builders.fetch(own.ARCHIVES, data_dir / "downloads" / "coco_cd")
    if coco_root is None:
        raise ConfigError("--coco_root", "a folder, or --download", "none")
    sources = {name: coco_root / name for name in ("train2017", "val2017", "annotations")}
    if stuff_dir:
        sources["stuff_annotations"] = stuff_dir
    return builders.prepare_data_set(own.Builder, config, sources, data_dir=data_dir)


def _name_of(config: Any) -> str:
    """Returns a name that contains every option; raises ConfigError if one is out of range."""
    if config.rho is not None and not (config.divided and Groups().rho_range.accepts(config.rho)):
        raise ConfigError("--rho", "a number in [0.5, 1], with --split reference", config.rho)
    sizes = (config.n_val, config.n_test)
    for option, count in zip(("--val_per_group", "--test_per_group"), sizes, strict=True):
        if count < 1:
            raise ConfigError(option, "a number >= 1", count)
    for option, names in (("--classes", config.classes), ("--scenes", config.scenes)):
        if len(set(names)) < max(2, len(names)):
            raise ConfigError(option, "two or more different names", ",".join(names))
    plain = (config.classes, config.scenes) == (CLASSES, SCENES)
    if config.divided and not plain:
        raise ConfigError("--split", "free, for other classes or scenes than the paper's", "reference")
    level = "photos" if config.rho is None else f"corr{config.rho:g}"
    parts = [level if config.divided else "undivided"]
    if config.divided and sizes != (N_VAL, N_TEST):
        parts += map(str, sizes)
    if not plain:
        parts.append(re.sub(r"\W+", "_", "_".join([*config.classes, *config.scenes])))
    return "_".join([*parts, *[f"size{config.size}"] * bool(config.size)])
