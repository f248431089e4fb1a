"""Means over seeds, intervals, trends and comparisons, against hand-computed values."""

import itertools

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipjax.metrics import bootstrap
from flipjax.results.choices import regret
from flipjax.results.estimates import Resamples, aggregate, compare, estimate, trend
from flipjax.results.frames import records_of, to_frame
from flipjax.results.rows import member_rows
from flipjax.results.text import comparison_table, regret_table
from results.tables import CLASSES, END, cell_of, find, random_decomposition, table_of

HALF = 3.182446 / 2
"""Of four seeds with standard deviation 1, half the width of their interval."""


def mean_of(values, quantity="fg_flip", weight=1.0):
    (row,) = records_of(estimate(pd.DataFrame({"status": "done", quantity: np.array(values, np.float64)}), weight))
    return row


@pytest.mark.parametrize(("n", "quantile"), [(4, 3.1824), (10, 2.2622), (31, 2.0423)])
def test_from_four_seeds_on_the_interval_is_student_t(n, quantile):
    values = np.random.default_rng(n).normal(0.5, 0.05, size=n)
    row = mean_of(values)
    half = quantile * values.std(ddof=1) / np.sqrt(n)
    wanted = [values.mean(), values.mean() - half, values.mean() + half]
    np.testing.assert_allclose([row["mean"], row["low"], row["high"]], wanted, rtol=1e-4)
    np.testing.assert_allclose([float(text) for text in row["values"].split()], values, atol=1e-6)
    assert (row["n"], row["interval"]) == (n, "seeds")


@pytest.mark.parametrize("values", [(), (0.5,), (0.0, 1.0, 0.5), (np.nan, 0.1, 0.2, 0.3)])
def test_below_four_seeds_there_is_no_student_t(values):
    row = mean_of(values)
    finite = [value for value in values if np.isfinite(value)]
    assert (row["n"], row["values"], row["interval"]) == (len(finite), " ".join(map(str, finite)), "")
    assert np.isnan([row["low"], row["high"]]).all()


@given(st.lists(st.floats(0, 1), min_size=4, max_size=8), st.sampled_from([1.0, -1.0, 0.5]))
def test_no_interval_leaves_the_range_of_its_quantity(values, weight):
    for quantity, least in (("fg_flip", 0.0), ("gap/mean", -1.0)):
        row = mean_of(values, quantity, weight)
        ends = sorted([weight * least, weight * 1.0])
        assert ends[0] <= row["low"] <= row["mean"] + 2e-6 and row["mean"] - 2e-6 <= row["high"] <= ends[1]


