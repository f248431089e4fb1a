"""`python -m flipjax.sweep --config configs/NAME.py`: trains a grid, evaluates it, writes tables and a report.

Exit codes: 0 all members done, 1 some failed or diverged, 2 usage, 75 interrupted (the same command continues).
"""

import importlib.metadata
import json
import platform
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from absl import flags
from ml_collections import config_flags

from flipjax import command, results
from flipjax.config import Config, ConfigError, PopulationSpec
from flipjax.plan import Cell, plan
from flipjax.report import page
from flipjax.sweep.display import Display
from flipjax.sweep.dry_run import dry_run
from flipjax.sweep.finish import failed_rows, finish
from flipjax.sweep.program import InterruptedRunError, load, train
from flipjax.sweep.workdir import Workdir

DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 75


def _flags() -> flags.FlagValues:
    values = command.flags_with_config()
    flags.DEFINE_string("workdir", None, "Run folder; runs/NAME unless given.", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "List cells, members, steps and memory, and stop.", flag_values=values)
    flags.DEFINE_bool("fresh", False, "Remove an earlier run from the folder first.", flag_values=values)
    flags.DEFINE_bool("fail_fast", False, "Stop at the first cell that fails.", flag_values=values)
    return values


def _as_json(config: Config) -> dict:
    return json.loads(config.to_json())


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
        material = load(cell)
        self.workdir.claim_pool(cell, material.catalog)
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
            return "no cell finished: no results", SOME_FAILED
        names = results.load_cell(self.workdir.cell(done[0]) / "decomposition.npz").class_names
        blank = [row for cell in self.failed for row in failed_rows(cell, names)]
        rows = self.workdir.gather(self.cells, "results.csv", blank)
        self.workdir.gather(self.cells, "history.csv")
        text = page.build(self.workdir.folder)
        whole = len(done) == len(self.cells) and all(row["status"] in ("finished", "stopped") for row in rows)
        text += f"\n{self.workdir.folder}/results.csv, {self.workdir.folder}/report/index.html"
        return text, DONE if whole else SOME_FAILED


def _versions() -> dict[str, str]:
    names = ("flipjax", "jax", "flax", "optax", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def _sweep(values: flags.FlagValues, line: str) -> int:
    config = values.config
    cells = plan(config)
    name = Path(config_flags.get_config_filename(values["config"])).stem
    if values.dry_run:
        for line in dry_run(cells, PopulationSpec(**config.population)):
            print(line)
        return DONE
    workdir = Workdir(values.workdir or Path("runs") / name)
    device = command.start_backend(PopulationSpec(**config.population), max(len(cell.settings) for cell in cells))
    facts = {"name": name, "command": line, "device": device, **_versions()}
    workdir.claim(_as_json(config), facts, fresh=values.fresh)
    sweep = Sweep(cells, config, workdir)
    with Display(total=sum(sum(cell.epochs) for cell in cells)) as display:
        unbroken = sweep.run(display, fail_fast=values.fail_fast)
    if not unbroken:
        print(f"interrupted; the same command continues in {workdir.folder}", file=sys.stderr)
        return INTERRUPTED
    text, code = sweep.conclude()
    print(text)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    # config_flags reads overrides off sys.argv, whatever it is given.
    argv = sys.argv = list(argv) if argv is not None else sys.argv
    try:
        values = command.parse(argv, _flags)
        if values.help:
            print(__doc__, _flags().get_help(), sep="\n")
            return DONE
        return _sweep(values, shlex.join(["python", "-m", "flipjax.sweep", *argv[1:]]))
    except ConfigError as error:
        print(f"flipjax.sweep: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
