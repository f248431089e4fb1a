"""The rule for intervals and verdicts: values by hand, and slow twins."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import distributions

from flipjax.metrics.statistics.permutation import LEVEL
from flipjax.results.statistics.estimates import aggregate, compare, estimate, trend
from flipjax.results.statistics.resamples import Resamples
from flipjax.results.statistics.verdicts import CORRECTION, holm, judge, shared_p
from flipjax.results.text import legend
from flipjax.support.frames import records_of
from results.tables import cell_of, find, random_decomposition, rare_flips, rows_of, table_of

T = {1: np.nan, 2: 12.706205, 3: 4.302653, 4: 3.182446, 10: 2.262157}
"""Student's t at 0.975 by the number of seeds."""


def mean_of(values, quantity="fg_flip", weight=1.0):
    (row,) = records_of(estimate(pd.DataFrame({"status": "done", quantity: np.array(values, np.float64)}), weight))
    return row


@pytest.mark.parametrize("n", T)
def test_the_interval_is_student_t_whatever_the_number_of_seeds(n):
    values = np.random.default_rng(n).normal(0.5, 0.01, size=n)
    row = mean_of([*values, np.nan])
    half = T[n] * values.std(ddof=min(1, n - 1)) / np.sqrt(n)
    wanted = [values.mean(), values.mean() - half, values.mean() + half]
    np.testing.assert_allclose([row["mean"], row["low"], row["high"]], wanted, atol=2e-6)
    np.testing.assert_allclose([float(text) for text in row["values"].split()], values, atol=1e-6)
    np.testing.assert_allclose(row["variance"], values.var(ddof=1) if n > 1 else np.nan)
    assert row["n"] == n and mean_of([np.nan])["n"] == 0


def student_p(values):
    """The p of one sample's t test against 0."""
    values = np.array(values, np.float64)
    t = values.mean() / (values.std(ddof=1) / np.sqrt(len(values)))
    return 2 * distributions.t.sf(abs(t), len(values) - 1)


def test_a_comparison_alone_has_the_p_of_students_t():
    values = [0.1, 0.3, 0.2, 0.5]
    assert shared_p([np.mean(values)], [np.var(values, ddof=1)], 4)[0] == pytest.approx(student_p(values))


def test_the_shared_variance_by_hand():
    # The mean variance is 0.06; Satterthwaite's freedom 3 (0.18)^2 / (0.0001 + 0.0049 + 0.01) is 6.48; 4 / 5 of two.
    variance = np.array([0.01, 0.07, 0.10])
    wanted = [
        2 * distributions.t.sf(0.3 / np.sqrt(0.06 / 4), 6.48 * 4 / 5),
        2 * distributions.t.sf(0.3 / np.sqrt(0.07 / 4), 3),
        2 * distributions.t.sf(0.3 / np.sqrt(0.10 / 4), 3),
    ]
    np.testing.assert_allclose(shared_p(np.full(3, 0.3), variance, 4, sharing=2), wanted)


def test_variances_of_differences_from_one_reference_correlate_by_a_quarter():
    values = np.random.default_rng(0).normal(size=(40_000, 3, 4))
    variances = (values[:, 1:] - values[:, :1]).var(-1, ddof=1)
    assert np.corrcoef(variances.T)[0, 1] == pytest.approx(1 / 4, abs=0.02)


def slow_shared_p(difference, variance, n, sharing):
    """The rule as it is written down, one comparison at a time."""
    mean = sum(variance) / len(variance)
    squares = sum(v * v / (seeds - 1) for v, seeds in zip(variance, n, strict=True))
    p = []
    for d, v, seeds in zip(difference, variance, n, strict=True):
        freedom = seeds - 1
        if v <= mean * (1 + 1e-9):
            freedom = max(freedom, sum(variance) ** 2 / squares / (1 + (sharing - 1) / 4))
        p.append(2 * distributions.t.sf(abs(d) / np.sqrt(max(v, mean) / seeds), freedom))
    return p


COMPARED_ONCE = st.tuples(st.floats(-1, 1), st.floats(1e-6, 1), st.integers(4, 12))


@given(st.lists(COMPARED_ONCE, min_size=1, max_size=9), st.integers(1, 9))
def test_the_shared_variance_is_that_of_a_slow_twin(comparisons, sharing):
    difference, variance, n = map(list, zip(*comparisons, strict=True))
    found = shared_p(difference, variance, n, sharing=sharing)
    np.testing.assert_allclose(found, slow_shared_p(difference, variance, n, sharing), rtol=1e-9)


@given(st.lists(COMPARED_ONCE, min_size=1, max_size=9))
def test_a_comparison_whose_variance_is_above_the_mean_has_the_p_of_students_t(comparisons):
    difference, variance, _ = np.array(comparisons).T
    alone = [shared_p([d], [v], 4)[0] for d, v in zip(difference, variance, strict=True)]
    larger = variance > 1.000001 * variance.mean()
    np.testing.assert_allclose(shared_p(difference, variance, 4)[larger], np.array(alone)[larger])


