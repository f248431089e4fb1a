"""A background of no class, of one, of several: the kernels against slow twins, laws, and the door."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flipjax import intervene, metrics
from flipjax.metrics import Decomposition, FlipMetric
from metrics.logits import one_hot, random_case


def test_cityscapes_without_background():
    """A model that takes every sidewalk for road: with class 0 as background that was a miss, and no flip."""
    labels = np.array([[[0, 0, 1, 1, 2, 2, 2, 255]]])
    prediction = np.array([[[0, 0, 0, 0, 2, 2, 2, 2]]])
    options = {"background": None, "ignore_index": 255}
    result = metrics.decompose(one_hot(prediction), labels, **options)
    assert (float(result.flip[0]), float(result.miss[0])) == (pytest.approx(2 / 7), 0)
    assert np.isnan(result.spill[0])
    summary = metrics.summarize(result, class_names=["road", "sidewalk", "building"])
    assert (summary["fg_flip"], summary["fg_miss"], summary["flip/sidewalk"]) == (2 / 7, 0, 1)
    assert summary["flip_matrix"] == [[2, 0, 0], [2, 0, 0], [0, 0, 3]]
    assert summary["mean_iou"] == pytest.approx((2 / 4 + 0 + 1) / 3)


def test_two_classes_without_background_are_enough():
    logits = np.array([[[2.0, 2.0], [9.0, 0.0]]], np.float32)
    result = metrics.decompose(logits, np.array([[1, 0]]), background=None)
    assert result.confusion.tolist() == [[1, 0], [1, 0]]
    assert float(metrics.flip_risk(logits[:, :1], background=None)) == pytest.approx(np.log(2))


def test_the_set_is_stored_in_one_form_and_kept_by_transformations():
    logits, labels = random_case(0, (2, 4, 4), 5)
    results = [metrics.decompose(logits, labels, background=b) for b in ((3, 1), [1, 3], (1, 3, 3))]
    assert {result.background for result in results} == {(1, 3)}
    assert metrics.decompose(logits, labels, background=(1,)).background == 1
    assert metrics.decompose(logits, labels, background=()).background is None
    jitted = jax.jit(lambda a, b: metrics.decompose(a, b, background=(1, 3)))(logits, labels)
    assert jax.tree.structure(jitted) == jax.tree.structure(results[0])
    assert jax.vmap(lambda a, b: metrics.decompose(a, b, background=None))(logits, labels).background is None
    assert metrics.concatenate(results).background == (1, 3)
    with pytest.raises(ValueError, match=r"one background, found .*\(1, 3\).*None"):
        metrics.concatenate([results[0], Decomposition(results[0].confusion, results[0].risk_sum, None)])


@pytest.mark.parametrize(
    ("background", "message"),
    [
        (7, r"background: expected classes in 0\.\.3, found 7"),
        ((0, 4), r"0\.\.3, found 4"),
        (-1, "found -1"),
        (1.0, r"background: expected a class, a tuple of classes or None, found 1\.0"),
        ("none", "found 'none'"),
        ((0, 1, 2, 3), r"at least 6 classes \(4 of background and two that can be confused\).*found 4"),
        ((0, 1, 2), "at least 5 classes"),
    ],
)
def test_a_background_that_does_not_fit_is_refused_in_a_line(background, message):
    logits, labels = random_case(0, (1, 4, 4), 4)
    calls = [
        lambda: metrics.decompose(logits, labels, background=background),
        lambda: metrics.flip_risk(logits, background=background),
        lambda: metrics.segments(logits, labels, background=background),
        lambda: FlipMetric(kind="masks", num_classes=4, background=background),
        lambda: intervene.region_label(logits, background=background),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=message) as found:
            call()
        assert "\n" not in str(found.value)


def test_names_of_all_sets():
    assert metrics.class_names(None, classes=3, background=None) == ("class0", "class1", "class2")
    assert metrics.class_names(["c", "d"], classes=4, background=(0, 2)) == ("background0", "c", "background2", "d")


def test_interventions_with_several_background_classes_equal_one_of_their_maximum():
    """Two background classes whose logits are one's and minus infinity act as that one."""
    logits, _ = random_case(3, (4, 6, 7), 4)
    background = (1, 3)
    single, several = logits[..., :3], logits.copy()
    several[..., 3] = -1e9
    log_odds = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 2)).astype(np.float32))
    inside = intervene.foreground(several, background=background)

    def act(x, background):
        return [
            intervene.foreground(x, background=background),
            intervene.region_log_odds(x, inside, background=background),
            intervene.scene_swap_risk(x, log_odds, center=0.0, background=background),
            intervene.mirror_risk(x, x[:, :, ::-1], background=background),
        ]

    for one, other in zip(act(several, background), act(single, 1), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    repaired = np.asarray(intervene.repair(several, log_odds, center=0.0, background=background))
    target = np.array([0, 2])[np.asarray(log_odds).mean(1).argmax(-1)]
    np.testing.assert_array_equal(repaired, np.where(inside, target[:, None, None], several.argmax(-1)))


def test_without_background_a_region_is_the_image():
    logits, _ = random_case(4, (3, 5, 5), 3)
    assert intervene.foreground(logits, background=None).all()
    assert intervene.region_label(np.full((1, 2, 2, 3), 1.0), background=None).tolist() == [0]
    images = np.zeros((3, 5, 5, 1), np.float32)
    with pytest.warns(UserWarning, match="background: found None"):
        log_odds = intervene.scene_marginal(lambda _: logits, images, images[:1], background=None)
    assert log_odds.shape == (3, 1, 3)


@pytest.mark.parametrize(("classes", "background"), [(2, None), (3, 0), (4, 0)])
def test_scores_have_gradients_for_any_number_of_classes(classes, background):
    logits, labels = random_case(1, (2, 4, 4), classes)

    @jax.jit
    @jax.value_and_grad
    def score(logits):
        risk_sum = metrics.decompose(logits, labels, background=background).risk_sum
        means = metrics.flip_risk(logits, background=background)
        margins = metrics.logit_scores(logits, background=background)["margin"]
        return risk_sum.sum() + 10 * means.sum() + 10 * margins.sum()

    direction = np.random.default_rng(2).normal(size=logits.shape).astype(np.float32)
    slope = float((score(logits)[1] * direction).sum())
    up, down = (float(score(logits + step * direction)[0]) for step in (1e-3, -1e-3))
    assert slope == pytest.approx((up - down) / 2e-3, rel=2e-2, abs=2e-2)
