"""What a tuning leaves behind."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from flipjax.results.run import StoredRun
from flipjax.tuning.protocol import Protocol


@dataclasses.dataclass(frozen=True)
class Tuned:
    """Methods once each is tuned.

    Example:
        >>> from flipjax import tune
        >>> tuned = tune("methods_grid", draws=24)  # doctest: +SKIP
        >>> tuned.methods.query("verdict != ''")[["method", "rho", "quantity", "difference"]]  # doctest: +SKIP
    """

    protocol: Protocol
    """What was to be drawn, chosen and tested."""
    folder: Path
    """The folder, whose report/index.html is the page."""
    draws: pd.DataFrame
    """A row a draw, rho and rule: its numbers, the mean of its validation over seeds (`score`), and `chosen`."""
    fresh: StoredRun
    """The run of the fresh seeds."""
    results: pd.DataFrame
    """Rows of results.csv of the test of the fresh seeds; `selection` is a rule, or `untuned`."""
    methods: pd.DataFrame
    """Judged differences of each method from the first one, tuned by the first rule."""
    tuning: pd.DataFrame
    """Judged differences of each method from itself as it stands, by each rule."""

    @property
    def chosen(self) -> pd.DataFrame:
        """The chosen draws, a row a method, rho and rule."""
        return self.draws[self.draws["chosen"]].reset_index(drop=True)

    def __repr__(self) -> str:
        """Shows the folder and what it holds."""
        return f"<Tuned {self.folder}: {len(self.chosen)} choices; .draws .chosen .results .methods .tuning .fresh>"
