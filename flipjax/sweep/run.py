"""A sweep as it runs: the programs that the folder lacks, one after another, then tables and a report."""

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
from flipjax.plan import Program
from flipjax.report import page
from flipjax.sweep.display import Display
from flipjax.sweep.finish import failed_rows, finish
from flipjax.sweep.program import InterruptedRunError, load_pool, make_study, train
from flipjax.sweep.workdir import Workdir


class _Signals:
    """The first SIGINT or SIGTERM asks the run to stop after the epoch; a second one stops it at once."""

    def __init__(self) -> None:
        self.stop = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.stop:
            raise KeyboardInterrupt
        self.stop = True
        print("stopping after this epoch; once more stops at once", file=sys.stderr, flush=True)


class Sweep:
    """The programs of a plan, the folder they go to, and what happened to them."""

    def __init__(self, programs: Sequence[Program], config: Config, workdir: Workdir):
        """Starts no work."""
        self.programs, self.config, self.workdir = programs, config, workdir
        self.failed: list[Program] = []
        self.class_names: dict[str, tuple[str, ...]] = {}
        self.signals = _Signals()

    def run(self, display: Display, *, fail_fast: bool) -> bool:
        """Runs the programs that the folder lacks; returns False when interrupted.

        Raises:
          ConfigError: if the data cannot be used.
        """
        for program in self.programs:
            if self.workdir.finished(program):
                display.skip(sum(program.epochs))
                continue
            try:
                self._run_program(program, display)
            except (InterruptedRunError, KeyboardInterrupt):
                return False
            except ConfigError:
                raise
            except Exception as error:
                # A ValueError is an impossible request and says so itself; anything else needs its place in the code.
                text = str(error) if isinstance(error, ValueError) else traceback.format_exc()
                display.say(f"cell {program.name} failed: {text}")
                self.failed.append(program)
                if fail_fast:
                    return True
        return True

    def _run_program(self, program: Program, display: Display) -> None:
        pool, catalog = load_pool(program)
        self.class_names[program.name] = ("background", *catalog.class_names)
        study = make_study(program, pool, catalog)
        self.workdir.record_pool(program, catalog)
        layout, trained = train(
            program,
            PopulationSpec(**self.config.population),
            study,
            self.workdir,
            display=display,
            stop_requested=lambda: self.signals.stop,
            after_epoch=lambda: self.workdir.gather(self.programs, "history.csv"),
        )
        finish(program, self.config, study, layout, trained, self.workdir)

    def conclude(self) -> tuple[str, int]:
        """Writes the run's tables and its report; returns the report's text and the exit code."""
        done = [program for program in self.programs if self.workdir.finished(program)]
        if not done:
            return "no cell finished: no results", command.SOME_FAILED
        # A pool that cannot be read has no names: its columns stay away.
        names = {program.name: self.class_names.get(program.name, ("background",)) for program in self.failed}
        blank = [row for program in self.failed for row in failed_rows(program, names[program.name])]
        rows = self.workdir.gather(self.programs, "results.csv", blank)
        self.workdir.gather(self.programs, "history.csv")
        results.write_images(self.workdir.folder)
        text = page.build(self.workdir.folder)
        whole = len(done) == len(self.programs) and all(row["status"] in ("finished", "stopped") for row in rows)
        text += f"\n{self.workdir.folder}/results.csv, {self.workdir.folder}/report/index.html"
        return text, command.DONE if whole else command.SOME_FAILED


def _versions() -> dict[str, str]:
    names = ("flipjax", "jax", "flax", "optax", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def run_sweep(
    programs: Sequence[Program], config: Config, workdir: Workdir, line: str, *, name: str, fresh: bool, fail_fast: bool
) -> int:
    """Runs a plan in a folder, prints its tables, and returns the exit code.

    Args:
      programs: the plan.
      config: what it was made from.
      workdir: the run folder.
      line: the command, written beside the run.
      name: of the run.
      fresh: whether to remove an earlier run first.
      fail_fast: whether to stop at the first program that fails.
    """
    device = command.start_backend(
        PopulationSpec(**config.population), max(len(program.settings) for program in programs)
    )
    facts = {"name": name, "command": line, "device": device, **_versions()}
    workdir.open(json.loads(config.to_json()), facts, fresh=fresh)
    sweep = Sweep(programs, config, workdir)
    with Display(total=sum(sum(program.epochs) for program in programs)) as display:
        unbroken = sweep.run(display, fail_fast=fail_fast)
    if not unbroken:
        print(f"interrupted; the same command continues in {workdir.folder}", file=sys.stderr)
        return command.INTERRUPTED
    text, code = sweep.conclude()
    print(text)
    return code
