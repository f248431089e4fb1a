"""What follows the members of a sweep while they train: the page, the user's function of an epoch, and a tracker."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flipjax.config.program import Program
from flipjax.results.arrays import Curves, MemberResults
from flipjax.results.tracking.follow import CallbackError, Epoch, Tracking, epoch_of
from flipjax.support.terminal import Bar, one_line

if TYPE_CHECKING:
    from flipjax.report.progress import ProgressPage


class Finished(NamedTuple):
    """How far a run is."""

    programs: int
    """Programs with all members stored."""
    of: int
    """All programs."""


@dataclasses.dataclass
class Followers:
    """What follows members in training."""

    folder: Path
    """The run folder."""
    draws_page: bool
    """Whether the page is drawn while members train; shards draw none."""
    on_epoch: Callable[[Epoch], object] | None = None
    """The user's function of each epoch."""
    tracking: Tracking | None = None
    """The tracker."""

    def follow(self, program: Program, curves: Curves) -> None:
        """Sends the epochs of members in training to the tracker."""
        if self.tracking is not None:
            self.tracking.follow(program, curves)

    def after_epoch(self, program: Program, number: int, curves: Curves, finished: Finished, bar: Bar) -> None:
        """Draws the curves on the page, if that takes little of the run's time, and calls the user's function.

        Raises:
            CallbackError: the function raises an error.
        """
        if self._progress.is_due():
            self._show(finished, [(program, curves)], bar)
        if self.on_epoch is None:
            return
        epoch = epoch_of(program.name, number, curves)
        try:
            self.on_epoch(epoch)
        except Exception as error:
            raise CallbackError(error) from error

    def finish(self, results: MemberResults) -> None:
        """Sends members that have results to the tracker."""
        if self.tracking is not None:
            self.tracking.finish(results)

    def show_finished(self, finished: Finished, bar: Bar) -> None:
        """Draws the page of the programs that have finished, while others are to be trained."""
        self._progress.forget()
        self._show(finished, [], bar)

    @functools.cached_property
    def _progress(self) -> "ProgressPage":
        """The page of the run while it trains."""
        from flipjax.report.progress import ProgressPage

        return ProgressPage(self.folder)

    def _show(self, finished: Finished, training: Sequence[tuple[Program, Curves]], bar: Bar) -> None:
        """Draws the page of a run in training once a program has finished.

        A page that cannot be drawn costs the run nothing.
        """
        if not self.draws_page or not finished.programs:
            return
        note = f"{finished.programs} of {finished.of} programs finished; the others are still to be trained."
        if training:
            note = f"{finished.programs} of {finished.of} programs finished; members below are still training."
        try:
            self._progress.draw(note, training)
        except Exception as error:  # As a run without it goes on.
            bar.say(f"report/index.html is not drawn before the end ({one_line(str(error))}); the run goes on")
            self.draws_page = False
