"""The rule for intervals and verdicts, their tables and sentences: values by hand, and laws over generated runs."""

import itertools
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import distributions

from flipjax.metrics.statistics.permutation import LEVEL
from flipjax.page.tables import TextTable, literal, to_markdown, to_text
from flipjax.results import text
from flipjax.results.rows import CLASSES_NOT_LEARNT, member_quantities
from flipjax.results.sentences import classes_warning, headline, verdicts
from flipjax.results.statistics.estimates import INTERVAL_IN_WORDS, aggregate, compare, estimate, trend
from flipjax.results.statistics.resamples import IMAGES_INTERVAL, Resamples
from flipjax.results.statistics.setting_tables import FirstRule
from flipjax.results.statistics.verdicts import CORRECTION, FEWEST_SEEDS, JUDGED, differences_of, holm, judge, shared_p
from flipjax.results.text import COLUMNS, FURTHER_COLUMNS, comparison_table, legend, summary_table, trend_table
from flipjax.support.frames import records_of
from results.tables import cell_of, find, random_decomposition, rows_of, table_of

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


def rare_flips(flips, **options):
    return table_of({key: {("rare", "fg_flip"): flip} for key, flip in flips.items()}, **options)


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


AXES = ("width", "method", "rho", "seed")


@st.composite
def runs(draw):
    """Rows of runs of several widths and methods, of one to six seeds, some of whose members are left out."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    seeds = draw(st.integers(1, 6))
    grid = itertools.product((4, 8), ("ce", "dro"), (0.5, 0.9), range(seeds))
    values, status = {}, {}
    scale = draw(st.sampled_from([0.003, 0.03, 0.3]))
    for key in grid:
        shift = draw(st.sampled_from([0.0, 0.2])) * (key[2] > 0.5) + 0.1 * (key[1] == "dro")
        whole = {"fg_flip": 0.2, "gap_mean": shift, "worst_group_iou": 0.5, "iou_foreground": 0.8, "risk_auroc": 0.6}
        noise = dict(zip(whole, generator.normal(0, scale, len(whole)), strict=True))
        values[key] = {("all", name): float(np.clip(v + noise[name], 0, 1)) for name, v in whole.items()}
        values[key]["rare", "fg_flip"] = float(np.clip(0.2 + shift + generator.normal(0, scale), 0, 1))
        status |= {key: draw(st.sampled_from(["diverged", "not learnt"]))} if generator.random() < 0.1 else {}
    return table_of(values, axes=AXES, status=status)


@settings(max_examples=10)
@given(runs())
def test_a_sentence_is_a_row_of_a_table_and_a_verdict_needs_four_seeds(rows):
    summary = aggregate(rows)
    judged = differences_of(rows)
    trends, comparison = judged.trend, judged.comparison
    for table in (trends, comparison):
        decided = table[table["verdict"] != ""]
        assert (decided["n"] >= FEWEST_SEEDS).all() and decided["quantity"].isin(JUDGED).all()
        assert (decided["p"] < LEVEL).all() and (decided["reason"] == "").all()
        undecided = table[table["quantity"].isin(JUDGED) & (table["verdict"] == "")]
        assert (undecided["reason"] != "").all()
    tables = (summary_table(summary), trend_table(trends), comparison_table(comparison, "method"))
    shown = [(row[: table.name_columns], row[table.name_columns :]) for table in tables for row in table.rows]
    for sentence in [*headline(summary, trends), *verdicts(comparison)]:
        if "no seed has" in sentence:
            continue
        setting = {*re.findall(r"(?:width|rho|method) ([^\s,:)]+)", sentence)}
        rows_of_it = [cells for names, cells in shown if setting <= {*" ".join((*names, *cells)).split()}]
        cells = [cell.split(" (")[0] for row in rows_of_it for cell in row if "." in cell]
        assert any(re.search(rf"[( ]{re.escape(cell)}[), ]", sentence) for cell in cells), sentence
    for table in (trends, comparison):
        assert legend(table).startswith("*") == (table["n"].max() >= FEWEST_SEEDS)


@settings(max_examples=2)
@given(runs(), st.randoms(use_true_random=False))
def test_the_order_of_members_and_a_second_run_beside_change_nothing(rows, random):
    members = rows["member"].unique().tolist()
    zeros = [name for name in members if name.endswith("-0")]
    random.shuffle(members)
    order = zeros + [name for name in members if name not in zeros]
    shuffled = pd.concat([rows[rows["member"] == name] for name in order], ignore_index=True)
    beside = pd.concat([rows.assign(run="a"), rows.assign(run="b")], ignore_index=True)
    beside = beside[["member", "run", *rows.columns[1:]]]
    columns = ["quantity", "n", "difference", "low", "high"]
    for table in (trend, compare):
        first, other = table(rows), table(shuffled)
        names = [*(name for name in AXES if name in first), "quantity"]
        sets = [found.sort_values(names)[columns].reset_index(drop=True) for found in (first, other)]
        pd.testing.assert_frame_equal(*sets, atol=2e-6)
        own = table(beside.assign(member=beside["run"] + beside["member"]))
        pd.testing.assert_frame_equal(own[own["run"] == "b"][columns].reset_index(drop=True), first[columns])


def grid(auroc, *, seeds=4):
    """A grid whose Flip in the rare groups rises by 0.5 over rho, with some spread over seeds."""
    values = {}
    for rho in (0.5, 0.9, 0.99):
        for seed in range(seeds):
            whole = {"fg_flip": 0.2, "iou_foreground": 0.9, "gap_mean": 0.1, "risk_auroc": auroc + 0.02 * seed}
            values[rho, seed] = {("all", name): value for name, value in whole.items()}
            values[rho, seed]["rare", "fg_flip"] = 0.1 + (0.5 + 0.01 * seed) * (rho > 0.9)
    return table_of(values)


def test_tables_fit_a_terminal_and_repeat_what_names_a_row():
    summary = aggregate(grid(0.6))
    shown = to_text(summary_table(summary))
    assert max(map(len, shown.splitlines())) <= 80
    blocks = [block.splitlines() for block in shown.split("\n\n")]
    assert len(blocks) > 1 and all(lines[0].split()[:2] == ["rho", "seeds"] and len(lines) == 5 for lines in blocks)
    assert "0.615 [0.594, 0.636]" in shown
    assert to_markdown(trend_table(judge(trend(grid(0.6))))).count("\n") == 6


def test_the_first_table_has_the_quantities_that_a_reader_compares():
    summary = aggregate(grid(0.6))
    assert summary_table(summary).header == ["rho", "seeds", *text.titles(COLUMNS).values()]
    assert text.known_quantities(summary, FURTHER_COLUMNS) == []


def said_of_ranking(rows):
    (said,) = [line for line in headline(aggregate(rows), judge(trend(rows))) if "AUROC" in line]
    return said


@pytest.mark.parametrize(
    ("auroc", "words"),
    [
        (0.2, "Flip-risk ranks flips the wrong way (AUROC 0.230 [0.189, 0.271]) at rho 0.99, 4 seeds."),
        (0.47, "No evidence that flip-risk ranks flips (AUROC 0.500 [0.459, 0.541]) at rho 0.99, 4 seeds."),
        (0.55, "Flip-risk ranks flips poorly (AUROC 0.580"),
        (0.67, "Flip-risk ranks flips better than chance (AUROC 0.700"),
        (0.85, "Flip-risk ranks flips (AUROC 0.880"),
    ],
)
def test_what_is_said_of_flip_risk_follows_the_interval_of_its_auroc(auroc, words):
    assert said_of_ranking(grid(auroc)).startswith(words)


def test_three_seeds_make_no_verdict_on_flip_risk():
    assert said_of_ranking(grid(0.47, seeds=3)).startswith("No verdict on flip-risk (AUROC 0.490")


def test_what_was_not_learnt_has_no_verdict_and_the_sentence_says_where():
    rows = grid(0.85)
    rows["status"] = rows["status"].mask(rows["rho"] == 0.5, CLASSES_NOT_LEARNT)
    trends = judge(trend(rows))
    assert set(trends["verdict"]) == {""} and not trends["learnt"].any()
    flip, *_ = headline(aggregate(rows), trends)
    assert "goes from 0.100 at rho 0.5" in flip and flip.endswith("no verdict: classes not learnt at rho 0.5.")
    # Those of the highest rho have learnt them.
    assert said_of_ranking(rows).startswith("Flip-risk ranks flips (AUROC")


def test_a_verdict_on_flip_risk_is_of_the_level_that_it_names():
    rows = grid(0.85)
    rows["status"] = rows["status"].mask(rows["rho"] == 0.99, CLASSES_NOT_LEARNT)
    assert said_of_ranking(rows).startswith("No verdict on flip-risk: classes not learnt")


def test_a_warning_names_the_members_that_have_not_learnt_with_their_rho_and_method():
    rows = methods_at_once({"swap": 4})
    (warning,) = classes_warning(member_quantities(rows), classes=2)
    names = ", ".join(f"swap-0.9-{seed}" for seed in range(4))
    assert warning.startswith(
        f"Warning: 4 of the 8 members have not learnt the classes: {names} (method swap, rho 0.9). Of the object"
    )
    assert "no verdict" not in warning


def test_one_member_in_four_that_learnt_nothing_leaves_the_verdict():
    rows = grid(0.85)
    rows["status"] = rows["status"].mask((rows["rho"] == 0.5) & (rows["seed"] == 0), CLASSES_NOT_LEARNT)
    row = find(judge(trend(rows)), "group/rare/fg_flip")
    assert (row["verdict"], row["unlearnt"], row["learnt"]) == ("higher", 1, True)


def methods_at_once(unlearnt, seeds=4):
    """Rows of two methods, of each of which a number of members has not learnt the classes."""
    values, status = {}, {}
    for method, flip in {"ce": 0.8, "swap": 0.2}.items():
        for seed in range(seeds):
            values[method, 0.9, seed] = {("rare", "fg_flip"): flip + 0.01 * seed * (method == "ce")}
            if seed < unlearnt.get(method, 0):
                status[method, 0.9, seed] = CLASSES_NOT_LEARNT
    return table_of(values, status=status, axes=("method", "rho", "seed"))


@pytest.mark.parametrize(
    ("unlearnt", "ending"),
    [
        ({}, "4 seeds: lower."),
        ({"swap": 1}, "4 seeds: lower, but 1 of its members has not learnt the classes."),
        ({"ce": 4}, "4 seeds: no verdict: classes not learnt by ce."),
        ({"swap": 4}, "4 seeds: no verdict: classes not learnt by swap."),
        ({"swap": 2}, "4 seeds: no verdict: classes not learnt by swap."),
        ({"ce": 4, "swap": 4}, "4 seeds: no verdict: classes not learnt by swap and ce."),
    ],
    ids=["all learnt", "one has not", "the reference has not", "the method has not", "half have not", "neither has"],
)
def test_a_comparison_needs_two_sides_that_learnt_and_names_who_did_not(unlearnt, ending):
    (sentence,) = verdicts(judge(compare(methods_at_once(unlearnt))))
    assert sentence.startswith("swap against ce (rho 0.9): flip, rare -0.615 [") and sentence.endswith(ending)


def test_methods_of_one_seed_are_named_where_they_have_not_learnt():
    assert set(compare(methods_at_once({"ce": 1, "swap": 1}, seeds=1))["unlearnt_where"]) == {"by swap and ce"}


def rare_flip_text(flips):
    summary = aggregate(rare_flips({(0.5, seed): flip for seed, flip in enumerate(flips)}))
    return text.mean_text(find(summary, "group/rare/fg_flip", rho=0.5))


@pytest.mark.parametrize(
    ("flips", "shown"),
    [
        ((0.4,), "0.400"),
        ((0.1, 0.3), "0.200"),
        ((0.0, 0.1, 0.2), "0.100 [0*, 0.348]"),
        ((0.8, 0.9, 1.0), "0.900 [0.652, 1*]"),
        ((0.0, 1.0, 0.5), "0.500 [-]"),
        ((0.0, 0.0, 0.0), "0.000 [0.000, 0.000]"),
    ],
    ids=["one seed", "two seeds", "cut below", "cut above", "wider than the range", "equal"],
)
def test_an_interval_says_where_it_is_cut_and_two_seeds_have_none(flips, shown):
    assert rare_flip_text(flips) == shown


def test_marks_of_intervals_are_explained():
    table = TextTable(["flip"], [["0.100 [0*, 0.348]"], ["0.500 [-]"]])
    assert "cut at the end" in text.marks(table) and "wider" in text.marks(table)
    table = TextTable(["change"], [["+0.100 [+0.050, +0.150]*"]])
    assert text.marks(table) == "in brackets 95% intervals over seeds"
    assert text.marks(TextTable(["flip"], [["0.100"]])) == ""


def test_levels_have_three_digits_everywhere():
    values = {(1 / 3, seed): {("rare", "fg_flip"): 0.1 * seed} for seed in range(3)}
    values |= {(2 / 3, seed): {("rare", "fg_flip"): 0.2 * seed} for seed in range(3)}
    rows = table_of(values)
    trends = judge(trend(rows))
    shown = [to_text(summary_table(aggregate(rows))), to_text(trend_table(trends)), *headline(aggregate(rows), trends)]
    assert "0.333 to 0.667" in shown[1] and not [line for line in shown if "0.3333" in line or "0.6666" in line]


def test_a_star_has_a_legend_and_a_name_breaks_no_table():
    few, many = (judge(trend(grid(0.6, seeds=seeds))) for seeds in (3, 4))
    assert "*" not in to_text(trend_table(few)) and "*" in to_text(trend_table(many))
    assert literal("a\n|![i](https://x)<b>`") == r"a \|![i]\(https://x)&lt;b>\`"


def first_rule(seeds, images_low):
    """The tables of a run whose settings have these numbers of seeds, of which notes read the means and the rows."""
    means = pd.DataFrame({"quantity": "fg_flip", "n": seeds, "images_low": images_low})
    rows = pd.DataFrame({"split": ["test"], "group": ["all"], "n_images": [40]})
    nothing = pd.DataFrame()
    return FirstRule({}, rows, nothing, means, trend=nothing, comparison=nothing, selection=nothing, history=nothing)


NOTES = {
    "equal numbers": ([4, 4], np.nan, f"Seeds: 4; test images: 40; {INTERVAL_IN_WORDS}."),
    "other numbers": ([3, 4], np.nan, f"Seeds: 3 to 4; test images: 40; {INTERVAL_IN_WORDS}."),
    "two seeds": ([2], np.nan, "Seeds: 2; test images: 40."),
    "one seed": ([1], np.nan, "Seeds: 1; test images: 40."),
    "one seed, intervals over images": ([1], 0.1, f"Seeds: 1; test images: 40; {IMAGES_INTERVAL}."),
}


@pytest.mark.parametrize(("seeds", "images_low", "note"), NOTES.values(), ids=NOTES)
def test_a_note_says_how_many_seeds_there_are_and_what_intervals_are_over(seeds, images_low, note):
    assert first_rule(seeds, images_low).note_on_intervals() == note


@pytest.mark.parametrize(
    ("seeds", "ending"),
    [(1, "40."), (2, "40. Small dots: single seeds."), (4, f"40; {INTERVAL_IN_WORDS}. Small dots: single seeds.")],
)
def test_dots_are_explained_where_there_are_several(seeds, ending):
    assert first_rule([seeds], np.nan).note_on_dots() == f"Seeds: {seeds}; test images: {ending}"
