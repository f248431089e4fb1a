"""Finds the photos or volumes of --images, which a model predicts, and which the page shows beneath the labels."""

import re
from collections.abc import Sequence
from pathlib import Path

from flipjax.audit.formats import registry
from flipjax.audit.formats.arrays import INTENSITIES, StoredArray
from flipjax.audit.formats.names import files_below, is_hidden, name_files, suffix_of
from flipjax.audit.formats.problems import AuditError, BrokenFileError, raise_broken
from flipjax.audit.formats.sources import open_source
from flipjax.support.terminal import listed

PHOTOS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Suffixes of photos."""


def find_photos(folder: Path, names: Sequence[str], pattern: re.Pattern[str] | None = None) -> dict[str, Path]:
    """Returns the photos of images by name.

    Raises:
        AuditError: the folder is missing, an image has no photo or several, or photos have more than 8 bits.
    """
    if not folder.is_dir():
        raise AuditError(f"--images: expected a folder of photos ({' '.join(PHOTOS)}), found {folder}")
    files = []
    for file in files_below(folder):
        if suffix_of(file) in PHOTOS and not is_hidden(file) and (folder / file).is_file():
            files.append(file)
    photos = name_files(folder, files, pattern)
    without_photo = [name for name in names if name not in photos]
    if without_photo:
        raise AuditError(
            f"--images: expected a photo named as each image in {folder}; none for {listed(without_photo)}"
        )
    broken = []
    for name in names:
        try:
            registry.check_photo(folder / photos[name])
        except BrokenFileError as error:
            broken.append(error)
    raise_broken(broken)
    return {name: folder / photos[name] for name in names}


def find_volumes(folder: Path, names: Sequence[str], pattern: re.Pattern[str] | None = None) -> dict[str, StoredArray]:
    """Returns the volumes of images by name: intensities float32 with the place that a NIfTI header says.

    Raises:
        AuditError: the folder is missing, files are broken, or an image has no volume.
    """
    if not folder.is_dir():
        types = " ".join(registry.suffixes_of(INTENSITIES))
        raise AuditError(f"--images: expected a folder of volumes ({types}), found {folder}")
    volumes = open_source(folder, kind=INTENSITIES, spatial_ndim=3, pattern=pattern)
    raise_broken(volumes.broken)
    without_volume = [name for name in names if not volumes.named or name not in volumes.images]
    if without_volume:
        raise AuditError(
            f"--images: expected a volume named as each of labels in {folder}; none for {listed(without_volume)}"
        )
    return {name: volumes.images[name] for name in names}
