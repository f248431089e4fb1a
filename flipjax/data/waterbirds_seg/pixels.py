"""Pixels of Waterbirds-Seg: cut-outs, scenes and composites, in whole numbers and in C (Pillow)."""

from pathlib import Path

from PIL import Image, ImageChops

from flipjax.data.prepare import BadFileError, open_image

THRESHOLD = 127
"""A pixel is the bird's where its grey segmentation is above this."""


def read_bird(photo: Path, segmentation: Path) -> tuple[Image.Image, Image.Image]:
    """Reads a bird: the photo (mode RGB, greyscale photos too) and its segmentation (L; RGB if its channels differ).

    Neither is turned as an EXIF tag says: the reference does not, and segmentations are drawn on the stored pixels.

    Raises:
        BadFileError: a file is damaged or cut short, or the two have not the same size.
    """
    image, alpha = open_image(photo).convert("RGB"), open_image(segmentation)
    if image.size != alpha.size:
        sizes = "{} x {} pixels, the photo {} x {}".format(*alpha.size, *image.size)
        raise BadFileError(f"{segmentation}: the segmentation has {sizes} ({photo})")
    if alpha.mode != "L":
        red, green, blue = alpha.convert("RGB").split()
        alpha = red if red == green == blue else Image.merge("RGB", (red, green, blue))
    return image, alpha


def read_scene(path: Path) -> Image.Image:
    """Reads a scene photo, mode RGB; BadFileError where it is damaged or cut short."""
    return open_image(path).convert("RGB")


def composite(bird: Image.Image, alpha: Image.Image, scene: Image.Image) -> Image.Image:
    """Pastes a bird on a scene: bird * alpha + scene * (1 - alpha), each product rounded to 8 bits.

    Args:
        bird: RGB.
        alpha: L or RGB, of the bird's size; 255 is 1.
        scene: RGB of any size, cropped and resized by `fit`.

    Returns:
        RGB, of the bird's size.

    Example:
        >>> bird, alpha = Image.new("RGB", (2, 1), (100, 0, 255)), Image.new("L", (2, 1), 51)  # alpha 0.2
        >>> composite(bird, alpha, Image.new("RGB", (4, 4), (10, 3, 0))).getpixel((0, 0))  # 20 + 8, 0 + 2, 51 + 0
        (28, 2, 51)
    """
    whole = fit(scene, bird.size)
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


def cut_out(bird: Image.Image, alpha: Image.Image, size: int) -> tuple[Image.Image, Image.Image]:
    """Cuts a bird out, and squashes it to size x size (bilinear, antialiased), as the paper squashes its composites.

    Args:
        bird: RGB.
        alpha: L or RGB, of the bird's size.
        size: pixels a side; 0: as large as the bird.

    Returns:
        The bird, RGB, premultiplied before it is resized so that nothing of its old background is mixed in; and its
        alpha, L. No channel exceeds alpha.
    """
    alpha = alpha.convert("L")
    whole = Image.new("RGBa", bird.size)
    if box := alpha.getbbox():
        whole.paste(_premultiply(bird.crop(box), alpha.crop(box)), box)
    *bands, alpha = squash(whole, size).split()
    return Image.merge("RGB", bands), alpha


def squash(image: Image.Image, size: int) -> Image.Image:
    """Returns an image at size x size (bilinear, antialiased), or as it is for size 0."""
    return image.resize((size, size), Image.Resampling.BILINEAR) if size else image


def square(scene: Image.Image, size: int) -> Image.Image:
    """Returns the middle square of a scene, resized (Lanczos), or the scene as it is for size 0."""
    return fit(scene, (size, size)) if size else scene


def label_mask(alpha: Image.Image, label: int, size: int) -> Image.Image:
    """Returns the mask of a composite, mode L: `label` where the grey segmentation is above 127, else 0.

    At size x size the nearest pixel is taken; for size 0 the mask is as large as the segmentation.
    """
    alpha = alpha.resize((size, size), Image.Resampling.NEAREST) if size else alpha
    return alpha.convert("L").point([label if value > THRESHOLD else 0 for value in range(256)])


def fit(scene: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crops the middle of a scene to the aspect ratio of `size` and resizes it (Lanczos).

    A scene smaller than `size` in either side is enlarged (Lanczos) before: to its width, or to its height where the
    width would leave the height short.
    """
    width, height = size
    while scene.width < width or scene.height < height:
        enlarged = (width, int(width / scene.width * scene.height))
        if enlarged[1] < height:
            enlarged = (int(height / scene.height * scene.width), height)
        scene = scene.resize(enlarged, Image.Resampling.LANCZOS)
    aspect = width / height
    if scene.width / scene.height > aspect:
        margin = (scene.width - int(aspect * scene.height)) // 2
        box = (margin, 0, scene.width - margin, scene.height)
    else:
        margin = (scene.height - int(scene.width / aspect)) // 2
        box = (0, margin, scene.width, scene.height - margin)
    # Not resize(box=): its filter would reach beyond the crop.
    return scene.crop(box).resize(size, Image.Resampling.LANCZOS)


def _blend(front: Image.Image, alpha: Image.Image, back: Image.Image) -> Image.Image:
    both = ImageChops.add(_premultiply(front, alpha), _premultiply(back, ImageChops.invert(alpha)))
    # The alphas add up to 255: the sum is opaque, so its bands are the colours.
    return Image.merge(front.mode, both.split()[:-1])


def _premultiply(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """Returns round(image * alpha / 255) beside alpha, mode RGBa or La; Pillow's whole-number rule rounds exactly."""
    image = Image.merge(f"{image.mode}A", (*image.split(), alpha))
    return image.convert("RGBa" if image.mode == "RGBA" else "La")
