"""gather against a slow numpy twin."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flipjax.data.pool import Pool, gather

SIZE = 6
ROWS = np.array([[[0, 2], [1, 0]], [[4, 1], [3, 2]]], np.int32)
compiled = jax.jit(gather)


def random_pool(kind):
    draw = partial(np.random.default_rng(7).integers, dtype=np.uint8)
    masks, labels = draw(0, 256, (5, SIZE, SIZE)), draw(1, 3, 5)
    masks[0], masks[1] = 0, 255
    images, scenes = draw(0, 256, (5, SIZE, SIZE, 3)), draw(0, 256, (3, SIZE, SIZE, 3))
    if kind == "photo":
        masks, scenes = np.where(masks > 127, labels[:, None, None], np.uint8(0)), scenes[:0]
    else:
        images = np.round(images * (masks[..., None] / 255)).astype(np.uint8)
    return Pool(kind=kind, images=images, masks=masks, labels=labels, scenes=scenes)


def twin(pool, row):
    """In float64, an image at a time."""
    (i, j), value = row, pool.masks[row[0]]
    if pool.kind == "photo":
        return pool.images[i] / 255, value
    behind = pool.scenes[j] / 255 * (1 - value[..., None] / 255)
    return pool.images[i] / 255 + behind, np.where(value > 127, pool.labels[i], 0)


@pytest.mark.parametrize("kind", ["composite", "photo"])
def test_gather_equals_its_twin(kind):
    pool = jax.tree.map(jnp.asarray, random_pool(kind))
    images, masks = compiled(pool, ROWS)
    mapped = jax.jit(jax.vmap(gather, (None, 0)))(pool, ROWS)
    jax.tree.map(np.testing.assert_array_equal, mapped, (images, masks))
    eager_images, eager_masks = gather(pool, ROWS)
    # Compiled, a division by a constant may be a product, which rounds otherwise.
    np.testing.assert_allclose(eager_images, images, rtol=2.5e-7)
    np.testing.assert_array_equal(eager_masks, masks)
    assert images.shape == (2, 2, SIZE, SIZE, 3) and masks.shape == (2, 2, SIZE, SIZE)
    assert images.dtype == jnp.float32 and masks.dtype == jnp.int32
    images, masks = np.asarray(images), np.asarray(masks)
    for place in np.ndindex(2, 2):
        image, mask = twin(pool, ROWS[place])
        np.testing.assert_allclose(images[place], image, atol=1e-6)
        np.testing.assert_array_equal(masks[place], mask)
