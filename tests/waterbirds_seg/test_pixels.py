"""Composites and cut-outs of Waterbirds-Seg, against golden cases and slow twins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flipjax.data import images
from flipjax.data.__main__ import main
from flipjax.data.waterbirds_seg import manifest
from flipjax.data.waterbirds_seg import waterbirds_seg_dataset_builder as pixels
from flipjax.data.waterbirds_seg.manifest import bird_files, scene_file
from waterbirds_seg.tree import GOLDEN, SIZE, needs_golden, open_pool


@needs_golden
def test_composites_equal_the_reference():
    rows = manifest.read_manifest(GOLDEN / "metadata.csv")
    assert len(rows) == 16
    for row in rows:
        bird, alpha = pixels.read_bird(*bird_files(GOLDEN / "cub", row.img_filename))
        scene = images.read_image(scene_file(GOLDEN / "places", row.place_filename))
        expected = (GOLDEN / "expected_images" / row.img_filename).with_suffix(".png")
        np.testing.assert_array_equal(pixels.composite(bird, alpha, scene), Image.open(expected))
        expected = (GOLDEN / "expected_masks" / row.img_filename).with_suffix(".png")
        np.testing.assert_array_equal(pixels.label_mask(alpha, 1 + row.y, 0), Image.open(expected))


@pytest.mark.parametrize("channels", [1, 3])
def test_every_product_is_rounded_as_in_float64(channels):
    """All 256 x 256 pairs of a value and an alpha, before and behind black; alpha may have three channels."""
    values, alphas = (np.repeat(each[..., None], 3, -1).astype(np.uint8) for each in np.meshgrid(*[np.arange(256)] * 2))
    image, alpha = Image.fromarray(values), Image.fromarray(alphas if channels == 3 else alphas[..., 0])
    black = Image.new("RGB", (256, 256))
    front, back = pixels.composite(image, alpha, black), pixels.composite(black, alpha, image)
    np.testing.assert_array_equal(front, np.around(values * (alphas / 255)))
    np.testing.assert_array_equal(back, np.around(values * (1 - alphas / 255)))


def twin_fit(scene, size):
    """The rule in words: enlarge until it covers, cut what is too wide or too high off both sides, resize."""
    (w, h), (width, height) = scene.size, size
    if w < width or h < height:
        larger = (width, int(width / w * h))
        larger = larger if larger[1] >= height else (int(height / h * w), height)
        return twin_fit(scene.resize(larger, Image.Resampling.LANCZOS), size)
    array = np.asarray(scene)
    if w / h > width / height:
        cut = (w - int(width / height * h)) // 2
        array = array[:, cut : w - cut]
    else:
        cut = (h - int(w / (width / height))) // 2
        array = array[cut : h - cut]
    return Image.fromarray(array).resize(size, Image.Resampling.LANCZOS)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(8, 40)] * 4))
def test_fit_equals_its_twin(sides):
    scene = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*sides[1::-1], 3), np.uint8))
    fitted = pixels.fit_scene(scene, sides[2:])
    assert fitted.size == sides[2:]
    np.testing.assert_array_equal(fitted, twin_fit(scene, sides[2:]))


@needs_golden
def test_the_golden_tree_through_the_data_set_to_a_pool(tmp_path):
    """It has no images.txt, so its manifest's own composites are taken: the reference's, to the bit."""
    folders = ["--cub_dir", str(GOLDEN / "cub"), "--places_dir", str(GOLDEN / "places")]
    assert main(["prepare", "waterbirds_seg", *folders, "--data_dir", str(tmp_path)]) == 0
    pool, catalog = open_pool(tmp_path)
    assert len(catalog.object_names) == 16 and (catalog.object_split == -1).all()
    for name, image, mask in zip(catalog.object_names, np.asarray(pool.images), np.asarray(pool.masks), strict=True):
        expected = Image.open((GOLDEN / "expected_images" / name).with_suffix(".png"))
        np.testing.assert_array_equal(image, expected.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        expected = Image.open((GOLDEN / "expected_masks" / name).with_suffix(".png"))
        np.testing.assert_array_equal(mask, expected.resize((SIZE, SIZE), Image.Resampling.NEAREST))
