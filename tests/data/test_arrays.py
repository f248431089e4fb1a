"""Images in memory in place of a folder: the same pool, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flipjax
from flipjax.config import ConfigError, default_config
from flipjax.data import benchmark, from_arrays, from_cut_outs
from flipjax.data.store import pool_digest

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


@pytest.mark.parametrize("grey", [IMAGES[..., 0], IMAGES[..., :1]], ids=["three axes", "one channel"])
def test_grey_images_have_three_equal_channels(grey):
    data = from_arrays(**PHOTOS | {"images": grey}, **NAMES)
    np.testing.assert_array_equal(data.pool.images, np.repeat(IMAGES[..., :1], 3, -1))


@pytest.mark.parametrize("field", ["images", "masks", "scenes", "classes"])
def test_later_changes_of_the_callers_arrays_change_nothing(field):
    own = {name: np.array(value) for name, value in PHOTOS.items()}
    if field == "masks":
        own["masks"] = np.where(OBJECTS, 1 + CLASSES[:, None, None], 0).astype(np.uint8)
    data = from_arrays(**own, **NAMES)
    before = pool_digest(vars(data.pool) | {"aspects": np.full(N, np.nan, np.float32)}, data.catalog)
    own[field][...] = 0
    after = pool_digest(vars(data.pool) | {"aspects": np.full(N, np.nan, np.float32)}, data.catalog)
    assert before == after == data.catalog.content


def test_the_arrays_of_a_pool_cannot_be_changed():
    data = from_arrays(**PHOTOS, **NAMES)
    with pytest.raises(ValueError, match="read-only"):
        data.pool.images[0] = 0


def test_clusters_are_named_and_part_of_the_digest():
    plain = from_arrays(**PHOTOS, **NAMES)
    data = from_arrays(**PHOTOS, **NAMES, clusters=np.arange(N) // 4)
    assert data.catalog.object_clusters[:5] == ("0", "0", "0", "0", "1")
    assert data.catalog.content != plain.catalog.content
    named = from_arrays(**PHOTOS, **NAMES, clusters=[str(number // 4) for number in range(N)])
    assert named.catalog.content == data.catalog.content


@pytest.mark.parametrize(
    "clusters",
    [np.arange(N - 1), np.arange(N)[None], [""] * N, [None] * N, np.full(N, np.nan), [1.5] * N],
    ids=["short", "two axes", "empty", "None", "NaN", "floats"],
)
def test_clusters_that_are_no_names_are_refused(clusters):
    with pytest.raises(ConfigError, match=f"clusters: expected {N} integers or names, one for each image; found "):
        from_arrays(**PHOTOS, **NAMES, clusters=clusters)


@pytest.mark.parametrize("field", [*PHOTOS])
def test_masked_arrays_are_refused(field):
    masked = np.ma.masked_array(PHOTOS[field], np.zeros(PHOTOS[field].shape, bool))
    with pytest.raises(ConfigError, match=f"^{field}: expected an array, found a masked one"):
        from_arrays(**PHOTOS | {field: masked}, **NAMES)


def test_bfloat16_images_are_taken():
    import ml_dtypes

    images = (IMAGES / 255).astype(ml_dtypes.bfloat16)
    data = from_arrays(**PHOTOS | {"images": images}, **NAMES)
    np.testing.assert_array_equal(data.pool.images, np.rint(images.astype(np.float32) * 255))


def test_crops_in_photos_need_their_shapes():
    changes, plain = {"train.crop_in": "photo", "train.batch_size": 8}, from_arrays(**PHOTOS, **NAMES)
    wide = from_arrays(**PHOTOS, **NAMES, aspects=[1.5] * N)
    assert plain.pool.aspects is None and (wide.pool.aspects == 1.5).all()
    assert plain.catalog.content != wide.catalog.content
    with pytest.raises(ConfigError, match="crop_in"):
        flipjax.make_train(small(), changes, data=plain)


NO_ASPECTS = {
    "one": [1.5],
    "zeros": [0.0] * N,
    "NaN": [np.nan] * N,
    "complex": np.ones(N, complex),
    "booleans": np.ones(N, bool),
    "text": ["1.5"] * N,
    "time spans": np.ones(N, "m8[s]"),
}


@pytest.mark.parametrize("aspects", NO_ASPECTS.values(), ids=NO_ASPECTS)
def test_shapes_that_cannot_be_are_refused(aspects):
    with pytest.raises(ConfigError, match="aspects"):
        from_arrays(**PHOTOS, **NAMES, aspects=aspects)


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


def test_images_in_memory_print_as_five_lines():
    lines = repr(from_arrays(**PHOTOS, **NAMES)).splitlines()
    assert len(lines) == 5 and max(map(len, lines)) < 100
    assert lines[0].startswith("ArrayData: a photo pool of ") and lines[1].startswith("  classes: ")
