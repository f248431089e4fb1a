"""`flipjax report RUN`: makes a run's page again. `flipjax report --compare A B`: sets two runs side by side.

Everything comes from the stored results: neither JAX nor the pool is needed. Exit codes: 0 done, 1 results that cannot
be read, 2 no results there.
"""

import sys
from pathlib import Path

from flipjax import command


@command.main("flipjax report", system_code=command.SOME_FAILED)
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    parser = command.Parser(prog="flipjax report", description=__doc__)
    parser.add_argument("workdir", type=Path, nargs="?", help="a run folder, as flipjax sweep writes it")
    parser.add_argument(
        "--compare", type=Path, nargs=2, metavar=("A", "B"), help="two run folders: B is compared with A"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where a comparison goes (default B/report/compare)")
    options = parser.parse_args(arguments)
    if (options.workdir is None) == (options.compare is None):
        parser.error("expected a run folder, or --compare A B")
    # Not before: they load matplotlib.
    from flipjax.report.compare import compare_runs
    from flipjax.report.page import build_report

    if options.compare:
        folder = options.out or options.compare[1] / "report" / "compare"
        text = compare_runs(options.compare[0], options.compare[1], folder)
    else:
        folder = options.workdir / "report"
        text = build_report(options.workdir, again=True)
    print(f"{text}\n\nreport: {folder / 'index.html'}")
    return command.DONE


if __name__ == "__main__":
    sys.exit(main())
