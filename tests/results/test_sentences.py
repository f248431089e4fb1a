"""The tables and sentences of intervals and verdicts: laws over generated runs, and texts."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flipjax.metrics.statistics.permutation import LEVEL
from flipjax.page.tables import TextTable, literal, to_markdown, to_text
from flipjax.results import text
from flipjax.results.rows import CLASSES_NOT_LEARNT, member_quantities
from flipjax.results.sentences import classes_warning, headline, verdicts
from flipjax.results.statistics.estimates import INTERVAL_IN_WORDS, aggregate, compare, trend
from flipjax.results.statistics.resamples import IMAGES_INTERVAL
from flipjax.results.statistics.setting_tables import FirstRule
from flipjax.results.statistics.verdicts import FEWEST_SEEDS, JUDGED, differences_of, judge
from flipjax.results.text import COLUMNS, FURTHER_COLUMNS, comparison_table, legend, summary_table, trend_table
from results.tables import find, rare_flips, table_of

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
