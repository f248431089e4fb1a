"""Where the files of a run lie in its folder."""

import contextlib
import dataclasses
import errno
import shutil
from pathlib import Path

from flipjax.config.program import Program
from flipjax.results.record import RECORD
from flipjax.results.store import STORED
from flipjax.sweep.folder.record import RunRecord


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The paths of a run's files."""

    folder: Path
    """The folder of the run, which `flipjax.sweep.folder.claim` makes."""

    @property
    def record(self) -> RunRecord:
        """The record of the run, config.json."""
        return RunRecord(self.folder / RECORD)

    @property
    def tracked(self) -> Path:
        """The folder of what trackers have of each member, to which a thread writes as long as the run lasts."""
        return self.folder / "tracked"

    def verify(self) -> None:
        """Raises OSError if the folder no longer belongs to this run."""
        if not self.record.path.is_file():
            problem = "removed or moved while the run was going on; pass its new place, if any, as --workdir"
            raise FileNotFoundError(errno.ENOENT, problem, str(self.folder))

    def results_of(self, program: Program) -> Path:
        """Returns the folder of a program's results."""
        return self.folder / "cells" / program.name

    def stored_results_of(self, program: Program) -> Path:
        """Returns the file of the results of a program or of its part, which is written last."""
        folder = self.results_of(program)
        if program.part:
            return folder / "parts" / f"{program.part}.npz"
        return folder / STORED

    def checkpoints_of(self, program: Program) -> Path:
        """Returns the folder of a program's checkpoints."""
        name = program.name
        if program.part:
            name += f"-{program.part}"
        return self.folder / "checkpoints" / name

    def weights_of(self, program: Program, member: str, rule: str) -> Path:
        """Returns the file of a member's weights kept by a selection rule."""
        return self.results_of(program) / "weights" / f"{member}.{rule}.safetensors"

    def remove_checkpoints(self, program: Program) -> None:
        """Removes the checkpoints of a program whose results are stored."""
        shutil.rmtree(self.checkpoints_of(program), ignore_errors=True)
        with contextlib.suppress(OSError):
            self.checkpoints_of(program).parent.rmdir()

    def remove_partial(self) -> None:
        """Removes partial files of killed processes; only for a process with sole use of the folder.

        Those of trackers stay: the threads that write them have not ended.
        """
        for path in filter(Path.is_file, self.folder.rglob(".*.tmp")):
            if self.tracked not in path.parents:
                path.unlink(missing_ok=True)
