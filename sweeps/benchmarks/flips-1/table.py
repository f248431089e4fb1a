"""Adds results to the table of flips-1, or prints it.

Command: python sweeps/benchmarks/flips-1/table.py [NAME SOURCE --by COMMAND]

NAME is a method or network. SOURCE is a run folder of `flipjax sweep --config flips-1`, or a CSV of rows of
`flipjax.results.score`, as sweeps/examples/benchmark_pytorch.py makes them. COMMAND is what made SOURCE.
"""

import argparse
import pathlib

import numpy as np
import pandas as pd
from scipy import stats

from flipjax import results
from flipjax.data.sources import flips
from flipjax.results.learning import mark_unlearnt
from flipjax.results.rows import CLASSES_NOT_LEARNT, kept_records

TABLE = pathlib.Path(__file__).with_name("results.csv")
COLUMNS = [
    "form",
    "rho",
    "entry",
    "seeds",
    "learnt",
    "flip_rare",
    "low",
    "high",
    "verdict",
    "flip_common",
    "correct_rare",
    "iou",
    "command",
]
"""Of the table; `learnt` counts the seeds whose network has learnt the classes.

`verdict` is that on Flip (rare) against cross-entropy of the same run folder; a CSV has none.
"""


def read(source: pathlib.Path) -> tuple[pd.DataFrame, dict[tuple[float, str], str]]:
    """Returns the rows of a CSV, or those of a run folder, marked by what networks have learnt, and its verdicts."""
    if source.is_file():
        return pd.read_csv(source, dtype={"group": str}), {}
    run = results.load(source)
    table = run.differences.comparison
    rare = table[table["quantity"] == "group/rare/fg_flip"]
    verdicts = {(row.rho, row.method): row.verdict for row in rare.itertuples()}
    return mark_unlearnt(run.results, run.cells), verdicts


def rows_of(name: str, source: pathlib.Path, command: str) -> pd.DataFrame:
    """Returns a row for each rho and method of a source: means over seeds, and Student's interval of Flip (rare).

    Networks that hardly find the object, and those that diverged, are in no mean.
    """
    members, verdicts = read(source)
    if "split" in members:
        members = members[members["split"] == "test"]
    if "selection" in members:
        members = members[members["selection"] == members["selection"].iloc[0]]
    if "status" not in members:
        members = members.assign(status="finished")
    groups = {*members["group"]} - {"all", "common", "rare"}
    form = {4: "2 x 2", 16: "4 x 4"}[len(groups)]
    rows = []
    for (rho, method), found in members.groupby(["rho", "method"]):
        kept = kept_records(found)
        rare, common = (kept[kept["group"] == group] for group in ("rare", "common"))
        flip = rare["fg_flip"].astype(float)
        half = np.nan
        if len(flip) > 1:
            half = stats.t.ppf(0.975, len(flip) - 1) * flip.std() / len(flip) ** 0.5
        low, high = np.clip([flip.mean() - half, flip.mean() + half], 0, 1)
        row = {
            "form": form,
            "rho": rho,
            "entry": f"{name}, {method}",
            "seeds": (found["group"] == "rare").sum(),
            "learnt": (rare["status"] != CLASSES_NOT_LEARNT).sum(),
            "flip_rare": flip.mean(),
            "low": low,
            "high": high,
            "verdict": verdicts.get((rho, method), ""),
            "flip_common": common["fg_flip"].astype(float).mean(),
            "correct_rare": rare["fg_correct"].astype(float).mean(),
            "iou": rare["iou_foreground"].astype(float).mean(),
            "command": command,
        }
        rows.append(row)
    return pd.DataFrame(rows)[COLUMNS]


def main() -> None:
    """Adds rows in place of those of the same entry, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?")
    parser.add_argument("source", nargs="?", type=pathlib.Path)
    parser.add_argument("--by", default="", metavar="COMMAND")
    options = parser.parse_args()
    table = pd.read_csv(TABLE) if TABLE.is_file() else pd.DataFrame(columns=COLUMNS)
    if options.source is not None:
        if not options.by:
            parser.error("--by: expected the command that made SOURCE; found none")
        table = pd.concat([table, rows_of(options.name, options.source, options.by)])
        table = table.drop_duplicates(["form", "rho", "entry"], keep="last").sort_values(["form", "rho", "flip_rare"])
        table.round(4).to_csv(TABLE, index=False)
    print(f"{flips.NAME}: lower is better")
    print(table.drop(columns="command").to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