def stored_cell():
    """Each object stands in both scenes; member k flips more than member k - 1."""
    members = {f"m{k}": [random_decomposition(24, k)] for k in range(3)}
    for k, (decomposition,) in enumerate(members.values()):
        decomposition.confusion[:, 1, 2] += 40 * k
    return cell_of(members, np.arange(24) % 4, np.arange(24) // 2)


def test_few_seeds_are_resampled_by_object_and_paired():
    cell = stored_cell()
    resamples = Resamples({"000": cell}, samples=200)
    rows, part = [], cell.parts["test"]
    for k, member in enumerate(cell.members):
        known = {"member": member, "rho": 0.5 + 0.2 * (k == 2), "seed": k % 2, **END}
        rows += member_rows(known, cell.decomposition(member, "test"), part.groups, part="test", class_names=CLASSES)
    rows = to_frame(rows)
    m0, m1, m2 = (resamples.of(member, "val_loss", "group/rare/fg_flip") for member in cell.members)
    low = find(aggregate(rows, resamples=resamples), "group/rare/fg_flip", rho=0.5)
    assert (low["n"], low["interval"], len(low["values"].split())) == (2, "images", 2)
    assert [low["low"], low["high"]] == pytest.approx(np.percentile((m0 + m1) / 2, (2.5, 97.5)), abs=1e-6)
    # Only seed 0 has both levels, and the change is that of the same resamples.
    line = find(trend(rows, resamples=resamples), "group/rare/fg_flip")
    assert (line["n"], line["interval"]) == (1, "images")
    assert [line["change_low"], line["change_high"]] == pytest.approx(np.percentile(m2 - m0, (2.5, 97.5)), abs=1e-6)
    # As `bootstrap` has it, but for the draws.
    options = {"key": jax.random.key(0), "groups": part.groups, "pairs": part.pairs}
    ends = bootstrap(cell.decomposition("m2", "test"), "group/rare/fg_flip", **options)
    np.testing.assert_allclose(np.percentile(m2, (2.5, 97.5)), ends, atol=0.02)
    assert (
        resamples.of("other", "val_loss", "group/rare/fg_flip")
        is resamples.of("m0", "last", "group/rare/fg_flip")
        is None
    )
    assert find(aggregate(rows), "group/rare/fg_flip", rho=0.5)["interval"] == ""


def test_aurocs_of_few_seeds_have_what_their_own_intervals_give():
    cell = stored_cell()
    resamples = Resamples({"000": cell})
    ends = [resamples.auroc(member, "val_loss", "risk_auroc") for member in cell.members]
    records = pd.DataFrame(
        {"member": cell.members, "selection": "val_loss", "status": "", "risk_auroc": [e.value for e in ends]}
    )
    (mean,) = records_of(estimate(records[:2], resamples=resamples))
    assert mean["low"] == pytest.approx((ends[0].low + ends[1].low) / 2, abs=1e-6)
    (change,) = records_of(estimate(records[1:], [-1, 1], [0, 0], resamples=resamples))
    above = np.hypot(ends[1].value - ends[1].low, ends[2].high - ends[2].value)
    below = np.hypot(ends[1].high - ends[1].value, ends[2].value - ends[2].low)
    difference = ends[2].value - ends[1].value
    assert [change["low"], change["high"]] == pytest.approx([difference - below, difference + above], abs=1e-6)
    assert change["interval"] == "images"


def rare_flips(flips, **options):
    return table_of({key: {("rare", "fg_flip"): flip} for key, flip in flips.items()}, **options)


def test_aggregate_by_hand():
    flips = {(0.5, 0): 0.1, (0.5, 1): 0.3, (0.5, 2): 0.2, (0.5, 3): 0.2, (0.9, 0): 0.6, (0.9, 1): ""}
    gap = {("all", "gap_mean"): 0.35}
    rows = table_of({key: {("rare", "fg_flip"): flip, **gap} for key, flip in flips.items()})
    summary = aggregate(rows)
    low = find(summary, "group/rare/fg_flip", rho=0.5)
    half = HALF * np.std([0.1, 0.3, 0.2, 0.2], ddof=1)
    assert (low["n"], low["left_out"], low["mean"], low["values"]) == (4, 0, 0.2, "0.1 0.3 0.2 0.2")
    assert (low["low"], low["high"]) == pytest.approx((0.2 - half, 0.2 + half), abs=2e-6)
    high = find(summary, "group/rare/fg_flip", rho=0.9)
    assert (high["n"], high["mean"], high["interval"]) == (1, 0.6, "") and np.isnan([high["low"], high["high"]]).all()
    assert find(summary, "gap/mean", rho=0.5)["mean"] == pytest.approx(0.35)
    assert find(summary, "risk_auroc", rho=0.5)["n"] == 0 and "group/rare/gap/mean" not in set(summary["quantity"])


def test_members_that_diverged_are_left_out_and_counted():
    values = {(rho, seed): {("all", "fg_flip"): rho + seed} for rho in (0.5, 0.9) for seed in (0, 1, 2)}
    rows = table_of(values, status={(0.9, 2): "diverged", (0.9, 1): "failed"})
    cell = find(aggregate(rows), "fg_flip", rho=0.9)
    assert (cell["n"], cell["left_out"], cell["mean"]) == (1, 2, 0.9)
    line = find(trend(rows), "fg_flip")
    assert (line["n"], line["left_out"], line["slope"]) == (1, 2, 1.0) and np.isnan(line["slope_low"])


def test_trend_by_hand_is_paired_by_seed():
    # Slopes 1, 2, 1 and 2; changes 0.4, 0.8, 0.4 and 0.8; seed 2 lacks a level.
    curves = {0: (0.1, 0.3, 0.5), 1: (0.2, 0.6, 1.0), 2: (0.2, "", 0.4), 3: (0.5, 0.7, 0.9), 4: (0.0, 0.4, 0.8)}
    flips = {(rho, seed): curve[i] for i, rho in enumerate((0.5, 0.7, 0.9)) for seed, curve in curves.items()}
    line = find(trend(rare_flips(flips)), "group/rare/fg_flip")
    assert (line["n"], line["from"], line["to"]) == (4, 0.5, 0.9)
    assert (line["slope"], line["change"]) == pytest.approx((1.5, 0.6))
    half = HALF * np.std([1, 1, 2, 2], ddof=1)
    assert line["slope"] - line["slope_low"] == pytest.approx(half, abs=1e-5)
    # No slope between values in 0..1 is steeper.
    assert line["slope_high"] == pytest.approx(min(1.5 + half, 1 / 0.4), abs=1e-5)
    assert line["change"] - line["change_low"] == pytest.approx(0.4 * half, abs=1e-5)


def test_trend_is_split_by_other_axes_and_needs_two_levels():
    slopes = {"ce": 1.0, "dro": 2.0}
    flips = {(name, rho, seed): slopes[name] * rho for name, rho, seed in itertools.product(slopes, (0.5, 0.9), (0, 1))}
    trends = trend(rare_flips(flips, axes=("method", "rho", "seed")))
    for method, slope in slopes.items():
        assert find(trends, "group/rare/fg_flip", method=method)["slope"] == pytest.approx(slope)
    assert trend(table_of({(0.5, 0): {}, (0.5, 1): {}})).empty
    assert trend(table_of({(0,): {}, (1,): {}}, axes=("seed",))).empty


def test_methods_are_compared_seed_by_seed():
    own = {"ce": (0.6, 0.8, 0.7, 0.7), "swap": (0.1, 0.2, 0.3, 0.2), "dro": (0.6, "", 0.9, 0.7)}
    flips = {(name, rho, seed): own[name][seed] for name, rho, seed in itertools.product(own, (0.5, 0.9), range(4))}
    rows = rare_flips(flips, axes=("method", "rho", "seed"), status={("swap", 0.9, 2): "diverged"})
    found = compare(rows)
    whole = find(found, "group/rare/fg_flip", method="swap", rho=0.5)
    assert (whole["reference"], whole["n"], whole["difference"]) == ("ce", 4, pytest.approx(-0.5))
    half = HALF * np.std([0.5, 0.6, 0.4, 0.5], ddof=1)
    assert whole["high"] - whole["difference"] == pytest.approx(half, abs=1e-5)
    partial = find(found, "group/rare/fg_flip", method="swap", rho=0.9)
    assert (partial["n"], partial["left_out"]) == (3, 1) and np.isnan(partial["low"])
    assert partial["difference"] == pytest.approx(-1.6 / 3, abs=1e-6)
    assert find(found, "group/rare/fg_flip", method="dro", rho=0.5)["n"] == 3
    assert set(found["method"]) == {"swap", "dro"}
    header, lines, names = comparison_table(found, "method")
    assert header[:names] == ["method", "rho", "seeds"]
    assert lines[0][:4] == ["swap", "0.5", "4", "-0.500 [-0.630, -0.370]*"]
    assert lines[1][3] == "+0.067"
    back = compare(rows, reference="swap")
    assert find(back, "group/rare/fg_flip", method="ce", rho=0.5)["difference"] == pytest.approx(0.5)
    assert compare(table_of({(0.5, 0): {}})).empty


def test_regret_is_against_the_rule_that_sees_what_counts():
    values = {"val_loss": (0.5, 0.7), "val_flip": (0.3, 0.4), "val_worst_group_iou": (0.4, 0.4)}
    tables = []
    for rule, flips in values.items():
        cells = {(seed,): {("all", "fg_flip"): flip} for seed, flip in enumerate(flips)}
        tables.append(table_of(cells, axes=("seed",)).assign(selection=rule))
    rows = pd.concat(tables, ignore_index=True)
    found = regret(rows)
    own = find(found, "fg_flip", selection="val_loss")
    assert (own["oracle"], own["n"], own["members"], own["mean"]) == ("val_flip", 2, 2, 0.6)
    assert own["regret"] == pytest.approx(0.25) and own["interval"] == ""
    assert found[found["selection"] == "val_flip"]["quantity"].tolist() == ["worst_group_iou"]
    assert regret_table(found).rows[0][:4] == ["val_loss", "worst-group IoU", "0", "-"]
    few = rows[(rows["selection"] != "val_flip") | (rows["member"] != "1")]
    own = find(regret(few), "fg_flip", selection="val_loss")
    assert (own["members"], own["mean"], own["regret"]) == (1, 0.5, pytest.approx(0.2))
    assert regret(table_of({(0,): {}}, axes=("seed",))).empty
