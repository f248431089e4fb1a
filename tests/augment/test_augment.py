"""Augmentations against slow twins that see one image at a time, and at their limits."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from flipjax import augment
from flipjax.augment import geometry

B, H, W = 12, 10, 14
LUMA = np.array([0.2989, 0.587, 0.114])
# One program each: operation by operation each shape would compile dozens.
crop, jitter, swap = map(jax.jit, (augment.random_resized_crop, augment.colour_jitter, augment.background_swap))
draw_boxes = jax.jit(geometry._draw_boxes)
flip = jax.jit(augment.mirror, static_argnames="pairs")
cutmix = jax.jit(augment.background_cutmix, static_argnames="reference")


@pytest.fixture(scope="module")
def batch():
    """Random images; masks with a box of foreground each, one image without any."""
    rng = np.random.default_rng(0)
    masks = np.zeros((B, H, W), np.int32)
    for index, mask in enumerate(masks[1:], start=1):
        y, x = rng.integers(0, H - 3), rng.integers(0, W - 4)
        mask[y : y + 3, x : x + 4] = 1 + index % 2
    return rng.random((B, H, W, 3)).astype(np.float32), masks


def slow_crop(image, mask, box):
    """One image by SciPy's bilinear interpolation, and its nearest labels."""
    top, left, height, width = box
    y, x = top + (np.arange(H) + 0.5) * height / H - 0.5, left + (np.arange(W) + 0.5) * width / W - 0.5
    labels = mask[np.ix_(np.floor(y + 0.5).astype(int), np.floor(x + 0.5).astype(int))]
    places = np.meshgrid(y.clip(top, top + height - 1), x.clip(left, left + width - 1), indexing="ij")
    pixels = [ndimage.map_coordinates(channel, places, order=1) for channel in np.moveaxis(image, -1, 0)]
    return np.stack(pixels, axis=-1), labels


def boxes(key, masks, probability=1.0, scale=(0.8, 1.0), ratio=(0.9, 1.1)):
    return np.asarray(draw_boxes(key, masks, probability, scale, ratio)).astype(int)


def get_params(draws, height, width, scale=(0.8, 1.0), ratio=(0.9, 1.1), masks=None):
    """torchvision's RandomResizedCrop.get_params on photos, from uniform draws (n, 4, 10).

    With masks, only rectangles that hold foreground are taken, or else the whole photo.
    """
    area, shape, down, right = np.moveaxis(draws, 1, 0)
    area, shape = height * width * np.interp(area, (0, 1), scale), np.exp(np.interp(shape, (0, 1), np.log(ratio)))
    w, h = np.rint(np.sqrt(area * shape)), np.rint(np.sqrt(area / shape))
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    found = np.stack([down * (height - h + 1), right * (width - w + 1), h, w], axis=-1).astype(int)
    if masks is not None:
        pairs = zip(masks, found, strict=True)
        fits &= [[mask[y : y + h, x : x + w].any() for y, x, h, w in own] for mask, own in pairs]
    other = central_crop(height, width, ratio) if masks is None else [0, 0, height, width]
    first = found[np.arange(len(found)), fits.argmax(1)]
    return np.where(fits.any(1, keepdims=True), first, other)


