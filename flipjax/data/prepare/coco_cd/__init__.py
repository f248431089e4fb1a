"""Prepares COCO-CD: cats and dogs of COCO 2017, indoors and outdoors."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flipjax.config import ConfigError
from flipjax.config.groups import Groups
from flipjax.data.prepare.coco_cd.reference import CLASSES, SCENES

if TYPE_CHECKING:
    from flipjax.data.prepare.coco_cd.coco_cd_dataset_builder import CocoCDConfig


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
    from flipjax.data.prepare import builders, downloads
    from flipjax.data.prepare.coco_cd.coco_cd_dataset_builder import ARCHIVES, Builder, CocoCDConfig

    about = "Made by flipjax data prepare."
    config = CocoCDConfig(name="", description=about, divided=split == "reference", **options)
    _check_options(config)
    config.name = _name_of(config)
    if download:
        coco_root = downloads.fetch(ARCHIVES, data_dir / "downloads" / "coco_cd")
    if coco_root is None:
        raise ConfigError("--coco_root", "a folder, or --download", "none")
    sources = {name: coco_root / name for name in ("train2017", "val2017", "annotations")}
    if stuff_dir:
        sources["stuff_annotations"] = stuff_dir
    return builders.prepare_data_set(Builder, config, sources, data_dir)


def _check_options(config: "CocoCDConfig") -> None:
    """Raises ConfigError if an option is out of range."""
    if config.rho is not None and not (config.divided and Groups().rho_range.accepts(config.rho)):
        raise ConfigError("--rho", "a number in [0.5, 1], with --split reference", config.rho)
    for option, names in (("--classes", config.classes), ("--scenes", config.scenes)):
        if len(names) < 2 or len({*names}) < len(names):
            raise ConfigError(option, "two or more that differ", names)
    if config.divided and not _is_of_paper(config):
        raise ConfigError("--split", "free, for other classes or scenes than the paper's", "reference")


def _is_of_paper(config: "CocoCDConfig") -> bool:
    """Returns whether the classes and scenes are the paper's."""
    return config.classes == CLASSES and config.scenes == SCENES


def _name_of(config: "CocoCDConfig") -> str:
    """Returns a name that contains every option."""
    if not config.divided:
        parts = ["undivided"]
    elif config.rho is None:
        parts = ["photos"]
    else:
        parts = [f"corr{config.rho:g}"]
    if not _is_of_paper(config):
        parts.append(re.sub(r"\W+", "_", "_".join([*config.classes, *config.scenes])))
    if config.size:
        parts.append(f"size{config.size}")
    return "_".join(parts)
