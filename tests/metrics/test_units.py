"""The rim of segments beside scipy's filters."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from flipjax.metrics.objects.units import near_border

labels_of_any_shape = arrays(np.int32, array_shapes(min_dims=2, max_dims=3, max_side=7), elements=st.integers(0, 3))


@given(labels_of_any_shape, st.integers(1, 9), st.integers(0, 3))
def test_near_a_border_is_that_of_window_filters(labels, width, unknown):
    known = labels != unknown
    size = 2 * width + 1
    # 0 and 9 stand for unknown pixels, so that none is the largest or the least.
    largest = ndimage.maximum_filter(np.where(known, labels + 1, 0), size, mode="nearest")
    least = ndimage.minimum_filter(np.where(known, labels + 1, 9), size, mode="nearest")
    np.testing.assert_array_equal(near_border(labels, known, width), largest > least)


def test_labels_are_not_changed():
    labels = np.array([[1, 1, 2]])
    near_border(labels, np.ones((1, 3), bool), 1)
    assert labels.tolist() == [[1, 1, 2]]
