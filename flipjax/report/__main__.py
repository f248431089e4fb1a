"""Command line: makes the report of a run folder again and prints its tables."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flipjax.report.page import build


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds the report of the folder named on the command line; returns 0, or 2 where it holds no results."""
    parser = argparse.ArgumentParser(prog="python -m flipjax.report", description=__doc__)
    parser.add_argument("workdir", type=Path, help="a run folder, as python -m flipjax.sweep writes it")
    workdir = parser.parse_args(arguments).workdir
    try:
        text = build(workdir)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{text}\n\nreport: {workdir / 'report' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
