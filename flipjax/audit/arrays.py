"""Finds and reads stored arrays: folders and files of npy, npz, PNG and NIfTI, COCO files, and label maps.

Images are found from headers alone, and read one by one. Pickles are refused.
"""

import contextlib
import functools
import importlib
import json
import math
import tempfile
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from flipjax.support.files import check_archive, csv_rows
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
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class AuditError(ValueError):
    """Unusable input or option. The message names it, with the expected and the found value."""

    exit_code = 2


def check_folder(folder: Path, known: Collection[str]) -> None:
    """Raises AuditError for an output folder with other files than those of an earlier call, or of a running one."""
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp"} if folder.exists() else set()
    if names - {*known}:
        raise AuditError(f"--out: expected a new folder, or one that this command wrote; found other files in {folder}")


class Limits(NamedTuple):
    """Size limits: pixels per image, bytes of its float32 scores, unpacked bytes of an npz."""

    pixels: int = 1 << 26
    bytes: int = 1 << 29
    unpacked: int = 1 << 32


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
    """An array in a file, described by its header.

    `member` is its name in an npz, `row` its index in a stack, `axis` the class axis (-3 or -1) of a one-hot mask.
    Of COCO images, `has_ids` marks a PNG of segment ids as colours, and `outlines` are encoded segments by id, in
    painting order. `label_map` maps the stored values to classes.
    """

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype
    row: int | None = None
    axis: int | None = None
    label_map: LabelMap | None = None
    has_ids: bool = False
    outlines: Sequence[tuple[int, Any]] | None = None

    def __str__(self) -> str:
        """Returns the file, with npz member and stack row if any."""
        name = f"{self.path}[{self.member}]" if self.member else str(self.path)
        return name if self.row is None else f"{name} row {self.row}"

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
def _open_mask(path: Path, *, has_ids: bool) -> Iterator[Any]:
    from PIL import Image

    modes, what = (("RGB",), "ids of segments as colours") if has_ids else (MASK_MODES, "a mask of class indices")
    with Image.open(path, formats=["PNG"]) as image:
        frames = getattr(image, "n_frames", 1)
        if image.mode not in modes or frames > 1:
            found = f"a picture of mode {image.mode}" if frames == 1 else "an animation"
            raise AuditError(f"{path}: expected {what} (PNG of mode {', '.join(modes)}), found {found}")
        yield image


def mask_header(path: Path, *, label_map: LabelMap | None = None) -> StoredArray:
    """Reads the header of a PNG of class indices or, with a map of their classes, of segment ids as colours."""
    has_ids = label_map is not None
    with naming(path), _open_mask(path, has_ids=has_ids) as image:
        shape = image.height, image.width
        return StoredArray(path, "", shape, np.dtype(np.int32), label_map=label_map, has_ids=has_ids)


