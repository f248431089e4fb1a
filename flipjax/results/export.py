"""`flipjax export RUN --to csv|mlflow|trackio|wandb`: exports a run's members to an experiment tracker.

Every member becomes a tracker run with its axes, its history by epoch, and its test quantities under the first
selection rule as `test/<key>`. `csv` writes tables instead. Trackers read their own settings (MLFLOW_TRACKING_URI,
WANDB_MODE, TRACKIO_DIR) and are installed by the extra `export`.
"""

import sys
from pathlib import Path

from flipjax import command
from flipjax.config import ConfigError
from flipjax.results.run import StoredRun, load
from flipjax.results.tracking.trackers import TRACKERS, Sender, Tracker, find_tracker, tracked_members
from flipjax.support.frames import write_csv
from flipjax.support.terminal import say

TABLES = ("results", "images", "scores", "history", "summary")
"""The tables that `csv` writes, attributes of `StoredRun`."""


def to_csv(run: StoredRun, folder: Path) -> list[Path]:
    """Writes results.csv, images.csv, scores.csv, history.csv and summary.csv, and returns their paths.

    Of a run without results yet, it writes history.csv alone.

    Raises:
        ConfigError: a file of one of these names has other columns, so that no export wrote it.
    """
    # Reads every table before writing, so that a damaged run leaves no partial export.
    names = ("history",)
    if run.cells:
        names = TABLES
    tables = {folder / f"{name}.csv": getattr(run, name) for name in names}
    for path, table in tables.items():
        header = ",".join(map(str, table))
        if path.exists() and path.read_text(errors="replace").partition("\n")[0] != header:
            raise ConfigError("--out", "a folder without tables, or those of an export", f"{path}, which none wrote")
    for path, table in tables.items():
        write_csv(path, table)
    return list(tables)


def to_tracker(run: StoredRun, tracker: Tracker) -> None:
    """Logs every member as a run of a tracker: with its test quantities, or its history so far."""
    sender = Sender(tracker)
    if run.cells:
        sender.send(tracked_members(run.results, run.history))
    if run.unfinished is not None:
        sender.send(run.unfinished.tracked_members())
    sender.end()


@command.main("flipjax export")
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code: 0, or 2 if the folder or the tracker is missing."""
    parser = command.Parser(prog="flipjax export", description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder, as flipjax sweep writes it")
    parser.add_argument("--to", choices=["csv", *TRACKERS], required=True, help="where the members go")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the tables of csv (default RUN/export)")
    parser.add_argument("--project", metavar="NAME", help="the tracker's project (default: the run folder's name)")
    options = parser.parse_args(arguments)
    run = load(options.run)
    if run.unfinished is not None:
        say(f"{options.run}: {run.unfinished}")
    project = options.project or options.run.resolve().name
    if options.to == "csv":
        folder = options.out or options.run / "export"
        written = to_csv(run, folder)
        print(f"{folder}: {', '.join(path.name for path in written)}")
        return command.DONE
    to_tracker(run, find_tracker(options.to, project=project, group=run.name))
    print(f"{options.to}: project {project}")
    return command.DONE


if __name__ == "__main__":
    sys.exit(main())
