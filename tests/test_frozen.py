"""Frozen features: the encoder against PyTorch's figures, the projection, the decoder, and members trained on them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flipjax.config import ConfigError
from flipjax.config.plan import plan
from flipjax.config.reading import configure
from flipjax.data.arrays import from_arrays, from_cut_outs, keys_of
from flipjax.data.pool import gather, inputs_of
from flipjax.models import frozen
from flipjax.training.features import AT_ONCE
from flipjax.training.task import make_task

try:
    frozen.weights_file()
except ConfigError as error:
    pytest.skip(str(error), allow_module_level=True)

SIZE = 32
SMALL = {
    "model.name": "frozen",
    "split.n_train": 16,
    "split.n_val": 4,
    "split.n_test": 8,
    "train.epochs": 2,
    "train.batch_size": 8,
    "axes.rho": (0.5, 1.0),
    "axes.seed": (0, 1),
    "intervene.scenes": "none",
    "intervene.scores": "none",
    "population.keep": "first",
}


def cut_outs(seed=0, count=32):
    """Discs of two colours that can be shown on two kinds of scenes."""
    rng = np.random.default_rng(seed)
    rgba = np.zeros((count, SIZE, SIZE, 4), np.uint8)
    grid = np.indices((SIZE, SIZE)).transpose(1, 2, 0)
    for index in range(count):
        inside = ((grid - rng.integers(12, 20, 2)) ** 2).sum(-1) < 64
        rgba[index][inside] = (*((220, 60, 60) if index % 2 else (60, 60, 220)), 255)
    scenes = rng.integers(0, 255, (16, SIZE, SIZE, 3), np.uint8)
    scenes[::2] //= 4
    names = {"class_names": ("blue", "red"), "scene_names": ("dark", "bright")}
    return from_cut_outs(rgba, np.arange(count) % 2, scenes, np.arange(16) % 2, **names)


def photos(count=48):
    """The same on photos, three of four with their usual scene."""
    data = cut_outs(count=count)
    classes = np.arange(count) % 2
    scenes = np.where(np.arange(count) % 8 < 6, classes, 1 - classes)
    images, masks = gather(data.pool, np.stack([np.arange(count), scenes], axis=1))
    names = {"class_names": ("blue", "red"), "scene_names": ("dark", "bright")}
    return from_arrays(np.asarray(images), np.asarray(masks), classes, scenes, **names)


def task_of(data, **changes):
    keys = {name.replace("__", "."): value for name, value in changes.items()}
    config = configure("smoke", {**SMALL, **keys, **keys_of(data)})
    return make_task(plan(config).programs[0], data)


@pytest.fixture(scope="module")
def composite():
    return task_of(cut_outs())


def test_features_of_a_row_are_those_of_its_image_and_mirror_image(composite):
    _, task = composite
    encoder = frozen.encoder_weights()
    rows = task.tables["test"].rows[:3]
    images, _ = gather(task.pool, rows)
    projection = frozen.Projection(*task.pool.features.projection)
    of = jax.jit(lambda images: frozen.features_of(encoder, projection, images).astype(jnp.float32))
    result = inputs_of(task.pool, rows, images)
    assert result.shape == (3, SIZE // 4, SIZE // 4, 64)
    np.testing.assert_allclose(result, of(images), rtol=0, atol=5e-3)
    mirrored = inputs_of(task.pool, rows, images, jnp.array([False, True, True]))
    np.testing.assert_array_equal(mirrored[0], result[0])
    np.testing.assert_allclose(mirrored[1:, :, ::-1], of(images[1:, :, ::-1]), rtol=0, atol=5e-3)


def test_every_row_of_every_table_has_a_place(composite):
    program, task = composite
    places = np.asarray(task.pool.features.places)
    listed = {tuple(row) for table in task.tables.values() for row in table.rows.tolist()}
    for rho in (0.5, 1.0):
        for seed in (0, 1):
            table = task.parts.training_table(rho=rho, rare_kept=1.0, seed=seed, n_train=16, rhos=program.rhos)
            listed |= {tuple(row) for row in table.rows.tolist()}
    assert {tuple(row) for row in np.argwhere(places >= 0).tolist()} == listed
    assert task.pool.features.maps.shape[:2] == (2, len(listed))


def test_the_projection_never_saw_a_test_image():
    data = photos()
    _, task = task_of(data, split__folds=3, grid__split__fold=(0,), axes__rho=(0.75,), split__n_train=0)
    images = np.asarray(data.pool.images).copy()
    for part in ("val", "test"):
        rows = task.tables[part].rows[:, 0]
        images[rows] = 255 - images[rows]
    changed = data._replace(pool=dataclasses.replace(data.pool, images=images))
    _, other = task_of(changed, split__folds=3, grid__split__fold=(0,), axes__rho=(0.75,), split__n_train=0)
    for before, after in zip(task.pool.features.projection, other.pool.features.projection, strict=True):
        np.testing.assert_array_equal(before, after)
    assert (task.pool.features.maps != other.pool.features.maps).any()


def test_features_do_not_depend_on_the_members_that_are_left(composite):
    program, task = composite
    left = dataclasses.replace(program, settings=program.settings[3:])
    _, other = make_task(left, cut_outs())
    rows = task.tables["test"].rows
    for pool in (task.pool, other.pool):
        assert pool.features.maps.shape[1] % AT_ONCE
    for side in (None, np.ones(len(rows), bool)):
        np.testing.assert_array_equal(*(inputs_of(pool, rows, None, side) for pool in (task.pool, other.pool)))
