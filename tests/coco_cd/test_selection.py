"""COCO-CD: lists, masks, selection and splits, against golden cases and pycocotools."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as mask_tools

from coco_cd.tree import GOLDEN, HEIGHT, SHARED, SQUARE, WIDTH, item, needs
from flipjax.data.coco_cd import annotations
from flipjax.data.coco_cd.annotations import Animals, label_mask, run_lengths
from flipjax.data.coco_cd.coco_cd_dataset_builder import read_selection, reference_split, select
from flipjax.data.images import BadFileError


def test_the_lists_are_the_papers():
    needs(SHARED / "reference/paper.md")
    text = re.sub(r"\s+", " ", (SHARED / "reference/paper.md").read_text())
    for scene in ("indoor", "outdoor"):
        for what in ("things", "stuff"):
            names = re.search(rf"{scene.capitalize()} {what}: ([^.]*)\.", text)[1].split(", ")
            assert getattr(annotations, f"{scene}_{what}".upper()) == set(names)


def forms_of(mask):
    """A mask as run lengths, and as compressed ones."""
    pixels = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(pixels)) + 1
    runs = [0] * int(pixels[0]) + np.diff([0, *ends, len(pixels)]).tolist()
    return runs, mask_tools.encode(np.asfortranarray(mask))["counts"].decode()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_segmentations_of_any_form_are_drawn_and_the_higher_label_wins(height, width, seed, count):
    rng = np.random.default_rng(seed)
    masks = (rng.random((count, height, width)) < rng.random()).astype(np.uint8)
    for form in (0, 1):
        shapes = [{"size": [height, width], "counts": forms_of(mask)[form]} for mask in masks]
        runs = [run_lengths(item(1, 1, 17, shape=shape), width, height, Path("x")) for shape in shapes]
        segments = tuple(zip(range(1, 1 + count), runs, strict=True))
        wanted = (masks * np.arange(1, 1 + count)[:, None, None]).max(0)
        np.testing.assert_array_equal(label_mask(segments, width, height), wanted)


def test_polygons_draw_their_pixels():
    square = np.zeros((HEIGHT, WIDTH), np.uint8)
    square[4:12, 4:12] = 1
    halves = [[4, 4, 12, 4, 12, 8, 4, 8], [4, 8, 12, 8, 12, 12, 4, 12], [1, 1, 2, 2]]
    for shape, wanted in ((SQUARE, square), (halves, square), ([], 0 * square)):
        counts = run_lengths(item(1, 1, 17, shape=shape), WIDTH, HEIGHT, Path("x.json"))
        np.testing.assert_array_equal(label_mask(((2, counts),), WIDTH, HEIGHT), 2 * wanted)


UNDRAWABLE = [
    {"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]},
    {"size": [HEIGHT, WIDTH], "counts": [5, 5]},
    [[0, 0, 1e9, 0, 1e9, 5]],
    [["a"] * 6],
    [[[0, 0, 5, 0, 5, 5]]],
    None,
]


@pytest.mark.parametrize("shape", UNDRAWABLE)
def test_segmentations_that_cannot_be_drawn_are_named(shape):
    with pytest.raises(BadFileError, match=r"f\.json: annotation 7 of image 3: "):
        run_lengths(item(7, 3, 17, shape=shape), WIDTH, HEIGHT, Path("f.json"))


def test_selection_by_hand():
    def animals(key, indoor, *boxes):
        """An image of 100 x 100 pixels, rectangles of a label from its corner, and an area of indoor things."""
        shapes = [(label, [[0, 0, w, 0, w, h, 0, h]]) for label, w, h in boxes]
        runs = [(label, run_lengths(item(1, key, 17, shape=shape), 100, 100, Path("x"))) for label, shape in shapes]
        return Animals(key, f"train2017/{key}.jpg", 100, 100, tuple(runs), (indoor, 99.0 if indoor == 100 else 0.0))

    images = [
        animals(1, 300.0, (1, 50, 50)),
        animals(2, 300.0, (2, 50, 50), (2, 60, 10)),
        animals(3, 300.0, (1, 50, 50), (2, 50, 50)),
        animals(4, 100.0, (1, 50, 50)),
        animals(5, 300.0, (1, 10, 9)),
        animals(6, 300.0, (1, 100, 100)),
    ]
    selection = select(images, {2: (0.0, 301.0), 9: (1e6, 0.0)}, folder=Path("train2017"))
    assert [(photo.animals.image_id, 2 * photo.y + photo.scene) for photo in selection.photos] == [(1, 0), (2, 3)]
    assert selection.left_out == {"several classes": 1, "unknown scene": 1, "foreground not within 1% and 99%": 2}


def test_golden_splits():
    needs(GOLDEN)
    expected = json.loads((GOLDEN / "expected_splits.json").read_text())
    photos = read_selection(GOLDEN).photos
    group_of = {photo.animals.image_id: 2 * photo.y + photo.scene for photo in photos}
    sizes = {"n_val": expected["val_per_group"], "n_test": expected["test_per_group"]}
    for rho, wanted in expected["splits"].items():
        result = reference_split(list(group_of), list(group_of.values()), rho=float(rho), **sizes)
        for part, listed in wanted.items():
            wanted_groups = sorted(zip(listed["image_id"], listed["group_id"], strict=True))
            assert sorted((i, group_of[i]) for i in result[part]) == wanted_groups


GROUPS = np.repeat(np.arange(4), (2943, 592, 1480, 1989)).tolist()


def test_the_released_splits_follow_the_rule():
    """The released ids, sorted, fall into train, val and test in the very pattern that the rule draws.

    Which other photos there were is not released, but the pattern tells how many: 2943, 592, 1989 in groups 0, 1 and 3
    and 1477 to 1484 in group 2; no other numbers of the first three give it.
    """
    path = SHARED / "reference/coco_cd_released_splits.json"
    needs(path)
    released = json.loads(path.read_text())
    drawn = reference_split(range(len(GROUPS)), GROUPS, rho=0.95)
    for group in range(4):
        pattern = sorted((i, part) for part, ids in drawn.items() for i in ids if GROUPS[i] == group)
        wanted = sorted(
            (int(Path(name).stem), part.split("_")[0])
            for part, listed in released.items()
            for name, g in zip(listed["file_name"], listed["group_id"], strict=True)
            if g == group
        )
        assert [part for _, part in pattern] == [part for _, part in wanted]


def test_reference_sizes():
    """At 0.5 and 0.75 cats outdoors are the fewest (592 - 175), and at 0.95 the cap holds."""
    for rho, common, rare in ((0.5, 417, 417), (0.75, 1251, 417), (0.95, 792, 42), (1.0, 1814, 0)):
        train = reference_split(range(len(GROUPS)), GROUPS, rho=rho)["train"]
        counts = np.bincount([GROUPS[i] for i in train], minlength=4)
        assert counts.tolist() == [common, rare, rare, common]
    with pytest.raises(ValueError, match="coco_cd"):
        reference_split([1, 2], [0, 1])
