"""Run folders of flipjax 0.1, whose cells are called decomposition.npz: converted to `flipjax.results.store`.

An old file holds the rows of results.csv and history.csv as JSON, and arrays of each part by name, such as
`test_confusion`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flipjax.groups import Groups
from flipjax.identity import digest_of
from flipjax.results.arrays import EVALUATED, Curves, ImageResults, MemberResults
from flipjax.results.frames import Row
from flipjax.results.quantities import key_of
from flipjax.results.record import known_record
from flipjax.results.store import STORED, write
from flipjax.results.tables import compute_values, make_results
from flipjax.support.files import DamagedError
from flipjax.support.npz import read_arrays

OLD = "decomposition.npz"
"""The file of a program in an old run folder."""
BEFORE_QUANTITIES = ("member", "split", "group")
"""Columns of results.csv before the quantities, beside the axes."""
AFTER_QUANTITIES = ("status", "epochs", "best_epoch", "selection")
"""Columns after them."""


def is_old(folder: Path) -> bool:
    """Returns whether a run folder has cells of flipjax 0.1 that were not converted yet."""
    return any(not path.with_name(STORED).exists() for path in folder.glob(f"cells/*/{OLD}"))


def convert_run(folder: Path) -> list[Path]:
    """Writes the results of an old run folder in today's format beside its files, and returns what it wrote.

    Quantities are computed from the images where these suffice. Sums over rims and interiors were not stored, so the
    quantities of them are taken from the old rows.

    Raises:
        DamagedError: an old file is damaged.
    """
    written = []
    for path in sorted(folder.glob(f"cells/*/{OLD}")):
        target = path.with_name(STORED)
        if target.exists():
            continue
        arrays = read_arrays(path)
        try:
            images = _image_results(arrays)
            results = _with_quantities(_member_results(arrays, _program(arrays, folder)), images)
        except (KeyError, ValueError, IndexError, TypeError, OverflowError) as error:
            raise DamagedError(f"{path}: expected a cell of flipjax 0.1; found another file ({error!r})") from error
        write(target, results, images)
        written.append(target)
    return written


def _program(arrays: Mapping[str, np.ndarray], folder: Path) -> str:
    """Returns the identity of a cell's program: today's digest of the configuration, and the old position in it."""
    position = str(arrays.get("program", "")).partition("/")[2]
    config = known_record(folder).get("config")
    if not isinstance(config, dict):
        return ""
    return f"{digest_of(config)}/{position}"


def _member_results(arrays: Mapping[str, np.ndarray], program: str) -> MemberResults:
    """Returns the members' results, from the rows of results.csv."""
    rows: list[Row] = json.loads(arrays["rows"].tobytes())
    members = arrays["members"].tolist()
    rules = arrays["selections"].tolist()
    columns = list(rows[0])
    axes = columns[1 : columns.index("split")]
    quantities = columns[columns.index("group") + 1 : columns.index("status")]
    first_rows = {row["member"]: row for row in reversed(rows)}
    groups = _groups(arrays)
    results = make_results(
        _curves(arrays, [first_rows[member]["epochs"] for member in members]),
        [{axis: first_rows[member][axis] for axis in axes} for member in members],
        rules=rules,
        status=[first_rows[member]["status"] for member in members],
        best_epoch=np.zeros((len(rules), len(members)), np.int32),
        class_names=arrays["class_names"].tolist(),
        scene_names=arrays["scene_names"].tolist(),
        groups=groups,
        program=program,
    )
    best_epoch = np.zeros((len(rules), len(members)), np.int32)
    group_names = results.group.tolist()
    values = np.full((len(rules), len(members), len(EVALUATED), len(group_names), len(quantities)), np.nan)
    for row in rows:
        rule = rules.index(row["selection"])
        member = results.places[row["member"]]
        part = EVALUATED.index(row["split"])
        group = group_names.index(row["group"])
        best_epoch[rule, member] = row["best_epoch"]
        values[rule, member, part, group] = [_number(row[column]) for column in quantities]
    keys = np.array([key_of(column) for column in quantities], np.str_)
    return dataclasses.replace(results, best_epoch=best_epoch, quantity=keys, values=values)


