"""`flipjax export RUN --to csv|mlflow|trackio|wandb`: exports a run's members to an experiment tracker.

Every member becomes a tracker run with its axes, its history by epoch, and its test quantities under the first
selection rule as `test/<key>`. `csv` writes tables instead. Trackers read their own settings (MLFLOW_TRACKING_URI,
WANDB_MODE, TRACKIO_DIR) and are installed by the extra `export`.
"""

import importlib
import math
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from flipjax import command
from flipjax.config import ConfigError
from flipjax.results.frames import Row, groups_of, records_of, write_csv
from flipjax.results.rows import axes_of, member_quantities, quantities_in
from flipjax.results.run_data import RunData, load
from flipjax.support.files import sha256_of, write_text

TABLES = ("members", "images", "scores", "history", "summary")


def records(run: RunData) -> Iterator[tuple[str, Row, list[tuple[int, Row]], Row]]:
    """Yields the members with test rows under the first selection rule.

    A member's name, its axes and status, numbers by epoch, and test quantities.
    """
    rows = run.members[run.members["selection"] == run.members["selection"].iloc[0]]
    by_member = groups_of(run.history, ["member"])
    histories = {name: table.drop(columns="member").set_index("epoch") for (name,), table in by_member}
    table = member_quantities(rows)
    keys = quantities_in(table)
    for record in records_of(table):
        config = {name: record[name] for name in (*axes_of(rows), "status")}
        test = {f"test/{name}": record[name] for name in keys if math.isfinite(record[name])}
        epochs = histories.get(record["member"], run.history[:0])
        numbers = [{key: value for key, value in row.items() if math.isfinite(value)} for row in records_of(epochs)]
        history = list(zip(epochs.index.tolist(), numbers, strict=True))
        yield record["member"], config, history, test


def to_csv(run: RunData, folder: Path) -> None:
    """Writes members.csv, images.csv, scores.csv, history.csv, summary.csv and a list of their digests.

    Raises:
        ConfigError: a file of one of these names was not written by an export, or was edited since.
    """
    # Reads every table before writing, so that a damaged run leaves no partial export.
    tables = {folder / f"{name}.csv": getattr(run, name) for name in TABLES}
    listing = folder / "export.sha256"
    known = listing.read_text(errors="replace") if listing.is_file() else ""
    for path in tables:
        if path.exists() and sha256_of(path) not in known:
            raise ConfigError("--out", "a folder without tables, or those of an export", f"{path}, which none wrote")
    for path, table in tables.items():
        write_csv(path, table)
    write_text(listing, "".join(f"{sha256_of(path)}  {path.name}\n" for path in tables if path.exists()))


def to_mlflow(run: RunData, project: str, mlflow: Any) -> None:
    """Logs every member as a run of the MLflow experiment `project`."""
    mlflow.set_experiment(project)
    for name, config, history, test in records(run):
        with mlflow.start_run(run_name=name):
            mlflow.log_params(config)
            for epoch, values in history:
                mlflow.log_metrics(values, step=epoch)
            mlflow.log_metrics(test)


def to_wandb(run: RunData, project: str, wandb: Any, **options: Any) -> None:
    """Logs every member as a run of the project, in one group, with test quantities at the last epoch."""
    for name, config, history, test in records(run):
        wandb.init(project=project, group=run.folder.name, name=name, config=config, **options)
        for epoch, values in history:
            wandb.log(values, step=epoch)
        wandb.log(test, step=history[-1][0] if history else 0)
        wandb.finish()


TRACKERS = {"mlflow": to_mlflow, "trackio": partial(to_wandb, embed=False), "wandb": to_wandb}
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
    run, project = load(options.run), options.project or options.run.resolve().name
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
