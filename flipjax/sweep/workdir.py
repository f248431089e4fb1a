"""The run folder: what is done lies in it, so that the same command continues, finishes, or has nothing to do."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flipjax.config import ConfigError
from flipjax.data.pool import Catalog
from flipjax.plan import Cell, first_difference
from flipjax.results import read_csv, replacing, write_csv

OWN = ("config.json", "pools.json", "results.csv", "history.csv", "cells", "checkpoints", "report")


class Workdir:
    """Paths and state of one run; every file appears whole or not at all."""

    def __init__(self, folder: str | Path):
        """Names the folder; `claim` makes it."""
        self.folder = Path(folder)

    def claim(self, config: Mapping[str, Any], facts: Mapping[str, str], *, fresh: bool) -> None:
        """Takes the folder for a configuration: `fresh` removes an earlier run's own files first.

        Args:
          config: as nested JSON values.
          facts: strings about the run (name, command, versions), written beside it.
          fresh: whether to start over.

        Raises:
          ConfigError: if the folder holds a run of another configuration, or files that are not flipjax's.
        """
        path = self.folder / "config.json"
        if fresh and path.is_file():
            for name in OWN:
                target = self.folder / name
                if target.is_dir():
                    shutil.rmtree(target)
                else:
                    target.unlink(missing_ok=True)
        if path.is_file():
            stored = json.loads(path.read_text(encoding="utf-8"))["config"]
            difference = first_difference(stored, json.loads(json.dumps(config)))
            if difference:
                raise ConfigError(
                    f"--workdir: {self.folder} holds a run of another configuration ({difference}); "
                    "pass another --workdir, or --fresh to start over there"
                )
            return
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise ConfigError(
                f"--workdir: expected a new or empty folder, or a run; found other files in {self.folder}"
            )
        with replacing(path) as stream:
            stream.write((json.dumps({**facts, "config": config}, indent=2) + "\n").encode())

    def claim_pool(self, cell: Cell, catalog: Catalog) -> None:
        """Keeps which pool a run reads from files, so that no other one takes its place while the run is not done.

        Args:
          cell: of the plan.
          catalog: of its pool, with a digest if it was read from files.

        Raises:
          ConfigError: if the run has read another pool from that place.
        """
        if not catalog.content:
            return
        pool = cell.experiment.pool
        path = self.folder / "pools.json"
        count = f"{len(catalog.object_names)} images, {len(catalog.scene_photo_names)} scenes"
        now = {"content": catalog.content, "holds": f"{catalog.source} ({count} at size {pool.size})"}
        pools = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        before = pools.setdefault(f"{pool.name} {pool.size} {pool.root}".strip(), now)
        if before["content"] != now["content"]:
            old, new = (f"{each['holds']} [{each['content'][:8]}]" for each in (before, now))
            raise ConfigError(
                f"--workdir: {self.folder} holds a run on {old}, but the pool there is now {new}; bring the first one "
                "back, or pass another --workdir, or --fresh to start over there"
            )
        with replacing(path) as stream:
            stream.write((json.dumps(pools, indent=2) + "\n").encode())

    def cell(self, cell: Cell) -> Path:
        """Returns the folder of a cell's results."""
        return self.folder / "cells" / cell.name

    def checkpoints(self, cell: Cell) -> Path:
        """Returns the folder of a cell's checkpoints."""
        return self.folder / "checkpoints" / cell.name

    def finished(self, cell: Cell) -> bool:
        """Says whether a cell's results are there; its rows are written last."""
        return (self.cell(cell) / "results.csv").is_file()

    def gather(self, cells: Sequence[Cell], name: str, extra: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
        """Writes the cells' tables `name` one after another, then `extra`, as the run's own, and returns the rows."""
        paths = [self.cell(cell) / name for cell in cells]
        rows = [row for path in paths if path.is_file() for row in read_csv(path)] + list(extra)
        write_csv(self.folder / name, rows)
        return rows
