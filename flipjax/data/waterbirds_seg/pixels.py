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
    image, alpha = _rgb(open_image(photo)), open_image(segmentation)
    if image.size != alpha.size:
        sizes = "{} x {} pixels, the photo {} x {}".format(*alpha.size, *image.size)
        raise BadFileError(f"{segmentation}: the segmentation has {sizes} ({photo})")
    if alpha.mode != "L":
        red, green, blue = alpha.convert("RGB").split()
        alpha = red if red == green == blue else Image.merge("RGB", (red, green, blue))
    return image, alpha


def read_scene(path: Path) -> Image.Image:
    """Reads a scene photo, mode RGB; BadFileError where it is damaged or cut short."""
    return _rgb(open_image(path))


def composite(bird: Image.Image, alpha: Image.Image, scene: Image.Image, *, exact: bool = True) -> Image.Image:
    """Pastes a bird on a scene: bird * alpha + scene * (1 - alpha), each product rounded to 8 bits.

    Args:
        bird: RGB.
        alpha: L or RGB, of the bird's size; 255 is 1.
        scene: RGB of any size, cropped and resized by `fit`.
        exact: False is faster: the scene as of `fit`, and the sum of the products is rounded instead of each.

    Returns:
        RGB, of the bird's size.

    Example:
        >>> bird, alpha = Image.new("RGB", (2, 1), (100, 0, 255)), Image.new("L", (2, 1), 51)  # alpha 0.2
        >>> composite(bird, alpha, Image.new("RGB", (4, 4), (10, 3, 0))).getpixel((0, 0))  # 20 + 8, 0 + 2, 51 + 0
        (28, 2, 51)
    """
    whole = fit(scene, bird.size, exact=exact)
    box = alpha.getbbox()
    if box is None:
        return whole
    bird, alpha, scene = (image.crop(box) for image in (bird, alpha, whole))
    if alpha.mode == "L" and not exact:
        whole.paste(bird, box, alpha)
    elif alpha.mode == "L":
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


def fit(scene: Image.Image, size: tuple[int, int], *, exact: bool = True) -> Image.Image:
    """Crops the middle of a scene to the aspect ratio of `size` and resizes it (Lanczos).

    A scene smaller than `size` in either side is enlarged (Lanczos) before: to its width, or to its height where the
    width would leave the height short.

    Args:
        scene: RGB.
        size: width and height.
        exact: False enlarges only what the crop leaves, which is faster; a few values in 10,000 are then others, by one
            grey level or, rarely, two (three in scenes of a few pixels).
    """
    enlarged = scene.size
    while enlarged[0] < size[0] or enlarged[1] < size[1]:
        enlarged = _enlarge(enlarged, size)
        if exact:
            scene = scene.resize(enlarged, Image.Resampling.LANCZOS)
    box = _middle(enlarged, size[0] / size[1])
    if enlarged == scene.size:
        # Not resize(box=): its filter would reach beyond the crop.
        return scene.crop(box).resize(size, Image.Resampling.LANCZOS)
    across, down = scene.width / enlarged[0], scene.height / enlarged[1]
    part = (across * box[0], down * box[1], across * box[2], down * box[3])
    cropped = scene.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.LANCZOS, box=part)
    return cropped.resize(size, Image.Resampling.LANCZOS)


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


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _blend(front: Image.Image, alpha: Image.Image, back: Image.Image) -> Image.Image:
    both = ImageChops.add(_premultiply(front, alpha), _premultiply(back, ImageChops.invert(alpha)))
    # The alphas add up to 255: the sum is opaque, so its bands are the colours.
    return Image.merge(front.mode, both.split()[:-1])


def _premultiply(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """Returns round(image * alpha / 255) beside alpha, mode RGBa or La; Pillow's whole-number rule rounds exactly."""
    image = Image.merge(f"{image.mode}A", (*image.split(), alpha))
    return image.convert("RGBa" if image.mode == "RGBA" else "La")
