"""A sweep as it runs: the cells that the folder lacks, one after another, then tables and a report."""

import importlib.metadata
import json
import platform
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

from flipjax import command, results
from flipjax.config import Config, ConfigError, PopulationSpec
from flipjax.data import prepared
from flipjax.plan import Cell
from flipjax.report import page
from flipjax.sweep.display import Display
from flipjax.sweep.finish import failed_rows, finish
from flipjax.sweep.program import InterruptedRunError, load, train
from flipjax.sweep.workdir import Workdir


class _Signals:
    """The first SIGINT or SIGTERM asks the run to stop after the epoch; a second one stops it at once."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("stopping after this epoch; once more stops at once", file=sys.stderr, flush=True)


class Sweep:
    """The cells of a plan, the folder they go to, and what happened to them."""

    def __init__(self, cells: Sequence[Cell], config: Config, workdir: Workdir):
        """Starts no work."""
        self.cells, self.config, self.workdir = cells, config, workdir
        self.failed: list[Cell] = []
        self.signals = _Signals()

    def run(self, display: Display, *, fail_fast: bool) -> bool:
        """Runs the cells that the folder lacks; returns False when interrupted.

        Raises:
          ConfigError: if the data cannot be used.
        """
        for cell in self.cells:
            if self.workdir.finished(cell):
                display.skip(sum(cell.epochs))
                continue
            try:
                self._run_cell(cell, display)
            except (InterruptedRunError, KeyboardInterrupt):
                return False
            except ConfigError:
                raise
            except Exception as error:
                # A ValueError is an impossible request and says so itself; anything else needs its place in the code.
                text = str(error) if isinstance(error, ValueError) else traceback.format_exc()
                display.say(f"cell {cell.name} failed: {text}")
                self.failed.append(cell)
                if fail_fast:
                    return True
        return True

    def _run_cell(self, cell: Cell, display: Display) -> None:
        found = prepared.identify(cell.experiment.pool)
        material = load(cell)
        self.workdir.claim_pool(cell, found)
        layout, trained = train(
            cell,
            PopulationSpec(**self.config.population),
            material,
            self.workdir,
            display=display,
            stopping=lambda: self.signals.asked,
            after_epoch=lambda: self.workdir.gather(self.cells, "history.csv"),
        )
        finish(cell, self.config, material, layout, trained, self.workdir)

    def conclude(self) -> tuple[str, int]:
        """Writes the run's tables and its report; returns the report's text and the exit code."""
        done = [cell for cell in self.cells if self.workdir.finished(cell)]
        if not done:
            return "no cell finished: no results", command.SOME_FAILED
        names = results.load_cell(self.workdir.cell(done[0]) / "decomposition.npz").class_names
        blank = [row for cell in self.failed for row in failed_rows(cell, names)]
        rows = self.workdir.gather(self.cells, "results.csv", blank)
        self.workdir.gather(self.cells, "history.csv")
        text = page.build(self.workdir.folder)
        whole = len(done) == len(self.cells) and all(row["status"] in ("finished", "stopped") for row in rows)
        text += f"\n{self.workdir.folder}/results.csv, {self.workdir.folder}/report/index.html"
        return text, command.DONE if whole else command.SOME_FAILED


def _versions() -> dict[str, str]:
    names = ("flipjax", "jax", "flax", "optax", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def run_sweep(
    cells: Sequence[Cell], config: Config, workdir: Workdir, line: str, *, name: str, fresh: bool, fail_fast: bool
) -> int:
    """Runs a plan in a folder, prints its tables, and returns the exit code.

    Args:
      cells: the plan.
      config: what it was made from.
      workdir: the run folder.
      line: the command, written beside the run.
      name: of the run.
      fresh: whether to remove an earlier run first.
      fail_fast: whether to stop at the first cell that fails.
    """
    device = command.start_backend(PopulationSpec(**config.population), max(len(cell.settings) for cell in cells))
    facts = {"name": name, "command": line, "device": device, **_versions()}
    workdir.claim(json.loads(config.to_json()), facts, fresh=fresh)
    sweep = Sweep(cells, config, workdir)
    with Display(total=sum(sum(cell.epochs) for cell in cells)) as display:
        unbroken = sweep.run(display, fail_fast=fail_fast)
    if not unbroken:
        print(f"interrupted; the same command continues in {workdir.folder}", file=sys.stderr)
        return command.INTERRUPTED
    text, code = sweep.conclude()
    print(text)
    return code
