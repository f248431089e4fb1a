"""The tables of a run as functions of its stored results: results.csv, history.csv and the rows of images."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from flipjax.config.groups import Groups
from flipjax.metrics.images import ALL
from flipjax.metrics.quantities import SWEPT
from flipjax.metrics.summary.columns import image_columns
from flipjax.metrics.summary.evaluate import evaluate, keys_of, own_evaluators
from flipjax.metrics.summary.names import SCORES, column, quantity_of
from flipjax.results.arrays import EVALUATED, Curves, ImageResults, MemberResults
from flipjax.results.cells import Cell, select
from flipjax.results.learning import statuses
from flipjax.results.scores import image_scores
from flipjax.support.frames import DIGITS, TEXTS, numbers_of

COUNTS = "images"
"""The unit of quantities that are whole numbers."""


def compute_values(results: MemberResults, images: ImageResults) -> MemberResults:
    """Returns the results with every quantity of every member, rule, part and group.

    A rule that kept no epoch has none. Members that were refitted are judged on the validation images that did not fit
    their heads.
    """
    keys = _existing_keys(results, images)
    index_of_key = {key: index for index, key in enumerate(keys)}
    index_of_group = {group: index for index, group in enumerate(results.group.tolist())}
    settings = results.settings()
    shape = (len(results.rule), len(results.member), len(EVALUATED), len(index_of_group), len(keys))
    values = np.full(shape, np.nan)
    for rule, member, part in np.ndindex(*shape[:3]):
        if not results.best_epoch[rule, member]:
            continue
        judged = select(results, images, str(results.member[member]), EVALUATED[part], str(results.rule[rule]))
        refitted = "dfr" in str(settings[member].get("method", "")).split("+")
        if refitted and EVALUATED[part] == "val" and images.refit is not None:
            judged = judged.where(~images.refit[images.inside("val")])
        for evaluated in evaluate(judged, evaluators=SWEPT):
            # Python's rounding: NumPy's differs in the last digit of some. Adding 0 to -0 leaves 0.
            number = round(float(evaluated.value[0]), DIGITS) + 0.0
            values[rule, member, part, index_of_group[evaluated.group], index_of_key[evaluated.key]] = number
    return dataclasses.replace(results, quantity=np.array(keys, np.str_), values=values)


def _existing_keys(results: MemberResults, images: ImageResults) -> list[str]:
    """Returns the keys of the quantities that the program's images allow, in the order of the columns."""
    example = select(results, images, results.member[0], "test")
    keys = []
    for evaluator in (*SWEPT, *own_evaluators(example)):
        if evaluator.exists(example):
            keys += keys_of(evaluator.quantity, example)
    return keys


def make_results(
    curves: Curves,
    settings: Sequence[Mapping[str, object]],
    *,
    rules: Sequence[str],
    status: Sequence[str],
    best_epoch: np.ndarray,
    class_names: Sequence[str],
    scene_names: Sequence[str],
    groups: Groups,
    program: str = "",
) -> MemberResults:
    """Returns the coordinates and curves of K members, without any quantity; `compute_values` adds them.

    Args:
        curves: of the members.
        settings: each member's values of the axes.
        rules: names of the selection rules.
        status: of each member.
        best_epoch: int (rules, K), the epoch that each rule kept, 0 for none.
        class_names: of the C classes, background first.
        scene_names: of the S scenes.
        groups: of the images.
        program: the identity of the program.
    """
    group_names = [ALL, *groups.named]
    usual = np.zeros((groups.classes, groups.scenes), bool)
    for foreground_class, scenes in enumerate(groups.usual):
        usual[foreground_class, list(scenes)] = True
    return MemberResults(
        member=curves.member,
        epochs=curves.epochs,
        measure=curves.measure,
        curves=curves.curves,
        rule=np.array(rules, np.str_),
        axis=np.array(list(settings[0]), np.str_),
        setting=texts_of(settings),
        status=np.array(status, np.str_),
        best_epoch=best_epoch,
        part=np.array(EVALUATED),
        group=np.array(group_names),
        quantity=np.zeros(0, np.str_),
        values=np.zeros((len(rules), len(settings), len(EVALUATED), len(group_names), 0)),
        class_name=np.array(class_names, np.str_),
        scene_name=np.array(scene_names, np.str_),
        usual=usual,
        program=np.array(program),
    )


def results_table(results: MemberResults) -> pd.DataFrame:
    """Returns the rows of results.csv, one per member, rule, part and group; '' where an axis or a count has no value.

    `with_dtypes` makes numbers of its columns.
    """
    members = len(results.member)
    rules = len(results.rule)
    parts = len(results.part)
    groups = len(results.group)

    def spread(values: np.ndarray) -> np.ndarray:
        """Returns values (members, rules, parts, groups), some of them 1, for every row."""
        return np.broadcast_to(values, (members, rules, parts, groups)).ravel()

    def of_member(values: np.ndarray) -> np.ndarray:
        return spread(values.reshape(members, 1, 1, 1))

    def of_member_and_rule(values: np.ndarray) -> np.ndarray:
        return spread(values.reshape(members, rules, 1, 1))

    columns: dict[str, np.ndarray] = {"member": of_member(_as_objects(results.member))}
    settings = pd.DataFrame(results.settings(), dtype=object)
    for name in map(str, settings):
        columns[name] = of_member(settings[name].to_numpy())
    columns["split"] = spread(_as_objects(results.part).reshape(1, 1, parts, 1))
    columns["group"] = spread(_as_objects(results.group).reshape(1, 1, 1, groups))
    columns["group_name"] = spread(np.array(results.group_titles, object).reshape(1, 1, 1, groups))
    values = results.values.transpose(1, 0, 2, 3, 4).reshape(members * rules * parts * groups, len(results.quantity))
    for key, of_rows in zip(results.quantity.tolist(), values.T, strict=True):
        if quantity_of(key).unit == COUNTS:
            of_rows = _counts(of_rows)
        columns[column(key)] = of_rows
    columns["status"] = of_member_and_rule(_as_objects(statuses(results)).T)
    columns["epochs"] = of_member(results.epochs)
    columns["best_epoch"] = of_member_and_rule(results.best_epoch.T)
    columns["selection"] = spread(_as_objects(results.rule).reshape(1, rules, 1, 1))
    return pd.DataFrame(columns)


