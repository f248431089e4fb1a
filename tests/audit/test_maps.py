"""Which images are shown, and how: the worst ones, volumes as radiology shows them, photos and scans beneath."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flipjax.audit.counting import maps
from flipjax.audit.counting.layouts import PictureLayout, choose_layout
from flipjax.audit.counting.maps import ImagePictures, Picture, WorstImages, make_pictures
from flipjax.metrics.inputs.classes import LabelSpec

SPEC = LabelSpec(kind="masks", num_classes=3, ignore_index=9)
VOLUME = LabelSpec(kind="masks", num_classes=3, spatial_ndim=3)
NO_SEGMENTS = {"outcome": np.zeros(0, "<U7"), "pixels": np.zeros(0, int)}
SHARES = st.sampled_from([0.0, 0.05, 0.2, 0.2, 0.7, 1.0])


def kept_image(number):
    picture = Picture(
        PictureLayout(np.arange(1), np.arange(1)), np.full((1, 1), number), np.zeros((1, 1), int), None, None
    )
    return ImagePictures(picture)


@given(st.lists(st.tuples(SHARES, SHARES), max_size=60))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_what_is_kept_are_the_worst_images_whatever_came_before(ranks):
    worst = WorstImages()
    made = []
    for index, rank in enumerate(ranks):
        worst.add(index, rank, lambda index=index: made.append(index) or kept_image(index))
    wrong = [(rank, -index) for index, rank in enumerate(ranks) if max(rank) > 0]
    expected = sorted(-index for _, index in sorted(wrong, reverse=True)[: maps.WORST])
    pictures = worst.pictures()
    assert list(pictures) == expected and len(made) <= len(wrong)
    assert [pictures[index].whole.truth.item() for index in expected] == expected


def test_photos_are_read_of_the_images_that_are_shown_alone():
    worst, read = WorstImages(), []
    for index in range(maps.WORST + 4):
        image = kept_image(index)
        photo = np.full((1, 1, 3), index, np.uint8)
        worst.add(
            index,
            (0.0, 0.01 * index),
            lambda image=image, photo=photo: ImagePictures(image.whole, read_scan=lambda: read.append(1) or photo),
        )
    pictures = worst.pictures()
    assert list(pictures) == list(range(4, maps.WORST + 4)) and len(read) == maps.WORST
    assert pictures[7].whole.image.tolist() == [[[7, 7, 7]]]


def test_a_picture_of_an_image_has_its_pixels():
    labels = np.array([[1, 2, 9], [0, 1, 1]])
    prediction = np.array([[1, 1, 0], [2, 0, 1]])
    picture = make_pictures(prediction, labels, SPEC, None, NO_SEGMENTS).whole
    assert picture.truth.tolist() == labels.tolist() and picture.prediction.tolist() == prediction.tolist()
    assert picture.ignored.tolist() == [[False, False, True], [False] * 3] and picture.risk is None
    assert picture.layout.sides == ("", "") and picture.layout.title == ""


def test_large_images_are_thinned():
    labels = np.zeros((600, 300), np.uint8)
    risk = np.arange(labels.size, dtype=np.float32).reshape(labels.shape)
    picture = make_pictures(labels, labels, SPEC, risk, NO_SEGMENTS).whole
    assert picture.truth.shape == (200, 100) and picture.ignored is None
    np.testing.assert_array_equal(picture.risk, risk[::3, ::3])


BODY = np.zeros((4, 6, 8), int)
BODY[0, 0, 0] = 1
"""A body of 4 x 6 x 8 mm in NIfTI's directions: index 0 is the patient's left, back and feet."""


def stored(order, flips):
    """The body as a scanner may store it: axes in another order and the other way, with the affine that says so."""
    values = np.transpose(BODY, order)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, body in enumerate(order):
        affine[body, axis] = 1
        if axis in flips:
            values = np.flip(values, axis)
            affine[body, axis] = -1
            affine[body, 3] = values.shape[axis] - 1
    return values, affine


ORDERS = [
    ((0, 1, 2), ()),
    ((0, 1, 2), (0,)),
    ((0, 1, 2), (0, 1)),
    ((2, 1, 0), ()),
    ((1, 2, 0), (0, 2)),
    ((2, 0, 1), (1,)),
]


@pytest.mark.parametrize(("order", "flips"), ORDERS, ids=str)
def test_a_volume_is_shown_as_radiology_shows_it_however_it_is_stored(order, flips):
    pytest.importorskip("nibabel", reason="affines come from NIfTI, and nibabel is no dependency")
    values, affine = stored(order, flips)
    labels = np.ones_like(values)
    # Wrong in the whole lowest slice, and the patient's left back corner there is class 2.
    feet, _ = stored(order, flips)
    lowest = np.transpose(np.indices(BODY.shape)[2] == 0, order)
    for axis in flips:
        lowest = np.flip(lowest, axis)
    prediction = np.where(lowest, 2, 1)
    labels[feet == 1] = 2
    prediction[feet == 1] = 1
    picture = make_pictures(prediction, labels, VOLUME, None, NO_SEGMENTS, affine=affine, spacing=(1, 1, 1)).whole
    assert picture.layout.view == "axial" and picture.layout.sides == ("R", "L")
    assert picture.truth.shape == (6, 4)
    # The front is above and the patient's right on the left: the left back corner is below on the right.
    assert np.argwhere(picture.truth == 2).tolist() == [[5, 3]]


def test_the_view_and_slice_with_the_largest_wrong_area_is_shown():
    pytest.importorskip("nibabel", reason="affines come from NIfTI, and nibabel is no dependency")
    wrong = np.zeros((6, 6, 6), bool)
    wrong[1:4, 2, 1:5] = True  # 12 voxels of a coronal slice,
    wrong[:, :, 4] |= np.eye(6, dtype=bool)  # 8 of an axial one.
    layout = choose_layout(wrong, affine=np.eye(4))
    assert (layout.view, layout.number, layout.title) == ("coronal", 2, "coronal slice 2")
    # Of voxels that are flat from head to feet, an axial slice shows more tissue.
    assert choose_layout(wrong, affine=np.diag([3.0, 3.0, 1.0, 1.0]), spacing=(3, 3, 1)).view == "axial"


def test_a_volume_of_which_nothing_says_how_it_lies_has_no_sides():
    labels = np.ones((3, 4, 6), np.uint8)
    prediction = labels.copy()
    prediction[:2, :2, 4] = 2
    picture = make_pictures(prediction, labels, VOLUME, None, NO_SEGMENTS).whole
    assert picture.layout.title == "slice 4" and picture.layout.sides == ("", "")
    np.testing.assert_array_equal(picture.prediction, prediction[..., 4])


def test_pixels_of_pictures_are_squares():
    layout = choose_layout(np.ones((10, 20, 3), bool), spacing=(2.0, 1.0, 5.0))
    assert (len(layout.rows), len(layout.columns)) == (20, 20)


def columns_of_volume(rows):
    """Columns of true segments of a volume: (outcome, class, predicted, starts, ends) each."""
    outcome, truth, predicted, starts, ends = zip(*rows, strict=True)
    corners = np.concatenate([np.array(starts), np.array(ends)], axis=1).T
    return {
        "outcome": np.array(outcome),
        "class": np.array(truth),
        "predicted": np.array(predicted),
        "pixels": np.prod(np.array(ends) - np.array(starts), axis=1),
        **dict(zip(("first", "top", "left", "last", "bottom", "right"), corners, strict=True)),
    }


def test_flipped_segments_of_a_volume_have_the_slice_where_they_flip_most():
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[:3, :3, :4] = 1
    labels[4:, 4:, 4:] = 2
    prediction = labels.copy()
    # Four voxels flip in slice 2, nine in slice 3; of the other class one in slice 5.
    prediction[:2, :2, 2] = 2
    prediction[:3, :3, 3] = 2
    prediction[5, 5, 5] = 1
    segments = columns_of_volume(
        [
            ("flip", 1, 2, (0, 0, 0), (3, 3, 4)),
            ("flip", 2, 1, (4, 4, 4), (6, 6, 6)),
            ("correct", 2, 2, (4, 4, 4), (6, 6, 6)),
        ]
    )
    pictures = make_pictures(prediction, labels, VOLUME, None, segments)
    assert {pair: of_slice.layout.number for pair, of_slice in pictures.slices.items()} == {(1, 2): 3, (2, 1): 5}
    np.testing.assert_array_equal(pictures.of_pair((2, 1)).truth, labels[..., 5])
    assert pictures.of_pair((1, 1)) is pictures.whole and pictures.whole.layout.number == 3


def test_a_cut_shows_the_box_of_a_segment_in_any_layout():
    layout = PictureLayout(np.arange(7, -1, -1), np.arange(0, 12, 2), 2, 1, axis=0, number=3, view="coronal")
    segment = {"first": 0, "top": 4, "left": 1, "last": 2, "bottom": 8, "right": 3}
    # Rows run along the third axis, backwards: 2 and 1 are the sixth and seventh; columns 4 and 6 the third and fourth.
    assert layout.box(segment, margin=0) == (slice(5, 7), slice(2, 4))
