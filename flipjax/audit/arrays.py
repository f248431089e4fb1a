"""Finds and reads stored arrays: folders and files of npy, npz, PNG and NIfTI, COCO files, and label maps.

Images are found from headers alone, and read one by one. Pickles are refused.
"""

import contextlib
import functools
import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flipjax.support.files import csv_rows
from flipjax.support.terminal import listed

# 16-bit PNGs have mode I;16, or I from older Pillow versions; 1 is black and white.
MASK_MODES = ("P", "L", "I;16", "I", "1")
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
RESERVED = ("logits", "probabilities", "masks", "labels", "groups", "names", "images")
RANKS = {"logits": 3, "probabilities": 3, "masks": 2, "labels": 2}
"""Axes of one image's array; a stack has one more. Two are those of class indices, which PNG files may hold."""
PHOTOS = (".png", ".jpg", ".jpeg")
VOID = -1
"""Label of crowds and of pixels without a panoptic segment. Ignored in labels; a class of its own in predictions."""
LARGEST_ID = (1 << 24) - 1
MAX_BYTES = 1 << 32
"""Default limit on the bytes of an image's values, of an unpacked npz, and of the confusion matrices."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
LEAST_SCORE = 0.5
"""Lowest score of a COCO result that counts. Higher scores cover lower ones."""


class AuditError(ValueError):
    """Unusable input or option. The message names it, with the expected and the found value."""

    exit_code = 2


def check_folder(folder: Path, known: Collection[str]) -> None:
    """Raises AuditError for an output folder with other files than those of an earlier call, or of a running one."""
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp"} if folder.exists() else set()
    if names - {*known}:
        raise AuditError(f"--out: expected a new folder, or one that this command wrote; found other files in {folder}")


class LabelMap(NamedTuple):
    """A map from labels, or from the segment ids of a COCO image, to classes; `origin` is its name or file."""

    origin: str
    classes: Mapping[int, int]

    @property
    def count(self) -> int:
        """One more than the largest class except IGNORED."""
        return 1 + max((c for c in self.classes.values() if c != IGNORED), default=-1)

    def apply(self, values: np.ndarray, *, where: object, ignore_index: int | None = None) -> np.ndarray:
        """Returns the classes of labels, int32. `ignore_index` is unchanged unless the map contains it.

        Raises:
            AuditError: the map lacks some labels, which the message lists.
        """
        present, places = np.unique(values, return_inverse=True)
        known = {ignore_index: ignore_index} | dict(self.classes)
        if missing := [label for label in present.tolist() if label not in known]:
            raise AuditError(f"{where}: expected labels that {self.origin} names, found others, {listed(missing)}")
        return np.array([known[label] for label in present.tolist()], np.int32)[places.reshape(values.shape)]


class StoredArray(NamedTuple):
    """An image's array: where it is, for messages; its shape; a function that reads it; a map of values to classes."""

    where: str
    shape: tuple[int, ...]
    load: Callable[[], np.ndarray]
    label_map: LabelMap | None = None

    def __str__(self) -> str:
        """Returns the file, with the row in a stack or the image of a COCO file if any."""
        return self.where

    def read(self) -> np.ndarray:
        """Returns the stored values; raises AuditError if the file is damaged or missing."""
        with naming(self):
            return np.array(self.load())

    def to_classes(self, values: np.ndarray, *, ignore_index: int | None = None) -> np.ndarray:
        """Returns the classes of the array's values, which raises as `LabelMap.apply`."""
        return values if self.label_map is None else self.label_map.apply(values, where=self, ignore_index=ignore_index)


def suffix_of(path: Path) -> str:
    """Returns the lower-case suffix of a file; .nii.gz counts as one suffix."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def read_table(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV as dicts; raises AuditError if it is not a CSV."""
    with naming(path), path.open(newline="", encoding="utf-8-sig") as stream:
        return [row for _, row in csv_rows(stream)]


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


def check_size(where: object, size: int, most: int) -> None:
    """Raises AuditError if a number of bytes exceeds its limit."""
    if size > most:
        raise AuditError(f"{where}: expected at most {most:,} bytes, found {size:,} (--max_bytes sets the limit)")


