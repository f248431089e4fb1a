"""Rows of results.csv and the stored cells they follow from."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from flipjax.files import DamagedError
from flipjax.groups import TWO_BY_TWO
from flipjax.metrics import summarize
from flipjax.metrics.selective import auroc
from flipjax.results import quantities
from flipjax.results.cells import load_cell, save_cell
from flipjax.results.frames import read_csv, records_of, to_frame, write_csv
from flipjax.results.rows import member_quantities, member_rows
from flipjax.results.scores import score_rows
from results.tables import CLASSES, END, MEASURES, RECORDED, cell_of, random_decomposition

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


def test_a_recorded_run_gives_its_rows_again():
    cell = load_cell(next(RECORDED.glob("cells/*/decomposition.npz")))
    table = read_csv(RECORDED / "results.csv")
    for row in records_of(table[(table["split"] == "test") & (table["group"] == "all")]):
        counts = cell.decomposition(row["member"], "test", selection=row["selection"])
        whole = summarize(counts, cell.parts["test"].groups, class_names=cell.class_names)
        for key in quantities.of_classes(cell.class_names):
            assert row[quantities.column(key)] == pytest.approx(whole[key], abs=1e-6, nan_ok=True)


def test_what_has_no_score_or_fitted_a_head_is_left_out_of_scores():
    decomposition, groups = random_decomposition(40), np.arange(40) % 4
    decomposition.confusion[::2, 1, 1] += 1000
    cell = cell_of({"m": [decomposition]}, groups, np.full(40, -1))
    scores = np.array(decomposition.flip_risk)[None, :, None] * (1, -1)
    scores[0, :8, 1] = np.nan
    part = dataclasses.replace(cell.parts["test"], scores=scores, refit=np.ones(40, bool))
    cell = dataclasses.replace(cell, score_names=("margin", "energy"), parts={"val": part, "test": part})
    for method, unknown in (("ce", False), ("cutmix+dfr", True)):
        rows = rows_of(decomposition, {"member": "m", "method": method, **END})
        table = score_rows([cell], to_frame(rows)).set_index("score")
        assert table["threshold"].isna().all() == unknown
        assert table["auroc_all"]["margin"] == table["auroc_all"]["flip_risk"]
        assert table["auroc_all"]["energy"] == round(auroc(scores[0, 8:, 1], decomposition.flip[8:] > 0.5), 6)
