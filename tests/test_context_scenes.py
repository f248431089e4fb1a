"""Scenes of photos whose objects are filled, what they say, and flips on scenes of the rival class."""

import numpy as np
import pandas as pd
import pytest

from flipjax import context
from flipjax.metrics import segments

C = 4


def test_objects_are_filled_with_what_is_around_them():
    generator = np.random.default_rng(0)
    images = np.full((3, 32, 32, 3), 0.25, np.float32)
    objects = np.zeros((3, 32, 32), bool)
    objects[:2, 8:24, 10:20] = True
    objects[2] = True
    images[objects] = generator.random((objects.sum(), 3))
    filled = context.fill_objects(images, objects)
    np.testing.assert_allclose(filled[:2], 0.25, atol=1e-5)
    np.testing.assert_allclose(filled[2], np.broadcast_to(images[2].mean((0, 1)), (32, 32, 3)), atol=0.3)
    other = images.copy()
    other[objects] = generator.random((objects.sum(), 3))
    features = [context.scene_features(each[:2], objects[:2]) for each in (images, other)]
    np.testing.assert_array_equal(*features)  # Nothing of the object is left in them.
    # In each band the mean, the deviation and the steps of one even grey.
    np.testing.assert_allclose(features[0], np.tile(3 * [0.25] + 5 * [0], (2, 3)), atol=1e-3)
    with pytest.raises(ValueError, match=r"^objects: expected shape"):
        context.fill_objects(images, objects[:, :5])


def test_scenes_are_found_again():
    generator = np.random.default_rng(1)
    scenes = np.arange(60) % 3
    images = np.clip(scenes[:, None, None, None] / 3 + generator.normal(0, 0.02, (60, 24, 24, 3)), 0, 1)
    objects = np.zeros((60, 24, 24), bool)
    objects[:, 6:14, 6:14] = True
    found = context.cluster_scenes(context.scene_features(images, objects), k=3)
    assert len(set(zip(scenes, found, strict=True))) == 3
    holed = np.where(generator.random((60, 2)) < 0.1, [[0, np.nan]], generator.random((60, 2)))
    for features in (np.zeros((60, 2)), np.eye(2), np.full((60, 2), np.nan), holed):
        with pytest.raises(ValueError):
            context.cluster_scenes(features, k=3)


def test_evidence_of_scenes_equals_its_twin_with_the_own_image_left_out():
    generator = np.random.default_rng(2)
    shares = generator.random((40, C)) * (generator.random((40, C)) < 0.6)
    training_scenes = generator.integers(0, 3, 40)
    own = np.where(generator.random(12) < 0.5, generator.permutation(40)[:12], -1)
    scenes = np.where(own >= 0, training_scenes[own], generator.integers(0, 3, 12))
    true = pd.DataFrame({"image": np.arange(12), "class": generator.integers(1, C, 12), "predicted": 1})
    true["outcome"] = "correct"
    evidence = context.scene_evidence(true, scenes, shares, training_scenes, own=own)
    for s, c in enumerate(true["class"]):
        kept = np.arange(40) != own[s]
        overall = (training_scenes == scenes[s]).mean()
        logs = []
        for d in range(C):
            showing = training_scenes[kept & (shares[:, d] >= 0.001)]
            logs.append(np.log(((showing == scenes[s]).sum() + 8 * overall) / (len(showing) + 8)))
        np.testing.assert_allclose(evidence[s], [0, *(logs[d] - logs[c] for d in range(1, C))], atol=1e-12)


@pytest.fixture(scope="module")
def photos():
    """Photos whose first channels are their object's class, one hot, and whose last are their scene's, that class's."""
    classes = 1 + np.arange(30) % 3
    labels = np.zeros((30, 24, 24), np.int64)
    labels[:, 8:16, 8:16] = classes[:, None, None]
    images = np.zeros((30, 24, 24, 2 * C), np.float32)
    images[..., :C] = np.eye(C)[labels]
    images[..., C:] = np.eye(C)[classes][:, None, None] * (labels == 0)[..., None]
    return images, labels, segments(labels, labels, kind="masks", num_classes=C, min_pixels=3)


def model(weight):
    def predict(images):
        images = np.asarray(images)
        scene = images[..., C:].sum((1, 2), keepdims=True)
        return 5 * images[..., :C] + weight * scene / scene.sum(-1, keepdims=True)

    return predict


@pytest.mark.parametrize(("weight", "flip"), [(0.0, 0.0), (2.0, 0.0), (9.0, 1.0)])
def test_scenes_of_the_rival_flip_models_that_heed_them(photos, weight, flip):
    images, labels, true = photos
    rivals = true["class"] % 3 + 1
    found = context.scene_flip(model(weight), images, labels, true, rivals=rivals, samples=50)
    assert found.segments == 30 and found.flip[0] == flip
    np.testing.assert_allclose(found.log_odds, 2 * weight, rtol=0.15)
    assert found.pixels[0] == pytest.approx(flip, abs=0.15)


def test_rivals_and_photos_that_do_not_fit_are_named(photos):
    images, labels, true = photos
    for changed, said in (
        ({"rivals": [1]}, "rivals: expected 30 classes"),
        ({"rivals": np.full(30, -1)}, "true: expected segments with photos"),
        ({}, "true: expected segments with photos"),  # No flips, no rivals.
        ({"predict": lambda x: model(0)(x)[:, :4], "rivals": true["class"] % 3 + 1}, "predict: expected logits"),
    ):
        with pytest.raises(ValueError, match=said):
            context.scene_flip(**{"predict": model(0), "images": images, "labels": labels, "true": true} | changed)
