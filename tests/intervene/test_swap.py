"""flipjax.intervene against slow NumPy twins, hand-computed cases, and for the quota an assignment solver."""

import functools
import types

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics.logits import check_refused, random_case
from scipy import ndimage

from flipjax import intervene, metrics
from flipjax.intervene.scenes import draw_scenes
from flipjax.metrics.images import read_images
from flipjax.metrics.summary.evaluate import summary_of

H = W = 12
KINDS = np.array([0, 0, 1, 1, 1])


# One program each: operation by operation each would compile dozens.
scene_marginal = jax.jit(intervene.scene_marginal, static_argnames="mirror")
mirror_risk, blurred_scenes = map(jax.jit, (intervene.mirror_risk, intervene.blurred_scenes))


@pytest.fixture(scope="module", params=[3, 4])
def study(request):
    """A model, images with a bright object (the last without any), scenes, and what follows from their means."""
    rng = np.random.default_rng(0)
    C = request.param
    weights = rng.normal(size=(3, C)).astype(np.float32)
    weights[:, 0] = -3
    images = rng.uniform(-1, -0.5, (7, H, W, 3)).astype(np.float32)
    images[:-1, 3:9, 2:8] += rng.uniform(1.5, 2, (6, 6, 6, 3))
    scenes = rng.uniform(-1, -0.5, (5, H, W, 3)).astype(np.float32)
    # A 1 x 1 convolution, so that the region depends on the pixels alone.
    predict = jax.tree_util.Partial(lambda weights, images: images @ weights, weights)
    means = intervene.mean_scenes(scenes, kinds=KINDS)
    log_odds = scene_marginal(predict, images, means)
    center = intervene.split_point(log_odds, center="median")
    return types.SimpleNamespace(**locals(), logits=predict(images))


def twin_marginal(predict, images, scenes, sigma):
    """Definitions 1 to 3, image by image and pixel by pixel."""
    values = np.full((len(images), len(scenes), predict(images).shape[-1] - 1), np.nan)
    for i, image in enumerate(images):
        region = predict(image).argmax(-1) > 0
        if not region.any():
            continue
        cover = ndimage.gaussian_filter(region.astype(float), sigma, mode="reflect", truncate=4)[..., None]
        for k, scene in enumerate(scenes):
            answer = predict((cover * image + (1 - cover) * scene).astype(np.float32))
            scores = answer[region][:, 1:].mean(0, dtype=float)
            values[i, k] = scores - scores.mean()
    return values


def test_scene_marginal_equals_its_twin(study):
    np.testing.assert_allclose(study.means, [study.scenes[:2].mean(0), study.scenes[2:].mean(0)], rtol=1e-6)
    twin = twin_marginal(study.predict, study.images, np.asarray(study.means), sigma=0.7 * H / 48)
    assert np.isnan(twin[-1]).all() and np.isfinite(twin[:-1]).all()
    np.testing.assert_allclose(study.log_odds, twin, atol=1e-5)


def test_several_draws_are_averaged(study):
    chosen = intervene.choose_scenes(jax.random.key(3), study.scenes, kinds=KINDS, scenes="both", count=2)
    pasted, shares = map(np.asarray, chosen)
    assert pasted.shape == (2, 3, H, W, 3) and shares.tolist() == [0.5, 0.25, 0.25]
    averaged = scene_marginal(study.predict, study.images, pasted, weights=shares)
    single = [np.asarray(scene_marginal(study.predict, study.images, pasted[:, d])) for d in range(3)]
    np.testing.assert_allclose(0.5 * single[0] + 0.25 * (single[1] + single[2]), averaged, atol=1e-5)