def _optional(name: str, path: Path) -> Any:
    """Imports a package that flipjax does not depend on."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        problem = f"expected the package {package}, which reads it; python -m pip install {package}"
        raise AuditError(f"{path}: {problem}") from error


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
            expected = f"the size of its labels, {shape[0]} x {shape[1]}"
            raise AuditError(f"{path}: expected {expected}, found {image.height} x {image.width}")
        return np.asarray(image.convert("RGB"))


def _read_picture(array: StoredArray) -> np.ndarray:
    """Reads a mask, or the ids R + 256 G + 65536 B of segments (COCO's panoptic format)."""
    with _open_mask(array.path, has_ids=array.has_ids) as image:
        image.verify()  # Pillow checks checksums only here.
    with _open_mask(array.path, has_ids=array.has_ids) as image:
        # Viewers apply the rotation, but programs that read pixels do not.
        if image.getexif().get(ORIENTATION, 1) != 1:
            raise AuditError(f"{array.path}: expected a mask that EXIF does not turn; save it as it is meant")
        values = np.asarray(image).astype(np.int32)
    return values @ np.array([1, 1 << 8, 1 << 16], np.int32) if array.has_ids else values


def _paint(array: StoredArray) -> np.ndarray:
    """Returns the segment id of each pixel, 0 for none. Later outlines cover earlier ones."""
    coder = _optional("pycocotools.mask", array.path)
    ids = np.zeros(array.shape, np.int32)
    for number, outline in array.outlines or ():
        if isinstance(outline, list) or isinstance(outline["counts"], list):
            outline = coder.frPyObjects(outline, *array.shape)
        mask = coder.decode(coder.merge(outline) if isinstance(outline, list) else outline)
        if mask.shape != array.shape:
            raise AuditError(f"{array}: segment {number}: expected {array.shape} pixels, found {mask.shape}")
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
        path, member, row = array.path, array.member, array.row
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
            values = np.array(values, array.dtype.newbyteorder("="))
            return (values if array.axis is None else _classes_of(values, array)).reshape(array.shape)

    def _unpack(self, path: Path, member: str) -> str:
        with zipfile.ZipFile(path) as archive:
            return archive.extract(f"{member}.npy", tempfile.mkdtemp(dir=self._folder.name))


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


class Coco(NamedTuple):
    """The labels of a COCO file: class by category id, class names, and for instances the name and size of images.

    For instances, class 0 is background (pixels without instance). Panoptic labels have no background.
    """

    panoptic: bool
    categories: Mapping[int, int]
    class_names: tuple[str, ...]
    images: Mapping[int, tuple[str, tuple[int, int]]]


class Source(NamedTuple):
    """The images of one argument, in order. Without names they are identified by position. `coco` is None elsewhere."""

    path: Path
    names: tuple[str, ...] | None
    images: tuple[StoredArray, ...]
    coco: Coco | None = None


def open_source(
    path: Path,
    *,
    wanted: str,
    limits: Limits,
    suffixes: Sequence[str] = (),
    label_map: LabelMap | None = None,
    truth: Coco | None = None,
    min_score: float = 0.5,
) -> Source:
    """Finds the images of a folder (one file per image) or of a file (a stack, one array per image, or COCO's JSON).

    Reads only headers, the names in an npz, and the JSON.

    Args:
        path: a folder of npy, npz and, for labels and masks, PNG or NIfTI files; or one of them.
        wanted: the array to take from an npz that holds several: logits, probabilities, masks or labels.
        limits: size limits of an unpacked npz.
        suffixes: endings to drop from names.
        label_map: of the values; a JSON has its own.
        truth: for COCO predictions, the categories of the labels.
        min_score: lowest score of COCO results.

    Raises:
        AuditError: nothing is found, files are damaged or of another type, or a name is ambiguous.
    """
    if path.suffix.lower() == ".json":
        if wanted != "labels" and not (wanted == "masks" and truth):
            raise AuditError(f"{path}: expected --kind masks and --labels in COCO's panoptic or instances format, too")
        found, coco = open_coco(path, truth=truth, min_score=min_score)
        named = [_without(name, suffixes) for name, _ in found]
        return Source(path, check_names(path, named), tuple(array for _, array in found), coco)
    endings = (".npy", ".npz") if RANKS[wanted] == 3 else (".npy", ".npz", ".png", *NIFTI)
    files = sorted(file for file in path.iterdir() if file.name[0] != ".") if path.is_dir() else [path]
    wrong = [file.name for file in files if not file.is_file() or suffix_of(file) not in endings]
    if wrong or not files:
        texts = listed(wrong) if files and path.exists() else "nothing there"
        raise AuditError(f"{path}: expected files of type {' '.join(endings)}, found {texts}")
    if path.is_dir():
        names = check_names(path, [stem_of(file, suffixes) for file in files])
        source = Source(path, names, tuple(_open_alone(file, wanted, limits) for file in files))
    else:
        source = _open_file(path, wanted, limits, suffixes)
    return source._replace(images=tuple(image._replace(label_map=label_map) for image in source.images))


def _open_file(path: Path, wanted: str, limits: Limits, suffixes: Sequence[str] = (), *, alone: bool = False) -> Source:
    """Finds the images of one file; `alone`: the only one, so that three axes may also be those of a one-hot mask."""
    rank, members = RANKS[wanted], read_headers(path, limits=limits)
    others = {name: members[name] for name in sorted(members) if name not in RESERVED}
    array = members.get(wanted, next(iter(others.values())) if len(others) == 1 else None)
    if array is None:
        if not others or any(len(member.shape) != rank for member in others.values()):
            texts = listed(f"{name} {member.shape}" for name, member in members.items())
            raise AuditError(f"{path}: expected an array named {wanted}, or for each image one of {rank} axes; {texts}")
        checked = tuple(_check_form(member, member.shape, wanted) for member in others.values())
        return Source(path, check_names(path, others), checked)
    one_hot = alone and rank == 2 and len(array.shape) == 3 and array.shape[0] != 1
    if len(array.shape) == rank or one_hot or suffix_of(path) in NIFTI:
        return Source(path, (stem_of(path, suffixes),), (_check_form(array, array.shape, wanted),))
    one = _check_form(array, array.shape[1:], wanted)
    rows = tuple(one._replace(row=row) for row in range(array.shape[0]))
    if "names" not in members:
        return Source(path, None, rows)
    stored = members["names"]
    if stored.shape != (len(rows),) or stored.dtype.kind != "U":
        raise AuditError(f"{stored}: expected {len(rows)} strings, found {stored.dtype} of shape {stored.shape}")
    with ArrayReader() as reader:
        return Source(path, check_names(stored, map(str, reader.read(stored))), rows)


def _open_alone(file: Path, wanted: str, limits: Limits) -> StoredArray:
    """Returns the one image of a file in a folder. Accepts a batch of one, which models often save."""
    image, *others = _open_file(file, wanted, limits, alone=True).images
    if others:
        raise AuditError(f"{file}: expected one image in each file of a folder, found {1 + len(others)}")
    return image._replace(row=None)


def _check_form(array: StoredArray, shape: tuple[int, ...], wanted: str) -> StoredArray:
    """Checks an array for images of `shape`, and finds the class axis of one-hot masks."""
    volume, indices = suffix_of(array.path) in NIFTI, RANKS[wanted] == 2
    rank = 3 if volume else RANKS[wanted]
    hot = indices and not volume and len(shape) == rank + 1
    if len(shape) - hot != rank or array.dtype.kind not in ("iub" if hot else "iu" if indices else "f"):
        form = f"{wanted} (H, W, C) or (C, H, W) in floating point; for class indices pass --kind masks"
        form = "class indices (H, W) or one-hot masks of an integer type" if indices else form
        raise AuditError(f"{array}: expected {form}; found {array.dtype} of shape {array.shape}")
    if 0 in array.shape:
        raise AuditError(f"{array}: expected images, found an array of shape {array.shape}")
    if not hot:
        return array._replace(shape=shape)
    # Assumes fewer classes than rows or columns.
    last = shape[-1] <= shape[0]
    return array._replace(shape=shape[:-1] if last else shape[1:], axis=-1 if last else -3)


def find_photos(folder: Path, names: Sequence[str], *, suffixes: Sequence[str] = ()) -> dict[str, Path]:
    """Returns the photos of images by name.

    Raises:
        AuditError: the folder is missing, or an image has no photo or several.
    """
    if not folder.is_dir():
        raise AuditError(f"--images: expected a folder of photos ({' '.join(PHOTOS)}), found {folder}")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in PHOTOS and path.is_file()]
    named = check_names(f"--images: {folder}", [stem_of(path, suffixes) for path in paths])
    photos = dict(zip(named, paths, strict=True))
    if missing := [name for name in names if name not in photos]:
        raise AuditError(f"--images: expected a photo named as each image in {folder}; none for {listed(missing)}")
    return {name: photos[name] for name in names}


