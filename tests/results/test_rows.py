"""Rows of results.csv, the stored cells they follow from, counterfactual sets, and the table of quantities."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from flipjax.results.cells import load_cell, save_cell

from flipjax.groups import TWO_BY_TWO
from flipjax.metrics import Decomposition, summarize
from flipjax.metrics.log_odds import SceneSwap
from flipjax.report.pictures import member_items
from flipjax.results import gallery, quantities, rows
from flipjax.results.frames import read_csv, records_of, to_frame, write_csv
from flipjax.results.quantities import RANGES
from flipjax.results.rows import member_quantities, member_rows
from flipjax.support.files import DamagedError
from results import tables
from results.tables import CLASSES, END, MEASURES, cell_of, random_decomposition

CONTRACT = ("fg_correct", "fg_flip", "fg_miss", "flip_image_mean", "iou_background", "iou_hopper", "iou_skimmer")
CONTRACT += ("iou_foreground", "risk_auroc", "top_decile_flip_share")


def rows_of(decomposition, member, *, class_names=CLASSES):
    groups = np.arange(40 if decomposition is None else len(decomposition.confusion)) % 4
    return member_rows(member, decomposition, groups, part="test", class_names=class_names)


def test_rows_of_a_member_are_the_summaries_of_its_groups():
    decomposition, groups = random_decomposition(40), np.arange(40) % 4
    rows = rows_of(decomposition, {"member": "m", "rho": 0.9, "seed": 1, **END})
    assert [row["group"] for row in rows] == ["all", "0", "1", "2", "3", "common", "rare"]
    first = ["member", "rho", "seed", "split", "group"]
    assert list(rows[0]) == [*first, *map(quantities.column, quantities.of_classes(CLASSES)), *END]
    assert [name for name in rows[0] if name in CONTRACT] == list(CONTRACT)
    rare = rows[-1]
    assert rare["n_images"] == 20
    confusion = np.asarray(decomposition.confusion)[np.isin(groups, (1, 2))].sum(0, dtype=np.int64)
    assert rare["fg_flip"] == pytest.approx((confusion[1, 2] + confusion[2, 1]) / confusion[1:].sum(), abs=1e-6)
    whole = summarize(decomposition, groups, class_names=CLASSES)
    (record,) = records_of(member_quantities(to_frame(rows)))
    for key in ("gap/hopper", "gap/skimmer", "gap/mean", "worst_group_iou"):
        name = quantities.column(key)
        assert record[key] == round(whole[key], 6) and rare[name] == ""
    missing = rows_of(None, {"member": "m", "rho": 0.9, "seed": 1, **END})
    assert {row["n_images"] for row in missing} == {row["fg_flip"] for row in missing} == {""}
    assert list(missing[0]) == list(rows[0])
    empty = member_rows({}, decomposition, np.zeros(40, int), part="val", class_names=CLASSES)[-1]
    assert empty["n_images"] == 0 and {empty[name] for name in MEASURES} == {""}


def test_csv_round_trip_is_the_same_byte_for_byte(tmp_path):
    axes = {"size": "NA", "learning_rate": 1e-7, "seed": np.int64(3), "rho": np.float64(0.95), "method": "ce, plain"}
    rows = rows_of(random_decomposition(5), {"member": "12", **axes})
    first, second = tmp_path / "deep" / "a.csv", tmp_path / "b.csv"
    write_csv(first, rows)
    read = read_csv(first)
    pd.testing.assert_frame_equal(read, to_frame(rows), check_dtype=False)
    write_csv(second, read)
    assert first.read_bytes() == second.read_bytes() and b"\r" not in first.read_bytes()
    assert (read["member"][0], read["size"][0], read["iou_hopper"].dtype) == ("12", "NA", np.float64)
    assert [path.name for path in first.parent.iterdir()] == ["a.csv"]


def test_cells_of_pools_with_other_classes_share_a_table(tmp_path):
    rows = []
    for seed, names in enumerate((CLASSES, ("background", "cat", "dog"))):
        rows += rows_of(random_decomposition(16, seed), {"member": f"m{seed}", "seed": seed, **END}, class_names=names)
    write_csv(tmp_path / "results.csv", rows)
    table = read_csv(tmp_path / "results.csv")
    names = list(table)
    assert names.index("n_images") < names.index("iou_cat") < names.index("iou_foreground") < names.index("status")
    assert np.isnan([table["iou_cat"].iloc[0], table["iou_hopper"].iloc[-1]]).all()
    first, second = records_of(member_quantities(table))
    for record, own, other in ((first, CLASSES[1:], ("cat", "dog")), (second, ("cat", "dog"), CLASSES[1:])):
        gaps = [record[f"gap/{name}"] for name in own]
        assert record["gap/mean"] == pytest.approx(sum(gaps) / 2, abs=2e-6)
        assert all(np.isnan(record[f"gap/{name}"]) for name in other)


def test_cell_round_trip(tmp_path):
    a, b, c, d = (random_decomposition(8, seed) for seed in range(4))
    cell = cell_of({"a": (a, c), "b": (b, d)}, np.arange(8) % 4, np.arange(8) // 2, rules=("val_loss", "last"))
    usual = dataclasses.replace(cell, usual=((1,), (0,)), rows=({"a": np.inf, "b": np.int64(3)},))
    paths = [tmp_path / "x" / "decomposition.npz", tmp_path / "again.npz", tmp_path / "usual.npz"]
    for path, stored in zip(paths, (cell, cell, usual), strict=True):
        save_cell(path, stored)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    read = load_cell(paths[0])
    assert (read.members, read.class_names, read.scene_names) == (cell.members, cell.class_names, cell.scene_names)
    assert read.parts["val"].groups.dtype == np.int32 and read.groups == TWO_BY_TWO
    assert load_cell(paths[2]).groups == usual.groups != read.groups
    assert load_cell(paths[2]).rows == ({"a": "", "b": 3},)
    np.testing.assert_array_equal(read.decomposition("b", "test").confusion, b.confusion)
    np.testing.assert_array_equal(read.decomposition("b", "test", selection="last").confusion, d.confusion)
    np.savez(tmp_path / "other.npz", members=np.array(["a"]))
    with pytest.raises(DamagedError, match=r"other\.npz"):
        load_cell(tmp_path / "other.npz")


LABELS = np.array([[1, 1], [1, 2], [2, 1], [0, 2], [2, 2]])
"""The predicted labels of five pairs: same, changed, changed, no region in one scene, same."""
PAIRS = np.repeat(np.arange(5), 2)


def counts_of(labels):
    """Counts of images whose true class is 1: ten pixels of the label each, one of the other."""
    confusion = np.zeros((labels.size, 3, 3), int)
    images = np.arange(labels.size)
    confusion[images, 1, labels.ravel()] = 10
    confusion[labels.ravel() > 0, 1, 2] += 1
    return Decomposition(confusion, np.ones(labels.size))


def changes(counts, pairs):
    """Whether the label of each set changes, 0, 1 or NaN."""
    return [rows.counterfactual_flip(counts, np.where(pairs == each, 0, -1)) for each in np.unique(pairs)]


def test_sets_change_where_their_labels_differ():
    one = counts_of(LABELS)
    assert rows.region_class(one).tolist() == LABELS.ravel().tolist()
    np.testing.assert_array_equal(changes(one, PAIRS), [0, 1, 1, np.nan, 0])
    assert rows.counterfactual_flip(one, PAIRS) == 0.5
    assert np.isnan(rows.counterfactual_flip(one, np.full(10, -1)))
    order = np.random.default_rng(0).permutation(10)
    shuffled = Decomposition(one.confusion[order], one.risk_sum[order])
    np.testing.assert_array_equal(changes(shuffled, PAIRS[order]), [0, 1, 1, np.nan, 0])
    # Sets of three scenes change where any label differs.
    labels = np.array([[1, 1, 1], [1, 1, 2], [2, 0, 2], [1, 2, 1]])
    three = np.repeat(np.arange(4), 3)
    np.testing.assert_array_equal(changes(counts_of(labels), three), [0, 1, np.nan, 1])
    assert rows.whole_pairs(np.append(three, [9, 9, -1])).tolist() == np.arange(12).reshape(4, 3).tolist()
    _, kinds = gallery.choose_images(counts_of(labels), None, three, riskiest=0, typical=0, paired=1)
    assert kinds.tolist() == ["pair 0"] * 3


def test_a_pair_in_the_gallery_says_what_became_of_its_label():
    cell = tables.cell_of({"m": [counts_of(LABELS)]}, np.tile([0, 1], 5), PAIRS)
    indices, kinds = np.array([2, 3, 8, 9, 6]), ["pair 0", "pair 0", "pair 1", "pair 1", "riskiest"]
    blank = np.zeros((5, 4, 4, 3))
    options = {"indices": indices, "groups": [0, 1, 0, 1, 0], "kinds": kinds, "member": "m"}
    labels = blank[..., 0].astype(int)
    made = gallery.make_gallery(blank, labels, *gallery.maps_of(blank, labels), **options)
    swap = SceneSwap(np.arange(10.0), counts_of(LABELS))
    options = {"class_names": cell.class_names, "scene_names": cell.scene_names, "label": "m", "swap": swap}
    items = member_items(made, cell.decomposition("m", "test"), PAIRS, **options)
    assert [item.pair for item in items[::2]] == ["predicted as hopper, skimmer", "predicted as skimmer", ""]
    assert [item.swap_risk for item in items] == [2, 3, 8, 9, 6]


WORDS = ("background", "common", "rare")


def test_every_number_of_a_summary_is_in_the_table_of_quantities():
    counts = np.random.default_rng(0).integers(0, 40, (8, 3, 3))
    decomposition = Decomposition(counts, np.linspace(0, 9, 8))
    summary = summarize(decomposition, np.arange(8) % 4, class_names=WORDS)
    keys = [key for key, value in summary.items() if not isinstance(value, list)]
    audited = {"mean_iou", "flip/common", "flip/rare"}
    assert {key for key in keys if not key.startswith("group/")} == set(quantities.of_classes(WORDS)) | audited
    assert {quantities.quantity_of(key).unit for key in summary.keys() - {"flip_matrix"}} <= set(RANGES)
    titles = {"flip/rare": "flip of rare", "group/rare/gap/common": "IoU gap of common, rare"}
    assert {key: quantities.title_of(key) for key in titles} == titles
    with pytest.raises(KeyError, match=r"fg_flip.*found 'flips'"):
        quantities.quantity_of("flips")
