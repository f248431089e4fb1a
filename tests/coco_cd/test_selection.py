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
from flipjax.data.coco_cd.annotations import Animals, decode_runs, label_mask, run_lengths, scene_of
from flipjax.data.coco_cd.coco_cd_dataset_builder import read_selection, reference_split, select
from flipjax.data.images import BadFileError


def test_the_lists_are_the_papers():
    needs(SHARED / "reference/paper.md")
    text = re.sub(r"\s+", " ", (SHARED / "reference/paper.md").read_text())
    for scene in ("indoor", "outdoor"):
        for what in ("things", "stuff"):
            names = re.search(rf"{scene.capitalize()} {what}: ([^.]*)\.", text)[1].split(", ")
            assert getattr(annotations, f"{scene}_{what}".upper()) == set(names)


def test_scene_limits():
    cases = {(20, 20): 0, (19.9, 0): None, (20, 0): 0, (19, 21): 1, (0, 19.9): None, (15, 10): None, (0, 0): None}
    assert {areas: scene_of(areas, 1000) for areas in cases} == cases  # A tie is indoors.


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_run_lengths_are_those_of_pycocotools(height, width, seed):
    rng = np.random.default_rng(seed)
    mask = np.asfortranarray(rng.random((height, width)) < rng.random(), np.uint8)
    counts = mask_tools.encode(mask)["counts"]
    assert sum(decode_runs(counts)) == height * width
    np.testing.assert_array_equal(label_mask(((1, counts),), width, height), mask)


def test_polygons_and_runs_draw_the_same_square():
    square = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    square[4:12, 4:12] = 1
    runs, size = [4 * HEIGHT + 4, *[8, 8] * 7, 8, 7 * HEIGHT + 16 + 4], [HEIGHT, WIDTH]
    shapes = [
        SQUARE,
        [[4, 4, 12, 4, 12, 8, 4, 8], [4, 8, 12, 8, 12, 12, 4, 12], [1, 1, 2, 2]],
        {"size": size, "counts": runs},
        {"size": size, "counts": mask_tools.encode(square)["counts"].decode()},
    ]
    for shape in shapes:
        counts = run_lengths(item(1, 1, 17, shape=shape), WIDTH, HEIGHT, Path("x.json"))
        np.testing.assert_array_equal(label_mask(((2, counts),), WIDTH, HEIGHT), 2 * square)
    assert run_lengths(item(1, 1, 17, shape=[]), WIDTH, HEIGHT, Path("x.json")) == b""


def test_the_higher_label_wins():
    boxes = [(2, [1, 0, 4, 0, 4, 2, 1, 2]), (1, [0, 0, 3, 0, 3, 2, 0, 2])]
    rows = [(label, run_lengths(item(1, 1, 17, shape=[box]), 4, 2, Path("x"))) for label, box in boxes]
    assert label_mask(tuple(rows), 4, 2).tolist() == [[1, 2, 2, 2]] * 2


UNDRAWABLE = [
    ({"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]}, r"mask of \[20, 16\] rows and columns.*\[16, 20\]"),
    ({"size": [HEIGHT, WIDTH], "counts": [5, 5]}, "runs do not fill 16 x 20"),
    ([[0, 0, 1e9, 0, 1e9, 5]], "polygon far outside the image of 20 x 16"),
    ([["a"] * 6], "cannot be used"),
    ([[[0, 0, 5, 0, 5, 5]]], "cannot be used"),
    (None, "neither polygons nor run lengths"),
]


def test_segmentations_that_cannot_be_drawn():
    for shape, reason in UNDRAWABLE:
        with pytest.raises(BadFileError, match=r"f\.json: annotation 7 of image 3: .*" + reason):
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
    counts = {}
    for rho in (0.5, 0.75, 0.95, 1.0):
        train = reference_split(range(len(GROUPS)), GROUPS, rho=rho)["train"]
        counts[rho] = np.bincount([GROUPS[i] for i in train], minlength=4).tolist()
    # At 0.5 cats outdoors are the fewest (592 - 175), at 0.75 they still are (417 / 0.25), at 0.95 the cap holds.
    usual = {0.5: (417, 417), 0.75: (1251, 417), 0.95: (792, 42), 1.0: (1814, 0)}
    assert counts == {rho: [common, rare, rare, common] for rho, (common, rare) in usual.items()}
    with pytest.raises(ValueError, match=r"needs 50 \+ 125 .* cat indoor 1, cat outdoor 1, dog indoor 0"):
        reference_split([1, 2], [0, 1])