def test_mirrored_pastes_are_averaged_with_the_others(study):
    # The class depends on the column, too.
    columns = (np.linspace(-1, 1, W)[:, None] * np.arange(study.C)).astype(np.float32)
    predict, turned = (
        jax.tree_util.Partial(lambda columns, images: images @ study.weights + columns, each)
        for each in (columns, columns[::-1])
    )
    given = {"logits": predict(study.images)}
    both = [scene_marginal(each, study.images, study.scenes[:2], **given) for each in (predict, turned)]
    assert np.nanmax(np.abs(both[0] - both[1])) > 0.01
    mirrored = scene_marginal(predict, study.images, study.scenes[:2], **given, mirror=True)
    np.testing.assert_allclose(mirrored, (both[0] + both[1]) / 2, atol=1e-5)


def test_without_scenes_the_surroundings_are_the_scene():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(4, H, W, 3)).astype(np.float32)
    regions = rng.random((4, H, W)) < 0.1
    regions[:, 5, 5] = True
    outside = ~np.stack([ndimage.binary_dilation(region, np.ones((3, 3))) for region in regions])
    scene = intervene.mean_surroundings(images, regions)
    wanted = np.ma.masked_array(images, ~np.broadcast_to(outside[..., None], images.shape)).mean(0)
    wanted = wanted.filled(images[outside].mean(0))
    np.testing.assert_allclose(scene, wanted[None], atol=1e-5)


def test_risk_and_repair_equal_their_twins(study):
    risk = intervene.scene_swap_risk(study.logits, study.log_odds, center=study.center)
    repaired = intervene.repair(study.logits, study.log_odds, center=study.center)
    plain = np.asarray(study.logits).argmax(-1)
    for i in range(len(plain) - 1):
        identity = np.asarray(study.log_odds)[i].mean(0) - np.asarray(study.center)
        own = np.bincount(plain[i][plain[i] > 0]).argmax() - 1
        np.testing.assert_allclose(risk[i], np.delete(identity, own).max() - identity[own], atol=1e-5)
        np.testing.assert_array_equal(repaired[i], np.where(plain[i] > 0, 1 + identity.argmax(), 0))
    assert np.isnan(risk[-1])
    np.testing.assert_array_equal(repaired[-1], plain[-1])


def test_stored_counts_give_what_the_images_give(study):
    logits, log_odds, center = study.logits, np.asarray(study.log_odds), np.asarray(study.center)
    labels = np.random.default_rng(2).integers(0, study.C, logits.shape[:-1])
    stored = jax.tree.map(np.asarray, metrics.decompose(logits, labels))
    risk, repaired = intervene.scene_swap(stored, log_odds, center)
    np.testing.assert_allclose(risk, intervene.scene_swap_risk(logits, log_odds, center=center), atol=1e-5)
    wanted = intervene.repair(logits, log_odds, center=center)
    counts = metrics.decompose(jax.nn.one_hot(wanted, study.C), labels).confusion
    np.testing.assert_array_equal(repaired.confusion, counts)
    if study.C == 3:
        groups = np.arange(len(labels)) % 4
        values = summary_of(read_images(stored, groups, log_odds=log_odds, center=center))
        assert values["repair_flip"] == metrics.summarize(repaired)["fg_flip"]
        np.testing.assert_allclose(values["scene_reliance"], intervene.scene_reliance(log_odds), rtol=1e-5)


def test_mirror_and_fills_equal_their_twins(study):
    images, logits = study.images, np.asarray(study.logits)
    other = np.random.default_rng(4).normal(size=logits.shape).astype(np.float32)
    risk = mirror_risk(logits, other)
    for i in range(len(images) - 1):
        places = np.argwhere(logits[i].argmax(-1) > 0)
        pairs = np.exp([[logits[i, y, x, 1:], other[i, y, W - 1 - x, 1:]] for y, x in places]).astype(float)
        mean = (pairs / pairs.sum(-1, keepdims=True)).mean(1)
        np.testing.assert_allclose(risk[i], -(mean * np.log(mean)).sum(-1).mean(), rtol=1e-4)
    assert np.isnan(risk[-1])
    # Many classes, of which most are out of the question, pass a loop.
    many = (np.pad(each, [(0, 0)] * 3 + [(0, 200)], constant_values=-1e9) for each in (logits, other))
    np.testing.assert_allclose(mirror_risk(*many), risk, rtol=1e-5)
    wanted = ndimage.gaussian_filter(images, (0, 1.2, 1.2, 0), mode="reflect", truncate=4)
    np.testing.assert_allclose(blurred_scenes(images), wanted, atol=1e-5)
    np.testing.assert_allclose(intervene.grey_scenes(images)[2, 5, 5], images[2].mean((0, 1)), rtol=1e-5)


