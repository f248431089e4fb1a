"""`flipjax report RUN`: rebuilds a run's page.

`flipjax report --compare A B` compares two runs. `flipjax report --table paper RUN [RUN ...]` writes the
paper's table (CSV, Markdown, LaTeX) and its figure of flip-risk deciles. Reports use stored
results only and need neither JAX nor the pool. Exit codes: 0 done, 1 unreadable results, 2 no results.
"""

import argparse
import sys
from pathlib import Path

from flipjax import command
from flipjax.support.terminal import printable


@command.main("flipjax report", system_code=command.SOME_FAILED)
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    parser = command.Parser(prog="flipjax report", description=__doc__)
    parser.add_argument("workdir", type=Path, nargs="*", help="a run folder, as flipjax sweep writes it")
    parser.add_argument("--table", choices=("paper",), help="make this table of one or more runs")
    parser.add_argument("--published", action="store_true", help="with --table paper: draw the paper's curves dashed")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), help="run folders: B is compared with A")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where a comparison or a table goes (default B/report/compare, the first RUN/report)",
    )
    options = parser.parse_args(arguments)
    if not _is_one_request(options):
        parser.error("expected a run folder, --table paper RUN [RUN ...], or --compare A B")
    if options.table:
        text = _make_table(options.workdir, options.out, published=options.published)
    elif options.compare:
        first, second = options.compare
        text = _compare(first, second, options.out)
    else:
        text = _make_page(options.workdir[0])
    print(printable(text))
    return command.DONE


def _is_one_request(options: argparse.Namespace) -> bool:
    """Whether the options ask for a page of one run, a table of one or more, or a comparison of two."""
    if options.compare:
        return not options.workdir and not options.table
    if options.table:
        return len(options.workdir) > 0
    return len(options.workdir) == 1


def _make_table(runs: list[Path], out: Path | None, *, published: bool) -> str:
    """Writes the paper's table, and returns it with its place."""
    from flipjax.report.paper import write_paper

    folder = out or runs[0] / "report"
    text = write_paper(runs, folder, published=published)
    return f"{text}\n\ntable: {folder / 'paper.csv'}"


def _compare(first: Path, second: Path, out: Path | None) -> str:
    """Writes the page of two runs, and returns its tables and its place."""
    from flipjax.report.compare import compare_runs

    folder = out or second / "report" / "compare"
    text = compare_runs(first, second, folder)
    return f"{text}\n\nreport: {folder / 'index.html'}"


def _make_page(run: Path) -> str:
    """Writes the page of a run, and returns its tables and its place."""
    from flipjax.report.page import build_report

    text = build_report(run, again=True)
    return f"{text}\n\nreport: {run / 'report' / 'index.html'}"


if __name__ == "__main__":
    sys.exit(main())