def _with_quantities(stored: MemberResults, images: ImageResults) -> MemberResults:
    """Returns results with all quantities that the images give, then the others that were stored."""
    computed = compute_values(stored, images)
    not_computed = ~np.isin(stored.quantity, computed.quantity)
    return dataclasses.replace(
        stored,
        quantity=np.concatenate([computed.quantity, stored.quantity[not_computed]]),
        values=np.concatenate([computed.values, stored.values[..., not_computed]], axis=-1),
    )


def _number(value: float | str) -> float:
    """Returns a value of a row; a blank is NaN."""
    if value == "":
        return np.nan
    return float(value)


def _groups(arrays: Mapping[str, np.ndarray]) -> Groups:
    """Returns the groups of the images."""
    # The first class is background.
    classes = len(arrays["class_names"]) - 1
    scenes = len(arrays["scene_names"])
    if "usual" not in arrays:
        return Groups(classes, scenes)
    usual = json.loads(str(arrays["usual"]))
    return Groups(classes, scenes, tuple(tuple(scenes_of_class) for scenes_of_class in usual))


def _curves(arrays: Mapping[str, np.ndarray], epochs: list[int]) -> Curves:
    """Returns training curves, from the rows of history.csv."""
    rows: list[Row] = json.loads(arrays["history"].tobytes())
    members = arrays["members"].tolist()
    measures = [column for column in rows[0] if column not in ("member", "epoch")]
    curves = np.full((len(members), max(epochs), len(measures)), np.nan)
    for row in rows:
        curves[members.index(row["member"]), row["epoch"] - 1] = [_number(row[measure]) for measure in measures]
    return Curves(
        member=arrays["members"],
        epochs=np.array(epochs),
        measure=np.array(measures, np.str_),
        curves=curves,
    )


def _image_results(arrays: Mapping[str, np.ndarray]) -> ImageResults:
    """Returns what the images left behind; log-odds, scores and predicted classes are of the first rule."""

    def joined(field: str, axis: int) -> np.ndarray | None:
        """Returns an array of both parts, one after the other."""
        names = [f"{part}_{field}" for part in EVALUATED]
        if not all(name in arrays for name in names):
            return None
        return np.concatenate([arrays[name] for name in names], axis)

    sizes = [len(arrays[f"{part}_groups"]) for part in EVALUATED]
    rows = np.concatenate([arrays[f"{part}_rows"] for part in EVALUATED])
    refit = arrays.get("val_refit")
    if refit is not None:
        refit = np.concatenate([refit, arrays.get("test_refit", np.zeros(sizes[1], bool))])
    log_odds = joined("scene_log_odds", 2)
    center = arrays.get("val_centers")
    scores = joined("scores", 1)
    return ImageResults(
        member=arrays["members"],
        image_part=np.repeat(EVALUATED, sizes),
        image_group=np.concatenate([arrays[f"{part}_groups"] for part in EVALUATED]),
        pair=np.concatenate([arrays[f"{part}_pairs"] for part in EVALUATED]),
        object_row=rows[:, 0],
        scene_row=rows[:, 1],
        confusion=np.concatenate([arrays[f"{part}_confusion"] for part in EVALUATED], 2),
        risk_sum=np.concatenate([arrays[f"{part}_risk_sum"] for part in EVALUATED], 2),
        refit=refit,
        log_odds=None if log_odds is None else log_odds[0],
        center=None if center is None else center[0],
        scene_share=arrays.get("val_scene_shares"),
        score=None if scores is None else arrays["score_names"],
        scores=scores,
        masks=joined("masks", 1),
    )
