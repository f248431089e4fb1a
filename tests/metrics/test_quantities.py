"""Laws of all quantities of images: what they are called, their range, their groups and their resamples."""

import dataclasses

import numpy as np
import pytest

from flipjax.config.groups import Groups, NamedGroups
from flipjax.metrics import summarize
from flipjax.metrics.decomposition import RegionSums
from flipjax.metrics.images import ALL, Images
from flipjax.metrics.quantities import EVALUATORS
from flipjax.metrics.registry import RANGES, required
from flipjax.metrics.summary.evaluate import evaluate, keys_of, summary_of
from flipjax.metrics.summary.resampling import image_intervals, interval_names

N, BINS = 48, 15
GROUPS = Groups(3, 3)
NAMES = ("background", "cat", "dog", "cow")


def whole(seed=0):
    """Images with all that a quantity can need."""
    generator = np.random.default_rng(seed)
    true, predicted = generator.integers(1, 40, (2, N, 2))
    return Images(
        NAMES,
        GROUPS,
        group=np.tile(np.arange(9), 6)[:N],
        confusion=generator.integers(0, 40, (N, 4, 4)),
        risk_sum=generator.uniform(0, 50, N),
        weights=np.ones((1, N)),
        pair=np.arange(N) // 3,
        regions=RegionSums(
            true=true,
            flips=(true * generator.uniform(size=(N, 2))).astype(int),
            predicted=predicted,
            risk=predicted * generator.uniform(0, 0.69, (N, 2)),
            shared=np.full(N, 200),
            gaps=generator.uniform(-5, 5, (N, BINS)),
        ),
        log_odds=generator.normal(size=(N, 3, 3)),
        center=np.zeros(3),
        evidence=np.log(generator.dirichlet(np.ones(3), 3).T),
        own={"edge_flip": np.stack([np.arange(N), np.full(N, N)], axis=1)},
    )


EVERY = pytest.mark.parametrize("evaluator", EVALUATORS, ids=[each.quantity.key for each in EVALUATORS])


def values_of(images, evaluator, group=ALL):
    images = dataclasses.replace(images, own={})
    return [value.value for value in evaluate(images, groups=[group], evaluators=[evaluator])]


@EVERY
def test_a_quantity_says_what_it_means(evaluator):
    quantity = evaluator.quantity
    assert quantity.title and quantity.unit in RANGES and quantity.better in ("up", "down", "")
    assert quantity.meaning.endswith(".") and quantity.meaning[0].isupper()


@EVERY
def test_a_quantity_is_in_the_range_of_its_unit(evaluator):
    assert evaluator.exists(whole())
    least, most = RANGES[evaluator.quantity.unit]
    for seed in range(3):
        for value in values_of(whole(seed), evaluator):
            assert np.isfinite(value).all() and (least <= value).all() and (value <= most).all()


@EVERY
def test_a_group_has_the_number_of_its_images_alone(evaluator):
    images = whole()
    if evaluator.quantity.across:
        assert values_of(images, evaluator, "rare") == []
        return
    alone = images.where(images.in_group("rare"))
    np.testing.assert_array_equal(values_of(images, evaluator, "rare"), values_of(alone, evaluator))


@EVERY
def test_a_resample_has_the_number_of_its_images(evaluator):
    if not evaluator.weighted:
        return
    images, generator = whole(), np.random.default_rng(1)
    counts = generator.integers(0, 3, (3, N)).astype(float)
    drawn = values_of(dataclasses.replace(images, weights=counts), evaluator)
    for sample, row in enumerate(counts):
        repeated = images.where(np.repeat(np.arange(N), row.astype(int)))
        for value, expected in zip(drawn, values_of(repeated, evaluator), strict=True):
            np.testing.assert_allclose(value[sample], expected[0], rtol=1e-9, atol=1e-12)


def test_keys_are_different_and_those_of_a_summary():
    images = whole()
    names = [value.name for value in evaluate(images)]
    assert len(set(names)) == len(names) and {"own/edge_flip", "group/rare/own/edge_flip"} <= set(names)
    assert set(summarize(images.decomposition, images.group, class_names=NAMES, all_groups=GROUPS)) <= {
        *names,
        "flip_matrix",
    }


def test_an_own_quantity_is_a_ratio_of_sums():
    summary = summary_of(whole())
    assert summary["own/edge_flip"] == pytest.approx(np.arange(N).mean() / N)
    empty = dataclasses.replace(whole(), own={"none": np.zeros((N, 2))})
    assert np.isnan(summary_of(empty)["own/none"])


def test_images_alone_have_every_quantity_that_needs_no_more():
    bare = Images(NAMES[:3], None, np.zeros(4, int), np.ones((4, 3, 3), int), np.ones(4), np.ones((1, 4)))
    summary = summary_of(bare)
    assert {"fg_flip", "flip/cat", "risk_auroc", "flip_risk_mean"} <= summary.keys()
    assert not any(key.startswith(("gap/", "group/", "rim_", "swap_", "counterfactual", "own/")) for key in summary)
    with pytest.raises(ValueError, match="groups: expected those of a class in a scene, found None"):
        assert bare.scene_groups
    with pytest.raises(ValueError, match="log_odds: expected those on other scenes"):
        assert bare.swap
    with pytest.raises(ValueError, match="expected what the quantity needs"):
        required(bare.regions)


def test_a_class_without_common_groups_has_no_gap():
    images = dataclasses.replace(whole(), groups=Groups(3, 3, ((0,), (), (2,)), partial=True))
    gaps = next(each.quantity for each in EVALUATORS if each.quantity.key == "gap/<foreground>")
    assert keys_of(gaps, images) == ["gap/cat", "gap/cow"]
    summary = summary_of(images)
    assert "gap/dog" not in summary and "scene_shift" not in summary and "repair_worst_iou" in summary
    assert summary["gap/mean"] == pytest.approx((summary["gap/cat"] + summary["gap/cow"]) / 2)


def test_masks_have_no_mean_flip_risk():
    masks = dataclasses.replace(whole(), risk_sum=np.full(N, np.nan))
    assert not [key for key in summary_of(masks) if "flip_risk_" in key]


def test_groups_of_any_name_have_their_numbers():
    images = dataclasses.replace(whole(), groups=NamedGroups(("a", "b")), group=np.arange(N) % 2)
    assert images.group_names == (ALL, "a", "b") and "group/b/fg_flip" in summary_of(images)


def test_intervals_hold_the_estimates_and_have_no_counts_of_images():
    images = whole()
    names = [name for name in interval_names(images) if not name.startswith("group/") and "decile" not in name]
    assert {"swap_auroc", "repair_flip", "rim_flip", "own/edge_flip"} <= set(names)
    assert not {"n_images", "scene_shift", "counterfactual_flip"} & set(names)
    intervals = image_intervals(images, names, generator=np.random.default_rng(0), samples=200)
    summary = summary_of(images)
    held = [low - 0.05 <= summary[name] <= high + 0.05 for name, (low, high) in intervals.items()]
    assert np.mean(held) > 0.9
