"""What can be done with data sets before a sweep.

check DIR: what is wrong with a folder of yours, and which grids it allows. prepare NAME: makes the pool of a data set
from its archives, which `config.pool.name = NAME` then finds. manifest NAME: writes which bird stands in which scene,
at any rho.

Exit codes: 0 done, 1 files are bad, missing or cannot be written, 2 usage, 75 interrupted (the same command continues).
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from flipjax.config import ConfigError, check_value
from flipjax.data.coco_cd import command as coco_cd
from flipjax.data.folder.check import check_folder
from flipjax.data.preparing import PreparingError, claim
from flipjax.data.stored import default_folder
from flipjax.data.waterbirds_seg import command as waterbirds_seg

DONE, BAD_FILES, USAGE, INTERRUPTED = 0, 1, 2, 75

FLAGS = {
    "config.pool.root": "DIR",
    "config.pool.size": "--size",
    "config.pool.classes": "--classes",
    "config.pool.scene_kinds": "--scene_kinds",
    "config.split.n_val": "--n_val",
    "config.split.n_test": "--n_test",
    "config.split.seed": "--seed",
}
"""What this command calls fields of a configuration."""

DATA_SETS: dict[str, ModuleType] = {"coco_cd": coco_cd, "waterbirds_seg": waterbirds_seg}
"""What `prepare` may name: modules with `add_arguments(parser)` and `prepare(options) -> int`."""
MANIFESTS: dict[str, ModuleType] = {"waterbirds_seg": waterbirds_seg}
"""What `manifest` may name: modules with `add_manifest_arguments(parser)` and `write_manifest(options) -> int`."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code; exits with 2 on misuse."""
    parser = argparse.ArgumentParser(
        prog="python -m flipjax.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_check(commands.add_parser("check", help="read every file of a folder, and report"))
    for name, made in _data_sets(commands, "prepare", "make the pool of a data set from its archives", DATA_SETS):
        made.add_argument("--size", type=int, default=128, help="pixels a side (default 128)")
        made.add_argument("--out", type=Path, metavar="DIR", help="the pool's folder (default ~/.cache/flipjax/...)")
        DATA_SETS[name].add_arguments(made)
        made.set_defaults(run=_prepare, parser=made)
    for name, made in _data_sets(commands, "manifest", "write a manifest of any rho", MANIFESTS):
        MANIFESTS[name].add_manifest_arguments(made)
        made.set_defaults(run=MANIFESTS[name].write_manifest, parser=made)
    options = parser.parse_args(arguments)
    try:
        if "size" in options:
            check_value("pool.size", options.size)
        return options.run(options)
    except ConfigError as error:
        used: argparse.ArgumentParser = options.parser
        used.error(error.named(FLAGS))
    except (PreparingError, OSError) as error:
        print(f"{options.parser.prog}: {error}", file=sys.stderr)
        return BAD_FILES
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED


def _data_sets(
    commands: Any, command: str, text: str, modules: Mapping[str, ModuleType]
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    names = commands.add_parser(command, help=text).add_subparsers(dest="name", required=True)
    for name, module in modules.items():
        yield name, names.add_parser(name, help=(module.__doc__ or "").splitlines()[0])


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, metavar="DIR", help="a composite or photo folder")
    parser.add_argument("--size", type=int, default=48, help="pixels a side (default 48)")
    parser.add_argument("--n_val", type=int, help="validation images (default: the config's, fewer in a small folder)")
    parser.add_argument("--n_test", type=int, help="test images (default: the config's, fewer in a small folder)")
    parser.add_argument("--seed", type=int, default=0, help="the split's seed (default 0)")
    parser.add_argument("--classes", type=_names, default=(), metavar="A,B", help="class names in order")
    parser.add_argument("--scene_kinds", type=_names, default=(), metavar="A,B", help="usual scene of A, of B")
    parser.set_defaults(run=_check, parser=parser)


def _prepare(options: argparse.Namespace) -> int:
    options.out = claim(options.out or default_folder(options.name, options.size))
    return DATA_SETS[options.name].prepare(options)


def _check(options: argparse.Namespace) -> int:
    for field, value in (("split.n_val", options.n_val), ("split.n_test", options.n_test)):
        if value is not None:
            check_value(field, value)
    text, fine = check_folder(
        options.dir,
        size=options.size,
        n_val=options.n_val,
        n_test=options.n_test,
        seed=options.seed,
        classes=options.classes,
        scene_kinds=options.scene_kinds,
    )
    print(text)
    return DONE if fine else BAD_FILES


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
