"""`flipjax report RUN`: rebuilds a run's page.

`flipjax report --compare A B` compares two runs. `flipjax report --table paper RUN [RUN ...]` writes the
paper's table (CSV, Markdown, LaTeX) and its figure of flip-risk deciles. Reports use stored
results only and need neither JAX nor the pool; those of flipjax 0.1 are converted first. Exit codes: 0 done, 1
unreadable results, 2 no results.
"""

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
    alone = options.compare if options.table else len(options.workdir) > 1
    if bool(options.workdir) == bool(options.compare) or alone:
        parser.error("expected a run folder, --table paper RUN [RUN ...], or --compare A B")
    # Imported late so that --help answers at once.
    from flipjax.results.old_runs import convert_run

    for run in options.compare or options.workdir:
        for path in convert_run(run):
            print(printable(f"converted from flipjax 0.1: {path}"))
    if options.table:
        from flipjax.report.paper import write_paper

        folder = options.out or options.workdir[0] / "report"
        text = write_paper(options.workdir, folder, published=options.published)
        print(printable(f"{text}\n\ntable: {folder / 'paper.csv'}"))
        return command.DONE
    # Imported late because they load matplotlib.
    from flipjax.report.compare import compare_runs
    from flipjax.report.page import build_report

    if options.compare:
        folder = options.out or options.compare[1] / "report" / "compare"
        text = compare_runs(options.compare[0], options.compare[1], folder)
    else:
        folder = options.workdir[0] / "report"
        text = build_report(options.workdir[0], again=True)
    print(printable(f"{text}\n\nreport: {folder / 'index.html'}"))
    return command.DONE


if __name__ == "__main__":
    sys.exit(main())
