"""Association, cues, remedies, verdicts, what would tell, and the record of an assay."""

import dataclasses
import json
import math

import numpy as np
import pytest

from flipjax.assays.cues import CUES, measure_cues, rank_cues
from flipjax.assays.remedy import Level, count_counter_examples
from flipjax.assays.results import to_plain
from flipjax.assays.sentences import duration
from flipjax.assays.statistics.association import associate
from flipjax.assays.statistics.contrast import Contrast
from flipjax.assays.statistics.estimates import FlipEstimate, Spread
from flipjax.assays.statistics.units import AssayUnits
from flipjax.assays.statistics.verdict import (
    NOT_USED,
    UNKNOWN,
    USED,
    AssayVerdict,
    Learnt,
    Outlook,
    Step,
    images_needed,
    judge_contrast,
    look_ahead,
    next_step,
)
from flipjax.command import read_seconds


def test_cramers_v_of_a_table_by_hand():
    # chi2 = 2 * 40^2 / 50 + ... = 64 of 100 images: V = sqrt(0.64).
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


SPREAD = Spread(1e-5, 3, 1e-4, 90, np.array([[0.0, 5e-5], [5e-5, 0.0]]))


def flip(value):
    return FlipEstimate(value, np.full(4, value), value - 0.05, value + 0.05, SPREAD)


def levels(*pairs):
    return [Level(f"{kept}", kept, flip(rare), flip(0.05), 0.9) for kept, rare in pairs]


COUNTS = np.array([[90, 10], [20, 80]])
RARE = np.array([[False, True], [True, False]])


def test_fewer_counter_examples_may_be_enough():
    needed = count_counter_examples(levels((0.0, 0.8), (0.25, 0.4), (0.5, 0.08), (1.0, 0.05)), COUNTS, RARE, target=0.1)
    assert (needed.kind, needed.sufficient, needed.to_collect.sum()) == ("enough", 0.5, 0)


def test_the_number_to_collect_follows_the_log_odds():
    # Odds of 1 at all: 0.25 per counter-example; odds 1/9 need 9 times as many, beyond what is told; 1/4 four times.
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


@pytest.mark.parametrize("text", ["90s", "2m", "10m", "1h"])
def test_a_duration_that_is_written_is_read(text):
    assert duration(read_seconds(text)) in (text, f"{int(read_seconds(text))}s", f"{read_seconds(text) / 60:.0f}m")
    assert read_seconds(duration(read_seconds(text))) == read_seconds(text)


def contrast(value, *, seeds=0.0, images=0.02, p=0.001, count=4):
    """A contrast with these standard errors over seeds and images, after one look."""
    spread = Spread(seeds**2, count - 1, images**2, 200, np.array([[0, 1], [1, 0]]) * images**2 / 2)
    half = 2.0 * math.hypot(seeds, images)
    estimate = FlipEstimate(value, np.full(count, value), value - half, value + half, spread)
    return Contrast(estimate, p, 0.02, "images", (count,))


LEARNT = Learnt(0.95, 0.75)


@pytest.mark.parametrize(
    ("measured", "learnt", "word"),
    [
        (contrast(0.5), LEARNT, USED),
        (contrast(1.0, images=0.0), LEARNT, USED),
        (contrast(0.0, images=0.0), LEARNT, NOT_USED),
        (contrast(0.5, p=0.2), LEARNT, UNKNOWN),
        (contrast(0.25, seeds=0.22), LEARNT, UNKNOWN),
        (contrast(0.01, images=0.005), LEARNT, NOT_USED),
        (contrast(0.03, images=0.005), LEARNT, NOT_USED),
        (contrast(-0.3, p=1.0), LEARNT, UNKNOWN),
        (contrast(0.5), Learnt(0.6, 0.75), UNKNOWN),
        (contrast(0.5), Learnt(math.nan, 0.75), UNKNOWN),
        (contrast(0.5, count=3), LEARNT, UNKNOWN),
    ],
    ids=[
        "used",
        "of every image",
        "of none",
        "permuted as large",
        "seeds differ",
        "equivalent",
        "small",
        "negative",
        "not learnt",
        "nothing found",
        "three seeds",
    ],
)
def test_a_verdict_of_each_kind(measured, learnt, word):
    verdict = judge_contrast(measured, learnt, margin=0.05, attribute="scanner")
    assert verdict.word == word
    assert verdict.reason.endswith(".")


