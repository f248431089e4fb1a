"""`flipjax export RUN --to csv|mlflow|trackio|wandb`: exports a run's members to an experiment tracker.

Every member becomes a tracker run with its axes, its history by epoch, and its test quantities under the first
selection rule as `test/<key>`. `csv` writes tables instead. Trackers read their own settings (MLFLOW_TRACKING_URI,
WANDB_MODE, TRACKIO_DIR) and are installed by the extra `export`.
"""

import dataclasses
import importlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from flipjax import command
from flipjax.config import ConfigError
from flipjax.results.rows import axes_of, member_quantities, quantities_in
from flipjax.results.run import StoredRun, load
from flipjax.support.frames import Row, groups_of, records_of, write_csv

TABLES = ("results", "images", "scores", "history", "summary")
"""The tables that `csv` writes, attributes of `StoredRun`."""


@dataclasses.dataclass(frozen=True)
class TrackedMember:
    """A member as a run of a tracker."""

    name: str
    """Its name."""
    config: Row
    """Its axes and its status."""
    history: dict[int, dict[str, float]]
    """The finite numbers of its rows of history.csv, by epoch from 1."""
    test: dict[str, float]
    """Its finite test quantities, as `test/<key>`."""

    @property
    def last_epoch(self) -> int:
        """The last epoch, 0 without history."""
        return max(self.history, default=0)


def tracked_members(run: StoredRun) -> Iterator[TrackedMember]:
    """Yields the members with test rows under the first selection rule."""
    rows = run.results[run.results["selection"] == run.results["selection"].iloc[0]]
    histories = {name: table.drop(columns="member") for (name,), table in groups_of(run.history, ["member"])}
    table = member_quantities(rows)
    keys = quantities_in(table)
    for record in records_of(table):
        history = {}
        if record["member"] in histories:
            for row in records_of(histories[record["member"]]):
                epoch = row.pop("epoch")
                history[epoch] = _finite(row)
        yield TrackedMember(
            name=record["member"],
            config={name: record[name] for name in (*axes_of(rows), "status")},
            history=history,
            test=_finite({f"test/{key}": record[key] for key in keys}),
        )


def _finite(row: Row) -> dict[str, float]:
    """Returns the columns of a row whose number is finite."""
    return {name: value for name, value in row.items() if math.isfinite(value)}


def to_csv(run: StoredRun, folder: Path) -> None:
    """Writes results.csv, images.csv, scores.csv, history.csv and summary.csv.

    Raises:
        ConfigError: a file of one of these names has other columns, so that no export wrote it.
    """
    # Reads every table before writing, so that a damaged run leaves no partial export.
    tables = {folder / f"{name}.csv": getattr(run, name) for name in TABLES}
    for path, table in tables.items():
        header = ",".join(map(str, table))
        if path.exists() and path.read_text(errors="replace").partition("\n")[0] != header:
            raise ConfigError("--out", "a folder without tables, or those of an export", f"{path}, which none wrote")
    for path, table in tables.items():
        write_csv(path, table)


def to_mlflow(run: StoredRun, project: str, mlflow: ModuleType) -> None:
    """Logs every member as a run of the MLflow experiment `project`."""
    mlflow.set_experiment(project)
    for member in tracked_members(run):
        with mlflow.start_run(run_name=member.name):
            mlflow.log_params(member.config)
            for epoch, measures in member.history.items():
                mlflow.log_metrics(measures, step=epoch)
            mlflow.log_metrics(member.test)


def to_wandb(run: StoredRun, project: str, wandb: ModuleType, **options: bool) -> None:
    """Logs every member as a run of the project, in one group, with test quantities at the last epoch."""
    for member in tracked_members(run):
        wandb.init(project=project, group=run.folder.name, name=member.name, config=member.config, **options)
        for epoch, measures in member.history.items():
            wandb.log(measures, step=epoch)
        wandb.log(member.test, step=member.last_epoch)
        wandb.finish()


def to_trackio(run: StoredRun, project: str, trackio: ModuleType) -> None:
    """Logs every member as `to_wandb`, whose functions trackio has, without its page in a notebook."""
    to_wandb(run, project, trackio, embed=False)


TRACKERS: dict[str, Callable[[StoredRun, str, ModuleType], None]] = {
    "mlflow": to_mlflow,
    "trackio": to_trackio,
    "wandb": to_wandb,
}
"""Functions of a run, a project and the tracker's module."""


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
    project = options.project or options.run.resolve().name
    if options.to == "csv":
        folder = options.out or options.run / "export"
        to_csv(run, folder)
        print(f"{folder}: {', '.join(f'{name}.csv' for name in TABLES)}")
        return command.DONE
    TRACKERS[options.to](run, project, importlib.import_module(options.to))
    print(f"{options.to}: project {project}")
    return command.DONE


if __name__ == "__main__":
    sys.exit(main())
