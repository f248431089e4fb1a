"""Association, cues, remedies, schedule, verdicts and the record of an assay."""

import dataclasses
import math

import numpy as np
import pytest

from flipjax.assays.__main__ import seconds_of
from flipjax.assays.association import associate
from flipjax.assays.contrast import Contrast, FlipEstimate
from flipjax.assays.cues import CUES, CueAuroc, measure_cues, rank_cues
from flipjax.assays.population import Design, NetworkSetting
from flipjax.assays.record import from_plain, to_plain
from flipjax.assays.remedy import Level, count_counter_examples
from flipjax.assays.schedule import Schedule, choose_schedule, duration, fit_remedies
from flipjax.assays.units import AssayUnits
from flipjax.assays.verdict import NOT_USED, UNKNOWN, USED, Learnt, judge_contrast
from flipjax.config import ConfigError
from flipjax.metrics.intervals import Estimate


def test_cramers_v_of_a_table_by_hand():
    # chi2 = 2 * 40^2 / 50 + ... = 64 of 100 images: V = sqrt(.64).
    units = AssayUnits(np.repeat([0, 1], 50), np.repeat([0, 1, 0, 1], [45, 5, 5, 45]), np.arange(100), 2, 2)
    assert associate(units, permutations=9).cramers_v == pytest.approx(0.8)


def test_an_attribute_of_few_patients_is_permuted_with_them():
    patient = np.repeat(np.arange(6), 30)
    units = AssayUnits(np.repeat([0, 1], 90), np.repeat([0, 0, 1, 1, 1, 0], 30), patient, 2, 2)
    whole = associate(units, permutations=200)
    single = associate(dataclasses.replace(units, cluster=np.arange(180)), permutations=200)
    assert whole.unit == "clusters"
    assert single.p < 0.01 < 0.2 < whole.p


