"""Opening images: a damaged PNG is always refused, and any bytes raise one kind of error."""

import numpy as np
import pytest
from damage import DAMAGES, FUZZ, read_damaged
from hypothesis import given, settings
from hypothesis import strategies as st

from data.folder.pixels import save
from flipjax.data.decoding import images
from flipjax.data.decoding.images import BadFileError

PIXELS = (np.arange(16 * 12 * 3) % 251).astype(np.uint8).reshape(12, 16, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


@settings(max_examples=5 * FUZZ)
@given(st.just("PNG") | st.sampled_from(images.FORMATS), DAMAGES)
def test_a_damaged_file_is_one_error_and_no_damage_of_a_png_passes_for_pixels(folder, form, damage):
    save(folder / "it", PIXELS, format=form)
    found = read_damaged(
        lambda path: images.decode(path.read_bytes(), name=path.name, turn=True), folder / "it", damage, BadFileError
    )
    if form == "PNG" and found is not None:
        np.testing.assert_array_equal(found, PIXELS)
