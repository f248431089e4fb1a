"""Reads npy, npz, PNG, NIfTI and COCO arrays by header and image by image, and label maps. Refuses pickles."""

import contextlib
import functools
import importlib
import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flipjax.files import check_archive, csv_rows
from flipjax.terminal import listed

if TYPE_CHECKING:
    from PIL import Image

# 16-bit PNGs have mode I;16, or I from older Pillow versions; 1 is black and white.
MASK_MODES = ("P", "L", "I;16", "I", "1")
ID_MODES = ("RGB",)
ORIENTATION = 274
"""EXIF tag of the orientation."""
IGNORED = 255
"""The class of ignored pixels in a label map."""
WORD = "ignore"
# Label ids of the train ids 0 to 18 in cityscapesScripts; other ids are not evaluated.
CITYSCAPES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
NAMED = {
    "ade20k": {0: IGNORED} | {label: label - 1 for label in range(1, 151)},
    "cityscapes_train": {c: c for c in range(len(CITYSCAPES))} | {-1: IGNORED, IGNORED: IGNORED},
    "cityscapes": dict.fromkeys(range(-1, 34), IGNORED) | {label: c for c, label in enumerate(CITYSCAPES)},
}
"""Published maps: ADE20K ignores 0; Cityscapes' label ids become train ids, and train ids 255 and -1 are ignored."""
NIFTI = (".nii", ".nii.gz")
PHOTOS = (".png", ".jpg", ".jpeg")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class AuditError(ValueError):
    """Unusable input or option. The message names it, with the expected and the found value."""

    exit_code = 2


class Limits(NamedTuple):
    """Size limits: pixels per image, bytes of its float32 scores, unpacked bytes of an npz."""

    pixels: int = 1 << 26
    bytes: int = 1 << 29
    unpacked: int = 1 << 32


class StoredArray(NamedTuple):
    """An array in a file, described by its header.

    `member` is its name in an npz, `row` its index in a stack, `axis` the class axis (-3 or -1) of a one-hot mask.
    `classes` maps COCO segment ids to classes; `outlines` are encoded COCO segments by id, in painting order.
    """

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype
    row: int | None = None
    axis: int | None = None
    classes: Mapping[int, int] | None = None
    outlines: Sequence[tuple[int, Any]] | None = None

    def __str__(self) -> str:
        """Returns the file, with npz member and stack row if any."""
        name = f"{self.path}[{self.member}]" if self.member else str(self.path)
        return name if self.row is None else f"{name} row {self.row}"


def suffix_of(path: Path) -> str:
    """Returns the lower-case suffix of a file; .nii.gz counts as one suffix."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def read_table(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV as dicts; raises AuditError if it is not a CSV."""
    with naming(path), path.open(newline="", encoding="utf-8-sig") as stream:
        return [row for _, row in csv_rows(stream)]


def read_headers(path: Path, *, limits: Limits) -> dict[str, StoredArray]:
    """Reads the array headers of an npy, npz, PNG or NIfTI file, by npz name or ''.

    Raises:
        AuditError: the file has another type, or is damaged, pickled or truncated; an npz unpacks to too many bytes; a
            PNG is not a mask of class indices.
    """
    suffix = suffix_of(path)
    with naming(path):
        if suffix in NIFTI:
            return {"": StoredArray(path, "", open_volume(path).shape, np.dtype(np.int32))}
        if suffix == ".png":
            return {"": mask_header(path)}
        if suffix == ".npy":
            with path.open("rb") as stream:
                return {"": _header(stream, path, "", path.stat().st_size)}
        check_archive(path, max_bytes=limits.unpacked, option="--max_unpacked")
        arrays = {}
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                with archive.open(entry) as stream:
                    arrays[name] = _header(stream, path, name, entry.file_size)
        return arrays


def _header(stream: IO[bytes], path: Path, member: str, size: int) -> StoredArray:
    shape, _, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
    array = StoredArray(path, member, shape, dtype)
    if dtype.hasobject:
        raise AuditError(f"{array}: expected numbers, found pickled Python objects, which are never loaded")
    if min(shape, default=0) < 0 or size < stream.tell() + math.prod(shape) * dtype.itemsize:
        raise AuditError(f"{array}: truncated: {size} bytes, too few for its {dtype} values of shape {shape}")
    return array


