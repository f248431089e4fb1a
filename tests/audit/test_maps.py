"""Which images keep their maps: those that a page may show at the end, whatever came in between."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flipjax.audit import maps
from flipjax.audit.maps import KeptMaps, Rank, Shown, make_maps
from flipjax.metrics import error_map
from flipjax.metrics.classes import LabelSpec

SPEC = LabelSpec(kind="masks", num_classes=3, ignore_index=9)
MISSES = {"outcome": np.array(["miss"]), "class": np.array([1]), "predicted": np.array([0]), "pixels": np.array([5])}


def segments_of(flips):
    """Columns of flipped segments: (class, predicted, pixels) each."""
    outcome = np.array(["flip"] * len(flips), "<U7")
    truth, predicted, pixels = np.array(flips, int).reshape(-1, 3).T
    return {"outcome": outcome, "class": truth, "predicted": predicted, "pixels": pixels}


def shown_at_the_end(ranks):
    """The images that a page may show, from all of them at once: a slow twin of `Shown`."""

    def highest(entries, most):
        return {index for _, index in sorted(entries, key=lambda entry: (-entry[0], entry[1]))[:most]}

    flips = [(rank.flip, index) for index, rank in enumerate(ranks) if rank.flip > 0]
    kept = highest(flips, maps.MOST_FLIPPED)
    scored = [(rank, index) for index, rank in enumerate(ranks) if rank.risk is not None and not np.isnan(rank.risk)]
    kept |= highest([(rank.risk, index) for rank, index in scored], maps.RISKIEST)
    kept |= highest([(rank.flip, index) for rank, index in scored if rank.flip > maps.SURE_ABOVE], maps.SURE)
    by_pair = {}
    for index, rank in enumerate(ranks):
        for truth, predicted, pixels in zip(
            rank.segments["class"], rank.segments["predicted"], rank.segments["pixels"], strict=True
        ):
            by_pair.setdefault((truth, predicted), []).append((pixels, index))
    for entries in by_pair.values():
        kept |= highest(entries, maps.LARGEST_SEGMENTS)
    return kept


SHARES = st.sampled_from([float("nan"), 0.0, 0.05, 0.2, 0.2, 0.7, 1.0])
FLIPS = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 3)), max_size=4)
RANKS = st.builds(Rank, flip=SHARES, risk=st.none() | SHARES, segments=FLIPS.map(segments_of))


@given(st.lists(RANKS, max_size=60))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_what_is_kept_is_what_a_page_may_show(ranks):
    shown, kept = Shown(), set()
    for index, rank in enumerate(ranks):
        kept.add(index)
        kept -= shown.add(index, rank)
    assert kept == shown_at_the_end(ranks)


@pytest.fixture
def kept():
    store = KeptMaps()
    yield store
    store.close()


def test_maps_are_read_as_they_were_made(kept):
    labels = np.array([[1, 2, 9], [0, 1, 1]])
    prediction = np.array([[1, 1, 0], [2, 0, 1]])
    photo = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    made = make_maps(prediction, labels, SPEC, None)
    kept.add(0, made, Rank(0.5, None, MISSES), read_photo=lambda: photo)
    found = kept.read(0, SPEC)
    assert found["truth"].tolist() == [[1, 2, 3], [0, 1, 1]]
    assert found["prediction"].tolist() == prediction.tolist()
    expected = error_map(prediction, labels, kind="masks", num_classes=3, ignore_index=9)
    assert found["errors"].tolist() == np.asarray(expected).tolist()
    assert np.isnan(found["risk"]).all() and found["image"].tolist() == photo.tolist()


def test_large_images_are_thinned(kept):
    labels = np.zeros((600, 300), np.uint8)
    risk = np.arange(labels.size, dtype=np.float32).reshape(labels.shape)
    made = make_maps(labels, labels, SPEC, risk)
    assert made.step == 3 and made.truth.shape == (200, 100) and made.ignored is None
    np.testing.assert_array_equal(made.risk, risk[::3, ::3])


def test_images_that_are_not_shown_keep_nothing(kept):
    made = make_maps(np.ones((2, 2), int), np.ones((2, 2), int), SPEC, None)
    photos = []
    for index in range(maps.MOST_FLIPPED + 3):
        kept.add(
            index, made, Rank(index / 100, None, MISSES), read_photo=lambda: photos.append(1) or np.zeros((2, 2, 3))
        )
    # The first does not flip, two are pushed out by later ones.
    found = [index for index in range(maps.MOST_FLIPPED + 3) if kept.read(index, SPEC) is not None]
    assert found == list(range(3, maps.MOST_FLIPPED + 3))
    assert len(photos) == maps.MOST_FLIPPED + 2


VOLUME = LabelSpec(kind="masks", num_classes=3, spatial_ndim=3)


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


def test_flipped_segments_of_a_volume_have_the_slice_where_they_flip_most(kept):
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
    made = make_maps(prediction, labels, VOLUME, None, segments)
    assert {pair: of_slice.slice_number for pair, of_slice in made.slices.items()} == {(1, 2): 3, (2, 1): 5}
    kept.add(0, made, Rank(0.5, None, MISSES))
    found = kept.read(0, VOLUME, pair=(2, 1))
    assert found["slice_number"] == 5
    np.testing.assert_array_equal(found["truth"], labels[..., 5])
    np.testing.assert_array_equal(found["prediction"], prediction[..., 5])
    assert kept.read(0, VOLUME)["slice_number"] == 3
    assert kept.read(0, VOLUME, pair=(1, 1)) is None


def test_the_largest_segment_of_a_pair_has_the_slice(kept):
    labels = np.ones((4, 4, 4), np.uint8)
    prediction = np.full((4, 4, 4), 2, np.uint8)
    segments = columns_of_volume(
        [
            ("flip", 1, 2, (0, 0, 0), (1, 1, 1)),
            ("flip", 1, 2, (0, 0, 2), (4, 4, 4)),
            ("flip", 1, 2, (0, 0, 1), (1, 1, 2)),
        ]
    )
    assert make_maps(prediction, labels, VOLUME, None, segments).slices[1, 2].slice_number == 2
