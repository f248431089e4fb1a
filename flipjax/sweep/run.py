"""Runs a sweep: trains the folder's missing members program by program, then writes tables and a report.

`run_sweep` locks the folder and makes a `Sweep`, which reads what is stored, trains the rest (`Sweep.train`) and writes
tables and page (`Sweep.conclude`). A program's members train in batches, each of as many as fit on the devices. When a
batch ends its results are stored, so that a later run goes on from there.
"""

import contextlib
import dataclasses
import errno
import functools
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from flipjax import command
from flipjax.backend.convolutions import ONEDNN
from flipjax.backend.memory import trim
from flipjax.backend.software import describe_start
from flipjax.backend.start import start_backend
from flipjax.config import FROZEN, ConfigError, PopulationSpec
from flipjax.config.plan import Plan
from flipjax.config.program import Program, gallery_member, restrict, shard_members
from flipjax.data.sources.arrays import ArrayData
from flipjax.results.arrays import Curves, MemberResults
from flipjax.results.cells import Cell
from flipjax.results.rows import NOT_DONE
from flipjax.results.run import StoredRun, load, write_images
from flipjax.results.store import BLANK
from flipjax.results.tables import blank_results, concatenate, history_table, results_table
from flipjax.results.tracking.follow import CallbackError, Epoch, Tracking
from flipjax.support.frames import write_csv
from flipjax.support.npz import write_arrays
from flipjax.support.restoring import imports_leave_no_trace
from flipjax.support.terminal import Bar, Signals, listed, say
from flipjax.sweep.duration import epoch_work
from flipjax.sweep.finish import compile_evaluation, finish
from flipjax.sweep.folder.claim import claim
from flipjax.sweep.folder.record import ADVICE
from flipjax.sweep.folder.results import merge_parts, read_program, results_of_members
from flipjax.sweep.folder.workdir import Workdir
from flipjax.sweep.followers import Finished, Followers
from flipjax.sweep.lock import Lock, Shard
from flipjax.sweep.memory import describe_use, fit, halve
from flipjax.sweep.programs import compile_start, with_form, with_library
from flipjax.sweep.train import InterruptedRunError, train_members
from flipjax.training import task as tasks
from flipjax.training.network.own import check_own, check_quantities
from flipjax.training.population import devices
from flipjax.training.scenes import check_scenes

DONE = ("finished", "stopped")
"""Statuses of members that trained to their end."""


