"""The page of a run whose members still train: what its finished programs show, and the curves so far.

The page of the finished programs is made once a program finishes. While others train, their curves are put at the top
of it from time to time. No other file of the report is written, and the page at the end is `page.build_report`'s.
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from flipjax.config.program import Program
from flipjax.page.document import PageBlock
from flipjax.page.html import page_text, write_page_in_training
from flipjax.report.page import TEXT, make_document
from flipjax.report.training_curves import curves_so_far
from flipjax.results.arrays import Curves
from flipjax.results.run import StoredRun
from flipjax.results.tables import concatenate, history_table

SHARE_OF_TIME = 0.01
"""The share of a run's time in which the curves so far may be drawn."""


@dataclasses.dataclass
class ProgressPage:
    """The page of a run in training.

    Example:
        >>> ProgressPage(Path("runs/smoke")).is_due()
        True
    """

    folder: Path
    """The run folder."""
    _text: str = ""
    """The page of the programs that have finished; empty until it is made."""
    _next: float = -math.inf
    """When the curves may be drawn again, on the clock of `time.monotonic`."""

    def is_due(self) -> bool:
        """Returns whether the curves so far may be drawn again without taking more than SHARE_OF_TIME."""
        return time.monotonic() >= self._next

    def forget(self) -> None:
        """Makes the page anew when it is drawn next: another program has finished."""
        self._text = ""

    def draw(self, note: str, training: Sequence[tuple[Program, Curves]]) -> None:
        """Writes the page.

        Args:
            note: how far the run is.
            training: the programs whose members train, with their curves so far.
        """
        folder = self.folder / "report"
        if not self._text:
            # The report of an earlier start is complete no longer.
            (folder / TEXT).unlink(missing_ok=True)
            self._text = page_text(make_document(StoredRun(self.folder, training=True)))
        start = time.monotonic()
        blocks: list[PageBlock] = []
        if training:
            blocks = _blocks(training)
        write_page_in_training(folder, self._text, note, blocks)
        end = time.monotonic()
        self._next = end + (end - start) / SHARE_OF_TIME


def _blocks(training: Sequence[tuple[Program, Curves]]) -> list[PageBlock]:
    """Returns the curves of members in training, and a table of their latest epoch."""
    history = concatenate([history_table(curves) for _, curves in training])
    rows = [{**setting.columns, "member": setting.name} for program, _ in training for setting in program.settings]
    return curves_so_far(history, pd.DataFrame(rows), note="Members that are still training.")