def _counts(values: np.ndarray) -> np.ndarray:
    """Returns whole numbers as Python integers, '' for none."""
    counts = np.full(len(values), "", object)
    for row in np.flatnonzero(np.isfinite(values)).tolist():
        counts[row] = int(values[row])
    return counts


def with_dtypes(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table with columns of int64, float64 with NaN for blanks, or text with '' for blanks."""
    return pd.DataFrame({name: _with_dtype(values, text=name in TEXTS) for name, values in table.items()})


def _with_dtype(values: pd.Series, *, text: bool) -> pd.Series:
    """Returns a column with one type: text, int64 or float64."""
    if text:
        return values.astype("str")
    if values.dtype.kind == "i":
        return values.astype(np.int64)
    if values.dtype != object:
        return values
    numeric = numbers_of(values)
    if numeric is None:
        return values.fillna("").astype("str")
    return numeric


def history_table(curves: Curves) -> pd.DataFrame:
    """Returns the rows of history.csv, one per member and epoch that it trained."""
    epochs = curves.epochs.tolist()
    trained = [of_member[:count] for of_member, count in zip(curves.curves, epochs, strict=True)]
    # One array, which the table takes as it is: a column of each measure would be copied twice.
    table = pd.DataFrame(np.concatenate(trained), columns=curves.measure.tolist(), copy=False)
    table.insert(0, "member", np.repeat(_as_objects(curves.member), epochs))
    table.insert(1, "epoch", np.concatenate([np.arange(1, count + 1) for count in epochs]))
    return table


def _as_objects(texts: np.ndarray) -> np.ndarray:
    """Returns texts as an array of Python's strings, which rows that repeat a text share instead of copying it."""
    return texts.astype(object)


def blank_results(
    results: MemberResults, members: Sequence[str], settings: Sequence[Mapping[str, object]], status: str
) -> MemberResults:
    """Returns results of members that have none: blank measures of the test images, in the shape of another's."""
    shape = (len(results.rule), len(members), 1, len(results.group), len(results.quantity))
    return dataclasses.replace(
        results,
        member=np.array(members, np.str_),
        axis=np.array(list(settings[0]), np.str_),
        setting=texts_of(settings),
        status=np.full(len(members), status),
        epochs=np.zeros(len(members), np.int32),
        best_epoch=np.zeros(shape[:2], np.int32),
        part=np.array(["test"]),
        values=np.full(shape, np.nan),
        curves=np.zeros((len(members), 0, len(results.measure))),
    )


def texts_of(settings: Sequence[Mapping[str, object]]) -> np.ndarray:
    """Returns members' values of the axes as JSON, which keeps their types: (members, axes)."""
    return np.array([[json.dumps(value) for value in setting.values()] for setting in settings], np.str_)


def concatenate(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Returns tables below each other; a column that only some have keeps its place after the column before it."""
    if not tables:
        return pd.DataFrame()
    if len(tables) == 1:
        return tables[0]
    columns: list[str] = []
    for table in tables:
        position = 0
        for name in table.columns:
            if name not in columns:
                columns.insert(position, name)
            position = columns.index(name) + 1
    return pd.concat(tables, ignore_index=True).reindex(columns=columns)


def image_tables(cell: Cell, rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yields the images of each part by each selection rule, member by member."""
    inside = rows[rows["member"].isin(cell.results.index_of_member)]
    for rule in cell.rules:
        for part in EVALUATED:
            yield _images_of(cell, inside, rule, part)


def _images_of(cell: Cell, rows: pd.DataFrame, rule: str, part: str) -> pd.DataFrame:
    """Returns the images of one part by one selection rule."""
    images = cell.images
    inside = images.inside(part)
    shape = (len(cell.members), int(inside.sum()))
    of_members = [image_columns(cell.images_of(member, part, rule)) for member in cell.members]
    measured = {name: np.concatenate([columns[name] for columns in of_members]) for name in of_members[0]}
    scores = dict(image_scores(cell, part, rows, rule=rule))
    blank = np.full(shape[1], np.nan)
    for name in SCORES:
        if name not in measured:
            measured[name] = np.concatenate([scores[member].get(name, blank) for member in cell.members])
    columns: dict[str, np.ndarray] = {
        "member": cell.results.member[:, None],
        "selection": np.array(rule),
        "split": np.array(part),
        "image": np.arange(shape[1]),
        "object": images.object_row[inside],
        "scene_photo": images.scene_row[inside],
        "pair": images.pair[inside],
        "group": images.image_group[inside],
    }
    for name, values in measured.items():
        columns[name] = values.reshape(shape)
    columns["status"] = statuses(cell.results)[cell.rules.index(rule), :, None]
    frame = pd.DataFrame({name: np.broadcast_to(values, shape).ravel() for name, values in columns.items()})
    return frame.astype(dict.fromkeys(frame.select_dtypes("integer"), np.int64))