@dataclasses.dataclass
class Sweep:
    """A plan, its run folder and its results."""

    plan: Plan
    """What to train, and what to ask of it."""
    workdir: Workdir
    """The run folder, which is locked."""
    signals: Signals
    """Whether someone asked for an end."""
    followers: Followers
    """The page, the function and the tracker that follow the members in training."""
    shard: Shard | None = None
    """The shard to train; None: all."""
    data: ArrayData | None = None
    """Images in memory, which replace the configuration's pool."""
    page: bool = True
    """Whether the run has a page."""
    cells: dict[str, dict[str, Cell]] = dataclasses.field(default_factory=dict)
    """The stored cell by program and member."""
    live: dict[str, Curves] = dataclasses.field(default_factory=dict)
    """The curves of members in training, by program."""
    failed: set[str] = dataclasses.field(default_factory=set)
    """Programs with a failed part; others without results are unfinished."""

    @functools.cached_property
    def members(self) -> set[str]:
        """The members trained by this process."""
        if self.shard is None:
            return {name for program in self.plan.programs for name in program.names}
        return shard_members(self.plan.programs, index=self.shard.index, count=self.shard.count)

    def read(self, say: Callable[[str], object]) -> None:
        """Reads the stored results of every program."""
        self.cells = {program.name: read_program(self.workdir, program, say=say) for program in self.plan.programs}

    def pending(self) -> list[Program]:
        """Returns the programs, restricted to this process's members that are not stored."""
        missing = self.members.intersection(self.missing())
        return [restrict(program, missing) for program in self.plan.programs if missing.intersection(program.names)]

    def missing(self) -> list[str]:
        """Returns the members of all shards that are not stored."""
        missing = []
        for program in self.plan.programs:
            missing += [name for name in program.names if name not in self.cells[program.name]]
        return missing

    def train(self, bar: Bar, *, fail_fast: bool) -> bool:
        """Trains pending members, as many of a program at a time as fit on the devices.

        Returns:
            False when interrupted.

        Raises:
            ConfigError: the data cannot be used.
            OSError: the folder cannot be written to.
        """
        pending = self.pending()
        for program in pending:
            try:
                self._train_program(program, bar)
                # The last one is followed by the page of the whole run.
                if program is not pending[-1]:
                    self.followers.show_finished(self.finished(), bar)
            except InterruptedRunError:
                return False
            except (ConfigError, OSError, MemoryError, ImportError, CallbackError):
                raise
            except Exception as error:
                # A ValueError's message explains an invalid request; any other error needs a traceback.
                text = traceback.format_exc()
                if isinstance(error, ValueError):
                    text = str(error)
                bar.say(f"program {program.name} failed: {text}")
                self.failed.add(program.name)
                if fail_fast:
                    return True
        return True

    def _whole(self, program: Program) -> Program:
        """Returns the program of the plan that some members belong to, with all of its members."""
        return next(planned for planned in self.plan.programs if planned.name == program.name)

    def _train_program(self, program: Program, bar: Bar) -> None:
        """Trains as many members at a time as fit, compiling side by side and, where it is drawn, beside the pool."""
        whole = self._whole(program)
        programs_at_once = None
        if program.experiment.model.title == FROZEN:
            # Features take most of the memory: programs are compiled one after the other, and before training.
            programs_at_once = 1
        with ThreadPoolExecutor(programs_at_once) as threads:
            fitting = None
            # Of a drawn pool, the shapes are known before it is drawn.
            outline = tasks.outline_task(program)
            form = self._known_form(program)
            if outline is not None and form is not None:
                outlined, shapes = outline
                spec = dataclasses.replace(self._with_library(whole, shapes), map=form)
                fitting = threads.submit(fit, outlined, spec, shapes)
            loaded, task = tasks.make_task(program, self.data)
            self._check_loaded(loaded, task)
            bar.say(f"program {program.name}: compiling, then training {len(program.names)} members")
            spec = self._with_form(self._with_library(whole, task), loaded, task, bar)
            evaluation = threads.submit(compile_evaluation, loaded, self.plan, spec, task)
            if fitting is None:
                fitting = threads.submit(fit, loaded, spec, task)
            compile_start(loaded, task)
            # Needed later, and slow to import: now, while the threads compile.
            with imports_leave_no_trace():
                from flipjax.report import page  # noqa: F401
                from flipjax.sweep import checkpoint  # noqa: F401

            use = fitting.result()
            if use.members < len(loaded.names):
                bar.say(describe_use(loaded, spec, use))
                first_subset = restrict(loaded, loaded.names[: use.members])
                evaluation = threads.submit(compile_evaluation, first_subset, self.plan, spec, task)
            self._train_subsets(loaded, use.members, spec, task, bar, evaluation)

    def _check_loaded(self, program: Program, task: tasks.Task) -> None:
        """Raises ConfigError if the user's functions, scenes or pool do not fit the run."""
        check_own(program.experiment)
        check_quantities(program.experiment, self.plan.quantities)
        # Of files that were listed, reading may leave some out: `tasks.check_pools` did not know.
        tasks.check_training_sets(program, task.parts)
        check_scenes(task, self.plan.intervene)
        self.workdir.record.settle_pool(program, task.catalog)

    def _train_subsets(
        self, program: Program, size: int, spec: PopulationSpec, task: tasks.Task, bar: Bar, evaluation: Future[None]
    ) -> None:
        """Trains the members, `size` at a time, and half as many where their memory does not suffice."""
        names = program.names
        while names:
            subset = restrict(program, names[:size])
            try:
                self._train_subset(subset, spec, task, bar, evaluation)
                names = names[size:]
            except jax.errors.JaxRuntimeError as error:
                size = halve(error, subset, spec, task)
                bar.say(f"program {program.name}: no memory for {len(subset.names)} members at once; on with {size}")

    def _with_library(self, whole: Program, task: tasks.Task) -> PopulationSpec:
        """Returns how a program's members run, with the library of convolutions that its first start chose."""
        spec = with_library(self.plan.population, whole, task)
        library = self.workdir.record.settle_library(whole, spec.convolutions)
        if library == ONEDNN and not devices.has_onednn():
            other_library = (
                f"one of {library} in {self.workdir.folder}, without which it would go on to other bits; {ADVICE}"
            )
            raise ConfigError("--workdir", "a run of a library that is here", other_library)
        return dataclasses.replace(spec, convolutions=library)

    def _known_form(self, program: Program) -> str | None:
        """Returns the form that the run's first start chose for a program, or that is known; None: to be measured."""
        recorded = self.workdir.record.form_of(program)
        return recorded or devices.known_form(self.plan.population, model=program.experiment.model.title)

    def _with_form(self, spec: PopulationSpec, program: Program, task: tasks.Task, bar: Bar) -> PopulationSpec:
        """Returns how a program's members run, in the form that the run's first start chose, which measures it."""
        spec = with_form(
            dataclasses.replace(spec, map=self._known_form(program) or spec.map), program, task, say=bar.say
        )
        # Another shard may have measured meanwhile.
        form = self.workdir.record.settle_form(program, spec.map)
        if form != spec.map:
            bar.say(f"program {program.name}: taken, as by the shard that was first: {form}")
        return dataclasses.replace(spec, map=form)

    def _train_subset(
        self, subset: Program, spec: PopulationSpec, task: tasks.Task, bar: Bar, evaluation: Future[None]
    ) -> None:
        """Trains members that fit on the devices together, and stores their results."""

        def write(curves: Curves) -> None:
            self.live[subset.name] = curves
            if self.shard is None:
                self._write_history()
            self.followers.follow(subset, curves)

        def after_epoch(number: int, curves: Curves) -> None:
            self.followers.after_epoch(subset, number, curves, self.finished(), bar)

        trim()
        trained = train_members(subset, spec, task, self.workdir, bar, self.signals, write, after_epoch)
        # Waits; its errors are raised by `finish`, which needs the same programs.
        evaluation.exception()
        curves = self.live.pop(subset.name)
        shown_member = gallery_member(self._whole(subset))
        cell = finish(subset, self.plan, task, trained, self.workdir, curves, shown_member)
        self.cells[subset.name].update(dict.fromkeys(cell.members, cell))
        self.followers.finish(cell.results)
        self.workdir.remove_checkpoints(subset)

    def track_stored(self) -> None:
        """Sends this process's members that are stored to the tracker, which may lack them."""
        if self.followers.tracking is None:
            return
        for program in self.plan.programs:
            cells = {name: cell for name, cell in self.cells[program.name].items() if name in self.members}
            results = results_of_members(program, cells)
            if results is not None:
                self.followers.finish(results)

    def finished(self) -> Finished:
        """Returns how many programs have all of their members stored."""
        programs = self.plan.programs
        count = sum(len(self.cells[program.name]) == len(program.names) for program in programs)
        return Finished(count, len(programs))

    def _write_history(self) -> None:
        """Writes the curves of stored members and of those in training."""
        tables = []
        for program in self.plan.programs:
            results = results_of_members(program, self.cells[program.name])
            if results is not None:
                tables.append(history_table(results))
            if program.name in self.live:
                tables.append(history_table(self.live[program.name]))
        write_csv(self.workdir.folder / "history.csv", concatenate(tables))

    def results(self) -> list[MemberResults]:
        """Returns the stored members' results, program by program."""
        of_programs = [results_of_members(program, self.cells[program.name]) for program in self.plan.programs]
        return [results for results in of_programs if results is not None]

    def done(self) -> bool:
        """Returns whether all stored members trained to their end."""
        return all(np.isin(results.status, DONE).all() for results in self.results())

    def conclude(self) -> tuple[str, int]:
        """Writes the run's tables and report; returns the report's text and the exit code."""
        folder = self.workdir.folder
        if not any(self.cells.values()):
            return "no program finished: no results", command.SOME_FAILED
        self.workdir.verify()
        self.workdir.remove_partial()
        for program in self.plan.programs:
            self.cells[program.name] = merge_parts(self.workdir, program, self.cells[program.name])
        results = self.results()
        blank = self._write_blank(results[0])
        write_csv(folder / "results.csv", concatenate([results_table(table) for table in (*results, *blank)]))
        self._write_history()
        trim()
        run = load(folder)
        write_images(run)
        return self.show(run, not blank and self.done())

    def _write_blank(self, example: MemberResults) -> list[MemberResults]:
        """Stores which members have no results, and returns them; `example` has the columns of a failed program."""
        blank = []
        for program in self.plan.programs:
            path = self.workdir.results_of(program) / BLANK
            path.unlink(missing_ok=True)
            cells = self.cells[program.name]
            absent = restrict(program, set(program.names).difference(cells))
            if not absent.names:
                continue
            status = NOT_DONE
            if program.name in self.failed:
                status = "failed"
            same_columns = results_of_members(program, cells) or example
            # A pool of photos as they are found has no rho.
            axes = set(same_columns.axis.tolist())
            settings = []
            for setting in absent.settings:
                settings.append({name: value for name, value in setting.columns.items() if name in axes})
            results = blank_results(same_columns, absent.names, settings, status)
            write_arrays(path, results)
            blank.append(results)
        return blank

    def show(self, run: StoredRun, whole: bool) -> tuple[str, int]:
        """Draws the report of the run unless it is up to date; returns its text and the exit code, 0 if `whole`."""
        folder = self.workdir.folder
        text = f"{folder}/results.csv"
        if self.page:
            from flipjax.report import page

            text = f"{page.build_report(run)}\n{text}, {folder}/report/index.html"
        if whole:
            return text, command.DONE
        return text, command.SOME_FAILED


