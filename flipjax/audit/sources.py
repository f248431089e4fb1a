"""Finds the images of one argument: a folder, a file with one image or a stack, COCO's JSON, or photos for a model.

Images are found from headers alone, and read one by one.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from flipjax.audit import arrays
from flipjax.audit.arrays import ImageHeader, Stack, StoredArray
from flipjax.audit.coco import Coco, open_coco
from flipjax.audit.label_maps import LabelMap
from flipjax.audit.names import check_names, files_below, name_files, suffix_of
from flipjax.audit.problems import AuditError, BrokenFileError, naming, raise_broken
from flipjax.support.terminal import listed

PHOTOS = (".png", ".jpg", ".jpeg")
"""Suffixes of photos."""


@dataclasses.dataclass(frozen=True)
class Source:
    """The images of one argument, in order."""

    path: Path
    """The argument."""
    names: tuple[str, ...] | None
    """The images' names; None for a stack without, whose images are identified by position."""
    images: tuple[StoredArray, ...]
    """One an image; the broken ones are missing."""
    axes: int = 2
    """Axes of space: 2 of images, 3 of volumes."""
    coco: Coco | None = None
    """Categories of a COCO file."""
    stacked: bool = False
    """Whether one file holds all images."""
    broken: tuple[BrokenFileError, ...] = ()
    """The files that cannot be used."""
    left_out: int = 0
    """Number of files that --names does not match."""
    hidden: tuple[Path, ...] = ()
    """Files whose name begins with a dot, which are left out."""


def open_source(
    path: Path,
    *,
    wanted: str,
    axes: int | None = None,
    label_map: LabelMap | None = None,
    truth: Coco | None = None,
    pattern: re.Pattern[str] | None = None,
    most: int = arrays.MAX_BYTES,
) -> Source:
    """Finds the images of a folder (one file per image) or of a file (one image, a stack, or COCO's JSON).

    Reads headers alone; damaged values are an error when they are read.

    Args:
        path: a folder, whose subfolders count, of npy, npz, NIfTI and for class indices PNG files; or one of them.
        wanted: the array to take from an npz that holds several: logits, probabilities, masks or labels.
        axes: of space, 2 or 3; None: as the shapes say, where a file of three axes is a stack of images.
        label_map: of the values; a JSON has its own.
        truth: for COCO predictions, the categories of the labels.
        pattern: of `read_pattern`; the names of files.
        most: bytes of an image, and of an unpacked npz.

    Raises:
        AuditError: nothing is found, files are of another type or too large, or a name is ambiguous. Files of a folder
            that are broken are listed in the result.
    """
    if path.suffix.lower() == ".json":
        if wanted != "labels" and not (wanted == "masks" and truth):
            raise AuditError(f"{path}: expected --kind masks and --labels in COCO's panoptic or instances format, too")
        opened = open_coco(path, truth=truth)
        return Source(path, check_names(path, opened.names), opened.images, coco=opened.labels)
    if path.is_dir():
        return _open_folder(path, wanted=wanted, axes=axes, label_map=label_map, pattern=pattern, most=most)
    if pattern is not None:
        raise AuditError(f"--names: expected folders of files, found {path}")
    if not path.is_file() or suffix_of(path) not in arrays.suffixes_of(wanted):
        found = []
        if path.exists():
            found.append(path.name)
        _refuse_types(path, wanted, found)
    if arrays.format_of(path).stacks:
        with naming(path):
            stack = Stack(path, wanted, most)
        of_image = _axes_of_file(stack.values.shape, wanted, axes)
        if len(stack.values.shape) == of_image + (wanted in arrays.SCORES) + 1:
            return _open_stack(path, stack, axes=of_image, label_map=label_map, most=most)
    source = _open_files(path.parent, {path.stem: Path(path.name)}, wanted=wanted, axes=axes, most=most, map_=label_map)
    return dataclasses.replace(source, path=path)


def _axes_of_file(shape: Sequence[int], wanted: str, axes: int | None) -> int:
    """Returns the axes of space of a file that may be a stack: three axes of class indices are a stack of images."""
    if axes is not None:
        return axes
    if len(shape) - (wanted in arrays.SCORES) > 3:
        return 3
    return 2


def _open_stack(path: Path, stack: Stack, *, axes: int, label_map: LabelMap | None, most: int) -> Source:
    """Opens a file that holds all images, one a row."""
    count, *shape = stack.values.shape
    if not stack.values.size or len(stack.names or range(count)) != count:
        raise AuditError(f"{path}: expected images and a name for each, found {(count, *shape)}, {stack.names}")
    arrays.check_size(path, 4 * math.prod(shape), most)
    rows = []
    for i in range(count):
        rows.append(StoredArray(f"{path} row {i}", (*shape,), functools.partial(stack.row, i), label_map))
    names = stack.names and check_names(path, stack.names)
    return Source(path, names, tuple(rows), axes=axes, stacked=True)


def _open_folder(
    path: Path,
    *,
    wanted: str,
    axes: int | None,
    label_map: LabelMap | None,
    pattern: re.Pattern[str] | None,
    most: int,
) -> Source:
    """Opens a folder with a file for each image."""
    below = files_below(path)
    files = below.files
    usable = [file for file in files if _is_file(path / file) and suffix_of(file) in arrays.suffixes_of(wanted)]
    if pattern is None and len(usable) < len(files):
        _refuse_types(path, wanted, [file.as_posix() for file in files if file not in {*usable}])
    if not usable:
        _refuse_types(path, wanted, [])
    named = name_files(path, usable, pattern)
    source = _open_files(path, named, wanted=wanted, axes=axes, most=most, map_=label_map)
    return dataclasses.replace(source, left_out=len(files) - len(named), hidden=below.hidden)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # Such as a link to itself.
        return False


