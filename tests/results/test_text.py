"""Tables of a terminal and of Markdown."""

from flipjax.results.estimates import aggregate, judge, trend
from flipjax.results.text import (
    headline,
    legend,
    literal,
    summary_table,
    to_markdown,
    to_text,
    trend_table,
    unlearnt_warning,
)
from results.tables import table_of


def grid(auroc, *, seeds=4):
    """A grid whose Flip in the rare groups rises by .5 over rho, with some spread over seeds."""
    values = {}
    for rho in (0.5, 0.9, 0.99):
        for seed in range(seeds):
            whole = {"fg_flip": 0.2, "iou_foreground": 0.9, "gap_mean": 0.1, "risk_auroc": auroc + 0.02 * seed}
            values[rho, seed] = {("all", name): value for name, value in whole.items()}
            values[rho, seed]["rare", "fg_flip"] = 0.1 + (0.5 + 0.01 * seed) * (rho > 0.9)
    return table_of(values)


def test_tables_fit_a_terminal_and_repeat_what_names_a_row():
    text = to_text(summary_table(aggregate(grid(0.6))))
    assert max(map(len, text.splitlines())) <= 80
    blocks = [block.splitlines() for block in text.split("\n\n")]
    assert len(blocks) > 1 and all(lines[0].split()[:2] == ["rho", "seeds"] and len(lines) == 5 for lines in blocks)
    assert "0.615 [0.594, 0.636]" in text
    assert to_markdown(trend_table(*judge(trend(grid(0.6))))).count("\n") == 6


def test_flip_risk_is_called_blind_only_where_its_interval_holds_chance():
    words = {0.47: "blind to flips", 0.55: "ranks flips poorly", 0.85: "ranks flips:", 0.2: "the wrong way"}
    for auroc, word in words.items():
        rows = grid(auroc)
        (said,) = [line for line in headline(aggregate(rows), *judge(trend(rows))) if "AUROC" in line]
        assert word in said and "rho 0.99" in said
    rows = grid(0.47, seeds=3)
    assert not any("blind" in line for line in headline(aggregate(rows), *judge(trend(rows))))


def test_a_star_has_a_legend_and_a_name_breaks_no_table():
    few, many = (judge(trend(grid(0.6, seeds=seeds))) for seeds in (3, 4))
    assert ("*" in legend(*few), "*" in legend(*many)) == (False, True)
    assert "*" not in to_text(trend_table(*few)) and "*" in to_text(trend_table(*many))
    assert literal("a\n|![i](https://x)<b>`") == r"a \|![i]\(https://x)&lt;b>\`"
    assert unlearnt_warning([], members=2) == [] and "All 2 members" in unlearnt_warning(["a", "b"], members=2)[0]
