"""flipjax.intervene with several regions an image, and what `predict`, scenes and options must be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics.logits import random_case

from flipjax import intervene

RIGHT = np.array([[[1, 1, 0, 2, 2, 0], [1, 1, 0, 2, 2, 0]], [[0] * 6, [0] * 6], [[0, 0, 2, 1, 1, 1], [0] * 6]])
"""Two objects, none, and one whose halves have two classes."""


def predict(images):
    """Right everywhere: the class is the sign of the pixel, background where it is 0."""
    x = jnp.asarray(images)[..., 0]
    return jnp.stack([0.5 - jnp.abs(x), -x, x], axis=-1)


IMAGES = np.select([RIGHT == 1, RIGHT == 2], [-1.0, 1.0], 0.0).astype(np.float32)[..., None]
LOGITS = np.stack([0.5 - np.abs(IMAGES[..., 0]), -IMAGES[..., 0], IMAGES[..., 0]], axis=-1)
SCENES = np.zeros((2, 2, 6, 1), np.float32)
marginal = functools.partial(intervene.scene_marginal, predict, sigma=0)


def test_objects_keep_their_classes_where_an_image_of_two_loses_one():
    with pytest.warns(UserWarning, match="^regions: 1 of 3 images predict several objects of different classes"):
        whole = marginal(IMAGES, SCENES)
    with pytest.warns(UserWarning, match="^regions: 1 of 3 images"):
        repaired = intervene.repair(LOGITS, whole, center=0.0)
    assert (repaired[0] != RIGHT[0]).mean() == 1 / 3
    odds = marginal(IMAGES, SCENES, regions="objects")
    assert odds.shape == (3, 2, 2)
    np.testing.assert_allclose(odds[:, 0, 1], [-1, 1, -0.5], atol=1e-6)
    numbers = intervene.find_regions(LOGITS)
    assert intervene.region_images(numbers).tolist() == [0, 0, 2]
    assert intervene.region_label(LOGITS, regions="objects").tolist() == [1, 2, 1]
    np.testing.assert_allclose(
        intervene.scene_swap_risk(LOGITS, odds, center=0.0, regions="objects"), [-2, -2, -1], atol=1e-6
    )
    repaired = intervene.repair(LOGITS, odds, center=0.0, regions=numbers)
    np.testing.assert_array_equal(repaired[:2], RIGHT[:2])
    np.testing.assert_array_equal(repaired[2], np.where(RIGHT[2] > 0, 1, 0))


def test_given_instances_are_regions_within_the_predicted_foreground():
    given = np.zeros(RIGHT.shape, np.int64)
    given[0, 0], given[0, 1], given[2] = 7, 3, 5
    numbers = intervene.find_regions(LOGITS, regions=given)
    wanted = np.where(RIGHT > 0, np.array([[[2], [1]], [[0], [0]], [[1], [1]]]), 0)
    np.testing.assert_array_equal(numbers, wanted)
    np.testing.assert_array_equal(intervene.find_regions(LOGITS, regions=numbers), numbers)
    mirrored = marginal(IMAGES, SCENES, regions=given, mirror=True)
    np.testing.assert_allclose(mirrored[:, 0, 1], [0, 0, -0.5], atol=1e-6)


def test_one_object_an_image_is_what_an_image_is():
    rng = np.random.default_rng(0)
    images = rng.uniform(0.6, 1, (3, 6, 6, 1)).astype(np.float32) * np.pad(np.ones((4, 4, 1), np.float32), 1)[..., 1:2]
    scenes = rng.uniform(-0.4, 0.4, (2, 6, 6, 1)).astype(np.float32)
    both = [intervene.scene_marginal(predict, images, scenes, regions=each) for each in ("image", "objects")]
    np.testing.assert_allclose(both[0], both[1], atol=1e-6)


def test_a_predict_that_writes_to_its_input_does_no_harm():
    def writes(batch):
        answer = np.array(predict(batch))
        if isinstance(batch, np.ndarray):
            batch[...] = 7
        return answer

    images = IMAGES.copy()
    odds = intervene.scene_marginal(writes, images, SCENES, sigma=0, regions="objects")
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_allclose(odds, marginal(IMAGES, SCENES, regions="objects"))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["image", "objects"]))
def test_a_scene_blind_model_is_left_alone_and_of_a_scene_only_model_the_reliance_is_one(seed, regions):
    """The first two channels are the object, one hot, the third is the scene."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 2, 4)
    images = np.zeros((4, 6, 6, 3), np.float32)
    images[:, 2:4, 1:5, :2] = generator.uniform(1, 2, 4)[:, None, None, None] * np.eye(2)[classes][:, None, None]
    images[..., 2] = generator.normal(size=(4, 6, 6))
    scenes = np.zeros((2, 6, 6, 3), np.float32)
    scenes[..., 2] = generator.normal(np.array([-1, 1])[:, None, None], 1, (2, 6, 6))

    def blind(x):
        return np.concatenate([np.full((*x.shape[:3], 1), 0.5), x[..., :2]], axis=-1)

    def scene_only(x):
        scene = np.where(x[..., :2].sum(-1) > 0, 0, x[..., 2]).mean((1, 2))[:, None, None] + 0 * x[..., 2]
        return np.stack([10 - 20 * (x[..., :2].sum(-1) > 0.5), scene, -scene], axis=-1)

    logits, options = blind(images), {"regions": regions, "sigma": 0}
    odds = intervene.scene_marginal(blind, images, scenes, **options)
    assert intervene.scene_reliance(odds) == 0
    risk = intervene.scene_swap_risk(logits, odds, center=0.0, regions=regions)
    assert (risk < 0).all()
    np.testing.assert_array_equal(intervene.repair(logits, odds, center=0.0, regions=regions), logits.argmax(-1))
    odds = intervene.scene_marginal(scene_only, images, scenes, **options)
    np.testing.assert_allclose(intervene.scene_reliance(odds), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scenes": SCENES.astype(np.uint8)}, "scenes: expected floating point"),
        ({"predict": lambda x: predict(x)[:1]}, "predict: expected logits"),
        ({"predict": lambda x: predict(x).mean((1, 2), keepdims=True)}, "predict: expected logits"),
        ({"predict": lambda x: jnp.pad(predict(x), [(0, 0)] * 3 + [(0, 1)])}, "predict: expected logits"),
        ({"weights": [5.0]}, "weights: expected"),
        ({"weights": [np.nan]}, "weights: expected"),
        ({"sigma": -1.0}, "sigma: expected a number of pixels"),
        ({"sigma": np.nan}, "sigma: expected a number of pixels"),
        ({"background": -1}, "background: expected classes from 0 on"),
        ({"regions": "object"}, "regions: expected 'image', 'objects', or integers .* found object"),
        ({"regions": np.ones((3, 2, 5), int)}, "regions: expected .* integers of 0 or more of shape"),
        ({"regions": -np.ones((3, 2, 6), int)}, "or below 0"),
    ],
)
def test_what_pasting_needs_is_checked(options, said):
    wanted = {"predict": predict, "images": IMAGES, "scenes": SCENES, "regions": "objects", "logits": LOGITS}
    with pytest.raises((TypeError, ValueError), match=said):
        intervene.scene_marginal(**wanted | options)
    with pytest.warns(UserWarning, match="^scenes: the largest value is 255, of the images 1;"):
        intervene.scene_marginal(**wanted | {"scenes": SCENES + 255})