def _refuse_types(path: Path, wanted: str, names: Sequence[str]) -> None:
    """Raises AuditError for files of other types, or none."""
    shown = listed(names) if names else "nothing there"
    raise AuditError(f"{path}: expected files of type {' '.join(arrays.suffixes_of(wanted))}, found {shown}")


def _open_files(
    folder: Path, named: dict[str, Path], *, wanted: str, axes: int | None, most: int, map_: LabelMap | None
) -> Source:
    """Reads the headers of files with one image each; those that are broken are listed, not raised."""
    headers: dict[str, ImageHeader] = {}
    broken: list[BrokenFileError] = []
    for name, file in named.items():
        try:
            headers[name] = arrays.read_header(folder / file, wanted, most)
        except BrokenFileError as error:
            broken.append(error)
    if axes is None:
        of_files = [arrays.axes_of(header.shape, named[name], wanted) for name, header in headers.items()]
        axes = 3 if 3 in of_files else 2
    images = {}
    for name, header in headers.items():
        file = folder / named[name]
        try:
            shape = arrays.image_shape(file, header.shape, wanted, axes, most)
        except BrokenFileError as error:
            broken.append(error)
            continue
        load = functools.partial(arrays.read_image, file, wanted, most, shape)
        spacing = header.spacing and header.spacing[:axes]
        images[name] = StoredArray(str(file), shape, load, map_, spacing, header.affine)
    return Source(folder, tuple(images), tuple(images.values()), axes=axes, broken=tuple(broken))


def find_photos(folder: Path, names: Sequence[str], pattern: re.Pattern[str] | None = None) -> dict[str, Path]:
    """Returns the photos of images by name.

    Raises:
        AuditError: the folder is missing, or an image has no photo or several.
    """
    if not folder.is_dir():
        raise AuditError(f"--images: expected a folder of photos ({' '.join(PHOTOS)}), found {folder}")
    files = [file for file in files_below(folder).files if suffix_of(file) in PHOTOS and _is_file(folder / file)]
    photos = name_files(folder, files, pattern)
    without_photo = [name for name in names if name not in photos]
    if without_photo:
        raise AuditError(
            f"--images: expected a photo named as each image in {folder}; none for {listed(without_photo)}"
        )
    return {name: folder / photos[name] for name in names}


def predicted_source(
    predict: Callable[[np.ndarray], np.ndarray],
    folder: Path | None,
    labels: Source,
    *,
    kind: str,
    pattern: re.Pattern[str] | None = None,
    most: int = arrays.MAX_BYTES,
) -> Source:
    """Returns the photos or volumes of labelled images as predictions to compute, with C taken from the first one.

    Args:
        predict: from a photo uint8 (H, W, 3) or a volume float32 (D, H, W) to scores, with the axis of classes last.
        folder: of the photos, or of volumes in npy, npz or NIfTI.
        labels: with names, those of the photos.
        kind: of the scores; a model gives logits.
        pattern: of `read_pattern`.
        most: bytes of a volume.

    Raises:
        AuditError: options or photos do not fit.
    """
    if kind != "logits" or folder is None:
        raise AuditError(f"--model: expected --images beside it and --kind logits, found {folder} and {kind}")
    if labels.names is None:
        raise AuditError(f"{labels.path}: expected labels with names beside --model, those of the photos")
    readers = _readers_of(folder, labels, pattern, most)
    classes = predict(next(iter(readers.values()))()).shape[-1]
    images = []
    for name, array in zip(labels.names, labels.images, strict=True):
        load = functools.partial(_predicted, predict, readers[name])
        images.append(StoredArray(f"the prediction of {folder / name}", (*array.shape, classes), load, of_model=True))
    return Source(folder, labels.names, tuple(images), axes=labels.axes)


def _predicted(predict: Callable[[np.ndarray], np.ndarray], read: Callable[[], np.ndarray]) -> np.ndarray:
    return predict(read())


def _readers_of(
    folder: Path, labels: Source, pattern: re.Pattern[str] | None, most: int
) -> dict[str, Callable[[], np.ndarray]]:
    """Returns functions that read what a model sees, by name."""
    names = labels.names or ()
    if labels.axes == 2:
        photos = find_photos(folder, names, pattern)
        return {name: functools.partial(arrays.read_photo, photo) for name, photo in photos.items()}
    volumes = open_source(folder, wanted=arrays.INTENSITIES, axes=3, pattern=pattern, most=most)
    raise_broken(volumes.broken)
    by_name = dict(zip(volumes.names or (), volumes.images, strict=True))
    without_volume = [name for name in names if name not in by_name]
    if without_volume:
        raise AuditError(
            f"--images: expected a volume named as each of labels in {folder}; none for {listed(without_volume)}"
        )
    return {name: functools.partial(_read_intensities, by_name[name]) for name in names}


def _read_intensities(volume: StoredArray) -> np.ndarray:
    return np.asarray(volume.read(), np.float32)
