"""Prepares COCO-CD: cats and dogs of COCO 2017, indoors and outdoors."""

import re
from pathlib import Path
from typing import Any

from flipjax.config import ConfigError
from flipjax.groups import Groups

__all__ = ["CLASSES", "N_TEST", "N_VAL", "SCENES", "prepare"]

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
        options: other fields of `CocoCDConfig`.

    Raises:
        ConfigError: an option is out of range.
        ModuleNotFoundError: pycocotools or ijson is missing.
    """
    from flipjax.data import builders
    from flipjax.data.coco_cd import coco_cd_dataset_builder as own

    about = "Made by flipjax data prepare."
    config = own.CocoCDConfig(name="", description=about, divided=split == "reference", **options)
    config.name = _name_of(config)
    if download:
        coco_root = builders.fetch(own.ARCHIVES, data_dir / "downloads" / "coco_cd")
    if coco_root is None:
        raise ConfigError("--coco_root", "a folder, or --download", "none")
    sources = {name: coco_root / name for name in ("train2017", "val2017", "annotations")}
    if stuff_dir:
        sources["stuff_annotations"] = stuff_dir
    return builders.prepare_data_set(own.Builder, config, sources, data_dir)


def _name_of(config: Any) -> str:
    """Returns a name that contains every option; raises ConfigError if one is out of range."""
    plain = (config.classes, config.scenes) == (CLASSES, SCENES)
    level = config.rho is None or (config.divided and Groups().rho_range.accepts(config.rho))
    for option, fine, expected, found in (
        ("--rho", level, "a number in [0.5, 1], with --split reference", config.rho),
        ("--classes", 1 < len({*config.classes}) == len(config.classes), "two or more that differ", config.classes),
        ("--scenes", 1 < len({*config.scenes}) == len(config.scenes), "two or more that differ", config.scenes),
        ("--split", plain or not config.divided, "free, for other classes or scenes than the paper's", "reference"),
    ):
        if not fine:
            raise ConfigError(option, expected, found)
    parts = ["undivided" if not config.divided else "photos" if config.rho is None else f"corr{config.rho:g}"]
    parts += [] if plain else [re.sub(r"\W+", "_", "_".join([*config.classes, *config.scenes]))]
    return "_".join([*parts, *[f"size{config.size}"] * bool(config.size)])


def __dir__() -> list[str]:
    return __all__
