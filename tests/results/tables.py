"""A recorded run; rows of results.csv, decompositions and cells, made up."""

import pathlib

import numpy as np

from flipjax.config.groups import TWO_BY_TWO
from flipjax.metrics import Decomposition
from flipjax.metrics.summary import names as quantities
from flipjax.results.arrays import EVALUATED, Curves, ImageResults
from flipjax.results.cells import Cell
from flipjax.results.rows import COMPARED
from flipjax.results.tables import compute_values, make_results, results_table, with_dtypes
from flipjax.support.frames import to_frame

RECORDED = pathlib.Path(__file__).parents[1] / "recorded" / "run"
"""The run of tests/recorded/smoke_run.py."""
CLASSES = ("background", "hopper", "skimmer")
MEASURES = [quantities.column(key) for key in quantities.of_classes(CLASSES) if not key.startswith("n_images")]
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


def rare_flips(flips, **options):
    """Rows of results.csv with Flip in the rare groups, from {axis values: Flip}."""
    return table_of({key: {("rare", "fg_flip"): flip} for key, flip in flips.items()}, **options)


def find(table, quantity, **setting):
    wanted = {"quantity": quantity, **setting}
    (row,) = table[(table[list(wanted)] == list(wanted.values())).all(axis=1)].to_dict("records")
    return row


def random_decomposition(n, seed=0):
    generator = np.random.default_rng(seed)
    confusion = generator.integers(1, 50, (n, 3, 3)).astype(np.int32)
    return Decomposition(confusion, generator.uniform(0, 20, n).astype(np.float32))


def curves_of(members, measures=None, epochs=3):
    """Curves of members that are alike, from {measure: its values by epoch}."""
    measures = measures or {}
    values = np.array(list(measures.values())).reshape(len(measures), epochs).T
    return Curves(
        member=np.array(members, np.str_),
        epochs=np.full(len(members), epochs),
        measure=np.array(list(measures), np.str_),
        curves=np.broadcast_to(values, (len(members), *values.shape)),
    )


def cell_of(
    members,
    groups,
    pairs,
    *,
    settings=None,
    curves=None,
    classes=CLASSES,
    scenes=("land", "water"),
    all_groups=TWO_BY_TWO,
    rules=("val_loss",),
    status="done",
    best_epoch=2,
    **stored,
):
    """A cell from {member: its decomposition by each rule}, which are those of both parts, with `stored` arrays."""
    count, names = len(groups), list(members)
    by_rule = list(zip(*members.values(), strict=True))
    twice = np.tile(np.arange(count), len(EVALUATED))
    images = ImageResults(
        member=np.array(names, np.str_),
        image_part=np.repeat(EVALUATED, count),
        image_group=np.asarray(groups)[twice],
        pair=np.asarray(pairs)[twice],
        object_row=np.zeros(len(twice), np.int32),
        scene_row=np.zeros(len(twice), np.int32),
        confusion=np.array([[d.confusion for d in few] for few in by_rule])[:, :, twice],
        risk_sum=np.array([[d.risk_sum for d in few] for few in by_rule])[:, :, twice],
        **stored,
    )
    results = make_results(
        curves or curves_of(names),
        settings or [{"rho": 0.5, "seed": seed} for seed in range(len(names))],
        rules=rules,
        status=[status] * len(names) if isinstance(status, str) else status,
        best_epoch=np.full((len(rules), len(names)), best_epoch),
        class_names=classes,
        scene_names=scenes,
        groups=all_groups,
    )
    return Cell(compute_values(results, images), stored_images=images)


def rows_of(cell):
    """The rows of results.csv of a cell."""
    return with_dtypes(results_table(cell.results))