def run_sweep(
    plan: Plan,
    folder: str | Path,
    *,
    name: str,
    line: str,
    data: ArrayData | None = None,
    fresh: bool = False,
    fail_fast: bool = False,
    strict_versions: bool = False,
    shard: Shard | None = None,
    collect: bool = False,
    signals: Signals | None = None,
    page: bool = True,
    on_epoch: Callable[[Epoch], object] | None = None,
    track: Callable[[Path], Tracking] | None = None,
) -> tuple[str, int]:
    """Trains a configuration's members that are missing in a run folder, and writes tables and page.

    Args:
        plan: of the configuration.
        folder: the run folder.
        name: of the run, for config.json.
        line: the command or call, for config.json.
        data: in-memory images, for the plan of a configuration with `flipjax.data.sources.arrays.keys_of(data)`.
        fresh: whether to start over; an earlier run is renamed.
        fail_fast: whether to stop at the first program that fails.
        strict_versions: whether to refuse to continue with other software.
        shard: which members to train; None: all.
        collect: whether to only write the tables of stored members.
        signals: may end the run; None: only exceptions such as KeyboardInterrupt do.
        page: whether to draw the report.
        on_epoch: called after each epoch.
        track: begins to send members to a tracker, given the folder that says what was sent.

    Returns:
        The text of the tables, and the exit code.

    Raises:
        ConfigError: the configuration, the folder or the data cannot be used.
        OSError: the folder cannot be written to, or is gone.
    """
    signals = signals or Signals()
    lock = Lock(Path(folder))
    if shard:
        lock = shard.lock(Path(folder))
    workdir = Workdir(lock.folder)
    followers = Followers(workdir.folder, draws_page=page and shard is None, on_epoch=on_epoch)
    signals.release = lock.release
    with contextlib.ExitStack() as ending:
        if not workdir.folder.exists():
            ending.callback(_remove_if_empty, workdir.folder)
        ending.callback(lock.release)
        sweep = Sweep(plan, workdir, signals, followers, shard, data, page)
        try:
            claim(lock, plan.config_json, fresh=fresh)
        except OSError as error:
            sweep.read(say)
            if error.errno != errno.EROFS or fresh or sweep.missing():
                raise
            # A finished run on a read-only disk.
            return sweep.show(load(workdir.folder), sweep.done())
        sweep.read(say)
        if track is not None:
            followers.tracking = track(workdir.tracked)
            ending.callback(followers.tracking.close)
            sweep.track_stored()
        pending = []
        if not collect:
            pending = sweep.pending()
        if pending:
            # Before anything compiles, so that no program is refused after another one has trained.
            tasks.check_pools(pending, data)
            device = start_backend(plan.population, max(len(program.names) for program in pending))
            facts = _facts_of(plan, name=name, line=line)
            workdir.record.describe(plan.config_json, facts, describe_start(device), strict=strict_versions)
            say(f"{device}; reading the pool")
            unbroken = _train_pending(sweep, pending, fail_fast=fail_fast)
            if not unbroken:
                return f"interrupted; the same command continues in {workdir.folder}", command.INTERRUPTED
        if shard:
            return _end_shard(sweep, shard)
        text, code = sweep.conclude()
        missing = sweep.missing()
        if collect and missing:
            text += f"\n{len(missing)} members are not done: {listed(missing, most=20)}"
        return text, code


