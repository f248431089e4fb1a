"""The tables of a run under its first selection rule, which its page shows, and a sample of their settings.

A setting is what a member's axes say except its seed: members of one setting are averaged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from flipjax.results.cells import Cell
from flipjax.results.rows import axes_of, kept_records, member_quantities
from flipjax.results.statistics.estimates import INTERVAL_IN_WORDS, aggregate
from flipjax.results.statistics.resamples import IMAGES_INTERVAL, Resamples
from flipjax.results.statistics.verdicts import FEWEST_SEEDS, Differences

MOST_RESAMPLED_MEMBERS = 200
"""Most members of a run for the means on a page to have intervals over images, which take long to compute."""
MOST_SHOWN_SETTINGS = 12
"""Most settings beside rho for a page to show all of them one by one."""
SAMPLED_SETTINGS = 4
"""Number of settings that a page shows if there are more than MOST_SHOWN_SETTINGS."""
FLIP = "fg_flip"
"""Flip in all test images, whose mean every setting has."""
RARE_FLIP = "group/rare/fg_flip"
"""Flip in the rare groups, which orders the settings of a page."""


@dataclasses.dataclass(frozen=True, eq=False)
class FirstRule:
    """Tables of a run under its first selection rule: of all settings, or of those of `sample_settings`."""

    cells: Mapping[str, Cell]
    """The stored results of the whole run, by their path below `cells/`."""
    rows: pd.DataFrame
    """Rows of results.csv, with status NOT_LEARNT where it applies."""
    members: pd.DataFrame
    """One row per member, with its axes, its status and all its quantities (`member_quantities`)."""
    means: pd.DataFrame
    """Means over seeds on the test images, one row per setting and quantity (`aggregate`)."""
    trend: pd.DataFrame
    """Differences between the highest and the lowest rho, with verdicts."""
    comparison: pd.DataFrame
    """Differences of methods from the first one, with verdicts."""
    selection: pd.DataFrame
    """Differences of the other selection rules from the first, with verdicts."""
    history: pd.DataFrame
    """Rows of history.csv."""

    @property
    def kept(self) -> pd.DataFrame:
        """The rows of `members` that enter means."""
        return kept_records(self.members)

    def has_mean(self, quantity: str) -> bool:
        """Returns whether any setting has a mean of a quantity."""
        return bool(self.means["mean"][self.means["quantity"] == quantity].notna().any())

    def statuses_in_words(self) -> str:
        """Returns a sentence on the number of members of each status."""
        counts = self.members["status"].value_counts().sort_index()
        noun = "members"
        if len(self.members) == 1:
            noun = "member"
        return f"{len(self.members)} {noun}: {', '.join(f'{count} {status}' for status, count in counts.items())}."

    def note_on_counts(self) -> str:
        """Returns the numbers of seeds and of test images, as a note without intervals."""
        return f"{self._counts_in_words()}."

    def note_on_intervals(self) -> str:
        """Returns the numbers of seeds and of test images, and the kind of interval."""
        return f"{self._counts_in_words()}{self._interval_in_words()}."

    def note_on_dots(self) -> str:
        """Returns the note of a chart that draws a small dot for each seed, and intervals from FEWEST_SEEDS on."""
        most_seeds = self._seeds.max()
        note = self._counts_in_words()
        if most_seeds >= FEWEST_SEEDS:
            note += self._interval_in_words()
        note += "."
        if most_seeds > 1:
            note += " Small dots: single seeds."
        return note

    @property
    def _flips(self) -> pd.DataFrame:
        """The row of `means` of each setting that is on Flip in all test images."""
        return self.means[self.means["quantity"] == FLIP]

    @property
    def _seeds(self) -> pd.Series:
        """The number of seeds of each setting."""
        return self._flips["n"]

    def _counts_in_words(self) -> str:
        fewest = self._seeds.min()
        most = self._seeds.max()
        seeds = f"{most}"
        if fewest != most:
            seeds = f"{fewest} to {most}"
        return f"Seeds: {seeds}; test images: {self._test_images_in_words()}"

    def _test_images_in_words(self) -> str:
        """Returns the number of test images of a member, or the numbers if members differ."""
        test = self.rows[(self.rows["split"] == "test") & (self.rows["group"] == "all")]
        # Blank, and so text, where every member diverged.
        counts = sorted(pd.to_numeric(test["n_images"], errors="coerce").dropna().unique())
        if not counts:
            return "none"
        return " or ".join(f"{count:.0f}" for count in counts)

    def _interval_in_words(self) -> str:
        """Returns the kind of interval after a semicolon; empty for two seeds, whose means have none."""
        most_seeds = self._seeds.max()
        if most_seeds > 2:
            return f"; {INTERVAL_IN_WORDS}"
        if most_seeds == 1 and self._flips["images_low"].notna().any():
            return f"; {IMAGES_INTERVAL}"
        return ""


def first_rule_of(
    rows: pd.DataFrame, differences: Differences, history: pd.DataFrame, cells: Mapping[str, Cell]
) -> FirstRule:
    """Returns the tables under the first selection rule of all settings of a run.

    Args:
        rows: of results.csv, of all rules, with status NOT_LEARNT where it applies.
        differences: judged, of the same rows.
        history: the rows of history.csv.
        cells: the stored results, by their path below `cells/`.
    """
    of_rule = rows[rows["selection"] == rows["selection"].iloc[0]]
    members = member_quantities(of_rule)
    resamples = None
    if len(members) <= MOST_RESAMPLED_MEMBERS:
        resamples = Resamples(cells)
    return FirstRule(
        cells=cells,
        rows=of_rule,
        members=members,
        means=aggregate(of_rule, resamples=resamples),
        trend=differences.trend,
        comparison=differences.comparison,
        selection=differences.selection,
        history=history,
    )


def sample_settings(tables: FirstRule) -> FirstRule:
    """Returns the tables limited to SAMPLED_SETTINGS settings beside rho, or all if few enough have been trained.

    Charts of more than MOST_SHOWN_SETTINGS settings would be slow to draw and hard to read. The settings are spread
    evenly from the least to the most Flip in the rare groups at the highest rho.
    """
    names = [name for name in axes_of(tables.rows) if name not in ("rho", "seed", "selection")]
    flips = tables.means[tables.means["quantity"] == RARE_FLIP]
    if "rho" in flips:
        flips = flips[flips["rho"] == flips["rho"].max()]
    if len(flips) <= MOST_SHOWN_SETTINGS or not names:
        return tables
    ascending = flips.sort_values("mean")
    # Settings without a mean come last and show little: they are taken only where too few have one.
    candidates = max(SAMPLED_SETTINGS, ascending["mean"].count())
    places = np.linspace(0, candidates - 1, SAMPLED_SETTINGS).astype(int)
    settings = ascending[names].iloc[places].sort_index()
    # Merged on the axes that both have: rows of the chosen settings stay.
    members = tables.members.merge(settings)
    return FirstRule(
        cells=tables.cells,
        rows=tables.rows.merge(settings),
        members=members,
        means=tables.means.merge(settings),
        trend=tables.trend.merge(settings),
        comparison=tables.comparison.merge(settings),
        selection=tables.selection.merge(settings),
        history=tables.history[tables.history["member"].isin(members["member"])],
    )
