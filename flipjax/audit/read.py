"""Predictions and labels of an audit: the images of folders and files, paired by name or place, checked by headers."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from flipjax.audit.arrays import NIFTI, ArrayReader, AuditError, Limits, StoredArray, listed, read_headers, suffix_of

RESERVED = ("logits", "probabilities", "masks", "labels", "groups", "names", "images")
INDICES = ("masks", "labels")
"""What holds class indices, in PNG files too."""
RANKS = {"logits": 3, "probabilities": 3, "masks": 2, "labels": 2}
"""Axes of one image's array; a stack has one more."""


class Source(NamedTuple):
    """The images that one argument names, in order; without names they are known by their place alone."""

    path: Path
    names: tuple[str, ...] | None
    images: tuple[StoredArray, ...]

    @property
    def stacked(self) -> bool:
        """Whether the images are the rows of one array."""
        return self.images[0].row is not None


class Pair(NamedTuple):
    """One image: its name, its prediction and its labels."""

    name: str
    prediction: StoredArray
    labels: StoredArray


def check_names(where: object, names: Iterable[str]) -> tuple[str, ...]:
    """Returns the names of images; an AuditError where one stands twice."""
    names = tuple(names)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise AuditError(f"{where}: expected a name an image, found some more than once, {listed(twice)}")
    return names


def open_source(path: Path, *, wanted: str, limits: Limits) -> Source:
    """Finds the images of a folder (one file an image) or of a file (a stack of images, or an array for each).

    Reads headers, and the names in an npz.

    Args:
        path: a folder of npy, npz and, for labels and masks, PNG or NIfTI files; or one of them.
        wanted: the array to take from an npz that holds several: logits, probabilities, masks or labels.
        limits: of what an npz unpacks to.

    Raises:
        AuditError: nothing there, files or values of another type, or damaged, or names that stand for two images.
    """
    rank = RANKS[wanted]
    suffixes = (".npy", ".npz") if rank == 3 else (".npy", ".npz", ".png", *NIFTI)
    files = sorted(file for file in path.iterdir() if file.name[0] != ".") if path.is_dir() else [path]
    wrong = [file.name for file in files if not file.is_file() or suffix_of(file) not in suffixes]
    if wrong or not files:
        found = listed(wrong) if files and path.exists() else "nothing there"
        raise AuditError(f"{path}: expected files of type {' '.join(suffixes)}, found {found}")
    if path.is_dir():
        names = check_names(path, [stem_of(file) for file in files])
        return Source(path, names, tuple(_alone(file, wanted, limits) for file in files))
    arrays = read_headers(path, limits=limits)
    array = _member(arrays, wanted)
    if array is None:
        each = {name: arrays[name] for name in sorted(arrays) if name not in RESERVED}
        if not each or any(len(member.shape) != rank for member in each.values()):
            texts = listed(f"{name} {member.shape}" for name, member in arrays.items())
            raise AuditError(f"{path}: expected an array named {wanted}, or for each image one of {rank} axes; {texts}")
        for member in each.values():
            _check_form(member, member.shape, wanted)
        return Source(path, check_names(path, each), tuple(each.values()))
    single = len(array.shape) == rank or suffix_of(path) in NIFTI
    _check_form(array, array.shape if single else array.shape[1:], wanted)
    if single:
        return Source(path, (stem_of(path),), (array,))
    rows = tuple(array._replace(shape=array.shape[1:], row=row) for row in range(array.shape[0]))
    if not rows or 0 in array.shape:
        raise AuditError(f"{array}: expected images, found an array of shape {array.shape}")
    if "names" not in arrays:
        return Source(path, None, rows)
    stored = arrays["names"]
    if stored.shape != (len(rows),) or stored.dtype.kind != "U":
        raise AuditError(f"{stored}: expected {len(rows)} strings, found {stored.dtype} of shape {stored.shape}")
    with ArrayReader() as reader:
        return Source(path, check_names(stored, map(str, reader.read(stored))), rows)


def _alone(file: Path, wanted: str, limits: Limits) -> StoredArray:
    """Returns the one image of a file in a folder: models often save a batch of one."""
    image, *others = open_source(file, wanted=wanted, limits=limits).images
    if others:
        raise AuditError(f"{file}: expected one image in each file of a folder, found {1 + len(others)}")
    return image._replace(row=None)


def _member(arrays: dict[str, StoredArray], wanted: str) -> StoredArray | None:
    """Returns the array to take from a file: the one of that name, or the only one that has no other meaning."""
    others = [array for name, array in arrays.items() if name not in RESERVED]
    return arrays.get(wanted, others[0] if len(others) == 1 else None)


def stem_of(path: Path) -> str:
    """Returns the name of an image: that of its file without its ending."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def _check_form(array: StoredArray, shape: tuple[int, ...], wanted: str) -> None:
    rank = 3 if suffix_of(array.path) in NIFTI else RANKS[wanted]
    if len(shape) != rank or array.dtype.kind not in ("iu" if wanted in INDICES else "f"):
        form = f"{wanted} (H, W, C) or (C, H, W) in floating point; for class indices pass --kind masks"
        form = "class indices (H, W) of an integer type, the argmax of one-hot ones" if wanted in INDICES else form
        raise AuditError(f"{array}: expected {form}; found {array.dtype} of shape {array.shape}")


def pair_images(predictions: Source, labels: Source) -> list[Pair]:
    """Pairs each prediction with its labels: by name where both have names, else by place.

    Raises:
        AuditError: names that only one side has, other orders, other counts, or names on one side alone.
    """
    where = f"{predictions.path} and {labels.path}"
    ours, theirs = predictions.names, labels.names
    both = predictions.stacked and labels.stacked
    # Two files of one image each are a pair, whatever they are called.
    single = len(predictions.images) == len(labels.images) == 1 and not predictions.path.is_dir()
    if ours is not None and theirs is not None and not single:
        lacking = {"predictions without labels": set(ours) - set(theirs), "labels without a prediction": set(theirs)}
        lacking["labels without a prediction"] -= set(ours)
        found = [f"{what}, {listed(sorted(names))}" for what, names in lacking.items() if names]
        moved = [name for name, other in zip(ours, theirs, strict=False) if name != other] if both else []
        found += [f"another order of the rows, {listed(moved)}"] if moved and not found else []
        if found:
            raise AuditError(f"expected the same names in {where}; found {'; '.join(found)}")
        by_name = dict(zip(theirs, labels.images, strict=True))
        return [Pair(name, image, by_name[name]) for name, image in zip(ours, predictions.images, strict=True)]
    if not single and not both:
        raise AuditError(
            f"{where}: images with names are matched by name, those of a stack by place; give two folders, two stacks, "
            "or npz files that also hold the array names"
        )
    if len(predictions.images) != len(labels.images):
        counts = f"{len(predictions.images)} predictions and {len(labels.images)} labels"
        raise AuditError(f"{where}: expected as many labels as predictions, found {counts}")
    names = ours or theirs or tuple(map(str, range(len(labels.images))))
    return [Pair(*entry) for entry in zip(names, predictions.images, labels.images, strict=True)]
