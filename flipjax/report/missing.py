"""What the page of a run lacks or leaves out: the lines that say so, and the limit on compared scores."""

import pandas as pd

from flipjax.results.record import RECORD, planned_members
from flipjax.results.rows import LEFT_OUT, NOT_LEARNT
from flipjax.results.run import StoredRun
from flipjax.support.terminal import listed

MOST_SCORED_MEMBERS = 2000
"""Most members of a run for a page to compare scores."""


def compared_scores(run: StoredRun) -> pd.DataFrame:
    """Returns the rows of scores.csv that a page compares; none for a run of more than MOST_SCORED_MEMBERS."""
    if len(run.members) > MOST_SCORED_MEMBERS:
        return pd.DataFrame()
    return run.scores


def notes_on_missing(run: StoredRun) -> list[str]:
    """Returns a line for each file, member or table that a run lacks."""
    notes = []
    if not (run.folder / "results.csv").is_file():
        notes.append("results.csv: the run has not ended; these are the results of the cells that have")
    if not run.config_record:
        notes.append(f"{RECORD}: cannot be read; how the run was made is not known")
    members = run.first_rule.members
    planned = planned_members(run.config_record, otherwise=len(members))
    if len(members) < planned:
        notes.append(f"{planned - len(members)} of the {planned} planned members have no results")
    for status in LEFT_OUT:
        # The findings of a run's page name these, and say why (`sentences.unlearnt_warning`).
        if status == NOT_LEARNT:
            continue
        names = members["member"][members["status"] == status]
        if len(names):
            notes.append(f"{status}, and left out of all means: {listed(names)}")
    if len(members) > MOST_SCORED_MEMBERS:
        reason = f"left out for more than {MOST_SCORED_MEMBERS} members"
        notes.append(f"scores.csv: {reason}; flipjax.results.scores makes it")
    return notes
