"""Tables of results: rows, files, means over seeds and trends, against hand-computed values."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipjax import results
from flipjax.files import DamagedError
from flipjax.metrics import Decomposition, bootstrap, summarize
from flipjax.results import export, quantities

CLASSES = ("background", "hopper", "skimmer")
CONTRACT = ("fg_correct", "fg_flip", "fg_miss", "flip_image_mean", "iou_background", "iou_hopper", "iou_skimmer")
CONTRACT += ("iou_foreground", "risk_auroc", "top_decile_flip_share")
ACROSS = ("gap_hopper", "gap_skimmer", "gap_mean", "worst_group_iou")
MEASURES = [quantities.column(key) for key in quantities.of_classes(CLASSES) if not key.startswith("n_images")]


def table_of(values, *, status=None, axes=("rho", "seed")):
    """Rows of results.csv, from {axis values: {(group, column): value}}; what is not given is blank."""
    rows = []
    for key, cells in values.items():
        for group in results.GROUPS:
            row = {"member": "-".join(map(str, key)), **dict(zip(axes, key, strict=True)), "split": "test"}
            row |= {"group": group, "n_images": 4}
            row |= {column: cells.get((group, column), "") for column in MEASURES}
            row |= {"status": (status or {}).get(key, "done"), "epochs": 3, "best_epoch": 2, "selection": "val_loss"}
            rows.append(row)
    return rows


@pytest.fixture(scope="module")
def recorded():
    """The run that tests/recorded/make.py records."""
    return pathlib.Path(__file__).parent / "recorded" / "run"


def find(table, quantity, **setting):
    matches = [r for r in table if r["quantity"] == quantity and all(r[k] == v for k, v in setting.items())]
    assert len(matches) == 1
    return matches[0]


def random_decomposition(n, seed=0):
    generator = np.random.default_rng(seed)
    confusion = generator.integers(1, 50, (n, 3, 3)).astype(np.int32)
    return Decomposition(confusion, generator.uniform(0, 20, n).astype(np.float32))


def test_rows_of_a_member_are_the_summaries_of_its_groups():
    decomposition, groups = random_decomposition(40), np.arange(40) % 4
    member = {
        "member": "m",
        "rho": 0.9,
        "seed": 1,
        "status": "done",
        "epochs": 5,
        "best_epoch": 3,
        "selection": "val_loss",
    }
    rows = results.member_rows(member, decomposition, groups, part="test", class_names=CLASSES)
    assert [row["group"] for row in rows] == ["all", "0", "1", "2", "3", "common", "rare"]
    first, last = ["member", "rho", "seed", "split", "group"], ["status", "epochs", "best_epoch", "selection"]
    assert list(rows[0]) == [*first, *map(quantities.column, quantities.of_classes(CLASSES)), *last]
    assert [name for name in rows[0] if name in CONTRACT] == list(CONTRACT)
    assert {rows[-1][name] for name in ACROSS} == {""}
    rare = rows[-1]
    confusion = np.asarray(decomposition.confusion)[np.isin(groups, (1, 2))].sum(0, dtype=np.int64)
    foreground = confusion[1:].sum()
    assert rare["n_images"] == 20
    assert rare["fg_flip"] == pytest.approx((confusion[1, 2] + confusion[2, 1]) / foreground, abs=1e-6)
    assert rare["iou_hopper"] == pytest.approx(
        confusion[1, 1] / (confusion[1].sum() + confusion[:, 1].sum() - confusion[1, 1]), abs=1e-6
    )
    whole = summarize(decomposition, groups, class_names=CLASSES)
    record = results.member_quantities(rows)[0]
    for name in ("gap/hopper", "gap/skimmer", "gap/mean", "worst_group_iou"):
        assert record[f"{name.replace('/', '_')}/all"] == round(whole[name], 6)


def test_empty_groups_and_members_without_evaluation_are_blank():
    member = {"member": "m", "seed": 0, "status": "failed"}
    rows = results.member_rows(member, random_decomposition(6), np.zeros(6, int), part="val", class_names=CLASSES)
    by_group = {row["group"]: row for row in rows}
    assert (by_group["common"]["n_images"], by_group["rare"]["n_images"]) == (6, 0)
    assert {by_group["rare"][name] for name in MEASURES} == {""}
    missing = results.member_rows(member, None, np.zeros(6, int), part="val", class_names=CLASSES)
    assert {row["n_images"] for row in missing} == {row["fg_flip"] for row in missing} == {""}
    assert list(missing[0]) == list(rows[0])


def test_csv_round_trip_is_the_same_byte_for_byte(tmp_path):
    axes = {"size": "007", "learning_rate": 1e-7, "seed": np.int64(3), "rho": np.float64(0.95), "method": "ce, plain"}
    member = {"member": "12", **axes}
    rows = results.member_rows(
        member, random_decomposition(5), np.array([0, 1, 2, 3, 0]), part="test", class_names=CLASSES
    )
    first, second = tmp_path / "deep" / "a.csv", tmp_path / "b.csv"
    results.write_csv(first, rows)
    read = results.read_csv(first)
    results.write_csv(second, read)
    assert first.read_bytes() == second.read_bytes()
    assert b"\r" not in first.read_bytes()
    assert read == rows
    assert (read[0]["member"], read[0]["size"]) == ("12", "007")
    assert [path.name for path in first.parent.iterdir()] == ["a.csv"]


def test_cells_of_pools_with_other_classes_share_a_table(tmp_path):
    member = {"member": "a", "seed": 0, "status": "finished"}
    rows = []
    for index, names in enumerate((CLASSES, ("background", "cat", "dog"))):
        decomposition, groups = random_decomposition(16, index), np.arange(16) % 4
        rows += results.member_rows(
            {**member, "member": f"m{index}", "seed": index}, decomposition, groups, part="test", class_names=names
        )
    results.write_csv(tmp_path / "results.csv", rows)
    table = results.read_csv(tmp_path / "results.csv")
    names = list(table[0])
    assert names.index("n_images") < names.index("iou_cat") < names.index("iou_foreground") < names.index("status")
    assert table[0]["iou_cat"] == "" and table[-1]["iou_hopper"] == ""
    first, second = results.member_quantities(table)
    for record, own, other in ((first, CLASSES[1:], ("cat", "dog")), (second, ("cat", "dog"), CLASSES[1:])):
        gaps = [record[f"gap_{name}/all"] for name in own]
        assert record["gap_mean/all"] == pytest.approx(sum(gaps) / 2, abs=2e-6)
        assert all(np.isnan(record[f"gap_{name}/all"]) for name in other)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.csv"
    results.write_csv(path, [{"a": 1}])
    with pytest.raises(RuntimeError), results.replacing(path) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert path.read_text() == "a\n1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_cell_round_trip(tmp_path):
    decompositions = [random_decomposition(8, seed) for seed in range(2)]
    part = results.Part(
        np.stack([[d.confusion for d in decompositions], [d.confusion + 1 for d in decompositions]]),
        np.stack([[d.risk_sum for d in decompositions]] * 2),
        np.arange(8) % 4,
        np.arange(8) // 2,
        np.zeros((8, 2), int),
    )
    cell = results.StoredCell(("a", "b"), ("val_loss", "last"), CLASSES, ("land", "water"), {"val": part, "test": part})
    results.save_cell(tmp_path / "x" / "decomposition.npz", cell)
    results.save_cell(tmp_path / "again.npz", cell)
    assert (tmp_path / "x" / "decomposition.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    read = results.load_cell(tmp_path / "x" / "decomposition.npz")
    assert (read.members, read.class_names, read.scene_names) == (cell.members, cell.class_names, cell.scene_names)
    assert read.parts["val"].groups.dtype == np.int32
    np.testing.assert_array_equal(read.decomposition("b", "test").confusion, decompositions[1].confusion)
    last = read.decomposition("b", "test", selection="last")
    np.testing.assert_array_equal(last.confusion, decompositions[1].confusion + 1)
    with pytest.raises(KeyError, match="expected one of a, b; found 'c'"):
        read.decomposition("c", "test")
    with pytest.raises(KeyError, match="expected one of val_loss, last; found 'best'"):
        read.decomposition("a", "test", selection="best")
    np.savez(tmp_path / "other.npz", members=np.array(["a"]))
    with pytest.raises(DamagedError, match=r"other\.npz"):
        results.load_cell(tmp_path / "other.npz")


def terms_of(values, quantity="fg_flip/all", weight=1.0):
    return [[(weight, {quantity: value, "member": f"m{i}", "selection": "val_loss"})] for i, value in enumerate(values)]


@pytest.mark.parametrize(("n", "quantile"), [(4, 3.1824), (10, 2.2622), (31, 2.0423)])
def test_from_four_seeds_on_the_interval_is_student_t(n, quantile):
    values = np.random.default_rng(n).normal(0.5, 0.05, size=n)
    result = results.estimate(terms_of(values), "fg_flip/all")
    half = quantile * values.std(ddof=1) / np.sqrt(n)
    np.testing.assert_allclose(result[1:4], [values.mean(), values.mean() - half, values.mean() + half], rtol=1e-4)
    assert (result.values, result.interval) == (tuple(values), "seeds")


@pytest.mark.parametrize("values", [(), (0.5,), (0.0, 1.0, 0.5), (np.nan, 0.1, 0.2, 0.3)])
def test_below_four_seeds_there_is_no_student_t(values):
    result = results.estimate(terms_of(values), "fg_flip/all")
    finite = [value for value in values if np.isfinite(value)]
    assert result.values == tuple(finite) and result.interval == ""
    assert np.isnan([result.low, result.high]).all()


@given(st.lists(st.floats(0, 1), min_size=4, max_size=8), st.sampled_from([1.0, -1.0, 0.5]))
def test_no_interval_leaves_the_range_of_its_quantity(values, weight):
    for quantity, least in (("fg_flip/all", 0.0), ("gap_mean/all", -1.0)):
        result = results.estimate(terms_of(values, quantity, weight), quantity)
        ends = sorted([weight * least, weight * 1.0])
        assert ends[0] <= result.low <= result.mean + 1e-12 and result.mean - 1e-12 <= result.high <= ends[1]


def stored_cell(members=3, n=24, selections=("val_loss",)):
    """Each object stands in both scenes; member k flips more than member k - 1."""
    generator = np.random.default_rng(1)
    confusion = generator.integers(1, 50, (len(selections), members, n, 3, 3)).astype(np.int32)
    for k in range(members):
        confusion[:, k, :, 1, 2] += 40 * k
    groups = np.arange(n) % 4
    risk = generator.uniform(0, 20, confusion.shape[:3]).astype(np.float32)
    part = results.Part(confusion, risk, groups, np.arange(n) // 2, np.zeros((n, 2), int))
    names = tuple(f"m{k}" for k in range(members))
    return results.StoredCell(names, selections, CLASSES, ("land", "water"), {"val": part, "test": part})


def test_few_seeds_are_resampled_by_object_and_paired():
    cell = stored_cell()
    resamples = results.Resamples({"000": cell}, samples=200)
    rows = []
    for k, member in enumerate(cell.members):
        known = {"member": member, "rho": 0.5 + 0.2 * (k == 2), "seed": k % 2, "status": "finished"}
        known["selection"] = "val_loss"
        groups = cell.parts["test"].groups
        rows += results.member_rows(known, cell.decomposition(member, "test"), groups, part="test", class_names=CLASSES)
    low = find(results.aggregate(rows, resamples=resamples), "fg_flip/rare", rho=0.5)
    mean = np.mean([resamples.of(member, "val_loss")["fg_flip/rare"] for member in ("m0", "m1")], axis=0)
    assert (low["n"], low["interval"], len(low["values"].split())) == (2, "images", 2)
    assert [low["low"], low["high"]] == pytest.approx(np.percentile(mean, (2.5, 97.5)), abs=1e-6)
    # Only seed 0 has both levels, and the change is that of the same resamples.
    line = find(results.trend(rows, resamples=resamples), "fg_flip/rare")
    change = resamples.of("m2", "val_loss")["fg_flip/rare"] - resamples.of("m0", "val_loss")["fg_flip/rare"]
    assert (line["n"], line["interval"]) == (1, "images")
    assert [line["change_low"], line["change_high"]] == pytest.approx(np.percentile(change, (2.5, 97.5)), abs=1e-6)
    # As `bootstrap` has it, but for the draws.
    ends = bootstrap(
        cell.decomposition("m2", "test"),
        "group/rare/fg_flip",
        key=jax.random.key(0),
        groups=cell.parts["test"].groups,
        pairs=cell.parts["test"].pairs,
    )
    own = np.percentile(resamples.of("m2", "val_loss")["fg_flip/rare"], (2.5, 97.5))
    np.testing.assert_allclose(own, ends, atol=0.02)
    assert resamples.of("other", "val_loss") == {} == resamples.of("m0", "last")
    assert find(results.aggregate(rows), "fg_flip/rare", rho=0.5)["interval"] == ""


def test_aggregate_by_hand():
    flips = {(0.5, 0): 0.1, (0.5, 1): 0.3, (0.5, 2): 0.2, (0.5, 3): 0.2, (0.9, 0): 0.6, (0.9, 1): ""}
    gap = {("all", "gap_mean"): 0.35}
    rows = table_of({key: {("rare", "fg_flip"): flip, **gap} for key, flip in flips.items()})
    summary = results.aggregate(rows)
    low = find(summary, "fg_flip/rare", rho=0.5)
    half = 3.182446 * np.std([0.1, 0.3, 0.2, 0.2], ddof=1) / 2
    assert (low["n"], low["left_out"], low["mean"], low["values"]) == (4, 0, 0.2, "0.1 0.3 0.2 0.2")
    assert (low["low"], low["high"]) == pytest.approx((0.2 - half, 0.2 + half), abs=2e-6)
    high = find(summary, "fg_flip/rare", rho=0.9)
    assert [high[name] for name in ("n", "mean", "low", "high", "interval")] == [1, 0.6, "", "", ""]
    assert find(summary, "gap_mean/all", rho=0.5)["mean"] == pytest.approx(0.35)
    assert not [row for row in summary if row["quantity"] == "gap_mean/rare"]
    assert find(summary, "risk_auroc/all", rho=0.5)["n"] == 0


def test_members_that_diverged_are_left_out_and_counted():
    values = {(rho, seed): {("all", "fg_flip"): rho + seed} for rho in (0.5, 0.9) for seed in (0, 1, 2)}
    rows = table_of(values, status={(0.9, 2): "diverged", (0.9, 1): "failed"})
    cell = find(results.aggregate(rows), "fg_flip/all", rho=0.9)
    assert (cell["n"], cell["left_out"], cell["mean"]) == (1, 2, 0.9)
    line = find(results.trend(rows), "fg_flip/all")
    assert (line["n"], line["left_out"], line["slope"], line["slope_low"]) == (1, 2, 1.0, "")


def test_trend_by_hand_is_paired_by_seed():
    # Slopes 1, 2, 1 and 2; changes 0.4, 0.8, 0.4 and 0.8; seed 2 lacks a level.
    curves = {0: (0.1, 0.3, 0.5), 1: (0.2, 0.6, 1.0), 2: (0.2, "", 0.4), 3: (0.5, 0.7, 0.9), 4: (0.0, 0.4, 0.8)}
    values = {
        (rho, seed): {("rare", "fg_flip"): curve[i]}
        for i, rho in enumerate((0.5, 0.7, 0.9))
        for seed, curve in curves.items()
    }
    line = find(results.trend(table_of(values)), "fg_flip/rare")
    assert (line["n"], line["from"], line["to"]) == (4, 0.5, 0.9)
    assert line["slope"] == pytest.approx(1.5)
    half = 3.182446 * np.std([1, 1, 2, 2], ddof=1) / 2
    assert line["slope"] - line["slope_low"] == pytest.approx(half, abs=1e-5)
    # No slope between values in 0..1 is steeper.
    assert line["slope_high"] == pytest.approx(min(1.5 + half, 1 / 0.4), abs=1e-5)
    assert line["change"] == pytest.approx(0.6)
    assert line["change"] - line["change_low"] == pytest.approx(0.4 * half, abs=1e-5)


def test_trend_is_split_by_other_axes_and_needs_two_levels():
    values = {
        (method, rho, seed): {("all", "fg_flip"): rho * (1 + (method == "dro"))}
        for method in ("ce", "dro")
        for rho in (0.5, 0.9)
        for seed in (0, 1)
    }
    trends = results.trend(table_of(values, axes=("method", "rho", "seed")))
    assert find(trends, "fg_flip/all", method="ce")["slope"] == pytest.approx(1.0)
    assert find(trends, "fg_flip/all", method="dro")["slope"] == pytest.approx(2.0)
    assert results.trend(table_of({(0.5, 0): {}, (0.5, 1): {}})) == []
    assert results.trend(table_of({(0,): {}, (1,): {}}, axes=("seed",))) == []


def test_methods_are_compared_seed_by_seed():
    flips = {"ce": (0.6, 0.8, 0.7, 0.7), "swap": (0.1, 0.2, 0.3, 0.2), "dro": (0.6, "", 0.9, 0.7)}
    values = {
        (method, rho, seed): {("rare", "fg_flip"): flip}
        for method, row in flips.items()
        for rho in (0.5, 0.9)
        for seed, flip in enumerate(row)
    }
    rows = table_of(values, axes=("method", "rho", "seed"), status={("swap", 0.9, 2): "diverged"})
    found = results.compare(rows)
    whole = find(found, "fg_flip/rare", method="swap", rho=0.5)
    assert (whole["reference"], whole["n"], whole["difference"]) == ("ce", 4, pytest.approx(-0.5))
    half = 3.182446 * np.std([0.5, 0.6, 0.4, 0.5], ddof=1) / 2
    assert whole["high"] - whole["difference"] == pytest.approx(half, abs=1e-5)
    partial = find(found, "fg_flip/rare", method="swap", rho=0.9)
    assert (partial["n"], partial["left_out"], partial["low"]) == (3, 1, "")
    assert partial["difference"] == pytest.approx(-1.6 / 3, abs=1e-6)
    assert find(found, "fg_flip/rare", method="dro", rho=0.5)["n"] == 3
    assert {row["method"] for row in found} == {"swap", "dro"}
    header, lines, names = results.comparison_table(found, "method")
    assert header[:names] == ["method", "rho", "seeds"]
    assert lines[0][:4] == ["swap", "0.5", "4", "-0.500 [-0.630, -0.370]*"]
    assert lines[1][3] == "+0.067"
    back = results.compare(rows, reference="swap")
    assert find(back, "fg_flip/rare", method="ce", rho=0.5)["difference"] == pytest.approx(0.5)
    assert results.compare(table_of({(0.5, 0): {}})) == []


def test_regret_is_against_the_rule_that_sees_what_counts():
    rows = []
    values = {"val_loss": (0.5, 0.7), "val_flip": (0.3, 0.4), "val_worst_group_iou": (0.4, 0.4)}
    for rule, flips in values.items():
        cells = {(seed,): {("all", "fg_flip"): flip} for seed, flip in enumerate(flips)}
        rows += [row | {"selection": rule} for row in table_of(cells, axes=("seed",))]
    found = results.regret(rows)
    own = next(row for row in found if (row["selection"], row["quantity"]) == ("val_loss", "fg_flip/all"))
    assert (own["oracle"], own["n"], own["members"], own["mean"]) == ("val_flip", 2, 2, 0.6)
    assert own["regret"] == pytest.approx(0.25) and own["interval"] == ""
    assert ("val_flip", "fg_flip/all") not in {(row["selection"], row["quantity"]) for row in found}
    assert results.regret_table(found).rows[0][:4] == ["val_loss", "worst-group IoU", "0", "-"]
    few = [row for row in rows if (row["selection"], row["member"]) != ("val_flip", "1")]
    own = next(row for row in results.regret(few) if (row["selection"], row["quantity"]) == ("val_loss", "fg_flip/all"))
    assert (own["members"], own["mean"], own["regret"]) == (1, 0.5, pytest.approx(0.2))
    assert results.regret(table_of({(0,): {}}, axes=("seed",))) == []


def grid(change, *, seeds=4):
    """A grid whose Flip in the rare groups changes by `change` over rho, with some spread over seeds."""
    return table_of(
        {
            (rho, seed): {
                ("rare", "fg_flip"): 0.1 + change * (rho > 0.9) + 0.01 * seed * (rho > 0.9),
                ("all", "fg_flip"): 0.2,
                ("all", "iou_foreground"): 0.9 + 0.02 * (seed % 2) * (-1 if rho > 0.9 else 1),
                ("all", "gap_mean"): -0.1,
                ("all", "risk_auroc"): (0.9 if rho < 0.9 else 0.55) + 0.01 * seed,
            }
            for rho in (0.5, 0.9, 0.99)
            for seed in range(seeds)
        }
    )


def test_tables_fit_a_terminal_and_repeat_what_names_a_row():
    text = results.to_text(results.summary_table(results.aggregate(grid(0.5))))
    assert max(map(len, text.splitlines())) <= 80
    blocks = text.split("\n\n")
    assert len(blocks) > 1 and all(block.splitlines()[0].split()[:2] == ["rho", "seeds"] for block in blocks)
    assert all(len(block.splitlines()) == 5 for block in blocks)
    assert "0.615 [0.594, 0.636]" in text
    assert results.to_markdown(results.trend_table(results.trend(grid(0.5)))).count("\n") == 8
    few = results.to_text(results.summary_table(results.aggregate(grid(0.5, seeds=2))))
    assert "0.60 0.61" in few and "[" not in few


def test_no_sentence_without_an_interval_that_carries_it():
    def sentences(rows):
        return results.headline(results.aggregate(rows), results.trend(rows))

    lines = sentences(grid(0.5))
    assert lines[0].startswith("Flip in the rare groups rises from 0.10 at rho 0.5 to 0.61 at rho 0.99 (+0.52 [")
    assert "no change" in lines[1] and lines[1].startswith("IoU gap")
    assert "no change" in lines[2] and lines[2].startswith("Foreground IoU")
    assert lines[3].startswith("From rho 0.9 on flip-risk is nearly blind")
    assert "rho 0.99" in lines[3] and "[0.5" in lines[3]
    assert "no change" in sentences(grid(-0.015))[0]
    assert sentences(grid(0.5, seeds=3)) == []


def test_a_run_is_loaded_as_columns_with_units(recorded):
    run = results.load(recorded)
    assert (len(run.members["fg_flip"]), len(run.history["epoch"])) == (8 * 2 * 2 * 7, 8 * 3)
    assert len(run.images["flip"]) == 8 * 2 * (24 + 48)
    for table in (run.members, run.history, run.images, run.summary):
        assert len({len(values) for values in table.values()}) == 1
    # The rows of images and of members are of the same counts.
    here = (run.images["member"] == "m003") & (run.images["selection"] == "val_flip") & (run.images["split"] == "test")
    rows = run.members
    there = (rows["member"] == "m003") & (rows["selection"] == "val_flip") & (rows["split"] == "test")
    mean = rows["flip_image_mean"][there & (rows["group"] == "all")]
    assert np.nanmean(run.images["flip"][here]) == pytest.approx(mean[0], abs=1e-6)
    assert sorted(np.unique(run.images["pair"][here], return_counts=True)[1]) == [2] * 24
    # Repair gives the whole region one class: pixels mend or flip, none is missed anew.
    repaired = run.images["repaired_flip"][here]
    after = repaired * run.images["foreground_pixels"][here]
    flipped = rows["repair_flip"][there & (rows["group"] == "all")]
    assert after.sum() / run.images["foreground_pixels"][here].sum() == pytest.approx(flipped[0], abs=1e-6)
    assert np.isfinite(run.images["swap_risk"][here]).any()
    units = results.units(run.images)
    assert (units["flip_risk"], units["swap_risk"], units["repaired_flip"]) == ("nats", "log-odds", "share")
    assert {name for name in rows if name.startswith(("fg_", "gap_", "worst", "risk_"))} <= set(results.units(rows))
    with pytest.raises(FileNotFoundError, match=r"results\.csv"):
        results.load(recorded.parent)


def test_a_recorded_run_gives_its_rows_again(recorded):
    cell = results.load_cell(next(recorded.glob("cells/*/decomposition.npz")))
    part = cell.parts["test"]
    for row in results.read_csv(recorded / "results.csv"):
        if (row["split"], row["group"]) == ("test", "all"):
            whole = summarize(
                cell.decomposition(row["member"], "test", selection=row["selection"]),
                part.groups,
                class_names=cell.class_names,
            )
            names = {quantities.column(key): key for key in quantities.of_classes(cell.class_names)}
            for name, key in ((name, key) for name, key in names.items() if name in row):
                assert results.number(row[name]) == pytest.approx(whole[key], abs=1e-6, nan_ok=True)


def test_no_share_or_interval_of_a_recorded_run_leaves_its_range(recorded):
    rows = [row for row in results.read_csv(recorded / "results.csv") if row["selection"] == "val_loss"]
    resamples = results.Resamples({"000": results.load_cell(recorded / "cells/000/decomposition.npz")}, samples=50)
    summary = results.aggregate(rows, resamples=resamples)
    for row in summary:
        least, most = quantities.RANGES[quantities.quantity_of(row["quantity"]).unit]
        values = [results.number(row[name]) for name in ("mean", "low", "high")]
        assert all(least <= value <= most for value in values if np.isfinite(value)), row
        if row["low"] != "":
            assert row["low"] - 1e-6 <= row["high"]
    trends = results.trend(rows, resamples=resamples)
    comparison = results.compare(rows, resamples=resamples)
    regrets = results.regret(results.read_csv(recorded / "results.csv"), resamples=resamples)
    assert all(abs(row["difference"]) <= 1 for row in comparison if row["quantity"].startswith("fg_"))
    tables = [results.summary_table(summary), results.trend_table(trends), results.regret_table(regrets)]
    for table in [*tables, results.comparison_table(comparison, "method")]:
        assert table.rows and max(map(len, results.to_text(table).splitlines())) <= 80
        assert "*" not in results.to_text(table)


def test_images_as_parquet_hold_what_load_gives(recorded, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    run = shutil.copytree(recorded, tmp_path / "run")
    table = parquet.read_table(results.write_images(run))
    images = results.load(run).images
    assert table.column_names == list(images)
    for name, values in images.items():
        np.testing.assert_array_equal(table[name].to_numpy(), values)
    assert table.schema.field("flip_risk").metadata == {b"unit": b"nats"}


def test_what_the_first_rule_alone_is_asked_is_blank_for_later_ones(recorded, tmp_path):
    run = shutil.copytree(recorded, tmp_path / "run")
    path = run / "cells/000/decomposition.npz"
    cell = results.load_cell(path)
    parts = {
        name: dataclasses.replace(part, scene_log_odds=part.scene_log_odds[:1], centers=part.centers[:1])
        for name, part in cell.parts.items()
    }
    results.save_cell(path, dataclasses.replace(cell, parts=parts))
    whole, images = results.load(recorded).images, results.load(run).images
    assert list(images) == list(whole)
    later = images["selection"] == cell.selections[1]
    for name in ("swap_risk", "repaired_flip"):
        assert np.isnan(images[name][later]).all() and np.isfinite(whole[name][later]).any()
        np.testing.assert_array_equal(images[name][~later], whole[name][~later])


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
def test_data_frames_take_the_columns(recorded, library):
    module = pytest.importorskip(library)
    images = results.load(recorded).images
    if library == "duckdb":
        count = module.sql("select count(*) from images where member = 'm000'").fetchall()[0][0]
    else:
        count = int((module.DataFrame(images)["member"] == "m000").sum())
    assert count == 2 * (24 + 48)


def test_export_to_csv(recorded, tmp_path, capsys):
    assert export.main([str(recorded), "--to", "csv", "--out", str(tmp_path / "out")]) == 0
    assert len(results.read_csv(tmp_path / "out/images.csv")) == 8 * 2 * (24 + 48)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}.csv" for name in ("members", "images", "history", "summary")
    }
    assert export.main([str(tmp_path), "--to", "csv"]) == 2
    assert "results.csv" in capsys.readouterr().err


def test_a_tracker_that_is_not_installed_is_one_line(recorded, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert export.main([str(recorded), "--to", "wandb"]) == 2
    err = capsys.readouterr().err
    assert "flipjax[export]" in err and err.count("\n") == 1


@pytest.mark.parametrize("tracker", ["mlflow", "trackio", "wandb"])
def test_export_to_a_real_tracker_offline(recorded, tmp_path, tracker):
    pytest.importorskip(tracker)
    places = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "TRACKIO_DIR": str(tmp_path / "trackio")}
    places |= {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    line = [sys.executable, "-m", "flipjax.results.export", str(recorded), "--to", tracker, "--project", "demo"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **places})
    assert done.returncode == 0, done.stderr
    if tracker == "wandb":
        assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 8
        return
    file, names = {
        "mlflow": ("mlflow.db", "select name from runs"),
        "trackio": ("trackio/demo.db", "select distinct run_name from metrics"),
    }[tracker]
    with contextlib.closing(sqlite3.connect(tmp_path / file)) as database:
        assert sorted(database.execute(names).fetchall()) == [(f"m{index:03d}",) for index in range(8)]
        if tracker == "mlflow":
            query = "select m.value, m.step from metrics m join runs r using (run_uuid) where r.name = 'm000'"
            stored = database.execute(f"{query} and m.key = 'valid_loss' order by m.step").fetchall()
            history = results.load(recorded).history
            chosen = history["member"] == "m000"
            assert stored == list(zip(history["valid_loss"][chosen], history["epoch"][chosen], strict=True))


def test_import_needs_no_matplotlib():
    code = "import sys, flipjax.results; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
