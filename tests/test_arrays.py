"""Images in memory in place of a folder: the same pool, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flipjax
from flipjax.config import ConfigError, default_config
from flipjax.data import benchmark, from_arrays, from_cut_outs

NAMES = {"class_names": ("cat", "dog"), "scene_names": ("indoor", "outdoor")}
N, SIZE = 48, 16
GENERATOR = np.random.default_rng(0)
CLASSES, SCENES = np.arange(N) % 2, np.arange(N) // 2 % 2
OBJECTS = np.tile(np.arange(SIZE) < 5, (N, SIZE, 1))
IMAGES = GENERATOR.integers(0, 256, (N, SIZE, SIZE, 3), np.uint8)
PHOTOS = {"images": IMAGES, "masks": OBJECTS, "classes": CLASSES, "scenes": SCENES}
CUT_OUTS = np.concatenate([IMAGES, 255 * OBJECTS[..., None].astype(np.uint8)], axis=-1)
COMPOSITE = {"cut_outs": CUT_OUTS, "classes": CLASSES, "scenes": IMAGES[:20], "scene_kinds": SCENES[:20]}


def small():
    config = default_config()
    config.split.update(n_train=8, n_val=8, n_test=8)
    config.axes.rho = (0.5, 0.75)
    return config


def test_photos_in_memory_are_the_images_of_members():
    data = from_arrays(**PHOTOS, **NAMES)
    parts = benchmark(small(), rho=0.75, data=data)
    known = {image.tobytes(): place for place, image in enumerate(PHOTOS["images"])}
    for part in (parts.train, parts.val, parts.test):
        places = [known[image.tobytes()] for image in np.rint(255 * part.images).astype(np.uint8)]
        np.testing.assert_array_equal(part.classes, CLASSES[places])
        np.testing.assert_array_equal(part.scenes, SCENES[places])
        np.testing.assert_array_equal(part.masks, np.where(OBJECTS[places], 1 + CLASSES[places][:, None, None], 0))
    labels = np.where(OBJECTS, 1 + CLASSES[:, None, None], 0)
    named = {"classes": np.array(NAMES["class_names"])[CLASSES], "scenes": np.array(NAMES["scene_names"])[SCENES]}
    for same in ({"masks": labels}, named, {"images": PHOTOS["images"] / 255}):
        assert from_arrays(**PHOTOS | same, **NAMES).catalog.content == data.catalog.content
    other = from_arrays(**PHOTOS | {"images": 255 - PHOTOS["images"]}, **NAMES)
    assert other.catalog.content != data.catalog.content
    fixed = from_arrays(**PHOTOS, **NAMES, parts=["test"] * 8 + [""] * (N - 8)).catalog
    assert fixed.object_split.tolist() == [2] * 8 + [-1] * (N - 8)


def test_crops_in_photos_need_their_shapes():
    changes, plain = {"train.crop_in": "photo", "train.batch_size": 8}, from_arrays(**PHOTOS, **NAMES)
    wide = from_arrays(**PHOTOS, **NAMES, aspects=[1.5] * N)
    assert plain.pool.aspects is None and (wide.pool.aspects == 1.5).all()
    assert plain.catalog.content != wide.catalog.content
    with pytest.raises(ConfigError, match="crop_in"):
        flipjax.make_train(small(), changes, data=plain)
    for wrong in ([1.5], [0.0] * N, [np.nan] * N):
        with pytest.raises(ConfigError, match="aspects"):
            from_arrays(**PHOTOS, **NAMES, aspects=wrong)


def test_cut_outs_in_memory_stand_in_every_scene():
    data = from_cut_outs(**COMPOSITE, **NAMES, usual=("outdoor", "indoor"))
    assert data.pool.kind == "composite" and data.catalog.groups.common == (1, 2)
    assert (data.pool.images <= data.pool.masks[..., None]).all()
    test = benchmark(small(), rho=0.75, data=data).test
    assert len(set(test.pairs.tolist())) == 4 and (test.groups.reshape(4, 2) % 2 == [0, 1]).all()
    np.testing.assert_array_equal(test.masks > 0, OBJECTS[: len(test.masks)])


def spoiled(field, value):
    """Wrong values of an argument."""
    if value.ndim == 1:
        return [value[:-1], value + 1, value - 1, value[None], value.astype(str), np.zeros_like(value)]
    wrong = [value[:0], value[:, :-1], value[0]]
    if field == "masks":
        return [*wrong, value[:-1], value & False, value * 3, -value.astype(int), value.astype(float)]
    floats = value / 255
    return [*wrong, value[..., :2], value[:, :12, :12], value.astype(int), floats * 2, floats - 1, floats * np.nan]


@given(st.data())
@settings(max_examples=60)
def test_what_is_no_pool_is_refused_by_name(chosen):
    make, whole = chosen.draw(st.sampled_from([(from_arrays, PHOTOS), (from_cut_outs, COMPOSITE)]))
    field = chosen.draw(st.sampled_from([*whole]))
    wrong = chosen.draw(st.sampled_from(spoiled(field, whole[field])))
    with pytest.raises(ConfigError) as refused:
        make(**whole | {field: wrong}, **NAMES)
    assert refused.value.field in whole and "\n" not in str(refused.value)
