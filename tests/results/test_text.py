"""Tables and sentences of a terminal."""

import numpy as np

from flipjax.results import quantities
from flipjax.results.cells import load_cell
from flipjax.results.choices import regret
from flipjax.results.frames import read_csv, records_of
from flipjax.results.quantities import RANGES
from flipjax.results.resampling import Resamples
from flipjax.results.seeds import aggregate, compare, trend
from flipjax.results.text import (
    comparison_table,
    headline,
    regret_table,
    summary_table,
    to_markdown,
    to_text,
    trend_table,
)
from results.tables import table_of


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
    text = to_text(summary_table(aggregate(grid(0.5))))
    assert max(map(len, text.splitlines())) <= 80
    blocks = text.split("\n\n")
    assert len(blocks) > 1 and all(block.splitlines()[0].split()[:2] == ["rho", "seeds"] for block in blocks)
    assert all(len(block.splitlines()) == 5 for block in blocks)
    assert "0.615 [0.594, 0.636]" in text
    assert to_markdown(trend_table(trend(grid(0.5)))).count("\n") == 8
    few = to_text(summary_table(aggregate(grid(0.5, seeds=2))))
    assert "0.60 0.61" in few and "[" not in few


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


def test_no_share_or_interval_of_a_recorded_run_leaves_its_range(recorded):
    table = read_csv(recorded / "results.csv")
    rows = table[table["selection"] == "val_loss"]
    resamples = Resamples({"000": load_cell(recorded / "cells/000/decomposition.npz")}, samples=50)
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
