"""Tables and sentences of a terminal."""

import itertools

import numpy as np

from flipjax.results import quantities
from flipjax.results.cells import load_cell
from flipjax.results.choices import regret
from flipjax.results.estimates import Resamples, aggregate, compare, trend
from flipjax.results.frames import read_csv, records_of, to_frame
from flipjax.results.quantities import RANGES
from flipjax.results.sentences import headline, unlearnt_warning, verdicts
from flipjax.results.text import comparison_table, regret_table, summary_table, to_markdown, to_text, trend_table
from results.tables import RECORDED, table_of


def grid(change, *, seeds=4):
    """A grid whose Flip in the rare groups changes by `change` over rho, with some spread over seeds."""
    values = {}
    for rho, seed in itertools.product((0.5, 0.9, 0.99), range(seeds)):
        high = rho > 0.9
        whole = {"fg_flip": 0.2, "iou_foreground": 0.9 + 0.02 * (seed % 2) * (-1 if high else 1), "gap_mean": -0.1}
        whole["risk_auroc"] = (0.9 if rho < 0.9 else 0.55) + 0.01 * seed
        values[rho, seed] = {("all", name): value for name, value in whole.items()}
        values[rho, seed]["rare", "fg_flip"] = 0.1 + (change + 0.01 * seed) * high
    return table_of(values)


def test_tables_fit_a_terminal_and_repeat_what_names_a_row():
    text = to_text(summary_table(aggregate(grid(0.5))))
    assert max(map(len, text.splitlines())) <= 80
    blocks = [block.splitlines() for block in text.split("\n\n")]
    assert len(blocks) > 1 and all(lines[0].split()[:2] == ["rho", "seeds"] and len(lines) == 5 for lines in blocks)
    assert "0.615 [0.594, 0.636]" in text
    assert to_markdown(trend_table(trend(grid(0.5)))).count("\n") == 8
    few = to_text(summary_table(aggregate(grid(0.5, seeds=2))))
    assert "0.605" in few and "[" not in few


def test_no_sentence_without_an_interval_that_carries_it():
    def sentences(rows):
        return headline(aggregate(rows), trend(rows))

    lines = sentences(grid(0.5))
    assert lines[0].startswith("Flip in the rare groups rises from 0.10 at rho 0.5 to 0.61 at rho 0.99 (+0.52 [")
    assert "no change" in lines[1] and lines[1].startswith("IoU gap")
    assert "no change" in lines[2] and lines[2].startswith("Foreground IoU")
    assert lines[3].startswith("From rho 0.9 on flip-risk is nearly blind")
    assert "rho 0.99" in lines[3] and "[0.5" in lines[3]
    assert "no change" in sentences(grid(-0.015))[0]
    assert sentences(grid(0.5, seeds=3)) == []
    # The change of 0.004 excludes 0, and shows in neither of the two digits.
    few = {(rho, seed): {("rare", "fg_flip"): 0.1 + 0.01 * (rho - 0.5)} for rho in (0.5, 0.9) for seed in range(4)}
    line = "Flip in the rare groups stays at 0.10 from rho 0.5 to 0.9 (+0.00 [+0.00, +0.00]"
    assert sentences(table_of(few))[0].startswith(line)


def test_a_verdict_says_what_its_interval_excludes():
    row = {
        "rho": 0.95,
        "method": "mine",
        "reference": "ce",
        "quantity": "group/rare/fg_flip",
        "n": 4,
        "interval": "seeds",
    }
    cases = [(-0.21, -0.47, 0.05), (-0.21, -0.47, -0.05), (0.2, 0.1, 0.3), (0.2, np.nan, np.nan)]
    ends = [dict(zip(("difference", "low", "high"), case, strict=True)) for case in cases]
    table = to_frame([row | {"rho": 0.5} | ends[2], *(row | each for each in ends)])
    first, *others = verdicts(table)
    assert first == "mine against ce: Flip (rare) -0.21 [-0.47, +0.05] at rho 0.95: cannot be told apart with 4 seeds."
    for line, words in zip(others, ("lower", "higher", "no interval"), strict=True):
        assert line.endswith(f"0.95: {words}, with 4 seeds.")
    few = verdicts(to_frame([row | ends[0] | {"n": 2, "interval": "images"}]))
    assert few[0].endswith("cannot be told apart for these 2 seeds alone.") and verdicts(table[:0]) == []
    assert unlearnt_warning([], members=2, reach=0.1) == []
    assert unlearnt_warning(["a", "b"], members=2, reach=0.1)[0].startswith("Warning: All 2 members hardly find")


def test_no_share_or_interval_of_a_recorded_run_leaves_its_range():
    table = read_csv(RECORDED / "results.csv")
    rows = table[table["selection"] == "val_loss"]
    resamples = Resamples({"000": load_cell(RECORDED / "cells/000/decomposition.npz")}, samples=50)
    summary = aggregate(rows, resamples=resamples)
    for row in records_of(summary):
        least, most = RANGES[quantities.quantity_of(row["quantity"]).unit]
        values = [row[name] for name in ("mean", "low", "high")]
        assert all(least <= value <= most for value in values if np.isfinite(value)), row
        assert not row["low"] - 1e-6 > row["high"]
    trends, comparison = trend(rows, resamples=resamples), compare(rows, resamples=resamples)
    shares = comparison[comparison["quantity"].str.startswith("fg_")]["difference"]
    assert not (shares.abs() > 1).any()
    tables = [summary_table(summary), trend_table(trends), regret_table(regret(table, resamples=resamples))]
    for shown in [*tables, comparison_table(comparison, "method")]:
        assert shown.rows and max(map(len, to_text(shown).splitlines())) <= 80
        assert "*" not in to_text(shown)
