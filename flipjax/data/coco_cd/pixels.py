"""Pixels of COCO-CD: a photo and its mask."""

from pathlib import Path

import numpy as np
from PIL import Image

from flipjax.data.coco_cd.annotations import label_mask
from flipjax.data.coco_cd.selection import Photo
from flipjax.data.prepare import BadFileError, open_image


def read_photo(coco_root: Path, photo: Photo) -> tuple[Image.Image, Image.Image]:
    """Reads a photo (mode RGB, greyscale photos too) and draws its mask (mode L, labels 0, 1 and 2).

    The photo is not turned as an EXIF tag says: COCO's annotations are drawn on the stored pixels.

    Raises:
        BadFileError: the file is missing, damaged or cut short, or its size is not the annotated one.
    """
    path = coco_root / photo.file_name
    image = open_image(path).convert("RGB")
    if image.size != (photo.width, photo.height):
        sizes = "{} x {} pixels, its annotation says {} x {}".format(*image.size, photo.width, photo.height)
        raise BadFileError(f"{path}: the photo has {sizes}")
    return image, Image.fromarray(label_mask(photo.segments, photo.width, photo.height))


def squash(photo: Photo, *, coco_root: Path, size: int) -> dict[str, np.ndarray]:
    """Makes a row of the pool: the photo squashed to size x size (bilinear, antialiased), the mask (nearest pixel).

    Args:
        photo: of the selection.
        coco_root: COCO's root.
        size: pixels a side.

    Returns:
        `image`, uint8 (size, size, 3), `mask`, uint8 (size, size), and `kept`, bool: anything of the animal is left.

    Raises:
        BadFileError: as of `read_photo`.
    """
    image, mask = read_photo(coco_root, photo)
    small = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    labels = np.asarray(mask.resize((size, size), Image.Resampling.NEAREST))
    return {"image": small, "mask": labels, "kept": np.array(labels.any())}