@pytest.mark.parametrize("p", [0.0225, 0.0227], ids=["spent by four seeds", "not yet"])
def test_a_look_may_spend_no_more_than_its_part(p):
    verdict = judge_contrast(contrast(0.5, p=p), LEARNT, margin=0.05, attribute="scanner")
    assert (verdict.word == USED) == (p < 0.0226)


COUNTED = np.array([[90, 10], [10, 90]])


def test_a_spread_over_images_asks_for_images_of_the_groups_that_have_it():
    # Its error must fall from 0.02 to 0.015: the variance to 0.5625 of it, and so 1.78 times the rare images.
    outlook = look_ahead(contrast(0.03), COUNTED, margin=0.05)
    assert outlook.seeds == 0
    assert outlook.image_share == 1
    assert outlook.collect.tolist() == [[0, 8], [8, 0]]


def test_a_spread_over_seeds_asks_for_seeds():
    # 0.05^2 wanted, 0.02^2 of it over images: four seeds with 0.1^2 must become 0.04 / (0.0025 - 0.0004) = 19.05.
    outlook = look_ahead(contrast(0.1, seeds=0.1), COUNTED, margin=0.05)
    assert outlook.seeds == 20
    assert outlook.image_share == pytest.approx(0.0385, abs=1e-4)


def test_no_number_of_images_tells_a_contrast_at_the_margin():
    outlook = look_ahead(contrast(0.0001, images=0.02), COUNTED, margin=0.0002)
    assert (outlook.seeds, outlook.collect.sum()) == (0, 0)


def test_the_fewest_images_are_those_of_all_splits():
    variance = np.array([[1.0, 4.0], [0.0, 9.0]])
    counts = np.array([[12, 8], [5, 3]])
    needed = images_needed(variance, counts, target=5.0)
    assert (variance * counts / (counts + needed)).sum() <= 5.0
    fewest = 10**6
    for first in range(20):
        for second in range(20):
            for third in range(20):
                more = np.array([[first, second], [0, third]])
                if (variance * counts / (counts + more)).sum() <= 5.0:
                    fewest = min(fewest, more.sum())
    assert fewest <= needed.sum() <= fewest + 2


@pytest.mark.parametrize(
    ("verdict", "learnt", "outlook_seeds", "seeds", "allowed", "affordable", "step"),
    [
        (UNKNOWN, Learnt(0.6, 0.75), 0, 2, 8, 8, Step.NOT_LEARNT),
        (USED, LEARNT, 0, 4, 8, 8, Step.SURE),
        (UNKNOWN, LEARNT, 0, 2, 8, 8, Step.MORE_SEEDS),
        (UNKNOWN, LEARNT, 12, 2, 8, 8, Step.MORE_SEEDS),
        (UNKNOWN, LEARNT, 0, 4, 8, 8, Step.MORE_IMAGES),
        (UNKNOWN, LEARNT, 6, 4, 8, 8, Step.MORE_SEEDS),
        (UNKNOWN, LEARNT, 12, 4, 8, 20, Step.MORE_SEEDS),
        (UNKNOWN, LEARNT, 17, 4, 8, 20, Step.OUT_OF_SEEDS),
        (UNKNOWN, LEARNT, 12, 8, 8, 20, Step.OUT_OF_SEEDS),
        (UNKNOWN, LEARNT, 12, 4, 8, 6, Step.OUT_OF_BUDGET),
        (UNKNOWN, LEARNT, 8, 4, 8, 6, Step.OUT_OF_BUDGET),
        (UNKNOWN, LEARNT, 0, 2, 8, 2, Step.OUT_OF_BUDGET),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_each_step_after_a_batch_of_seeds(verdict, learnt, outlook_seeds, seeds, allowed, affordable, step):
    outlook = Outlook(outlook_seeds, np.zeros((0, 0), int), 0.5)
    given = {"seeds": seeds, "allowed": allowed, "affordable": affordable}
    assert next_step(AssayVerdict(verdict, ""), learnt, outlook, **given) == step


def test_a_record_is_plain_json():
    record = to_plain(contrast(math.nan))
    assert record["estimate"]["value"] is None
    assert record["estimate"]["spread"]["of_groups"] == [[0.0, 0.0002], [0.0002, 0.0]]
    assert json.loads(json.dumps(record)) == record
