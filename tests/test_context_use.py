"""Context use against made-up models that use a known share of the context's evidence."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from flipjax import context
from flipjax.groups import Groups
from flipjax.intervene import scene_shift, scene_use, training_evidence
from flipjax.metrics import segments

C = 5


@pytest.fixture(scope="module")
def photos():
    """Photos whose pixels are their classes, one hot, with their segments, evidence, and what each class goes with."""
    generator = np.random.default_rng(0)
    together = generator.uniform(0.1, 0.7, (C, C))
    labels = np.zeros((240, 8, 8), np.int64)
    classes = generator.integers(1, C, len(labels))
    labels[:, 2:5, 2:5] = classes[:, None, None]
    beside = generator.random((len(labels), C)) < together[classes]
    for e in range(1, C):
        labels[beside[:, e] & (classes != e), 6, 2 * e - 2 : 2 * e] = e
    shares = context.image_shares(labels, num_classes=C)
    true = segments(labels, labels, kind="masks", num_classes=C, min_pixels=3)
    shown = shares >= 0.001
    stands = ((shown.T.astype(float) @ shown) + 1) / (shown.sum(0)[:, None] + 2)
    with pytest.warns(UserWarning, match="240 training images"):
        evidence = context.context_evidence(true, shares)
    return np.eye(C, dtype=np.float32)[labels], labels, true, evidence, stands


def model(weight, stands):
    """Logits: the pixel's own class, and a share of what the classes in the image say."""

    def predict(images):
        seen = (jnp.asarray(images)[..., 1:].mean((1, 2)) > 0.01)[:, None]
        terms = jnp.where(seen, jnp.log(stands[:, 1:]), jnp.log(1 - stands[:, 1:] + 1e-6))
        told = (terms * (1 - jnp.eye(C)[:, 1:])).sum(-1)
        return 5 * jnp.asarray(images) + weight * told[:, None, None]

    return predict


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_context_use_is_the_share_of_the_evidence_that_a_model_uses(photos, weight):
    images, labels, true, evidence, stands = photos
    scene = np.zeros((2, 8, 8, C), np.float32)
    scene[..., 0] = 1
    shift = context.segment_shift(model(weight, stands), images, labels, true, scene, batch=64)
    use = context.context_use(true, evidence, shift, samples=200)
    np.testing.assert_allclose(use.use, weight, atol=1e-3)
    assert use.low - 1e-3 <= weight <= use.high + 1e-3 and use.pairs > 300


def test_what_does_not_fit_is_named(photos):
    images, labels, true, _, stands = photos
    whole = {"predict": model(0, stands), "images": images, "labels": labels, "true": true, "scenes": images[:1]}
    for changed, said in (
        ({"scenes": images[:1].astype(np.uint8)}, "scenes: expected floating point"),
        ({"labels": labels[:2]}, "labels: expected shape"),
        ({"predict": lambda x: x[:, :4]}, "predict: expected logits"),
        ({"predict": lambda x: np.zeros((*x.shape[:3], 6), np.float32)}, "predict: expected logits .* as many classes"),
    ):
        with pytest.raises(ValueError, match=f"^{said}"):
            context.segment_shift(**whole | changed)


@pytest.mark.parametrize("shape", [(2, 2), (4, 3)])
def test_members_of_a_grid_use_what_they_use(shape):
    all_groups = Groups(*shape)
    generator = np.random.default_rng(shape[0])
    shares = np.where(np.isin(np.arange(all_groups.count), all_groups.common), 9, 1)
    evidence = training_evidence(np.repeat(np.arange(all_groups.count), shares), all_groups)
    if shape == (2, 2):
        np.testing.assert_allclose(evidence, np.log([[0.9, 0.1], [0.1, 0.9]]))
    identity = generator.normal(size=(30, 1, shape[0]))
    for weight in (0.0, 0.4, 1.0):
        log_odds = identity + weight * evidence
        log_odds -= log_odds.mean(-1, keepdims=True)
        log_odds[3] = np.nan
        np.testing.assert_allclose(scene_use(log_odds, evidence), weight, atol=1e-12)
    noisy = log_odds + generator.normal(size=(30, *shape[::-1]))
    x, y = [], []  # Its twin: every pair of classes of every region, less its mean over the scenes.
    for region, (c, d) in itertools.product(np.delete(noisy, 3, axis=0), itertools.combinations(range(shape[0]), 2)):
        for rows, values in ((x, evidence[:, d] - evidence[:, c]), (y, region[:, d] - region[:, c])):
            rows += list(values - values.mean())
    np.testing.assert_allclose(scene_use(noisy, evidence), np.dot(x, y) / np.dot(x, x))


def test_what_scenes_do_not_tell_has_no_use():
    all_groups = Groups()
    log_odds = np.array([[[1.0, -1.0], [-2.0, 2.0]], [[np.nan, np.nan]] * 2])
    assert scene_shift(log_odds, all_groups) == 6.0  # logit_2 - logit_1 goes from -2 to 4.
    for groups in ([0, 1, 2, 3], [0, 0, 3, 3], [0, 0, 0, 1]):  # rho .5, 1, and a class that is never shown.
        assert np.isnan(scene_use(log_odds, training_evidence(np.array(groups), all_groups)))
    assert np.isnan(scene_use(log_odds[:, :1], training_evidence(np.array([0, 0, 1, 2, 3, 3]), all_groups)))
    assert np.isnan(scene_shift(log_odds[1:], all_groups)) and np.isnan(scene_shift(log_odds[:, :1], all_groups))