def test_log_odds_of_other_regions_are_named():
    with pytest.raises(ValueError, match=r"^log_odds: expected .* a row for each of 3 regions"):
        intervene.repair(LOGITS, np.zeros((2, 1, 2)), center=0.0, regions="objects")
    assert jax.jit(lambda x: intervene.scene_marginal(predict, x, SCENES))(IMAGES).shape == (3, 2, 2)
    assert intervene.scene_marginal(predict, IMAGES[:0], SCENES).shape == (0, 2, 2)
    with pytest.raises(ValueError, match=r"^logits: expected \(B, H, W, C\)"):
        intervene.region_label(LOGITS[0])


def test_several_background_classes_act_as_one_of_their_maximum():
    """Two background classes whose logits are one's and minus infinity."""
    logits, _ = random_case(3, (4, 6, 7), 4)
    single, several = logits[..., :3], logits.copy()
    several[..., 3] = -1e9
    log_odds = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 2)).astype(np.float32))
    inside = intervene.foreground(several, background=(1, 3))

    def act(x, background):
        return [
            intervene.foreground(x, background=background),
            intervene.region_log_odds(x, inside, background=background),
            intervene.scene_swap_risk(x, log_odds, center=0.0, background=background),
            intervene.mirror_risk(x, x[:, :, ::-1], background=background),
        ]

    for one, other in zip(act(several, (1, 3)), act(single, 1), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    repaired = np.asarray(intervene.repair(several, log_odds, center=0.0, background=(1, 3)))
    target = np.array([0, 2])[np.asarray(log_odds).mean(1).argmax(-1)]
    np.testing.assert_array_equal(repaired, np.where(inside, target[:, None, None], several.argmax(-1)))
    with pytest.warns(UserWarning, match="background: found None"):
        intervene.scene_marginal(predict, IMAGES, SCENES, background=None)