@contextlib.contextmanager
def naming(name: object) -> Iterator[None]:
    """Converts errors of damaged files to an AuditError that names the file."""
    try:
        yield
    except (AuditError, ImportError, MemoryError):
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise AuditError(f"{name}: damaged, of another type than its name says, or unreadable ({found})") from error


@contextlib.contextmanager
def _open_mask(path: Path, *, ids: bool) -> "Iterator[Image.Image]":
    from PIL import Image

    modes = ID_MODES if ids else MASK_MODES
    with Image.open(path, formats=["PNG"]) as image:
        frames = getattr(image, "n_frames", 1)
        if image.mode not in modes or frames > 1:
            what = "ids of segments as colours" if ids else "a mask of class indices"
            found = f"a picture of mode {image.mode}" if frames == 1 else "an animation"
            raise AuditError(f"{path}: expected {what} (PNG of mode {', '.join(modes)}), found {found}")
        yield image


def mask_header(path: Path, *, classes: Mapping[int, int] | None = None) -> StoredArray:
    """Reads the header of a PNG of class indices or, with `classes`, of segment ids as colours."""
    with naming(path), _open_mask(path, ids=classes is not None) as image:
        return StoredArray(path, "", (image.height, image.width), np.dtype(np.int32), classes=classes)


def _optional(name: str, path: Path) -> Any:
    """Imports a package that flipjax does not depend on."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        raise AuditError(
            f"{path}: expected the package {package}, which reads it; python -m pip install {package}"
        ) from error


def open_volume(path: Path) -> Any:
    """Opens a NIfTI image without reading its values."""
    return _optional("nibabel", path).Nifti1Image.from_filename(path)


def _read_volume(path: Path) -> np.ndarray:
    values = np.asarray(open_volume(path).dataobj)
    # Some tools store class indices as floating point.
    if values.dtype.kind not in "iuf" or (values != np.rint(values)).any() or np.abs(values).max(initial=0) >= 1 << 31:
        raise AuditError(f"{path}: expected class indices, found other values of {values.dtype}")
    return values.astype(np.int32)


def read_photo(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Reads a photo uint8 (H, W, 3); raises AuditError unless it has the size of its labels."""
    from PIL import Image

    with naming(path), Image.open(path, formats=["PNG", "JPEG"]) as image:
        if (image.height, image.width) != tuple(shape):
            size = f"{image.height} x {image.width}"
            raise AuditError(f"{path}: expected the size of its labels, {shape[0]} x {shape[1]}, found {size}")
        return np.asarray(image.convert("RGB"))


def _read_picture(array: StoredArray) -> np.ndarray:
    """Reads a mask, or the ids R + 256 G + 65536 B of segments (COCO's panoptic format)."""
    ids = array.classes is not None
    with _open_mask(array.path, ids=ids) as image:
        image.verify()  # Pillow checks checksums only here.
    with _open_mask(array.path, ids=ids) as image:
        values = np.asarray(image).astype(np.int32)
        # Viewers apply the rotation, but programs that read pixels do not.
        if image.getexif().get(ORIENTATION, 1) != 1:
            raise AuditError(f"{array.path}: expected a mask that EXIF does not turn; save it as it is meant")
        return values @ np.array([1, 1 << 8, 1 << 16], np.int32) if ids else values


def _paint(array: StoredArray) -> np.ndarray:
    """Returns the segment id of each pixel, 0 for none. Later outlines cover earlier ones."""
    coder = _optional("pycocotools.mask", array.path)
    height, width = array.shape
    ids = np.zeros(array.shape, np.int32)
    for number, outline in array.outlines or ():
        if isinstance(outline, list) or isinstance(outline["counts"], list):
            outline = coder.frPyObjects(outline, height, width)
            outline = coder.merge(outline) if isinstance(outline, list) else outline
        mask = coder.decode(outline)
        if mask.shape != array.shape:
            raise AuditError(f"{array}: segment {number}: expected {height} x {width} pixels, found {mask.shape}")
        ids[mask > 0] = number
    return ids


