"""Methods tuned with the same budget: draws, choices against slow twins, and the whole protocol on a tiny grid."""

import faults
import numpy as np
import pandas as pd
import pytest
from conftest import draw_panels
from hypothesis import given
from hypothesis import strategies as st

import flipjax
from flipjax.__main__ import main
from flipjax.config import AXES, ConfigError
from flipjax.config.methods import KNOB_DEFAULTS, METHODS, knobs_set_by
from flipjax.data import POOLS
from flipjax.page import charts
from flipjax.support.frames import read_csv
from flipjax.support.terminal import Bar
from flipjax.sweep.run import Sweep
from flipjax.tuning import RANGES, DrawRange, draw_settings
from flipjax.tuning.page import draw_cells, result_tables
from flipjax.tuning.protocol import RULES, UNTUNED

SMALL = {"axes.method": ("group_dro", "ce"), "axes.rho": (1.0,), "axes.seed": (0, 1), "intervene.scenes": "none"}
SMALL |= {"intervene.scores": "none"}


@given(st.sampled_from(sorted(RANGES)), st.integers(0, 9))
def test_every_draw_is_a_value_of_its_range_and_of_its_key(name, seed):
    drawn = RANGES[name].draw(np.random.default_rng(seed))
    assert RANGES[name].low <= drawn <= RANGES[name].high and AXES[name].accepts(drawn)


def test_draws_of_a_scale_are_even_in_it():
    generator = np.random.default_rng(0)
    rates = [DrawRange(1e-4, 1.0, "log").draw(generator) for _ in range(4000)]
    assert np.mean(np.array(rates) < 1e-2) == pytest.approx(0.5, abs=0.03)
    averages = [DrawRange(0.9, 0.999, "log1m").draw(generator) for _ in range(4000)]
    assert np.mean(np.array(averages) < 0.99) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("method", METHODS)
def test_methods_share_what_all_have_and_draw_their_own(method):
    other = "ce" if method != "ce" else "ema"
    settings = draw_settings((method, other), draws=3, seed=7)
    own, others = settings[:3], settings[3:]
    assert [setting["learning_rate"] for setting in own] == [setting["learning_rate"] for setting in others]
    names = {"method", "learning_rate", *(name for name in knobs_set_by(method) if name in KNOB_DEFAULTS)}
    assert all(set(setting) == names for setting in own), "each knob has a range in tuning.draws.RANGES"
    assert (
        draw_settings((method, other), draws=3, seed=7) == settings != draw_settings((method, other), draws=3, seed=8)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": {"axes.method": ("ce",)}}, "config.axes.method: expected two or more different methods"),
        ({"draws": 1}, "draws: expected two or more of each method; found 1"),
        ({"ranges": {"learning_rate": DrawRange(0.1, 0.1)}}, "ranges.learning_rate: expected a low end below"),
        ({"ranges": {"swap": DrawRange(0.5, 2)}}, r"ranges.swap: expected ends that the key takes, .*\[0, 1\]"),
        ({"ranges": {"rho": DrawRange(0.5, 1)}}, "ranges.rho: expected one of learning_rate"),
        ({"ranges": {"learning_rate": DrawRange(0.0, 1, "log")}}, "ranges.learning_rate: expected a low end above 0"),
        ({"ranges": {"dro_step": DrawRange(0.1, 1)}}, "ranges: expected methods .*; found ce, whose draws"),
        ({"fresh": (1, 2)}, "fresh: expected seeds that train no draw .*; found 1 in both"),
        ({"rules": ("last",)}, "rules: expected one or more different among val_cross_entropy"),
        (
            {"rules": ("val_cross_entropy",) * 2},
            "rules: expected one or more different .*; found val_cross_entropy, val_cross_entropy",
        ),
        (
            {"changes": {"axes.train.learning_rate": (1e-3, 1e-2)}},
            "config.axes.train.learning_rate: expected one value",
        ),
        ({"changes": {"axes.model.width": (4, 8)}}, "config.axes: expected axes of traced keys and no members"),
    ],
    ids=[
        "one method",
        "one draw",
        "empty",
        "out of range",
        "no number",
        "log of 0",
        "no knob",
        "seeds that overlap",
        "rule",
        "a rule twice",
        "axis",
        "grid",
    ],
)
def test_what_cannot_be_tuned_is_one_sentence(options, message):
    changes = SMALL | options.pop("changes", {})
    with pytest.raises(ConfigError, match=f"^{message}"):
        flipjax.tune("smoke", changes, **options)