def test_a_spread_below_the_rounding_of_values_is_not_known():
    assert np.isnan(shared_p([0.5, 0.5], [0.0, 1e-14], 4)).all()
    assert shared_p([0.5, 0.5], [0.0, 1e-4], 4).max() < 0.001


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.sampled_from([1.0, -1.0, 0.5]))
def test_no_interval_leaves_the_range_of_its_quantity(values, weight):
    for quantity, least in (("fg_flip", 0.0), ("gap/mean", -1.0)):
        row = mean_of(values, quantity, weight)
        ends = sorted([weight * least, weight * 1.0])
        assert ends[0] <= row["low"] <= row["mean"] + 2e-6 and row["mean"] - 2e-6 <= row["high"] <= ends[1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_rejects_in_order_and_never_more_than_the_tests_alone(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all() and (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    assert adjusted.min() == min(1, len(p) * min(p))


def test_holm_adjusts_each_family_of_a_batch_alone():
    p = np.random.default_rng(0).uniform(size=(3, 2, 5))
    np.testing.assert_array_equal(holm(p)[2, 1], holm(p[2, 1]))


def family(differences, *, spread=0.01, seeds=5, quantity="group/rare/fg_flip"):
    """A table of `compare` with given mean differences of one quantity."""
    differences = np.array(differences, np.float64)
    half = T[4] * spread / np.sqrt(seeds)
    columns = {"quantity": quantity, "n": seeds, "learnt": True, "unlearnt_where": ""}
    columns |= {"difference": differences, "variance": spread**2}
    return pd.DataFrame(columns | {"low": differences - half, "high": differences + half}, index=differences)


def test_a_family_is_one_table_and_its_size_the_number_of_tests():
    one, many = judge(family([0.02])), judge(family([0.02] + [0.0] * 199))
    assert one["comparisons"].tolist() == [1] and set(many["comparisons"]) == {200}
    assert many["p"].iloc[0] == pytest.approx(200 * shared_p([0.02] * 200, [1e-4] * 200, 5, sharing=200)[0])
    assert "over 200 comparisons of methods" in legend(many, "comparisons of methods")


def test_comparisons_of_one_level_share_their_reference_and_those_of_two_do_not():
    table = family([0.02, 0.02, 0.01, 0.01], spread=0.02)
    places = {"rho": [0.5, 0.5, 0.9, 0.9], "method": ["a", "b"] * 2, "reference": "ce"}
    placed = pd.concat([pd.DataFrame(places, index=table.index), table], axis=1)
    wanted = holm(shared_p(table["difference"], table["variance"], 5, sharing=2))
    np.testing.assert_allclose(judge(placed)["p"], wanted)


def test_a_verdict_is_given_below_the_level_and_not_at_it():
    p = judge(family(np.linspace(0, 0.05, 200)[1:]))
    assert ((p["verdict"] == "higher") == (p["p"] < LEVEL)).all()
    assert 0 < (p["verdict"] == "higher").sum() < len(p)
    assert set(judge(family([-0.5, 0.5]))["verdict"]) == {"lower", "higher"}


def test_a_difference_that_the_correction_alone_makes_uncertain_says_so():
    far = np.linspace(0.0148, 0.0152, 60)
    judged = judge(family([*far, *-far]))
    assert (judged["low"] * judged["high"] > 0).all() and (judged["verdict"] == "").all()
    assert set(judged["reason"]) == {f"not significant after {CORRECTION}"}


def test_quantities_that_are_not_judged_and_few_seeds_are_in_no_family():
    tables = [family([0.5]), family([0.5], quantity="fg_miss"), family([0.5], seeds=3)]
    judged = judge(pd.concat(tables))
    assert judged["comparisons"].tolist() == [1] * 3 and judged["verdict"].tolist() == ["higher", "", ""]
    assert judged["reason"].tolist() == ["", "", "no verdict below 4 seeds"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"n": 0, "difference": np.nan, "variance": np.nan}, "no seed has both"),
        ({"n": 1, "variance": np.nan}, "no verdict below 4 seeds"),
        ({"variance": 0.0}, "no verdict: all seeds are equal"),
        ({"variance": 0.0, "difference": 0.0}, "no difference in any seed"),
        ({"learnt": False, "unlearnt_where": "at rho 0.5"}, "no verdict: classes not learnt at rho 0.5"),
    ],
    ids=["no common seed", "one seed", "equal values", "equal members", "not learnt"],
)
def test_where_there_is_no_test_a_reason_says_why_without_a_warning(changed, reason):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judged = judge(family([0.3, 0.3]).assign(**changed))
    assert set(judged["reason"]) == {reason} and judged["p"].isna().all() and set(judged["comparisons"]) == {0}
    assert legend(judged) == reason


