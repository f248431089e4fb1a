"""What can be done with data sets before a sweep.

check DIR: what is wrong with a folder of yours, and which grids it allows. prepare NAME: makes a TFDS data set from
archives, which `config.pool.name = NAME` then reads. manifest NAME: writes which bird stands in which scene at any rho.

Exit codes: 0 done, 1 files are bad, missing or cannot be written, 2 usage, 75 interrupted (the same
command starts anew).
"""

import argparse
import signal
import sys
from types import ModuleType

from flipjax import command
from flipjax.config import PoolSpec, check_value
from flipjax.data.coco_cd import coco_cd_command
from flipjax.data.waterbirds_seg import waterbirds_seg_command
from flipjax.terminal import printable

DATA_SETS: dict[str, ModuleType] = {"coco_cd": coco_cd_command, "waterbirds_seg": waterbirds_seg_command}
"""What `prepare` may name: modules with `add_arguments(parser)` and `prepare(options)`, which returns a text."""
FLAGS = {
    "config.pool.root": "DIR",
    "config.pool.size": "--size",
    "config.pool.classes": "--class_names",
    "config.pool.scene_kinds": "--scene_kinds",
    "config.pool.usual": "--usual",
    "config.split.n_val": "--n_val",
    "config.split.n_test": "--n_test",
    "config.split.seed": "--seed",
}
"""What this command calls fields of a configuration."""


@command.main("flipjax data", options=FLAGS, system_code=command.SOME_FAILED)
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    options = _parser().parse_args(arguments)
    # SIGTERM ends the command as SIGINT does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return options.run(options)
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    example = "Example: flipjax data check ~/photos --class_names cat,dog"
    reads = "read every file of a folder, and report"
    _add_check(commands.add_parser("check", help=reads, description=f"{reads.capitalize()}. {example}"))
    makers = commands.add_parser("prepare", help="make a TFDS data set from its archives")
    makers = makers.add_subparsers(dest="name", required=True)
    for name, module in DATA_SETS.items():
        prepare = makers.add_parser(name, help=(module.__doc__ or "").partition("\n")[0])
        text = "pixels a side (default: as large as each photo, for sweeps of any size)"
        prepare.add_argument("--size", type=int, default=0, help=text)
        prepare.add_argument("--data_dir", default="", metavar="DIR", help="where TFDS keeps it (default: TFDS's own)")
        module.add_arguments(prepare)
        prepare.set_defaults(run=_prepare)
    manifest = commands.add_parser("manifest", help="write a manifest of any rho")
    manifest.add_argument("name", choices=["waterbirds_seg"])
    waterbirds_seg_command.add_manifest_arguments(manifest)
    manifest.set_defaults(run=_manifest)
    return parser


def _add_check(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dir", metavar="DIR", help="a composite or photo folder")
    add("--size", type=int, default=48, help="pixels a side (default 48)")
    add("--n_val", type=int, help="validation images (default: the config's, fewer in a small folder)")
    add("--n_test", type=int, help="test images (default: the config's, fewer in a small folder)")
    add("--seed", type=int, default=0, help="the split's seed (default 0)")
    add(
        "--class_names",
        "--classes",
        dest="classes",
        type=command.read_names,
        default=(),
        metavar="A,B",
        help="class names in order",
    )
    add("--scene_kinds", type=command.read_names, default=(), metavar="A,B", help="scene names in order")
    text = "usual scene of each class, or several as A+B (default: scene i mod S of class i)"
    add("--usual", type=_usual, default=(), metavar="A,B", help=text)
    parser.set_defaults(run=_check)


def _prepare(options: argparse.Namespace) -> int:
    if options.size:
        check_value("pool.size", options.size)
    from flipjax.data.tfds import data_dir_of

    options.data_dir = data_dir_of(options.data_dir)
    print(printable(DATA_SETS[options.name].prepare(options)))
    return command.DONE


def _manifest(options: argparse.Namespace) -> int:
    print(printable(waterbirds_seg_command.write_manifest(options)))
    return command.DONE


def _check(options: argparse.Namespace) -> int:
    from flipjax.data.folder.check import check_folder

    pool = {name: getattr(options, name) for name in ("size", "classes", "scene_kinds", "usual")}
    split = {name: getattr(options, name) for name in ("n_val", "n_test", "seed")}
    for section, values in (("pool", pool), ("split", split)):
        for name, value in values.items():
            if value is not None:
                check_value(f"{section}.{name}", value)
    text, fine = check_folder(PoolSpec(name="folder", root=str(options.dir), **pool), **split)
    print(text)
    return command.DONE if fine else command.SOME_FAILED


def _usual(text: str) -> tuple[str | tuple[str, ...], ...]:
    return tuple(tuple(name.split("+")) if "+" in name else name for name in command.read_names(text))


if __name__ == "__main__":
    sys.exit(main())