def stem_of(path: Path, suffixes: Sequence[str] = ()) -> str:
    """Returns the name of an image: its file name without extension and without one of the suffixes."""
    return _without(path.name[: len(path.name) - len(suffix_of(path))], suffixes)


def _without(name: str, suffixes: Sequence[str]) -> str:
    return next((name.removesuffix(ending) for ending in suffixes if ending and name.endswith(ending)), name)


def check_names(where: object, names: Iterable[str]) -> tuple[str, ...]:
    """Returns image names; raises AuditError for duplicates."""
    names = tuple(names)
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise AuditError(f"{where}: expected a name an image, found some more than once, {listed(twice)}")
    return names


def open_coco(
    path: Path, *, truth: Coco | None = None, min_score: float = 0.5
) -> tuple[list[tuple[str, StoredArray]], Coco]:
    """Returns the images of a COCO file with their names, and its categories, from the JSON and PNG headers.

    Args:
        path: the JSON.
        truth: for predictions, the categories of the labels.
        min_score: lowest score of results to keep. Higher scores cover lower ones.

    Raises:
        AuditError: the JSON has another format, the labels lack categories or images, or PNGs are missing or not RGB.
    """
    with naming(f"{path}: expected COCO's panoptic, instances or results JSON"):
        stored = json.loads(path.read_bytes())
        if isinstance(stored, list):
            if truth is None or truth.panoptic:
                raise AuditError(f"{path}: expected --labels in COCO's instances format beside results")
            kept = [entry for entry in stored if float(entry.get("score", 1)) >= min_score]
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
    return found, truth


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
        found.append((file.stem, mask_header(file, label_map=LabelMap(str(path), classes))))
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
        own = {"label_map": LabelMap(str(path), classes[image]), "outlines": outlines[image]}
        found.append((name, StoredArray(path, name, shape, np.dtype(np.int32), **own)))
    return found