def test_the_cue_that_carries_the_attribute_comes_first():
    random = np.random.default_rng(0)
    value = np.arange(60) % 2
    images = random.random((60, 16, 16, 3)).astype(np.float32) * 0.5
    images[..., 0] += 0.2 * value[:, None, None]
    masks = np.zeros((60, 16, 16), int)
    masks[:, 4:8, 4:8] = 1
    cues = measure_cues(images, masks, aspects=np.ones(60))
    assert cues.keys() == CUES.keys()
    ranked = rank_cues(cues, (np.arange(60) // 2) % 2, value, np.arange(60), samples=50)
    warmth = next(cue for cue in ranked if cue.name == "warmth")
    assert warmth.of_value.low > 0.9
    assert warmth.of_class.low < 0.6
    assert [cue.of_value.value for cue in ranked] == sorted((cue.of_value.value for cue in ranked), reverse=True)
    assert all(0.5 <= cue.of_value.value <= 1 for cue in ranked)


def test_a_resample_of_few_patients_without_a_class_warns_of_nothing():
    patients = np.repeat(np.arange(3), 4)
    classes = (patients == 0).astype(int)
    cue = rank_cues({"noise": np.random.default_rng(0).random(12)}, classes, np.arange(12) % 2, patients, samples=60)[0]
    assert all(0 <= end <= 1 for end in (*cue.of_class, *cue.of_value))


def test_grey_images_have_no_cues_of_colour():
    grey = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1), dtype=np.uint8).repeat(3, axis=3)
    cues = measure_cues(grey, grey[..., 0] > 200, aspects=None)
    ranked = rank_cues(cues, np.arange(20) % 2, (np.arange(20) // 2) % 2, np.arange(20), samples=5)
    assert {cue.name for cue in ranked} == CUES.keys() - {"warmth", "greenness", "saturation"}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_cues_of_bytes_and_floats_are_alike(dtype):
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    given = images if dtype == np.uint8 else images.astype(np.float32) / 255
    plain = measure_cues(images, images[..., 0] > 200, aspects=None)
    for name, values in measure_cues(given, images[..., 0] > 200, aspects=None).items():
        np.testing.assert_allclose(values, plain[name], rtol=1e-5, atol=1e-6)


def flip(value):
    return FlipEstimate(value, np.full(4, value), value - 0.05, value + 0.05)


def levels(*pairs):
    return [Level(f"{kept}", kept, flip(rare), flip(0.05), 0.9) for kept, rare in pairs]


COUNTS = np.array([[90, 10], [20, 80]])
RARE = np.array([[False, True], [True, False]])


def test_fewer_counter_examples_may_be_enough():
    needed = count_counter_examples(levels((0.0, 0.8), (0.25, 0.4), (0.5, 0.08), (1.0, 0.05)), COUNTS, RARE, target=0.1)
    assert (needed.kind, needed.sufficient, needed.to_collect.sum()) == ("enough", 0.5, 0)


def test_the_number_to_collect_follows_the_log_odds():
    # Odds of 1 at all: .25 per counter-example; odds 1/9 need 9 times as many, beyond what is told, and 1/4 four times.
    curve = levels((0.25, 0.8), (0.5, 2 / 3), (1.0, 0.5))
    needed = count_counter_examples(curve, COUNTS, RARE, target=0.2)
    assert needed.kind == "extrapolated"
    assert needed.factor == pytest.approx(4)
    assert needed.to_collect.tolist() == [[0, 30], [60, 0]]


def test_no_more_counter_examples_are_asked_for_than_balance_a_class():
    curve = levels((0.25, 0.8), (0.5, 2 / 3), (1.0, 0.5))  # Four times as many, as above.
    balanced = np.array([[40, 10], [20, 90]])
    assert count_counter_examples(curve, balanced, RARE, target=0.2).kind == "extrapolated"
    needed = count_counter_examples(curve, balanced - [[1, 0], [0, 0]], RARE, target=0.2)
    assert (needed.kind, needed.to_collect.sum()) == ("more than can be told", 0)


@pytest.mark.parametrize(
    "curve",
    [
        levels((0.25, 0.8), (0.5, 2 / 3), (1.0, 0.5)),
        levels((0.25, 0.5), (0.5, 0.5), (1.0, 0.5)),
        levels((1.0, 0.5)),
        levels((0.0, 0.9), (0.5, 0.6), (1.0, 0.2)),
    ],
    ids=["too far", "flat", "one level", "two levels with counter-examples"],
)
def test_what_is_too_far_is_not_told(curve):
    needed = count_counter_examples(curve, COUNTS, RARE, target=0.1)
    assert needed.kind == "more than can be told"
    assert math.isnan(needed.factor)
    assert needed.to_collect.sum() == 0


def test_a_level_out_of_order_does_not_reach_the_target_alone():
    needed = count_counter_examples(levels((0.0, 0.8), (0.5, 0.08), (1.0, 0.3)), COUNTS, RARE, target=0.1)
    assert needed.kind != "enough"


SETTINGS = [NetworkSetting(0.5, "ce"), NetworkSetting(1.0, "balanced"), NetworkSetting(0.0, "ce")]


def test_the_budget_leaves_out_the_last_settings_first():
    schedule = choose_schedule(Design(5, 4, 1), SETTINGS, seconds=0.2, budget=200)
    assert schedule.design.epochs >= 10
    assert schedule.left_out == tuple(SETTINGS[len(schedule.settings) :])
    assert schedule.expected <= 200


def test_what_is_left_out_has_the_budget_that_it_needs():
    shorter = choose_schedule(Design(5, 4, 1), SETTINGS, seconds=0.2, budget=120)
    assert shorter.settings == ()
    assert shorter.left_out_sentence == (
        "the budget has no room for 50% of the counter-examples, balanced, 0% of the counter-examples; "
        f"--budget {duration(shorter.budget_for_all)} would have"
    )
    budget = seconds_of(duration(shorter.budget_for_all))
    longer = choose_schedule(Design(5, 4, 1), SETTINGS, seconds=0.2, budget=budget)
    assert longer.left_out == ()
    assert longer.design.epochs >= shorter.design.epochs


REMEDIES = Schedule(Design(5, 4, 20), tuple(SETTINGS), (), 0.2, 360.0, 360.0)


def test_a_population_that_keeps_its_time_leaves_its_remedies():
    assert fit_remedies(REMEDIES, spent=100, budget=360) is REMEDIES


@pytest.mark.parametrize(("spent", "kept"), [(120, 3), (121, 2), (154, 2), (155, 1), (217, 1), (218, 0), (1000, 0)])
def test_a_slower_population_leaves_out_what_would_overrun_the_budget(spent, kept):
    # A network is promised 4.1 s, 20 with a trial of two and compiling 110.2 s. With 15 s for the page and 10 for
    # compiling n settings take 15 + (110.2 + 10 + 82 n) spent / 110.2, which may be 1.15 times 360.
    schedule = fit_remedies(REMEDIES, spent=spent, budget=360)
    assert schedule.settings == tuple(SETTINGS[:kept])
    assert schedule.left_out == tuple(SETTINGS[kept:])
    if kept < 3:
        assert schedule.budget_for_all == pytest.approx(15 + 366.2 * spent / 110.2, abs=0.1)
        assert schedule.expected == pytest.approx(15 + (120.2 + 82 * kept) * spent / 110.2, abs=0.1)


@pytest.mark.parametrize("text", ["90s", "2m", "10m", "1h"])
def test_a_duration_that_is_written_is_read(text):
    assert duration(seconds_of(text)) in (text, f"{int(seconds_of(text))}s", f"{seconds_of(text) / 60:.0f}m")
    assert seconds_of(duration(seconds_of(text))) == seconds_of(text)


def test_asked_epochs_and_seeds_are_kept():
    schedule = choose_schedule(Design(3, 6, 1), SETTINGS, seconds=0.01, budget=600, epochs=3)
    assert (schedule.design.seeds, schedule.design.epochs, schedule.left_out) == (6, 3, ())


def test_a_budget_without_room_says_how_much_is_needed():
    with pytest.raises(ConfigError, match=r"--budget: expected 9m or more for 20 networks of 10 epochs; found 60s"):
        choose_schedule(Design(5, 4, 1), SETTINGS, seconds=2.0, budget=60)


def contrast(seeds, low, high, p=0.001):
    of_seeds = np.array(seeds)
    return Contrast(FlipEstimate(float(of_seeds.mean()), of_seeds, low, high), p, 0.02, "images")


LEARNT = Learnt(0.95, 0.75)


@pytest.mark.parametrize(
    ("measured", "learnt", "word"),
    [
        (contrast([0.5, 0.52, 0.48, 0.5], 0.4, 0.6), LEARNT, USED),
        (contrast([0.5, 0.52, 0.48, 0.5], 0.4, 0.6, p=0.2), LEARNT, UNKNOWN),
        (contrast([0.9, 0.0, 0.0, 0.1], -0.3, 0.8), LEARNT, UNKNOWN),
        (contrast([0.01, 0.02, 0.0, 0.01], -0.01, 0.03), LEARNT, NOT_USED),
        (contrast([0.03, 0.031, 0.03, 0.029], 0.02, 0.04), LEARNT, NOT_USED),
        (contrast([-0.3, -0.32, -0.3, -0.31], -0.4, -0.2, p=1.0), LEARNT, UNKNOWN),
        (contrast([0.5, 0.52, 0.48, 0.5], 0.4, 0.6), Learnt(0.6, 0.75), UNKNOWN),
        (contrast([0.5, 0.5, 0.5, 0.5], 0.4, 0.6), LEARNT, UNKNOWN),
        (contrast([0.5, 0.52, 0.48], 0.4, 0.6), LEARNT, UNKNOWN),
    ],
    ids=[
        "used",
        "permuted as large",
        "seeds differ",
        "equivalent",
        "small",
        "negative",
        "not learnt",
        "equal seeds",
        "three seeds",
    ],
)
def test_a_verdict_of_each_kind(measured, learnt, word):
    verdict = judge_contrast(measured, learnt, margin=0.05, attribute="scanner")
    assert verdict.word == word
    assert verdict.reason.endswith(".")
    assert bool(verdict.help) == (word == UNKNOWN)


def test_the_record_is_read_as_it_was_written():
    schedule = Schedule(Design(5, 4, 12), (NetworkSetting(0.5, "ce"),), (), 0.25, 300.0)
    schedule_again = from_plain(Schedule, to_plain(schedule))
    assert to_plain(schedule_again) == to_plain(schedule) and math.isnan(schedule_again.budget_for_all)
    level = from_plain(Level, to_plain(levels((0.5, 0.2))[0]))
    assert level.flip_rare.of_seeds.tolist() == [0.2] * 4
    assert math.isnan(from_plain(FlipEstimate, to_plain(FlipEstimate(math.nan, np.array([]), 0.0, 1.0))).value)
    cue = CueAuroc("warmth", Estimate(0.6, 0.5, 0.7), Estimate(0.9, 0.8, 1.0))
    assert from_plain(CueAuroc, to_plain(cue)) == cue
