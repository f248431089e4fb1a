"""Writes the tables of the studies' pages, and the commit that they are of, from the csv files beside them.

    python sweeps/studies/pages.py

A page has a line `<!-- table: NAME -->` above each table, and a line that begins with "Made by". `tests/sweeps` asks
that the pages are what this writes, and that a sentence has no number that no table of its page has.
"""

import dataclasses
import pathlib
import platform
import re

import jax
import pandas as pd
import tables
from studies import ELSEWHERE, HERE

from flipjax.support.threads import cores

MARK = re.compile(r"<!-- table: (\w+) -->\n(?:\|.*\n)*")
MADE_BY = re.compile(r"^Made by.*$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Made:
    """What a page's numbers are of: a row of made.csv."""

    commit: str
    """The last commit that changed what decides them."""
    minutes: float
    """Of processor time."""
    machine: str
    """Cores, Python and JAX."""

    def __str__(self):
        unit = "minute" if self.minutes == 1 else "minutes"
        return f"Made by commit {self.commit} on {self.machine}, in {self.minutes:.0f} {unit} of processor time."


def read_made():
    """Returns the rows of made.csv by study."""
    rows = pd.read_csv(HERE / "made.csv", dtype={"commit": str}).to_dict("records")
    return {row.pop("study"): Made(**row) for row in rows}


MADE = read_made()


def processor():
    """Returns the processor's name, or its architecture where Linux does not tell."""
    file = pathlib.Path("/proc/cpuinfo")
    name = re.search(r"^model name\s*: (.+)$", file.read_text(), re.MULTILINE) if file.exists() else None
    return platform.machine() if name is None else name[1]


def record(study, *, commit, minutes):
    """Stores what a study was made by; a study that was continued adds to the minutes of the same commit."""
    made = MADE.get(study)
    if made is not None and made.commit == commit:
        minutes += made.minutes
    machine = f"{cores()} {processor()} cores, Python {platform.python_version()}, JAX {jax.__version__}"
    MADE[study] = Made(commit, round(minutes), machine)
    rows = [{"study": name, **dataclasses.asdict(row)} for name, row in MADE.items()]
    pd.DataFrame(rows).to_csv(HERE / "made.csv", index=False)


def folder_of(study):
    """Returns the folder of a study's page and csv files."""
    return HERE / ELSEWHERE.get(study, study)


def renewed(page, study):
    """Returns a page with its tables and its commit written anew."""

    def table(mark):
        lines = tables.TABLES[study][mark[1]](folder_of(study))
        return f"<!-- table: {mark[1]} -->\n" + "\n".join(lines) + "\n"

    page = MARK.sub(table, page)
    if study in MADE:
        page = MADE_BY.sub(str(MADE[study]), page)
    return page


def strangers(page):
    """Returns the decimals of a page's sentences that no table of the page has.

    What was done and what was predicted are settings and limits, not results.
    """
    tables_of_page = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    known = set(re.findall(r"\d\.\d+", tables_of_page))
    results = re.sub(r"^## (?:What was done|Predictions).*?(?=^## |\Z)", "", page, flags=re.MULTILINE | re.DOTALL)
    sentences = "\n".join(line for line in results.splitlines() if not line.startswith("|"))
    return [number for number in re.findall(r"(?<![\w.])\d\.\d+", sentences) if number not in known]


def main():
    for study in tables.TABLES:
        page = folder_of(study) / "README.md"
        page.write_text(renewed(page.read_text(), study))


if __name__ == "__main__":
    main()