def test_a_range_on_the_command_line_that_is_none_is_one_sentence(capsys):
    assert main(["tune", "--config=smoke", "--ranges=swap=0.1"]) == 2
    assert "--ranges: expected NAME=LOW:HIGH[:SCALE]" in capsys.readouterr().err


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The protocol on the tiny grid, killed once while draws were trained; its folder and what it said."""
    folder, said = tmp_path_factory.mktemp("tuned"), []
    config = faults.config_file()

    def tune():
        rules = ("val_worst_group_iou", "val_cross_entropy")
        options = {"draws": 2, "rules": rules, "fresh": (10, 11, 12, 13), "workdir": folder, "say": said.append}
        return flipjax.tune(config, SMALL, **options)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(POOLS, "synthetic", faults.DRAWN)
        patch.setattr(charts, "draw_chart", draw_panels)
        with patch.context() as killed:
            killed.setattr(Bar, "advance", interrupt)
            with pytest.raises(KeyboardInterrupt):
                tune()
        tune()
        patch.setattr(Sweep, "train", None)
        yield tune(), said


def test_the_time_is_said_before_draws_are_trained_and_not_again(tuned):
    _, said = tuned
    words = "8 networks of draws and at most 24 with fresh seeds: at most"
    assert len(said) == 2 and all(words in line for line in said)


@pytest.mark.parametrize("rule", ["val_cross_entropy", "val_worst_group_iou"])
def test_the_chosen_draw_is_the_best_mean_over_seeds_at_the_epochs_kept(tuned, rule):
    """A slow twin."""
    result, _ = tuned
    folder = result.folder / "draws"
    rows, history = read_csv(folder / "results.csv"), read_csv(folder / "history.csv")
    settings = draw_settings(SMALL["axes.method"], draws=2)
    for method in SMALL["axes.method"]:
        scores = {}
        for number, setting in enumerate(settings):
            if setting["method"] != method:
                continue
            values = []
            for row in rows.query(f"split == 'test' and group == 'all' and selection == '{rule}'").to_dict("records"):
                if all(row[name] == value for name, value in setting.items()):
                    kept = history[(history["member"] == row["member"]) & (history["epoch"] == row["best_epoch"])]
                    values.append(float(kept[RULES[rule].measure].iloc[0]))
            assert len(values) == 2
            scores[number] = RULES[rule].sign * np.mean(values)
        (chosen,) = result.chosen.query(f"method == '{method}' and rule == '{rule}'").to_dict("records")
        assert chosen["draw"] == min(scores, key=scores.get)
        assert chosen["score"] == pytest.approx(RULES[rule].sign * min(scores.values()))


def test_what_was_chosen_is_trained_with_fresh_seeds_and_tested_once(tuned):
    result, _ = tuned
    members = result.results.query("group == 'all'")
    assert set(members["split"]) == {"test"} and set(members["seed"]) == {10, 11, 12, 13}
    counts = members.groupby(["method", "selection"])["seed"].nunique()
    assert set(counts) == {4} and len(counts) == 2 * 3
    for row in result.chosen.to_dict("records"):
        rows = members[(members["method"] == row["method"]) & (members["selection"] == row["rule"])]
        for name in rows["member"]:
            assert result.fresh.setting_of(name)["learning_rate"] == row["learning_rate"]
    assert set(result.tuning["reference"]) == {UNTUNED} and set(result.methods["reference"]) == {"group_dro"}


def test_the_page_says_what_was_drawn_chosen_and_found(tuned):
    result, _ = tuned
    page = (result.folder / "report/index.html").read_text()
    for heading in ("Found", "Verdicts", "Chosen", "Drawn", "Ranges that were declared"):
        assert f">{heading}<" in page or heading in page
    assert "ce against group_dro" in page and "each tuned by val_worst_group_iou" in page
    files = {path.name for path in result.folder.iterdir()}
    assert {"draws.csv", "results.csv", "methods.csv", "tuning.csv", "report", "draws", "fresh"} <= files


def test_the_table_of_all_draws_says_which_were_chosen(tuned):
    table = draw_cells(tuned[0].draws, mark_chosen=True)
    assert table.header[-1] == "chosen"
    assert [row[-1] == "yes" for row in table.rows] == tuned[0].draws["chosen"].tolist()


def test_a_long_table_is_preceded_by_the_settings_with_the_fewest_flips():
    rows = []
    for method, flips in (("ce", (0.1, 0.5)), ("ema", (0.2, 0.2)), ("swa", (0.3, 0.4))):
        for rho, flip in zip((0.5, 0.95), flips, strict=True):
            numbers = {"n": 3, "left_out": 0, "mean": flip, "low": flip, "high": flip}
            rows.append({"method": method, "rho": rho, "quantity": "group/rare/fg_flip", **numbers})
    best, whole = result_tables(pd.DataFrame(rows), best=2)
    assert [row[:2] for row in best.table.rows] == [["ema", "0.95"], ["swa", "0.95"]] and not best.folded
    assert best.caption.startswith("The 2 with the least Flip in the rare groups at rho 0.95: mean over fresh seeds")
    assert len(whole.table.rows) == 6 and whole.folded and whole.caption.startswith("All test results")
    (alone,) = result_tables(pd.DataFrame(rows), best=6)
    assert len(alone.table.rows) == 6 and not alone.folded


def test_a_dry_run_says_the_time_and_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(POOLS, "synthetic", faults.DRAWN)
    keys = [f"--config.{name}={value!r}" for name, value in SMALL.items()]
    options = ["--draws=2", "--fresh=10,11", "--workdir", str(tmp_path / "tuned"), "--dry_run"]
    assert main(["tune", f"--config={faults.config_file()}", *keys, *options]) == 0
    said = capsys.readouterr().out
    assert said.startswith("8 networks of draws and at most 8 with fresh seeds: at most 00:")
    assert not (tmp_path / "tuned").exists()
