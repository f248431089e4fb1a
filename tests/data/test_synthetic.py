"""The synthetic pool: its seed, its classes and scenes, and the attributes that are uninformative."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from flipjax.config import PoolSpec
from flipjax.config.naming import CREATURES, CUES, LANDSCAPES, known_groups
from flipjax.data.pool import at_strength, gather, scenes_alone
from flipjax.data.sources import synthetic
from flipjax.data.sources.synthetic import creatures

SIZE, HALF = 32, 16
SPEC = PoolSpec(size=SIZE, seed=3, objects=200, scenes=40)
# One program each: operation by operation each would compile dozens.
look, look_alone = map(jax.jit, (gather, scenes_alone))


@pytest.fixture(scope="module")
def loaded():
    return synthetic.load_synthetic(SPEC)


@pytest.fixture(scope="module")
def four():
    return synthetic.load_synthetic(dataclasses.replace(SPEC, objects=100, classes=CREATURES, scene_kinds=LANDSCAPES))


def probe_accuracy(features, labels):
    """Accuracy on the second half of least-squares lines, one a label, fitted on the first."""
    features = np.column_stack([features, np.ones(len(features))])
    half = len(labels) // 2
    lines = np.linalg.lstsq(features[:half], np.eye(labels.max() + 1)[labels[:half]], rcond=None)[0]
    return np.mean((features[half:] @ lines).argmax(1) == labels[half:])


def test_pool_and_catalog_agree_and_are_balanced(loaded):
    pool, catalog = loaded
    assert pool.kind == "composite" and (len(pool.images), len(pool.scenes)) == (400, 80)
    assert pool.images.shape[1:] == pool.scenes.shape[1:] == (SIZE, SIZE, 3)
    assert {each.dtype for each in (pool.images, pool.masks, pool.labels, pool.scenes)} == {np.dtype(np.uint8)}
    assert (np.asarray(pool.images) <= np.asarray(pool.masks)[..., None]).all()  # Premultiplied.
    np.testing.assert_array_equal(pool.labels, 1 + catalog.object_class)
    assert np.bincount(catalog.object_class).tolist() == [200, 200]
    assert np.bincount(catalog.scene_kind).tolist() == [40, 40]
    assert len(set(catalog.object_names)) == 400 and len(set(catalog.scene_photo_names)) == 80
    assert (catalog.object_scene == -1).all() and (catalog.object_split == -1).all()


@pytest.mark.parametrize("pool", ["loaded", "four"])
def test_every_creature_is_whole_and_of_a_fair_size(pool, request):
    masks = np.asarray(request.getfixturevalue(pool)[0].masks)
    share = (masks > 127).mean((1, 2))
    assert share.min() > 0.08 and share.max() < 0.32
    frame = np.ones((SIZE, SIZE), bool)
    frame[1:-1, 1:-1] = False
    assert masks[:, frame].max() == 0


def test_the_seed_decides_and_an_item_does_not_depend_on_the_number(loaded):
    pool, _ = loaded
    fewer, _ = synthetic.load_synthetic(dataclasses.replace(SPEC, objects=12, scenes=12))
    np.testing.assert_array_equal(fewer.images, pool.images[:24])
    np.testing.assert_array_equal(fewer.scenes, pool.scenes[:24])
    other, _ = synthetic.load_synthetic(dataclasses.replace(SPEC, seed=4, objects=12, scenes=12))
    assert not (np.asarray(other.masks) == np.asarray(fewer.masks)).all((1, 2)).any()
    assert not (np.asarray(other.scenes) == np.asarray(fewer.scenes)).all((1, 2, 3)).any()


def creatures_of(drawn):
    """24 creatures of each kind that is drawn, from the same keys."""
    keys = jax.random.split(jax.random.key(11), 24)
    draw = jax.vmap(partial(creatures.draw_creature, drawn=drawn), (0, None))
    return jax.jit(jax.vmap(draw, (None, 0)))(keys, np.arange(len(drawn)))


def test_classes_share_all_but_their_traits_and_some_creatures_are_plainer():
    pairs = creatures_of(creatures.PAIR)
    for name in ("centre", "scale", "angle", "facing", "build", "colours", "coat"):
        np.testing.assert_array_equal(*getattr(pairs, name))
    gap = np.diff(pairs.traits, axis=0)[0].mean(1)
    assert (gap > 0).all() and gap.min() < 0.5 and np.median(gap) > 0.7 and len(np.unique(gap.round(2))) > 12


@pytest.mark.parametrize("drawn", [(0, 1, 2, 3), (1, 0), (3, 2)])
def test_any_kinds_are_drawn(drawn):
    for kind, shares in enumerate(np.asarray(creatures_of(drawn).traits)):
        np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
        assert np.median(shares[..., drawn[kind]]) > 0.7 and (np.delete(shares, drawn, -1) == 0).all()


def test_four_kinds_have_names_numbers_and_usual_scenes(four):
    pool, catalog = four
    assert catalog.class_names == CREATURES and catalog.scene_names == LANDSCAPES
    assert np.bincount(np.asarray(pool.labels)).tolist() == [0, 100, 100, 100, 100] and len(pool.scenes) == 160
    assert catalog.object_names[5] == "ripplet_0001" and catalog.scene_photo_names[159] == "snow_0039"
    assert catalog.groups.common == (0, 5, 10, 15)
    turned = dataclasses.replace(SPEC, scene_kinds=("snow", "land"), usual=("land", "snow"))
    assert known_groups(turned).usual == ((1,), (0,))


@pytest.mark.parametrize("kinds", [2, 4])
def test_colour_tells_the_scene_and_with_place_and_size_not_the_class(kinds, loaded, four):
    pool, catalog = loaded if kinds == 2 else four
    alpha = np.asarray(pool.masks, np.float64) / 255
    images = np.asarray(pool.images, np.float64) / 255
    area = alpha.sum((1, 2))
    colour = images.sum((1, 2)) / area[:, None]
    line = np.arange(SIZE)
    place = np.stack([alpha.sum(2) @ line, alpha.sum(1) @ line], 1) / area[:, None]
    # 200 images a class and more are scored: chance is 1 / kinds with a standard deviation of 0.035 at most.
    for features in (colour, np.column_stack([place, area]), np.column_stack([colour, place, area])):
        assert abs(probe_accuracy(features, catalog.object_class) - 1 / kinds) < 0.12
    assert probe_accuracy(np.asarray(pool.scenes, np.float64).mean((1, 2)), catalog.scene_kind) > 0.95


def test_size_changes_the_resolution_alone(loaded):
    pool, _ = loaded
    small, _ = synthetic.load_synthetic(dataclasses.replace(SPEC, size=HALF, objects=4, scenes=3))
    for name in ("images", "masks", "scenes"):
        coarse = np.asarray(getattr(small, name), float)
        fine = np.asarray(getattr(pool, name)[: len(coarse)], float)
        pooled = fine.reshape(len(fine), HALF, 2, HALF, 2, -1).mean((2, 4))
        assert np.abs(pooled - coarse.reshape(pooled.shape)).mean() < 4


@pytest.mark.parametrize("cue", CUES)
def test_a_cue_is_all_that_differs_within_a_set_and_its_strength_blends_it(cue):
    spec = PoolSpec(size=HALF, objects=4, scenes=3, cue=cue)
    (plain, catalog), (blended, _) = map(synthetic.load_synthetic, (spec, dataclasses.replace(spec, blended=True)))
    rows = np.stack(np.divmod(np.arange(8 * 6), 6), axis=-1).reshape(8, 6, 2)  # Each object with each layer.
    made, masks = map(np.asarray, look(plain, rows))
    assert (masks == masks[:, :1]).all() and catalog.scene_names == CUES[cue][:2]
    photos = [np.flatnonzero(catalog.scene_kind == kind)[0] for kind in (0, 1)]
    distance = np.abs(made[:, photos[0]] - made[:, photos[1]]).mean(-1)
    assert distance.mean() > 0
    # The object itself changes under a marker or a tint alone, and a marker leaves most of the image as it is.
    if cue in ("scene", "texture"):
        assert distance[(masks[:, 0] > 0) & (np.asarray(plain.masks) == 255)].max() == 0
    assert cue != "marker" or (distance == 0).mean() > 0.9
    scenes = np.asarray(look_alone(plain, np.arange(len(catalog.scene_kind))))
    means = [scenes[catalog.scene_kind == kind].mean(0) for kind in (0, 1)]
    assert scenes.min() >= 0 and scenes.max() <= 1 and np.abs(means[0] - means[1]).max() > 0.01
    images = {level: look(at_strength(blended, level), rows) for level in (0.0, 0.25, 1.0)}
    assert all((other == masks).all() for _, other in images.values())
    whole, none = np.asarray(images[1.0][0]), np.asarray(images[0.0][0])
    # Compiled as quickly as can be, a tint's product of constants is rounded once more.
    np.testing.assert_allclose(whole, made, atol=1e-7 if cue == "tint" else 0)
    if cue == "tint":
        np.testing.assert_array_equal(*(gather(each, rows)[0] for each in (plain, blended)))
    np.testing.assert_array_equal(none, np.broadcast_to(none[:, :1], none.shape))
    np.testing.assert_allclose(images[0.25][0], none + 0.25 * (whole - none), atol=1e-6)
    if cue == "scene":
        behind = (np.asarray(plain.masks) == 0)[:, None]
        mean = np.asarray(plain.scenes).mean(0).round() / 255
        np.testing.assert_allclose(np.where(behind[..., None], none - mean, 0), 0, atol=1e-6)
    assert at_strength(plain, 0.5) is plain
