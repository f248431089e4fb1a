"""Dice by hand, in groups, with intervals, and beside torchmetrics' and MONAI's where these are installed."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipjax import metrics
from flipjax.config.groups import TWO_BY_TWO
from flipjax.metrics import Decomposition, FlipCounts, FlipMetric
from flipjax.metrics.decomposition import Ratio, pixel_ratios
from flipjax.metrics.statistics.intervals import estimate_mean, estimate_rate

NAMES = ("background", "cat", "dog", "cow")
# Rows are truth. Cows occur in neither; dogs are predicted, but never true.
BY_HAND = np.array([[5, 1, 0, 0], [2, 6, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
DICE = {
    "dice/background": 10 / (6 + 7),
    "dice/cat": 12 / (10 + 7),
    "dice/dog": 0.0,
    "dice/cow": np.nan,
    # Foreground is true in 10 pixels and predicted in 9, of which 8 are in both.
    "dice/foreground": 16 / (10 + 9),
    "mean_dice": (10 / 13 + 12 / 17 + 0) / 3,
}


def random_masks(seed, shape=(6, 5, 7), classes=4):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, shape)
    wrong = generator.random(shape) < 0.4
    return np.where(wrong, generator.integers(0, classes, shape), labels), labels


def summary_of(predictions, labels, **options):
    images = metrics.decompose(predictions, labels, kind="masks", num_classes=4)
    return metrics.summarize(images, class_names=NAMES, **options)


def test_dice_by_hand():
    summary = metrics.summarize(Decomposition(BY_HAND[None], np.zeros(1)), class_names=NAMES)
    np.testing.assert_allclose([summary[key] for key in DICE], [*DICE.values()])


def test_counts_of_a_loop_have_the_same_dice():
    predictions, labels = random_masks(0)
    counts = FlipCounts.from_model_output(predictions, labels, kind="masks", num_classes=4)
    loop = counts.compute(class_names=NAMES)
    summary = summary_of(predictions, labels)
    assert {key: loop[key] for key in DICE} == {key: summary[key] for key in DICE}


@given(st.lists(st.integers(0, 9), min_size=16, max_size=16), st.sampled_from([0, (0, 2), None]))
def test_dice_is_twice_iou_over_1_plus_iou(counts, background):
    ratios = pixel_ratios(np.array(counts).reshape(4, 4), background=background)
    np.testing.assert_allclose(ratios.dice.value, 2 * ratios.iou.value / (1 + ratios.iou.value))
    of_foreground = ratios.foreground_iou.value
    np.testing.assert_allclose(ratios.foreground_dice.value, 2 * of_foreground / (1 + of_foreground))


def test_gaps_in_dice_by_hand():
    """An image of each group of two classes; in the rare groups 1 and 2 half of the object is the other class."""
    right_cat = [[4, 0, 0], [0, 4, 0], [0, 0, 0]]
    half_cat = [[4, 0, 0], [0, 2, 2], [0, 0, 0]]
    half_dog = [[4, 0, 0], [0, 0, 0], [0, 1, 3]]
    right_dog = [[4, 0, 0], [0, 0, 0], [0, 0, 4]]
    images = Decomposition(np.array([right_cat, half_cat, half_dog, right_dog]), np.zeros(4))
    summary = metrics.summarize(images, [0, 1, 2, 3], class_names=["cat", "dog"], all_groups=TWO_BY_TWO)
    of_cats = 4 / (4 + 2)
    of_dogs = 6 / (4 + 3)
    assert summary["group/1/dice/cat"] == of_cats and summary["group/2/dice/dog"] == of_dogs
    assert summary["gap_in_dice/cat"] == pytest.approx(1 - of_cats)
    assert summary["gap_in_dice/dog"] == pytest.approx(1 - of_dogs)
    assert summary["gap_in_dice/mean"] == pytest.approx(1 - (of_cats + of_dogs) / 2)
    assert summary["worst_group_dice"] == of_cats


def test_intervals_are_those_of_a_rate():
    predictions, labels = random_masks(1)
    metric = FlipMetric(kind="masks", num_classes=4, class_names=NAMES)
    metric.update(predictions, labels)
    both = np.array([[((p == c) & (t == c)).sum() for c in range(4)] for p, t in zip(predictions, labels, strict=True)])
    sizes = np.array(
        [[(p == c).sum() + (t == c).sum() for c in range(4)] for p, t in zip(predictions, labels, strict=True)]
    )
    of_cats = estimate_rate(Ratio(2 * both[:, 1], sizes[:, 1]))
    of_all = estimate_mean(Ratio(2 * both, sizes))
    assert metric.intervals()["dice/cat"] == (of_cats.low, of_cats.high)
    assert metric.intervals()["mean_dice"] == (of_all.low, of_all.high)


@pytest.mark.parametrize("seed", range(3))
def test_dice_is_that_of_torchmetrics_over_all_images(seed):
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
    segmentation = pytest.importorskip("torchmetrics.segmentation", reason="torchmetrics is no dependency")
    predictions, labels = random_masks(seed)
    options = {"num_classes": 4, "include_background": True, "input_format": "index", "aggregation_level": "global"}
    summary = summary_of(predictions, labels)
    for average, keys in ((None, [f"dice/{name}" for name in NAMES]), ("macro", ["mean_dice"])):
        score = segmentation.DiceScore(average=average, **options)
        found = score(torch.tensor(predictions), torch.tensor(labels)).reshape(-1)
        np.testing.assert_allclose(found, [summary[key] for key in keys], rtol=1e-6)


def monai_dice(predictions, labels):
    """MONAI's Dice of each class (N, C)."""
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monai = pytest.importorskip("monai.metrics", reason="MONAI is no dependency")
    one_hot = [torch.tensor(np.moveaxis(np.eye(4)[masks], -1, 1)) for masks in (predictions, labels)]
    return monai.DiceMetric(include_background=True, reduction="none")(*one_hot).numpy()


def test_dice_of_one_image_is_that_of_monai():
    predictions, labels = random_masks(2)
    for i, found in enumerate(monai_dice(predictions, labels)):
        summary = summary_of(predictions[i : i + 1], labels[i : i + 1])
        np.testing.assert_allclose(found, [summary[f"dice/{name}"] for name in NAMES], rtol=1e-6)


def test_of_a_class_that_is_predicted_but_not_true_monai_has_no_dice():
    labels = np.array([[[0, 0, 1, 1]]])
    predictions = np.array([[[0, 0, 1, 2]]])
    assert np.isnan(monai_dice(predictions, labels)[0, 2]) and summary_of(predictions, labels)["dice/dog"] == 0
