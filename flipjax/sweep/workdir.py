"""The run folder: what is done lies in it, so that the same command continues, finishes, or has nothing to do."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flipjax.config import ConfigError
from flipjax.data.pool import Catalog
from flipjax.plan import Program, first_difference
from flipjax.results import read_csv, replacing, write_csv

TABLES = ("results.csv", "history.csv", "images.parquet")
RUN_FILES = ("config.json", "pools.json", *TABLES, "cells", "checkpoints", "report")


class Workdir:
    """Paths and state of one run; every file appears whole or not at all."""

    def __init__(self, folder: str | Path):
        """Names the folder; `open` makes it."""
        self.folder = Path(folder)

    def open(self, config: Mapping[str, Any], provenance: Mapping[str, str], *, fresh: bool) -> None:
        """Takes the folder for a configuration: `fresh` removes an earlier run's own files first.

        Args:
          config: as nested JSON values.
          provenance: strings about the run (name, command, versions), written beside it.
          fresh: whether to start over.

        Raises:
          ConfigError: if the folder holds a run of another configuration, or files that are not flipjax's.
        """
        path = self.folder / "config.json"
        if fresh and path.is_file():
            for name in RUN_FILES:
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
                    "--workdir",
                    "a run of this configuration",
                    f"one of another in {self.folder} ({difference}); pass another --workdir, or --fresh to start over "
                    "there",
                )
            return
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise ConfigError("--workdir", "a new or empty folder, or a run", f"other files in {self.folder}")
        with replacing(path) as stream:
            stream.write((json.dumps({**provenance, "config": config}, indent=2) + "\n").encode())

    def record_pool(self, program: Program, catalog: Catalog) -> None:
        """Keeps which pool a run reads from files, so that no other one takes its place while the run is not done.

        Args:
          program: of the plan.
          catalog: of its pool, with a digest if it was read from files.

        Raises:
          ConfigError: if the run has read another pool from that place.
        """
        if not catalog.content:
            return
        pool = program.experiment.pool
        path = self.folder / "pools.json"
        count = f"{len(catalog.object_names)} images, {len(catalog.scene_photo_names)} scenes"
        now = {"content": catalog.content, "holds": f"{catalog.source} ({count} at size {pool.size})"}
        pools = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        before = pools.setdefault(f"{pool.name} {pool.size} {pool.root}".strip(), now)
        if before["content"] != now["content"]:
            old, new = (f"{each['holds']} [{each['content'][:8]}]" for each in (before, now))
            raise ConfigError(
                "--workdir",
                f"a run on {new}, the pool of today",
                f"one on {old} in {self.folder}; bring that pool back, or pass another --workdir, or --fresh to start "
                "over there",
            )
        with replacing(path) as stream:
            stream.write((json.dumps(pools, indent=2) + "\n").encode())

    def results_of(self, program: Program) -> Path:
        """Returns the folder of a program's results."""
        return self.folder / "cells" / program.name

    def checkpoints(self, program: Program) -> Path:
        """Returns the folder of a program's checkpoints."""
        return self.folder / "checkpoints" / program.name

    def finished(self, program: Program) -> bool:
        """Says whether a program's results are there; its rows are written last."""
        return (self.results_of(program) / "results.csv").is_file()

    def gather(
        self, programs: Sequence[Program], name: str, extra: Sequence[dict[str, Any]] = ()
    ) -> list[dict[str, Any]]:
        """Writes the programs' tables `name`, then `extra`, as the run's own table, and returns its rows."""
        paths = [self.results_of(program) / name for program in programs]
        rows = [row for path in paths if path.is_file() for row in read_csv(path)] + list(extra)
        write_csv(self.folder / name, rows)
        return rows