def _remove_if_empty(folder: Path) -> None:
    """Removes the folder of a run that was refused before anything was written."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def _facts_of(plan: Plan, *, name: str, line: str) -> dict[str, object]:
    """Returns what config.json says of a run besides its settings and starts."""
    facts: dict[str, object] = {"name": name, "command": line, "members": plan.members}
    if plan.sources:
        facts["functions"] = plan.sources
    return facts


def _train_pending(sweep: Sweep, pending: Sequence[Program], *, fail_fast: bool) -> bool:
    """Trains what is not stored, and shows the progress; returns False when interrupted."""
    sweep.signals.training = True
    start = time.monotonic()
    work = sum(epoch_work(program) * sum(program.epochs) for program in pending)
    with Bar(total=work, parts=len(pending)) as bar:
        unbroken = sweep.train(bar, fail_fast=fail_fast)
    if sweep.shard is None:
        sweep.workdir.record.add_session(time.monotonic() - start)
    return unbroken


def _say_nothing(line: str) -> None:
    """Reports nothing: damaged files were reported before."""


def _end_shard(sweep: Sweep, shard: Shard) -> tuple[str, int]:
    """Returns a shard's summary and exit code, and collects once all other shards are done."""
    failed = bool(sweep.failed)
    for results in sweep.results():
        trained_here = np.isin(results.member, list(sweep.members))
        failed = failed or not np.isin(results.status[trained_here], DONE).all()
    sweep.read(_say_nothing)
    missing = sweep.missing()
    done = len(sweep.members.difference(missing))
    text = f"shard {shard.typed}: {done} of {len(sweep.members)} members done\n"
    if missing:
        text += f"{len(missing)} members of the run are not done; the last shard collects, or --collect does"
        if failed:
            return text, command.SOME_FAILED
        return text, command.DONE
    lock = shard.lock(sweep.workdir.folder, collect=True)
    # Another shard may be collecting.
    lock.acquire(seconds=600.0)
    try:
        tables, code = sweep.conclude()
    finally:
        lock.release()
    return text + tables, code
