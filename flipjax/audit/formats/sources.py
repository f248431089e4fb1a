"""Finds the images of one argument: in a folder, a file with one image or a stack, or COCO's JSON.

Images are found from headers alone, and read one by one. `axes_of` and `image_shape` find the axes of one image in a
file's array: formats add axes of length 1, and models add batches of one.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from flipjax.audit.formats import registry
from flipjax.audit.formats.arrays import CLASS_INDICES, SCORES, Header, StoredArray, class_axes_of
from flipjax.audit.formats.coco import Coco, find_images, read_categories
from flipjax.audit.formats.label_maps import LabelMap
from flipjax.audit.formats.names import check_names, files_below, is_hidden, name_files, suffix_of
from flipjax.audit.formats.npy import Stack
from flipjax.audit.formats.organs import CaseMasks, Overlaps, find_organs, read_case
from flipjax.audit.formats.pictures import picture_errors
from flipjax.audit.formats.problems import AuditError, BrokenFileError, naming
from flipjax.audit.formats.registry import format_of
from flipjax.support.files import read_json
from flipjax.support.terminal import listed

NNUNET_ARRAYS = ("probabilities", "softmax")
"""Names of the array in an npz of nnU-Net, (C, Z, Y, X)."""


@dataclasses.dataclass(frozen=True)
class Source:
    """The images of one argument, in order."""

    path: Path
    """The argument."""
    images: Mapping[str, StoredArray]
    """The images by name; the broken ones are missing."""
    named: bool = True
    """Whether they have names; those of a stack without are numbers, their positions."""
    spatial_ndim: int = 2
    """The number of axes of space: 2 of images, 3 of volumes."""
    coco: Coco | None = None
    """Categories of a COCO file."""
    organs: tuple[str, ...] = ()
    """Organs of a folder with a mask for each organ, which its label maps number from 1."""
    overlaps: Overlaps | None = None
    """Counts voxels in several organs while they are read."""
    palettes: Mapping[Path, bytes] = dataclasses.field(default_factory=dict)
    """The colours of files with a palette."""
    stacked: bool = False
    """Whether one file holds all images."""
    broken: tuple[BrokenFileError, ...] = ()
    """An error for each file that cannot be used."""
    left_out: int = 0
    """The number of files that --names does not match."""
    hidden: tuple[Path, ...] = ()
    """Files that systems leave, which are left out."""


def open_source(
    path: Path,
    *,
    kind: str,
    spatial_ndim: int | None = None,
    label_map: LabelMap | None = None,
    coco_labels: Coco | None = None,
    pattern: re.Pattern[str] | None = None,
) -> Source:
    """Finds the images of a folder (one file per image) or of a file (one image, a stack, or COCO's JSON).

    Reads headers alone; damaged values are an error when they are read.

    Args:
        path: a folder, whose subfolders count, of npy, npz, NIfTI and for class indices PNG files; or one of them.
        kind: of the array, which names it in an npz that holds several: logits, probabilities, masks or labels.
        spatial_ndim: 2 or 3; None: as the shapes say, where three axes of class indices in one file are a stack of
            images.
        label_map: of the values; a JSON has its own.
        coco_labels: for COCO predictions, the categories of the labels.
        pattern: of `read_pattern`; the names of files.

    Raises:
        AuditError: nothing is found, files are of another type, or a name is ambiguous. Files of a folder that are
            broken are listed in the result.
    """
    if path.suffix.lower() == ".json":
        if kind != "labels" and not (kind == "masks" and coco_labels):
            raise AuditError(f"{path}: expected --kind masks and --labels in COCO's panoptic or instances format, too")
        return _open_coco(path, coco_labels)
    if path.is_dir():
        return _open_folder(path, kind=kind, spatial_ndim=spatial_ndim, label_map=label_map, pattern=pattern)
    if pattern is not None:
        raise AuditError(f"--names: expected folders of files, found {path}")
    if not path.is_file() or suffix_of(path) not in registry.suffixes_of(kind):
        found = []
        if path.exists():
            found.append(path.name)
        raise _other_types(path, kind, found)
    if registry.format_of(path).stacks:
        with naming(path):
            stack = Stack(path, kind)
        axes = len(stack.values.shape) - class_axes_of(kind)
        axes_of_an_image = 2
        if spatial_ndim is not None:
            axes_of_an_image = spatial_ndim
        elif axes > 3:
            # Three axes of class indices, however, are a stack of images, not a volume.
            axes_of_an_image = 3
        if axes == 1 + axes_of_an_image:
            return _open_stack(path, stack, spatial_ndim=axes_of_an_image, label_map=label_map)
    named = {path.stem: Path(path.name)}
    source = _open_files(path.parent, named, kind=kind, spatial_ndim=spatial_ndim, label_map=label_map)
    return dataclasses.replace(source, path=path)


def _open_coco(path: Path, coco_labels: Coco | None) -> Source:
    """Opens a JSON of labels, or of predictions beside labels of these categories."""
    with naming(f"{path}: expected COCO's panoptic, instances or results JSON"):
        content = read_json(path)
        categories = coco_labels or read_categories(path, content)
        return Source(path, find_images(path, content, categories, predicted=coco_labels is not None), coco=categories)


def _open_stack(path: Path, stack: Stack, *, spatial_ndim: int, label_map: LabelMap | None) -> Source:
    """Opens a file that holds all images, one a row."""
    count, *shape = stack.values.shape
    names = tuple(map(str, range(count)))
    if stack.names:
        names = check_names(path, stack.names)
    if not stack.values.size or len(names) != count:
        raise AuditError(f"{path}: expected images and a name for each, found {(count, *shape)}, {stack.names}")
    images = {}
    for row, name in enumerate(names):
        images[name] = StoredArray(f"{path} row {row}", tuple(shape), functools.partial(stack.row, row), label_map)
    return Source(path, images, named=bool(stack.names), spatial_ndim=spatial_ndim, stacked=True)


def _open_folder(
    path: Path, *, kind: str, spatial_ndim: int | None, label_map: LabelMap | None, pattern: re.Pattern[str] | None
) -> Source:
    """Opens a folder with a file for each image, or with one for each organ of a volume."""
    below = files_below(path)
    files = [file for file in below if not is_hidden(file)]
    hidden = tuple(file for file in below if is_hidden(file))
    usable = [file for file in files if (path / file).is_file() and suffix_of(file) in registry.suffixes_of(kind)]
    if pattern is None and label_map is None and kind in CLASS_INDICES:
        cases = find_organs(path, usable)
        if cases is not None:
            return _open_organs(path, cases)
    if pattern is None and len(usable) < len(files):
        raise _other_types(path, kind, [file.as_posix() for file in sorted({*files} - {*usable})])
    if not usable:
        raise _other_types(path, kind, [])
    named = name_files(path, usable, pattern)
    source = _open_files(path, named, kind=kind, spatial_ndim=spatial_ndim, label_map=label_map)
    return dataclasses.replace(source, left_out=len(files) - len(named), hidden=hidden)


def _open_organs(path: Path, cases: CaseMasks) -> Source:
    """Opens a folder with a mask for each organ of each case, whose label maps number the organs from 1."""
    overlaps = Overlaps(path)
    images = {}
    for case, mask_of_organ in cases.items():
        masks = tuple(mask_of_organ.values())
        header = registry.read_header(masks[0], "labels")
        shape = image_shape(masks[0], header, "labels", 3)
        numbers = range(1, 1 + len(masks))
        load = functools.partial(read_case, masks, numbers, shape, case=case, overlaps=overlaps)
        images[case] = StoredArray(str(path / case), shape, load, spacing=header.spacing, affine=header.affine)
    # All cases have the same organs, in the same order.
    organs = tuple(next(iter(cases.values())))
    return Source(path, images, spatial_ndim=3, organs=organs, overlaps=overlaps)


def _other_types(path: Path, kind: str, names: Sequence[str]) -> AuditError:
    """Returns the error for files of other types, or none."""
    found = "nothing there"
    if names:
        found = listed(names)
    return AuditError(f"{path}: expected files of type {' '.join(registry.suffixes_of(kind))}, found {found}")


def _open_files(
    folder: Path, named: dict[str, Path], *, kind: str, spatial_ndim: int | None, label_map: LabelMap | None
) -> Source:
    """Reads the headers of files with one image each; those that are broken are listed, not raised."""
    headers: dict[str, Header] = {}
    broken: list[BrokenFileError] = []
    for name, file in named.items():
        try:
            headers[name] = registry.read_header(folder / file, kind)
        except BrokenFileError as error:
            broken.append(error)
    if spatial_ndim is None:
        # One volume makes volumes of all; files that are none are then refused by name.
        axes_of_files = [axes_of(header.shape, named[name], kind) for name, header in headers.items()]
        spatial_ndim = 2
        if 3 in axes_of_files:
            spatial_ndim = 3
    images = {}
    palettes = {}
    for name, header in headers.items():
        file = folder / named[name]
        try:
            shape = image_shape(file, header, kind, spatial_ndim)
        except BrokenFileError as error:
            broken.append(error)
            continue
        if header.palette:
            palettes[file] = header.palette
        spacing = None
        if header.spacing is not None:
            spacing = header.spacing[:spatial_ndim]
        images[name] = StoredArray(
            str(file),
            shape,
            functools.partial(registry.read_values, file, kind, shape),
            label_map,
            spacing=spacing,
            affine=header.affine,
            of_nnunet=header.array_name in NNUNET_ARRAYS,
        )
    return Source(folder, images, spatial_ndim=spatial_ndim, palettes=palettes, broken=tuple(broken))


def check_colours(predictions: Source, labels: Source) -> None:
    """Raises AuditError if masks have palettes, and an index has another colour, so another class, in some of them."""
    if not predictions.palettes and not labels.palettes:
        return
    from flipjax.data.decoding.masks import clashing_colours, swapped_colours

    with picture_errors():
        clash = clashing_colours(predictions.palettes) or clashing_colours(labels.palettes)
        clash = clash or swapped_colours(predictions.palettes, labels.palettes)
    if clash:
        raise AuditError(
            f"expected class indices, found colours that were numbered anew: {clash}; save the indices of the classes"
        )


def axes_of(shape: Sequence[int], path: Path, kind: str) -> int:
    """Returns the number of axes of space of a file's array: 2 of an image, 3 of a volume.

    An array that a model saved as a batch of one has a first axis of length 1, which does not count. NIfTI files always
    hold volumes.

    Example:
        >>> axes_of((1, 6, 7), Path("a.npy"), "labels"), axes_of((5, 6, 7), Path("a.npy"), "masks")
        (2, 3)
        >>> axes_of((6, 7, 3), Path("a.npy"), "logits"), axes_of((1, 6, 7), Path("a.nii"), "labels")
        (2, 3)
    """
    if format_of(path).volumes:
        return 3
    axes = len(shape) - class_axes_of(kind)
    if axes > 2 and shape[0] == 1:
        return axes - 1
    return axes


def image_shape(path: Path, header: Header, kind: str, axes: int) -> tuple[int, ...]:
    """Returns the shape of the image of a file with one image, without the axes of length 1 that its format adds.

    Args:
        path: the file.
        header: of the file.
        kind: of the array.
        axes: of space, 2 or 3.

    Raises:
        BrokenFileError: another number of axes, or an empty array.
    """
    rank = axes + class_axes_of(kind)
    shape = _without_added_axes(path, header, rank)
    if len(shape) != rank or 0 in shape:
        noun = {2: "image", 3: "volume"}[axes]
        problem = f"{path}: expected {kind} of one {noun}, an array of {rank} axes, found {header.shape}"
        raise BrokenFileError(problem + _advice_on_kind(kind, axes, len(shape)))
    return shape


def _without_added_axes(path: Path, header: Header, rank: int) -> tuple[int, ...]:
    """Returns the shape of an array of `rank` axes, without the axes of length 1 that its format adds."""
    shape = tuple(header.shape)
    if format_of(path).volumes:
        return _without_axes_of_volume(shape, rank)
    if format_of(path).stacks and len(shape) == rank + 1:
        if shape[0] == 1:
            # A batch of one.
            return shape[1:]
        if header.array_name in NNUNET_ARRAYS and rank == 3 and shape[1] == 1:
            # nnU-Net's scores of a photo, (C, 1, H, W).
            return (shape[0], *shape[2:])
    return shape


def _without_axes_of_volume(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Returns the shape of a NIfTI array of `rank` axes, without axes of length 1 after the axes of space or first."""
    while len(shape) > max(rank, 3) and shape[3] == 1:
        shape = (*shape[:3], *shape[4:])
    if len(shape) == rank + 1 and shape[0] == 1:
        return shape[1:]
    return shape


def _advice_on_kind(kind: str, axes: int, rank: int) -> str:
    """Returns advice on --kind if an array of `rank` axes looks like another kind, else an empty text."""
    if kind in SCORES and rank == axes:
        return "; for class indices pass --kind masks"
    if kind == "masks" and rank == axes + 1:
        return "; for scores pass --kind logits or --kind probabilities"
    return ""