def quota(values, prior):
    return intervene.split_point(values[:, None], center="quota", prior=prior)


def largest_remainders(shares, n):
    exact = n * (shares / shares.sum())
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: n - counts.sum()]] += 1
    return counts


@settings(max_examples=40)
@given(st.integers(2, 7), st.integers(5, 40), st.integers(0, 2**32 - 1))
def test_quota_counts_are_those_of_the_prior_whatever_the_order_and_the_offsets(F, n, seed):
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(n, F)) * 3 + rng.normal(size=F) * 3).astype(np.float32)
    prior = rng.dirichlet(np.full(F, 0.7)) + 1e-3
    if F > 2:
        prior[seed % F] = 0
    prior /= prior.sum()
    values[2] = np.nan  # No region.
    center = quota(values, prior)
    assert (np.isinf(center) == (prior == 0)).all()
    known = np.delete(values, 2, axis=0)
    counts = largest_remainders(prior, n - 1)
    np.testing.assert_array_equal(np.bincount((known - center).argmax(1), minlength=F), counts)
    np.testing.assert_allclose(quota(values[::-1], prior), center, atol=1e-4)
    # Where the classes move, the centre does, summing to 0 over those in use.
    moved = np.where(prior > 0, np.arange(F), np.nan)
    shifted = quota(values + np.arange(F), prior)[prior > 0] - center[prior > 0]
    np.testing.assert_allclose(shifted, (moved - np.nanmean(moved))[prior > 0], atol=1e-4)


def test_the_default_centre_of_more_classes_is_the_quota_and_a_class_left_out_is_never_named():
    rng = np.random.default_rng(1)
    identity = rng.normal(size=(30, 1, 3)).astype(np.float32)
    prior = intervene.label_shares(np.repeat([0, 1, 2], [4, 20, 10]), num_classes=4)
    center = intervene.split_point(identity, prior=prior)
    logits = np.eye(4)[np.full((30, 1, 2), 3)]
    labels = intervene.repair(logits, identity, center=center)
    assert np.bincount(labels[:, 0, 0], minlength=4).tolist() == [0, 20, 10, 0]
    assert np.isinf(intervene.scene_swap_risk(logits, identity, center=center)).all()
    assert np.isnan(intervene.split_point(np.full_like(identity, np.nan), prior=prior)).all()


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
    with pytest.warns(UserWarning, match="^regions: 1 of 3 images"):
        whole = marginal(IMAGES, SCENES)
    np.testing.assert_allclose(jax.jit(marginal)(IMAGES, SCENES), whole, atol=1e-6)
    with pytest.warns(UserWarning, match="^regions: 1 of 3 images") as caught:
        repaired = intervene.repair(LOGITS, whole, center=0.0)
    assert caught[0].filename == __file__
    assert (repaired[0] != RIGHT[0]).mean() == 1 / 3
    odds = marginal(IMAGES, SCENES, regions="objects")
    assert odds.shape == (3, 2, 2)
    np.testing.assert_allclose(odds[:, 0, 1], [-1, 1, -0.5], atol=1e-6)
    numbers = intervene.find_regions(LOGITS)
    assert intervene.region_images(numbers).tolist() == [0, 0, 2]
    assert intervene.region_label(LOGITS, regions="objects").tolist() == [1, 2, 1]
    risk = intervene.scene_swap_risk(LOGITS, odds, center=0.0, regions="objects")
    np.testing.assert_allclose(risk, [-2, -2, -1], atol=1e-6)
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


@settings(max_examples=10)
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


