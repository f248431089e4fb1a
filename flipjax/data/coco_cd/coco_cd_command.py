"""COCO-CD: cats and dogs of COCO 2017, indoors and outdoors."""

import argparse
import re

from flipjax.command import read_folder, read_names
from flipjax.config import ConfigError
from flipjax.data.coco_cd.categories import CLASSES, SCENES
from flipjax.data.coco_cd.splits import N_TEST, N_VAL
from flipjax.data.download import Archive, fetch
from flipjax.groups import Groups

COCO = "http://images.cocodataset.org"
ANNOTATIONS = r"(instances|stuff)_(train|val)2017\.json$"
ARCHIVES = (
    Archive(f"{COCO}/zips/train2017.zip", md5="cced6f7f71b7629ddf16f17bbcfab6b2"),
    Archive(f"{COCO}/zips/val2017.zip", md5="442b8da7639aecaf257c1dceb8ba8c80"),
    Archive(
        f"{COCO}/annotations/annotations_trainval2017.zip",
        members=ANNOTATIONS,
        into="annotations",
        flat=True,
        md5="f4bbac642086de4f52a3fdda2de5fa2c",
    ),
    Archive(
        f"{COCO}/annotations/stuff_annotations_trainval2017.zip", members=ANNOTATIONS, into="annotations", flat=True
    ),
)
"""What `--download` fetches: 21 GB, and as much unpacked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `prepare` reads."""
    add = parser.add_argument
    add("--coco_root", type=read_folder, metavar="DIR", help="has train2017/, val2017/ and annotations/")
    add("--download", action="store_true", help="fetch COCO 2017 first (21 GB) in place of --coco_root")
    text = "has stuff_train2017.json and stuff_val2017.json (default: annotations/)"
    add("--stuff_dir", type=read_folder, metavar="DIR", help=text)
    text = "reference: val and test are the paper's (the default); free: a sweep draws them by its own seed"
    add("--split", choices=("reference", "free"), default="reference", help=text)
    add("--classes", type=read_names, default=CLASSES, metavar="A,B", help="animals (default: cat,dog)")
    text = "indoor, outdoor, or stuff by category or supercategory, as grass,water (default: indoor,outdoor)"
    add("--scenes", type=read_names, default=SCENES, metavar="A,B", help=text)
    add("--rho", type=float, help="the paper's training set of this level (default: all that is left)")
    add("--val_per_group", type=int, default=N_VAL, help=f"of the reference's split (default {N_VAL})")
    add("--test_per_group", type=int, default=N_TEST, help=f"the same of test (default {N_TEST})")


def prepare(options: argparse.Namespace) -> str:
    """Makes the data set and returns in words what it holds; errors as in `flipjax.data.builders.prepare_data_set`.

    Args:
        options: `size` and `data_dir` beside those of `add_arguments`.

    Raises:
        ConfigError: an option is out of range, or a package is missing.
    """
    from flipjax.data import builders
    from flipjax.data.coco_cd.coco_cd_dataset_builder import Builder, CocoCDConfig

    if options.rho is not None and (options.split != "reference" or not Groups().rho_range.accepts(options.rho)):
        raise ConfigError("--rho", "a number in [0.5, 1], with --split reference", options.rho)
    for name in ("val_per_group", "test_per_group"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name}", "a number >= 1", getattr(options, name))
    for name in ("classes", "scenes"):
        values = getattr(options, name)
        if len(set(values)) < max(2, len(values)):
            raise ConfigError(f"--{name}", "two or more different names", ",".join(values))
    if (options.classes, options.scenes) != (CLASSES, SCENES) and options.split == "reference":
        raise ConfigError("--split", "free, for other classes or scenes than the paper's", "reference")
    if options.download:
        options.coco_root = fetch(ARCHIVES, options.data_dir / "downloads" / "coco_cd")
    if options.coco_root is None:
        raise ConfigError("--coco_root", "a folder, or --download", "none")
    config = CocoCDConfig(
        name=_config_name(options),
        description="Made by flipjax data prepare.",
        divided=options.split == "reference",
        rho=options.rho,
        n_val=options.val_per_group,
        n_test=options.test_per_group,
        size=options.size,
        classes=options.classes,
        scenes=options.scenes,
    )
    sources = {name: options.coco_root / name for name in ("train2017", "val2017", "annotations")}
    if options.stuff_dir:
        sources["stuff_annotations"] = options.stuff_dir
    return builders.prepare_data_set(Builder, config, sources, data_dir=options.data_dir)


def _config_name(options: argparse.Namespace) -> str:
    """Returns a name that tells the options, so that no two data sets share a folder."""
    level = "photos" if options.rho is None else f"corr{options.rho:g}"
    parts = [level if options.split == "reference" else "undivided"]
    sizes = (options.val_per_group, options.test_per_group)
    if options.split == "reference" and sizes != (N_VAL, N_TEST):
        parts += map(str, sizes)
    if (options.classes, options.scenes) != (CLASSES, SCENES):
        parts.append(re.sub(r"\W+", "_", "_".join([*options.classes, *options.scenes])))
    if options.size:
        parts.append(f"size{options.size}")
    return "_".join(parts)
