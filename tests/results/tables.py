"""A recorded run; rows of results.csv, decompositions and cells, made up."""

import pathlib

import numpy as np
from flipjax.results.cells import StoredCell, StoredSplit

from flipjax.metrics import Decomposition
from flipjax.results import quantities
from flipjax.results.frames import records_of, to_frame
from flipjax.results.rows import COMPARED

RECORDED = pathlib.Path(__file__).parents[1] / "recorded" / "run"
"""The run of tests/recorded/config.py."""
CLASSES = ("background", "hopper", "skimmer")
MEASURES = [quantities.column(key) for key in quantities.of_classes(CLASSES) if not key.startswith("n_images")]
LEAVES = ("confusion", "risk_sum")
END = {"status": "done", "epochs": 3, "best_epoch": 2, "selection": "val_loss"}


def table_of(values, *, status=None, axes=("rho", "seed")):
    """Rows of results.csv, from {axis values: {(group, column): value}}; what is not given is blank."""
    rows = []
    for key, cells in values.items():
        for group in COMPARED:
            row = {"member": "-".join(map(str, key)), **dict(zip(axes, key, strict=True)), "split": "test"}
            row |= {"group": group, "n_images": 4}
            row |= {column: cells.get((group, column), "") for column in MEASURES}
            rows.append(row | END | {"status": (status or {}).get(key, "done")})
    return to_frame(rows)


def find(table, quantity, **setting):
    wanted = {"quantity": quantity, **setting}
    (row,) = records_of(table[(table[list(wanted)] == list(wanted.values())).all(axis=1)])
    return row


def random_decomposition(n, seed=0):
    generator = np.random.default_rng(seed)
    confusion = generator.integers(1, 50, (n, 3, 3)).astype(np.int32)
    return Decomposition(confusion, generator.uniform(0, 20, n).astype(np.float32))


def cell_of(members, groups, pairs, *, classes=CLASSES, scenes=("land", "water"), rules=("val_loss",), usual=()):
    """A cell of one split, from {member: its decomposition by each rule}."""
    by_rule = list(zip(*members.values(), strict=True))
    confusion, risk = (np.array([[getattr(d, leaf) for d in few] for few in by_rule]) for leaf in LEAVES)
    part = StoredSplit(confusion, risk, groups, pairs, np.zeros((len(groups), 2), int))
    return StoredCell(tuple(members), rules, classes, scenes, {"val": part, "test": part}, usual=usual)