class Stack:
    """An array of an npy or npz file, opened without reading it, and the array `names` of an npz, if any."""

    def __init__(self, path: Path, wanted: str, most: int):
        """Opens the file; an npz is unpacked, to at most `most` bytes."""
        self._arguments = path, wanted, most
        self.names = None
        opened = functools.partial(np.load, mmap_mode="r", allow_pickle=False)
        if suffix_of(path) == ".npy":
            values = opened(path)
        else:
            with (
                path.open("rb") as file,
                np.load(file, allow_pickle=False) as stored,
                tempfile.TemporaryDirectory(prefix="flipjax-audit-", ignore_cleanup_errors=True) as folder,
            ):
                member = _member(path, stored, wanted, most)
                self.names = tuple(map(str, stored["names"])) if "names" in stored else None
                # An open array outlives its file.
                values = opened(stored.zip.extract(member, folder))
        _check_kind(path, values.dtype, wanted)
        self.values = np.asarray(values)

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets another process open the file, in place of sending it the values."""
        return Stack, self._arguments

    def row(self, index: int) -> np.ndarray:
        """Returns an image."""
        return self.values[index]


def _member(path: Path, stored: Any, wanted: str, most: int) -> str:
    """Returns the file of the wanted array in an npz."""
    check_size(path, sum(member.file_size for member in stored.zip.infolist()), most)
    found = [wanted] if wanted in stored else [name for name in stored if name not in RESERVED]
    if len(found) != 1:
        raise AuditError(f"{path}: expected an array named {wanted}, or one alone, found {listed(stored)}")
    return f"{found[0]}.npy"


def _check_kind(path: Path, dtype: np.dtype, wanted: str) -> None:
    if RANKS[wanted] == 3 and dtype.kind != "f":
        problem = f"expected {wanted} in floating point, found {dtype}; for class indices pass --kind masks"
        raise AuditError(f"{path}: {problem}")


def read_shape(path: Path, wanted: str, most: int) -> tuple[int, ...]:
    """Returns the shape of the one image of a file, from its header: scores of three axes, or class indices of two.

    Volumes have three, and a batch of one, which models often save, one more.
    """
    suffix, rank = suffix_of(path), RANKS[wanted]
    with naming(path):
        if suffix == ".png":
            with _open_png(path, MASK_MODES) as image:
                found = image.height, image.width
        elif suffix in NIFTI:
            found, rank = open_volume(path).shape, 3
        elif suffix == ".npy":
            found = Stack(path, wanted, most).values.shape
        else:
            with (
                np.load(path, allow_pickle=False) as stored,
                stored.zip.open(_member(path, stored, wanted, most)) as file,
            ):
                found, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
                _check_kind(path, dtype, wanted)
    shape = found[1:] if suffix in (".npy", ".npz") and len(found) == rank + 1 and found[0] == 1 else found
    if len(shape) != rank or 0 in shape:
        raise AuditError(f"{path}: expected {wanted} of one image, an array of {rank} axes, found {found}")
    check_size(path, 4 * math.prod(shape), most)
    return shape


def read_image(path: Path, wanted: str, most: int, shape: tuple[int, ...]) -> np.ndarray:
    """Reads the one image of a file, which has this shape."""
    if suffix_of(path) in NIFTI:
        return _read_volume(path)
    return _read_png(path, MASK_MODES) if suffix_of(path) == ".png" else Stack(path, wanted, most).values.reshape(shape)


@contextlib.contextmanager
def _open_png(path: Path, modes: Sequence[str]) -> Iterator[Any]:
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as image:
        frames = getattr(image, "n_frames", 1)
        if image.mode not in modes or frames > 1:
            expected = f"one mask in a PNG of mode {', '.join(modes)}"
            raise AuditError(f"{path}: expected {expected}, found mode {image.mode} and {frames} frames")
        yield image


def _read_png(path: Path, modes: Sequence[str]) -> np.ndarray:
    with _open_png(path, modes) as image:
        image.verify()  # Pillow checks checksums only here.
    with _open_png(path, modes) as image:
        if (turned := image.getexif().get(ORIENTATION, 1)) != 1:
            # Viewers apply it, but programs that read pixels do not.
            raise AuditError(f"{path}: expected a mask that EXIF does not turn, found orientation {turned}")
        return np.asarray(image).astype(np.int32)


def _read_ids(path: Path) -> np.ndarray:
    """Reads the ids R + 256 G + 65536 B of segments (COCO's panoptic format)."""
    return _read_png(path, ["RGB"]) @ np.array([1, 1 << 8, 1 << 16], np.int32)


def open_volume(path: Path) -> Any:
    """Opens a NIfTI image without reading its values."""
    import nibabel  # pyright: ignore[reportMissingImports]

    return nibabel.Nifti1Image.from_filename(path)


def _read_volume(path: Path) -> np.ndarray:
    values = np.asarray(open_volume(path).dataobj)
    # Some tools store class indices as floating point.
    if values.dtype.kind not in "iuf" or (values != np.rint(values)).any() or np.abs(values).max(initial=0) >= 1 << 31:
        raise AuditError(f"{path}: expected class indices, found other values of {values.dtype}")
    return values.astype(np.int32)


def read_photo(path: Path) -> np.ndarray:
    """Reads a photo uint8 (H, W, 3)."""
    from PIL import Image

    with naming(path), Image.open(path, formats=["PNG", "JPEG"]) as image:
        return np.asarray(image.convert("RGB"))


def _paint(shape: tuple[int, int], outlines: Sequence[tuple[int, Any]]) -> np.ndarray:
    """Returns the segment id of each pixel, 0 for none. Later outlines cover earlier ones."""
    from pycocotools import mask as coder

    ids = np.zeros(shape, np.int32)
    for number, outline in outlines:
        if isinstance(outline, list) or isinstance(outline["counts"], list):
            outline = coder.frPyObjects(outline, *shape)
        ids[coder.decode(coder.merge(outline) if isinstance(outline, list) else outline) > 0] = number
    return ids


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
        with contextlib.suppress(KeyError, ValueError):
            label, to = int(row["from"]), IGNORED if row["to"].strip() == WORD else int(row["to"])
            if 0 <= to <= IGNORED and label not in classes:
                classes[label] = to
                continue
        raise AuditError(f"{text}: expected {form}: each label once, a class 0..{IGNORED - 1} or {WORD}; found {row}")
    return LabelMap(text, classes)


class Coco(NamedTuple):
    """The labels of a COCO file: class by category id, class names, and for instances the name and size of images.

    For instances, class 0 is background (pixels without instance). Panoptic labels have no background.
    """

    panoptic: bool
    categories: Mapping[int, int]
    class_names: tuple[str, ...]
    images: Mapping[int, tuple[str, tuple[int, int]]]


class Source(NamedTuple):
    """The images of one argument, in order; those of a stack without names are identified by position."""

    path: Path
    names: tuple[str, ...] | None
    images: tuple[StoredArray, ...]
    coco: Coco | None = None
    stacked: bool = False


def open_source(
    path: Path, *, wanted: str, label_map: LabelMap | None = None, truth: Coco | None = None, most: int = MAX_BYTES
) -> Source:
    """Finds the images of a folder (one file per image) or of a file (one image, a stack, or COCO's JSON).

    Reads headers alone; damaged values are an error when they are read.

    Args:
        path: a folder of npy, npz and, for labels and masks, PNG or NIfTI files; or one of them.
        wanted: the array to take from an npz that holds several: logits, probabilities, masks or labels.
        label_map: of the values; a JSON has its own.
        truth: for COCO predictions, the categories of the labels.
        most: bytes of an image, and of an unpacked npz.

    Raises:
        AuditError: nothing is found, files are of another type or too large, or a name is ambiguous.
    """
    if path.suffix.lower() == ".json":
        if wanted != "labels" and not (wanted == "masks" and truth):
            raise AuditError(f"{path}: expected --kind masks and --labels in COCO's panoptic or instances format, too")
        return open_coco(path, truth=truth)
    endings = (".npy", ".npz") if RANKS[wanted] == 3 else (".npy", ".npz", ".png", *NIFTI)
    files = sorted(file for file in path.iterdir() if file.name[0] != ".") if path.is_dir() else [path]
    wrong = [file.name for file in files if not file.is_file() or suffix_of(file) not in endings]
    if wrong or not files:
        texts = listed(wrong) if files and path.exists() else "nothing there"
        raise AuditError(f"{path}: expected files of type {' '.join(endings)}, found {texts}")
    if not path.is_dir() and suffix_of(path) in endings[:2]:
        with naming(path):
            stack = Stack(path, wanted, most)
        n, *shape = stack.values.shape or (0,)
        if len(shape) == RANKS[wanted]:
            if not stack.values.size or len(stack.names or range(n)) != n:
                raise AuditError(f"{path}: expected images and a name for each, found {(n, *shape)}, {stack.names}")
            check_size(path, 4 * math.prod(shape), most)
            loads = (functools.partial(stack.row, row) for row in range(n))
            rows = (StoredArray(f"{path} row {i}", (*shape,), load, label_map) for i, load in enumerate(loads))
            return Source(path, stack.names and check_names(path, stack.names), tuple(rows), stacked=True)
    names = check_names(path, [stem_of(file) for file in files])
    images = []
    for file in files:
        shape = read_shape(file, wanted, most)
        load = functools.partial(read_image, file, wanted, most, shape)
        images.append(StoredArray(str(file), shape, load, label_map))
    return Source(path, names, tuple(images))


def find_photos(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Returns the photos of images by name.

    Raises:
        AuditError: the folder is missing, or an image has no photo or several.
    """
    if not folder.is_dir():
        raise AuditError(f"--images: expected a folder of photos ({' '.join(PHOTOS)}), found {folder}")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in PHOTOS and path.is_file()]
    named = check_names(f"--images: {folder}", [stem_of(path) for path in paths])
    photos = dict(zip(named, paths, strict=True))
    if missing := [name for name in names if name not in photos]:
        raise AuditError(f"--images: expected a photo named as each image in {folder}; none for {listed(missing)}")
    return {name: photos[name] for name in names}


def stem_of(path: Path) -> str:
    """Returns the name of an image: its file name without extension."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def check_names(where: object, names: Iterable[str]) -> tuple[str, ...]:
    """Returns image names; raises AuditError for duplicates."""
    names = tuple(names)
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise AuditError(f"{where}: expected a name an image, found some more than once, {listed(twice)}")
    return names


def open_coco(path: Path, *, truth: Coco | None = None) -> Source:
    """Finds the images of a COCO file, from its JSON and the headers of its PNGs.

    Args:
        path: the JSON.
        truth: for predictions, the categories of the labels.

    Raises:
        AuditError: the JSON has another format, the labels lack categories or images, or PNGs are missing or not RGB.
    """
    with naming(f"{path}: expected COCO's panoptic, instances or results JSON"):
        stored = json.loads(path.read_bytes())
        if isinstance(stored, list):
            if truth is None or truth.panoptic:
                raise AuditError(f"{path}: expected --labels in COCO's instances format beside results")
            kept = [entry for entry in stored if float(entry.get("score", 1)) >= LEAST_SCORE]
            found = _painted(path, sorted(kept, key=lambda entry: float(entry.get("score", 1))), truth)
        elif "images" in stored and not any("segments_info" in entry for entry in stored["annotations"]):
            truth = truth or _categories(stored, panoptic=False)
            # Crowds are painted first, then the others by decreasing size.
            order = sorted(stored["annotations"], key=lambda e: (not e.get("iscrowd", 0), -float(e.get("area", 0))))
            found = _painted(path, order, truth)
        else:
            void = VOID if truth is None else len(truth.class_names)
            truth = truth or _categories(stored, panoptic=True)
            found = _panoptic(path, stored["annotations"], truth, void=void)
    if not found:
        raise AuditError(f"{path}: expected images, found none")
    return Source(path, check_names(path, (name for name, _ in found)), tuple(array for _, array in found), truth)


def _categories(stored: Any, *, panoptic: bool) -> Coco:
    names = {int(entry["id"]): str(entry["name"]) for entry in stored["categories"]}
    class_names = tuple(names.values()) if panoptic else ("background", *names.values())
    images = {
        entry["id"]: (Path(entry["file_name"]).stem, (int(entry["height"]), int(entry["width"])))
        for entry in (() if panoptic else stored["images"])
    }
    return Coco(panoptic, {number: c for c, number in enumerate(names, not panoptic)}, class_names, images)


def _class_of(entry: Mapping[str, Any], truth: Coco, void: int, where: str) -> int:
    """Returns the class of a segment, or `void` for a crowd."""
    category = int(entry["category_id"])
    if category not in truth.categories:
        raise AuditError(f"{where}: expected a category of the labels ({listed(truth.categories)}), found {category}")
    return void if entry.get("iscrowd", 0) else truth.categories[category]


def _panoptic(path: Path, annotations: Sequence[Any], truth: Coco, *, void: int) -> list[tuple[str, StoredArray]]:
    found = []
    for annotation in annotations:
        file = path.with_suffix("") / Path(annotation["file_name"]).name
        classes = {0: void}
        for entry in annotation["segments_info"]:
            number = int(entry["id"])
            if number in classes or not 0 < number <= LARGEST_ID:
                raise AuditError(f"{path}: {file.name}: expected different ids in 1..{LARGEST_ID}, found {number}")
            classes[number] = _class_of(entry, truth, void, f"{path}: {file.name}: segment {number}")
        with naming(file), _open_png(file, ["RGB"]) as image:
            shape = image.height, image.width
        load = functools.partial(_read_ids, file)
        found.append((file.stem, StoredArray(str(file), shape, load, LabelMap(str(path), classes))))
    return found


def _painted(path: Path, entries: Sequence[Any], truth: Coco) -> list[tuple[str, StoredArray]]:
    outlines: dict[Any, list[tuple[int, Any]]] = {image: [] for image in truth.images}
    classes = {image: {0: 0} for image in truth.images}
    for number, entry in enumerate(entries, 1):
        image, where = entry["image_id"], f"{path}: annotation {entry.get('id', number)}"
        if image not in outlines:
            raise AuditError(f"{where}: expected an image of the labels, found image_id {image}")
        if "segmentation" not in entry:
            raise AuditError(f"{where}: expected a segmentation, found {listed(entry)}")
        outlines[image].append((number, entry["segmentation"]))
        classes[image][number] = _class_of(entry, truth, VOID, where)
    found = []
    for image, (name, shape) in truth.images.items():
        load = functools.partial(_paint, shape, outlines[image])
        found.append((name, StoredArray(f"{path}[{name}]", shape, load, LabelMap(str(path), classes[image]))))
    return found