def _classes_of(values: np.ndarray, array: StoredArray) -> np.ndarray:
    """Returns the class indices of a one-hot mask."""
    axis = array.axis or 0
    if values.min() < 0 or (values.sum(axis, dtype=np.int64) != 1).any():
        raise AuditError(f"{array}: expected class indices or a one-hot mask, one 1 at each pixel; found other values")
    return values.argmax(axis).astype(np.int32)


class ArrayReader:
    """Reads arrays. Keeps the last two npz files open, and unpacks stacks in them once, to a temporary file."""

    def __enter__(self) -> "ArrayReader":
        """Returns the reader."""
        self._folder = tempfile.TemporaryDirectory(prefix="flipjax-audit-")
        self._archive = functools.lru_cache(2)(functools.partial(np.load, allow_pickle=False))
        self._unpacked = functools.lru_cache(None)(self._unpack)
        return self

    def __exit__(self, *error: object) -> None:
        """Closes open files and removes unpacked ones."""
        self._archive.cache_clear()
        self._folder.cleanup()

    def read(self, array: StoredArray) -> np.ndarray:
        """Returns an array in native byte order; raises AuditError if its file is damaged or missing."""
        path, member, shape, dtype, row, axis, *_ = array
        with naming(array):
            if array.outlines is not None:
                return _paint(array)
            if path.suffix.lower() == ".png":
                return _read_picture(array)
            if suffix_of(path) in NIFTI:
                return _read_volume(path)
            if member and row is None:
                values = self._archive(path)[member]
            else:
                stored = np.load(self._unpacked(path, member) if member else path, mmap_mode="r", allow_pickle=False)
                values = stored if row is None else stored[row]
            values = np.array(values, dtype.newbyteorder("="))
            return values.reshape(shape) if axis is None else _classes_of(values, array).reshape(shape)

    def _unpack(self, path: Path, member: str) -> Path:
        target = Path(self._folder.name) / f"{self._unpacked.cache_info().currsize}.npy"
        with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream)
        return target


class LabelMap(NamedTuple):
    """A map from labels to classes, or IGNORED; `origin` is its name or file."""

    origin: str
    classes: dict[int, int]

    @property
    def count(self) -> int:
        """One more than the largest class."""
        return 1 + max((c for c in self.classes.values() if c != IGNORED), default=-1)


def read_label_map(text: str, *, option: str = "--label_map") -> LabelMap:
    """Returns a map of NAMED, or one from a CSV with the columns `from` and `to` (a class or `ignore`).

    Raises:
        AuditError: the map does not exist, or a row has no class or repeats a label.
    """
    if text in NAMED:
        return LabelMap(text, NAMED[text])
    form = "a CSV with the columns from and to"
    if not Path(text).is_file():
        raise AuditError(f"{option}: expected {form}, or one of {', '.join(NAMED)}; found {text!r}")
    classes: dict[int, int] = {}
    for row in read_table(Path(text)):
        try:
            label, to = int(row["from"]), IGNORED if row["to"].strip() == WORD else int(row["to"])
        except (KeyError, ValueError):
            label = to = -1
        if not 0 <= to <= IGNORED or label in classes:
            raise AuditError(f"{text}: expected {form}, a class 0..{IGNORED - 1} or {WORD} a label; found {row}")
        classes[label] = to
    return LabelMap(text, classes)


def apply_label_map(
    values: np.ndarray, classes: Mapping[int, int], *, ignore_index: int | None, where: object, origin: str
) -> np.ndarray:
    """Returns the classes of labels, int32. `ignore_index` is unchanged unless the map contains it.

    Raises:
        AuditError: the map lacks some labels, which the message lists.
    """
    present, places = np.unique(values, return_inverse=True)
    known = ({} if ignore_index is None else {ignore_index: ignore_index}) | dict(classes)
    missing = [label for label in present.tolist() if label not in known]
    if missing:
        raise AuditError(f"{where}: expected labels that {origin} names, found others, {listed(missing)}")
    return np.array([known[label] for label in present.tolist()], np.int32)[places.reshape(values.shape)]
