"""What opens an image: no damage of a PNG goes unseen, and no file, whatever is in it, raises but one error."""

import numpy as np
from folder.pixels import encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flipjax.data import images
from flipjax.data.images import BadFileError

law = settings(derandomize=True, deadline=None, max_examples=150, database=None)
PIXELS = (np.arange(16 * 12 * 3) % 251).astype(np.uint8).reshape(12, 16, 3)


def decode(data):
    return np.asarray(images.decode(data, name="it", turn=True))


@law
@given(st.data())
def test_no_damage_of_a_png_passes_for_pixels(data):
    damaged = bytearray(encoded(Image.fromarray(PIXELS), "PNG"))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        np.testing.assert_array_equal(decode(bytes(damaged)), PIXELS)
    except BadFileError as error:
        assert str(error).startswith("it: ")


@law
@given(st.sampled_from(images.FORMATS), st.integers(0, 2**32), st.integers(0, 2000), st.binary(max_size=40))
def test_a_damaged_file_is_one_error(form, seed, cut, noise):
    """Cut short, and bytes of it overwritten: an image or a BadFileError, and no other exception."""
    damaged = bytearray(encoded(Image.fromarray(PIXELS), form))[: cut or None]
    start = seed % len(damaged)
    damaged[start : start + len(noise)] = noise
    try:
        decode(bytes(damaged))
    except BadFileError as error:
        assert str(error).startswith("it: ")
