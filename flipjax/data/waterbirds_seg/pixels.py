"""Makes cut-outs, scenes and composites of Waterbirds-Seg with integer arithmetic in Pillow."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from flipjax.data import images
from flipjax.data.images import BadFileError
from flipjax.data.pool import PoolItem

THRESHOLD = 127
"""A pixel is the bird's where its grey segmentation is above this."""


def read_bird(photo: Path, segmentation: Path) -> tuple[Image.Image, Image.Image]:
    """Reads a bird: the photo (mode RGB, greyscale photos too) and its segmentation (L; RGB if its channels differ).

    EXIF orientation is ignored, as in the reference: segmentations refer to the stored pixels.

    Raises:
        BadFileError: a file is damaged or truncated, or the two differ in size.
    """
    image = _read(photo)
    alpha = images.read_image(segmentation)
    images.check_bits(alpha, str(segmentation))
    images.check_sizes(image, alpha, names=(str(photo), str(segmentation)))
    if alpha.mode != "L":
        red, green, blue = alpha.convert("RGB").split()
        alpha = red if red == green == blue else Image.merge("RGB", (red, green, blue))
    return image, alpha


def draw_item(item: PoolItem, size: int) -> tuple[Image.Image, Image.Image, float]:
    """Returns image (RGB), mask (L) and aspect of an item: cut-out and alpha, composite and labels, or scene and zeros.

    The aspect is width by height of the bird's photo, or of the scene, before it is resized.

    Args:
        item: its files are photo and segmentation of a bird, a scene, or all three.
        size: pixels a side; 0: as large as the photo.

    Raises:
        BadFileError: a file is damaged, or sizes differ; EmptyObjectError where nothing of the bird is left.
    """
    scene = item.files[-1]
    if len(item.files) == 1:
        view = images.middle_square(photo := _read(scene), size)
        return view, Image.new("L", view.size), photo.width / photo.height
    photo, alpha = read_bird(*item.files[:2])
    if len(item.files) == 2:
        image, mask = images.cut_out(photo, alpha.convert("L"), size)
        images.check_object(np.asarray(mask) > 127, item.name)
        return image, mask, photo.width / photo.height
    view = _read(scene)
    # What `fit_scene` would make of a scene of a few columns or rows behind a large bird.
    if max(photo.width / view.width, photo.height / view.height) ** 2 * view.width * view.height > images.MAX_PIXELS:
        sizes = "{} x {} pixels cannot fill {} x {}".format(*view.size, *photo.size)
        raise BadFileError(f"{scene}: {sizes}: enlarged to both sides it has more than {images.MAX_PIXELS:,}")
    image = composite(photo, alpha, view)
    mask = label_mask(alpha, 1 + item.y, size)
    images.check_object(np.asarray(mask), item.name)
    return images.squash(image, size), mask, photo.width / photo.height


def _read(path: Path) -> Image.Image:
    image = images.read_image(path)
    images.check_bits(image, str(path))
    return image.convert("RGB")


def composite(bird: Image.Image, alpha: Image.Image, scene: Image.Image) -> Image.Image:
    """Pastes a bird onto a scene: bird * alpha + scene * (1 - alpha), each product rounded to 8 bits.

    Args:
        bird: RGB.
        alpha: L or RGB, of the bird's size; 255 is 1.
        scene: RGB of any size, cropped and resized by `fit_scene`.

    Returns:
        RGB, of the bird's size: the pixels of the reference, before its JPEG encoder.

    Example:
        >>> bird = Image.new("RGB", (2, 1), (100, 0, 255))
        >>> alpha = Image.new("L", (2, 1), 51)  # 0.2
        >>> composite(bird, alpha, Image.new("RGB", (4, 4), (10, 3, 0))).getpixel((0, 0))  # 20 + 8, 0 + 2, 51 + 0
        (28, 2, 51)
    """
    whole = fit_scene(scene, bird.size)
    box = alpha.getbbox()
    if box is None:
        return whole
    bird, alpha, scene = (image.crop(box) for image in (bird, alpha, whole))
    if alpha.mode == "L":
        whole.paste(_blend(bird, alpha, scene), box)
    else:
        bands = zip(bird.split(), alpha.split(), scene.split(), strict=True)
        whole.paste(Image.merge("RGB", [_blend(*band) for band in bands]), box)
    return whole


def label_mask(alpha: Image.Image, label: int, size: int) -> Image.Image:
    """Returns the mask of a composite, mode L: `label` where the grey segmentation is above 127, else 0.

    At size x size the nearest pixel is taken; for size 0 the mask is as large as the segmentation.
    """
    alpha = alpha.resize((size, size), Image.Resampling.NEAREST) if size else alpha
    return alpha.convert("L").point([label if value > THRESHOLD else 0 for value in range(256)])


def fit_scene(scene: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crops the centre of a scene to the aspect ratio of `size` (width and height) and resizes it (Lanczos).

    A scene smaller than `size` in either side is enlarged (Lanczos) before: to its width, or to its height where the
    width would leave the height short.
    """
    while scene.width < size[0] or scene.height < size[1]:
        scene = scene.resize(_enlarge(scene.size, size), Image.Resampling.LANCZOS)
    # Not resize(box=): its filter would reach beyond the crop.
    return scene.crop(_middle(scene.size, size[0] / size[1])).resize(size, Image.Resampling.LANCZOS)


def _enlarge(scene: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    width = (size[0], int(size[0] / scene[0] * scene[1]))
    return width if width[1] >= size[1] else (int(size[1] / scene[1] * scene[0]), size[1])


def _middle(scene: tuple[int, int], aspect: float) -> tuple[int, int, int, int]:
    width, height = scene
    if width / height > aspect:
        margin = (width - int(aspect * height)) // 2
        return margin, 0, width - margin, height
    margin = (height - int(width / aspect)) // 2
    return 0, margin, width, height - margin


def _blend(front: Image.Image, alpha: Image.Image, back: Image.Image) -> Image.Image:
    both = ImageChops.add(_premultiply(front, alpha), _premultiply(back, ImageChops.invert(alpha)))
    # The alphas add up to 255: the sum is opaque, so its bands are the colours.
    return Image.merge(front.mode, both.split()[:-1])


def _premultiply(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """Returns round(image * alpha / 255) beside alpha, mode RGBa or La; Pillow's whole-number rule rounds exactly."""
    image = Image.merge(f"{image.mode}A", (*image.split(), alpha))
    return image.convert("RGBa" if image.mode == "RGBA" else "La")