def test_means_leave_out_members_that_diverged_and_count_them():
    flips = {(0.5, 0): 0.1, (0.5, 1): 0.3, (0.5, 2): 0.2, (0.5, 3): 0.2, (0.9, 0): 0.6, (0.9, 1): "", (0.9, 2): 0.7}
    summary = aggregate(rare_flips(flips, status={(0.9, 2): "diverged"}))
    low = find(summary, "group/rare/fg_flip", rho=0.5)
    assert (low["n"], low["left_out"], low["mean"], low["values"]) == (4, 0, 0.2, "0.1 0.3 0.2 0.2")
    high = find(summary, "group/rare/fg_flip", rho=0.9)
    assert (high["n"], high["left_out"], high["mean"]) == (1, 1, 0.6) and np.isnan(high["images_low"])
    assert find(summary, "risk_auroc", rho=0.5)["n"] == 0 and "group/rare/gap/mean" not in set(summary["quantity"])


def test_trend_by_hand_is_paired_by_seed():
    # Changes 0.4, 0.8, 0.4 and 0.8; seed 2 lacks a level.
    curves = {0: (0.1, 0.3, 0.5), 1: (0.2, 0.6, 1.0), 2: (0.2, "", 0.4), 3: (0.5, 0.7, 0.9), 4: (0.0, 0.4, 0.8)}
    flips = {(rho, seed): curve[i] for i, rho in enumerate((0.5, 0.7, 0.9)) for seed, curve in curves.items()}
    line = find(trend(rare_flips(flips)), "group/rare/fg_flip")
    assert (line["n"], line["from"], line["to"], line["before"], line["after"]) == (4, 0.5, 0.9, 0.2, 0.8)
    assert line["difference"] == pytest.approx(0.6)
    half = T[4] / 2 * np.std([0.4, 0.8, 0.4, 0.8], ddof=1)
    assert line["difference"] - line["low"] == pytest.approx(half, abs=2e-6)
    assert trend(table_of({(0.5, 0): {}, (0.5, 1): {}})).empty and trend(table_of({(0,): {}}, axes=("seed",))).empty


def test_methods_are_compared_seed_by_seed():
    own = {"ce": (0.6, 0.8, 0.7, 0.7), "swap": (0.1, 0.2, 0.3, 0.2), "dro": (0.6, "", 0.9, 0.7)}
    flips = {(name, rho, seed): own[name][seed] for name, rho, seed in itertools.product(own, (0.5, 0.9), range(4))}
    rows = rare_flips(flips, axes=("method", "rho", "seed"), status={("swap", 0.9, 2): "diverged"})
    found = compare(rows)
    whole = find(found, "group/rare/fg_flip", method="swap", rho=0.5)
    assert (whole["reference"], whole["n"], whole["difference"]) == ("ce", 4, pytest.approx(-0.5))
    half = T[4] / 2 * np.std([0.5, 0.6, 0.4, 0.5], ddof=1)
    assert whole["high"] - whole["difference"] == pytest.approx(half, abs=2e-6)
    partial = find(judge(found), "group/rare/fg_flip", method="swap", rho=0.9)
    assert (partial["n"], partial["left_out"]) == (3, 1) and np.isnan(partial["p"])
    assert find(found, "group/rare/fg_flip", method="dro", rho=0.5)["n"] == 3
    back = compare(rows, reference="swap")
    assert find(back, "group/rare/fg_flip", method="ce", rho=0.5)["difference"] == pytest.approx(0.5)
    assert compare(table_of({(0.5, 0): {}})).empty


def test_a_reference_without_a_knob_is_compared_with_each_value_of_it():
    flips = {("ce", "", seed): 0.5 for seed in range(2)}
    flips |= {("dro", step, seed): step for step in (0.1, 0.2) for seed in range(2)}
    found = compare(rare_flips(flips, axes=("method", "dro_step", "seed")))
    differences = {step: find(found, "group/rare/fg_flip", dro_step=step)["difference"] for step in (0.1, 0.2)}
    assert differences == pytest.approx({0.1: -0.4, 0.2: -0.3}) and set(found["method"]) == {"dro"}


def test_the_interval_over_images_is_that_of_bootstraps_for_these_models():
    cell = cell_of({f"m{k}": [random_decomposition(24, k)] for k in range(2)}, np.arange(24) % 4, np.arange(24) // 2)
    rows = rows_of(cell)
    resamples = Resamples({"000": cell}, samples=200)
    alone = aggregate(rows[rows["member"] == "m0"], resamples=resamples)
    both = aggregate(rows, resamples=resamples)
    for quantity in ("group/rare/fg_flip", "risk_auroc", "gap/mean", "top_decile_of_ceiling"):
        one, two = find(alone, quantity), find(both, quantity)
        assert one["images_low"] < one["mean"] < one["images_high"] and np.isnan(one["low"])
        assert two["images_low"] < two["mean"] < two["images_high"] and two["low"] < two["high"]
    assert Resamples({}).intervals(["m0"], "val_loss") == {}
