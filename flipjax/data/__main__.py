"""Checks, prepares and lists data sets for sweeps.

check DIR reports unusable files and the grids that a folder allows. prepare NAME makes a TFDS data set from archives,
for config.pool.name = NAME. manifest NAME writes a CSV that pairs birds with scenes at any rho.

Exit codes: 0 done, 1 files are bad, missing or not writable, 2 usage, 75 interrupted (repeat the command).
"""

import argparse
import functools
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flipjax import command
from flipjax.config.checks import check_value
from flipjax.data.prepare import coco_cd, waterbirds_seg
from flipjax.support.terminal import printable

FLAGS = {
    "config.pool.root": "DIR",
    "config.pool.size": "--size",
    "config.pool.classes": "--classes",
    "config.pool.scene_kinds": "--scene_kinds",
    "config.pool.usual": "--usual",
    "config.pool.scene_column": "--scene_column",
    "config.pool.cluster_column": "--cluster_column",
    "config.split.seed": "--seed",
}
"""Options by the configuration key whose range they have."""


@command.main("flipjax data", options=FLAGS, system_code=command.SOME_FAILED)
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    options = vars(_parser().parse_args(arguments))
    # SIGTERM ends the command as SIGINT does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return options.pop("run")(**options)


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax data", description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_check(commands.add_parser("check", help="read every file of a folder, and report"))
    prepare_parser = commands.add_parser("prepare", help="make a TFDS data set from its archives")
    data_sets = prepare_parser.add_subparsers(required=True)
    for module, add_options in ((coco_cd, _add_coco_cd), (waterbirds_seg, _add_waterbirds_seg)):
        name = module.__name__.rpartition(".")[2]
        prepare = data_sets.add_parser(name, help=(module.__doc__ or "").partition("\n")[0])
        prepare.add_argument("--size", type=int, default=0, help="pixels a side (default: as large as each photo)")
        prepare.add_argument("--data_dir", default="", metavar="DIR", help="TFDS folder (default: TFDS's own)")
        prepare.set_defaults(run=functools.partial(_prepare, module.prepare))
        add_options(prepare)
    manifest_parser = commands.add_parser("manifest", help="write a manifest of any rho")
    manifest = manifest_parser.add_subparsers(required=True).add_parser("waterbirds_seg")
    _add_archives(manifest)
    manifest.add_argument("--rho", type=float, required=True, help="fraction of each class in its usual scene")
    manifest.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    manifest.add_argument("--out", type=Path, required=True, metavar="CSV", help="the file to write")
    manifest.set_defaults(run=functools.partial(_print, waterbirds_seg.write_manifest))
    return parser


def _add_check(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_names = functools.partial(add, type=command.read_names, default=(), metavar="A,B")
    add("root", metavar="DIR", help="a composite or photo folder")
    add("--size", type=int, default=48, help="pixels a side (default 48)")
    add_names("--class_names", "--classes", dest="classes", help="class names in order")
    add_names("--scene_kinds", help="scene names in order")
    add_names("--usual", type=_usual, help="usual scene of each class, or several as A+B (default: scene i mod S)")
    add("--scene_column", default="scene", metavar="NAME", help="column of metadata.csv with the scene, as scanner")
    add("--cluster_column", default="", metavar="NAME", help="column of clusters that stay in one part, as patient")
    parser.set_defaults(run=_check)


def _add_coco_cd(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_names = functools.partial(add, type=command.read_names, metavar="A,B")
    add("--coco_root", type=command.read_folder, metavar="DIR", help="has train2017/, val2017/ and annotations/")
    add("--download", action="store_true", help="fetch COCO 2017 first (21 GB) in place of --coco_root")
    text = "has stuff_train2017.json and stuff_val2017.json (default: annotations/)"
    add("--stuff_dir", type=command.read_folder, metavar="DIR", help=text)
    text = "validation and test images are the paper's (default), or drawn by the sweep"
    add("--split", choices=("reference", "free"), default="reference", help=text)
    add_names("--classes", default=coco_cd.CLASSES, help="animals (default: cat,dog)")
    add_names("--scenes", default=coco_cd.SCENES, help="indoor, outdoor (default), or categories or groups of stuff")
    add("--rho", type=float, help="make the paper's training set at this rho (default: all remaining photos)")


def _add_waterbirds_seg(parser: argparse.ArgumentParser) -> None:
    _add_archives(parser, required=False)
    parser.add_argument("--download", action="store_true", help="fetch CUB and Places365 first (27 GB)")
    one_of_both = parser.add_mutually_exclusive_group()
    add_tables = functools.partial(one_of_both.add_argument, type=Path, metavar="CSV")
    add_tables("--manifest", help="store the composites of this manifest instead of cut-outs and scenes")
    text = "use only the birds and scenes of these manifests, in their parts"
    add_tables("--split_by", nargs="+", default=[], help=text)
    default = waterbirds_seg.SCENES
    text = f"scene photos of each kind, 0 for all (default {default}, as many as the released manifests show)"
    parser.add_argument("--scenes", type=int, default=default, help=text)


def _add_archives(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    add_folder = functools.partial(parser.add_argument, type=command.read_folder, required=required, metavar="DIR")
    add_folder("--cub_dir", help="CUB_200_2011, with images/ and segmentations/")
    add_folder("--places_dir", help="Places365, its categories bamboo_forest, forest/broadleaf, ocean and lake/natural")
    parser.add_argument("--fix_labels", action="store_true", help="label three species of landbirds as such")


def _prepare(make: Callable[..., str], *, size: int, data_dir: str, **options: object) -> int:
    if size:
        check_value("pool.size", size)
    from flipjax.data.sources.tfds_folders import data_dir_of

    return _print(make, size=size, data_dir=data_dir_of(data_dir), **options)


def _print(make: Callable[..., str], **options: object) -> int:
    """Prints the sentence that a function returns."""
    print(printable(make(**options)))
    return command.DONE


def _check(*, root: str, **options: Any) -> int:
    from flipjax.data.checking import check
    from flipjax.data.store import BadFilesError

    try:
        overview = check(root, **options)
    except BadFilesError as error:
        print(error)
        return command.SOME_FAILED
    print(overview)
    return command.DONE if overview.fine else command.SOME_FAILED


def _usual(text: str) -> tuple[str | tuple[str, ...], ...]:
    """Reads the usual scene of each class, or several joined by +."""
    usual: list[str | tuple[str, ...]] = []
    for name in command.read_names(text):
        if "+" in name:
            usual.append(tuple(name.split("+")))
        else:
            usual.append(name)
    return tuple(usual)


if __name__ == "__main__":
    sys.exit(main())