def test_several_background_classes_act_as_one_of_their_maximum():
    """Two background classes whose logits are one's and minus infinity."""
    logits, _ = random_case(3, (4, 6, 7), 4)
    single, several = logits[..., :3], logits.copy()
    several[..., 3] = -1e9
    log_odds = np.random.default_rng(0).normal(size=(4, 2, 2)).astype(np.float32)
    inside = intervene.foreground(several, background=(1, 3))

    def act(x, background):
        read = {"background": background}
        traced = [lambda x: intervene.region_log_odds(x, inside, **read), lambda x: intervene.foreground(x, **read)]
        traced.append(lambda x: intervene.mirror_risk(x, x[:, :, ::-1], **read))
        answers = jax.jit(lambda x: [each(x) for each in traced])(x)
        return [*answers, intervene.foreground(x, **read), intervene.scene_swap_risk(x, log_odds, center=0.0, **read)]

    for one, other in zip(act(several, (1, 3)), act(single, 1), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    repaired = np.asarray(intervene.repair(several, log_odds, center=0.0, background=(1, 3)))
    target = np.array([0, 2])[log_odds.mean(1).argmax(-1)]
    np.testing.assert_array_equal(repaired, np.where(inside, target[:, None, None], several.argmax(-1)))
    with pytest.warns(UserWarning, match="background: found None") as caught:
        intervene.scene_marginal(predict, IMAGES, SCENES, background=None)
    assert caught[0].filename == __file__


SHOWN = {"images": IMAGES}
INTEGERS, PRIOR, PASTED = IMAGES.astype(np.uint8), np.array([0.5, 0.25, 0.25]), SCENES.astype(np.uint8)
REGIONS = ["object", np.ones((3, 2, 5), int), -np.ones((3, 2, 6), int)]
PREDICTS = [
    lambda x: predict(x)[:1],
    lambda x: predict(x).mean((1, 2), keepdims=True),
    lambda x: jnp.pad(predict(x), [(0, 0)] * 3 + [(0, 1)]),
]
PRIORS = [None, PRIOR[:2], PRIOR * [1, 2.4, -0.4], PRIOR * 1.3, PRIOR * [1, np.nan, 1], np.eye(3)[0]]
# What each takes, and by field what it refuses.
SPOILED = [
    (intervene.mean_scenes, SHOWN, {"images": [INTEGERS, IMAGES[0]], "kinds": [[0, 2, 2], [0]]}),
    (intervene.grey_scenes, SHOWN, {"images": [INTEGERS]}),
    (intervene.mean_surroundings, SHOWN | {"regions": RIGHT > 0}, {"images": [INTEGERS], "regions": [RIGHT[:1]]}),
    (intervene.choose_scenes, SHOWN | {"key": None}, {"scenes": ["all"]}),
    (draw_scenes, {"key": None, "kinds": [0, 1, 1], "count": 1}, {"count": [0, 2]}),
    (intervene.split_point, {"log_odds": np.zeros((2, 1, 3)), "prior": PRIOR}, {"center": ["mean"], "prior": PRIORS}),
    (intervene.split_point, {"log_odds": np.zeros((2, 1, 3)), "center": "median"}, {"center": [0.0], "prior": [PRIOR]}),
    (intervene.split_point, {"log_odds": np.zeros((2, 1, 2))}, {"log_odds": [np.zeros((2, 2))]}),
    (intervene.label_shares, {"labels": [1, 2], "num_classes": 3}, {"labels": [[0, 0]]}),
    (intervene.region_label, {"logits": LOGITS}, {"logits": [LOGITS[0]], "regions": REGIONS}),
    (
        intervene.repair,
        {"logits": LOGITS, "log_odds": np.zeros((3, 1, 2)), "center": 0.0, "regions": "objects"},
        {"log_odds": [np.zeros((2, 1, 2))], "regions": REGIONS},
    ),
    (
        intervene.scene_marginal,
        {"predict": predict, "images": IMAGES, "scenes": SCENES, "regions": "objects", "logits": LOGITS},
        {"scenes": [PASTED, SCENES[:, :1]], "predict": PREDICTS, "weights": [[5.0], [np.nan]], "regions": REGIONS}
        | {"sigma": [-1.0, np.nan], "background": [-1]},
    ),
]


@pytest.mark.parametrize(("function", "whole", "spoiled"), SPOILED)
def test_what_does_not_fit_is_named(function, whole, spoiled):
    check_refused(function, whole, spoiled)


def test_no_images_no_regions_and_scenes_of_other_units():
    assert marginal(IMAGES[:0], SCENES).shape == (0, 2, 2)
    with pytest.warns(UserWarning, match="^scenes: the largest value is 255, of the images 1;") as caught:
        marginal(IMAGES, SCENES + 255, logits=LOGITS, regions="objects")
    assert caught[0].filename == __file__


NO_LOGITS = {
    "complex": (np.zeros((1, 4, 4, 3), complex), "floating point, found complex128"),
    "booleans": (np.zeros((1, 4, 4, 3), bool), "floating point, found bool"),
    "text": (np.zeros((1, 4, 4, 3), str), "floating point, found <U1"),
    "time spans": (np.zeros((1, 4, 4, 3), "m8[s]"), "floating point, found timedelta64"),
    "a key": (jax.random.key(0), "floating point, found key"),
    "one image": (np.zeros((4, 4, 3)), r"\(B, H, W, C\), found the shape \(4, 4, 3\)"),
    "a batch of batches": (np.zeros((1, 1, 4, 4, 3)), r"\(B, H, W, C\), found the shape \(1, 1, 4, 4, 3\)"),
}


@pytest.mark.parametrize("function", [intervene.find_regions, intervene.region_label], ids=["find", "label"])
@pytest.mark.parametrize(("logits", "message"), NO_LOGITS.values(), ids=NO_LOGITS)
def test_regions_of_what_is_no_batch_of_logits_are_refused(logits, message, function):
    with pytest.raises((TypeError, ValueError), match=f"^logits: expected {message}"):
        function(logits)


ODDS = np.zeros((1, 2, 2), np.float32)
NO_ODDS = {
    "complex": ODDS + 0j,
    "booleans": ODDS > 0,
    "text": ODDS.astype(str),
    "time spans": ODDS.astype(int).astype("m8[s]"),
    "records": np.zeros(ODDS.shape, [("a", "f4")]),
    "a key": jax.random.key(0),
}


@pytest.mark.parametrize("function", [intervene.scene_swap_risk, intervene.repair], ids=["risk", "repair"])
@pytest.mark.parametrize("odds", NO_ODDS.values(), ids=NO_ODDS)
def test_log_odds_that_are_no_floats_are_refused(odds, function):
    with pytest.raises(TypeError, match=r"^log_odds: expected floating point, found"):
        function(np.zeros((1, 4, 4, 3)), odds, center=0.0)


@pytest.mark.parametrize("shape", [(4, 5, 3), (2, 4, 5, 3), (1, 1, 4, 5, 3)], ids=str)
def test_mirrored_logits_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"^mirrored: expected \(B, H, W, C\) as the logits"):
        intervene.mirror_risk(np.zeros((1, 4, 5, 3)), np.zeros(shape))


def test_no_scene_is_one_sentence():
    with pytest.raises(ValueError, match=r"^scenes: expected at least one, found \(0, 4, 4, 3\)"):
        intervene.scene_marginal(lambda images: images, np.zeros((1, 4, 4, 3)), np.zeros((0, 4, 4, 3)))


def test_floats_of_eight_bits_are_computed_in_float32():
    logits = np.asarray(random_case(4, (1, 5, 6))[0], ml_dtypes.float8_e4m3fn)
    wide = logits.astype(np.float32)
    np.testing.assert_allclose(intervene.mirror_risk(logits, wide), intervene.mirror_risk(wide, wide), rtol=1e-5)
    risks = [metrics.flip_risk(jnp.asarray(scores)) for scores in (logits, wide)]
    np.testing.assert_allclose(*risks, rtol=1e-5)
