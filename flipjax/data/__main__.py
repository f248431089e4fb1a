"""`python -m flipjax.data check DIR`: what is wrong with a folder, and which grids it allows."""

import argparse
import sys
from pathlib import Path

from flipjax.config import ConfigError, check_value
from flipjax.data.check import check_folder


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns 0 if the folder is fine and 1 if anything is wrong, and exits with 2 on misuse."""
    parser = argparse.ArgumentParser(prog="python -m flipjax.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="read every file of a folder, and report")
    check.add_argument("dir", type=Path, metavar="DIR", help="a composite or photo folder")
    check.add_argument("--size", type=int, default=48, help="pixels a side (default 48)")
    check.add_argument("--n_val", type=int, help="validation images (default: the config's, fewer in a small folder)")
    check.add_argument("--n_test", type=int, help="test images (default: the config's, fewer in a small folder)")
    check.add_argument("--seed", type=int, default=0, help="the split's seed (default 0)")
    check.add_argument("--classes", type=_names, default=(), metavar="A,B", help="class names in order")
    check.add_argument("--scene_kinds", type=_names, default=(), metavar="A,B", help="usual scene of A, of B")
    options = vars(parser.parse_args(arguments))
    options.pop("command")
    try:
        for field, value in (
            ("pool.size", options["size"]),
            ("split.n_val", options["n_val"]),
            ("split.n_test", options["n_test"]),
        ):
            if value is not None:
                check_value(field, value)
        text, fine = check_folder(options.pop("dir"), **options)
    except ConfigError as error:
        check.error(
            str(error)
            .replace("config.pool.root", "DIR")
            .replace("config.pool.size", "--size")
            .replace("config.split.", "--")
        )
    print(text)
    return 0 if fine else 1


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