def central_crop(height, width, ratio=(0.9, 1.1)):
    h, w = min(height, round(width / ratio[0])), min(width, round(height * ratio[1]))
    return np.array([(height - h) // 2, (width - w) // 2, h, w])


CENTRAL = {(500, 375): 0.89, (640, 480): 0.89, (500, 333): 1.0, (640, 427): 1.0, (480, 640): 0.84, (500, 500): 0.0}
"""Shares of the draws in which torchvision takes the central crop, by width and height (4,000 draws of its code)."""


@pytest.mark.parametrize(("size", "share"), CENTRAL.items())
def test_crops_in_photos_are_torchvisions(size, share):
    # Rectangles of a square are rounded to its mask's pixels.
    (count, side), key = (500, 96) if size[0] == size[1] else (4000, 24), jax.random.key(7)
    aspects = np.full(count, size[0] / size[1], np.float32)
    found = draw_boxes(key, np.ones((count, side, side), np.uint8), 1.0, (0.8, 1.0), (0.9, 1.1), aspects)
    draws = np.asarray(jax.random.uniform(key, (count, 41)), np.float64)[:, 1:].reshape(count, 4, 10)
    height = side if size[0] == size[1] else geometry.ASSUMED_HEIGHT
    width = round(height * size[0] / size[1])
    scale = np.tile([side / height, side / width], 2)
    # float32 rounds a side or a corner otherwise now and then.
    assert np.isclose(found, get_params(draws, height, width) * scale, atol=1e-3).all(1).mean() > 0.997
    assert abs(np.isclose(found, central_crop(height, width) * scale, atol=1e-3).all(1).mean() - share) < 0.02


def test_a_crop_in_a_photo_holds_the_object_or_is_none():
    masks = np.zeros((3, 64, 64), np.int32)
    masks[0, 30:34, 30:34] = masks[1, 30:34, :3] = masks[2, 2:5, 10:20] = 1
    found = np.asarray(draw_boxes(jax.random.key(0), masks, 1.0, (0.8, 1.0), (0.9, 1.1), np.float32([2.0, 2.0, 0.3])))
    np.testing.assert_allclose(found[0, 2:], [64, 64 * 1.1 / 2], atol=0.1)
    assert found[1:].tolist() == [[0, 0, 64, 64]] * 2  # The central crop misses the object.


def test_square_photos_are_cropped_as_squares_are(batch):
    images, masks = (np.pad(part, [(0, 0), (2, 2)] + [(0, 0)] * (part.ndim - 2)) for part in batch)
    for seed in range(4):
        square, photo = (crop(jax.random.key(seed), images, masks, aspects=a) for a in (None, np.ones(B, np.float32)))
        jax.tree.map(np.testing.assert_array_equal, square, photo)


def test_crop_equals_its_twin(batch):
    images, masks = batch
    for seed in range(3):
        key = jax.random.key(seed)
        cropped, labels = crop(key, images, masks, probability=1.0, scale=(0.3, 1.0), ratio=(0.6, 1.7))
        for index, box in enumerate(boxes(key, masks, scale=(0.3, 1.0), ratio=(0.6, 1.7))):
            wanted = slow_crop(np.asarray(images[index], np.float64), np.asarray(masks[index]), box)
            np.testing.assert_allclose(cropped[index], wanted[0], atol=2e-6)
            np.testing.assert_array_equal(labels[index], wanted[1])
        np.testing.assert_array_equal(cropped[0], images[0])  # Without foreground: the whole, as it is.


def test_the_first_rectangle_that_qualifies_is_taken():
    rng = np.random.default_rng(2)
    masks = (rng.random((60, H, W)) < 0.004).astype(np.int32)  # Most hold no pixel or one: many draws miss it.
    key, ranges = jax.random.key(5), {"scale": (0.3, 1.0), "ratio": (0.6, 1.7)}
    draws = np.asarray(jax.random.uniform(key, (60, 41)), np.float64)[:, 1:].reshape(60, 4, 10)
    np.testing.assert_array_equal(boxes(key, masks, **ranges), get_params(draws, H, W, **ranges, masks=masks))
    assert (boxes(key, masks, probability=0.0) == [0, 0, H, W]).all()


def slow_jitter(image, factors, order):
    for operation in order:
        grey = image @ LUMA
        other = [0.0, grey.mean(), grey[..., None]][operation]
        image = np.clip(factors[operation] * image + (1 - factors[operation]) * other, 0, 1)
    return image


@pytest.mark.parametrize("ordered", [False, True])
def test_jitter_equals_its_twin(batch, ordered):
    images, _ = batch
    key = jax.random.key(4)
    jittered = np.asarray(jitter(key, images, probability=0.5, strength=0.4, ordered=ordered))
    draws = np.asarray(jax.random.uniform(key, (B, 7)), np.float64)
    for index, draw in enumerate(draws):
        wanted = np.asarray(images[index], np.float64)
        if draw[0] < 0.5:
            wanted = slow_jitter(wanted, 1 + 0.4 * (2 * draw[1:4] - 1), range(3) if ordered else np.argsort(draw[4:]))
        np.testing.assert_allclose(jittered[index], wanted, atol=3e-6)
    assert 2 < (draws[:, 0] < 0.5).sum() < 10 and len({tuple(np.argsort(draw[4:])) for draw in draws}) > 3


def slow_cutmix(image, mask, partner, partner_mask, partnered, draw, noise, probability, fit):
    """One image, from its eight uniform draws and its noise, if any."""
    image = np.array(image)
    if draw[0] >= probability:
        return image
    (height, top), (width, left) = [
        (length := int(np.clip(fit((0.1 + 0.3 * a) * size), 1, size)), int(b * (size - length + 1)))
        for a, b, size in ((draw[1], draw[2], H), (draw[3], draw[4], W))
    ]
    places = [(i, j) for i in range(top, top + height) for j in range(left, left + width)]
    both = [place for place in places if mask[place] == 0 and partner_mask[place] == 0]
    mixes = partnered and len(both) >= 0.3 * len(places)
    for place in both if mixes else [place for place in places if mask[place] == 0]:
        image[place] = partner[place] if mixes else draw[5:] if noise is None else noise[place]
    return image


@pytest.mark.parametrize("reference", [False, True])
def test_cutmix_equals_its_twin_and_leaves_objects_alone(reference):
    rng = np.random.default_rng(1)
    count = 60
    images, partners = rng.random((2, count, H, W, 3)).astype(np.float32)
    masks, partner_masks = (rng.random((2, count, H, W)) < rng.random((2, count, 1, 1))).astype(np.int32)
    partnered = rng.random(count) < 0.8
    key = jax.random.key(2)
    options = {"partnered": partnered, "probability": 0.7, "reference": reference}
    mixed = np.asarray(cutmix(key, images, masks, partners, partner_masks, **options))
    draw_key, rest_key = jax.random.split(key) if reference else (key, key)
    noise_key, coin_key = jax.random.split(rest_key)
    draws = np.asarray(jax.random.uniform(draw_key, (count, 8)))
    drawn = np.asarray(jax.random.uniform(noise_key, images.shape))
    coins = np.asarray(jax.random.bernoulli(coin_key, shape=(count,)))
    # A partner that shares too little background leaves one colour, as in the paper; only none at all leaves noise.
    noise = [drawn[i] if reference and coins[i] and not partnered[i] else None for i in range(count)]
    assert 0.3 < coins.mean() < 0.7 and (not reference or len([each for each in noise if each is not None]) > 2)
    for index in range(count):
        case = (images, masks, partners, partner_masks, partnered, draws, noise)
        wanted = slow_cutmix(*[leaf[index] for leaf in case], 0.7, np.floor if reference else np.round)
        np.testing.assert_array_equal(mixed[index], wanted)
    np.testing.assert_array_equal(mixed[masks > 0], images[masks > 0])
    taken = (mixed == partners).all(-1).any((1, 2))
    assert taken.any() and not taken.all() and not taken[~partnered].any()
    assert (mixed != images).any((1, 2, 3)).sum() > 20


def test_swap_moves_scene_and_group_together():
    rows = np.stack([np.arange(400), np.full(400, 7)], axis=1)
    groups, others = np.arange(400) % 4, np.full(400, 9)
    partnered = np.arange(400) % 5 > 0
    new, moved = swap(jax.random.key(0), rows, groups, others, groups ^ 1, partnered=partnered, probability=0.25)
    new = np.asarray(new)
    swapped = new[:, 1] == 9
    assert 50 < swapped.sum() < 110 and not swapped[~partnered].any()
    np.testing.assert_array_equal(new[:, 0], rows[:, 0])
    np.testing.assert_array_equal(moved, np.where(swapped, np.array([1, 0, 3, 2])[groups], groups))


PAIRS = ((1, 4), (3, 2))


@given(seed=st.integers(0, 2**31 - 1))
def test_mirroring_exchanges_the_labels_of_pairs(seed):
    rng = np.random.default_rng(seed)
    images, masks = rng.random((6, 4, 5, 3)).astype(np.float32), rng.integers(0, 6, (6, 4, 5))
    mirrored = rng.random(6) < 0.5
    partner = np.array([0, 4, 3, 2, 1, 5])
    new_images, new_masks = flip(images, masks, mirrored, pairs=PAIRS)
    for index in range(6):
        wanted = (images[index, :, ::-1], partner[masks[index, :, ::-1]])
        if not mirrored[index]:
            wanted = (images[index], masks[index])
        np.testing.assert_array_equal(new_images[index], wanted[0])
        np.testing.assert_array_equal(new_masks[index], wanted[1])
    # Twice is none.
    jax.tree.map(np.testing.assert_array_equal, flip(new_images, new_masks, mirrored, pairs=PAIRS), (images, masks))


def test_a_horizontal_flip_takes_pairs(batch):
    images, masks = batch
    key = jax.random.key(0)
    new_images, new_masks = augment.horizontal_flip(key, images, masks, probability=1.0, pairs=((1, 2),))
    np.testing.assert_array_equal(new_images, images[:, :, ::-1])
    np.testing.assert_array_equal(new_masks, np.array([0, 2, 1])[masks[:, :, ::-1]])
    plain = augment.horizontal_flip(key, images, masks, probability=1.0)[1]
    np.testing.assert_array_equal(plain, masks[:, :, ::-1])
    assert plain.dtype == new_masks.dtype == masks.dtype
