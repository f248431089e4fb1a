"""Images of a folder or a file, by name or by position, and the pairing of predictions with labels."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from flipjax.audit.arrays import Array, AuditError, Limits, Reader, read_mask, read_npy, read_npz

RESERVED = ("logits", "probabilities", "labels", "groups", "names", "images")
SHOWN = 10
DEFAULT_LIMITS = Limits()


class Place(NamedTuple):
    """Where one image lies: an array, or one row of a stack of images."""

    array: Array
    row: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The image's shape."""
        return self.array.shape if self.row is None else self.array.shape[1:]

    def __str__(self) -> str:
        """The file, the member of an npz, and the row of a stack."""
        return str(self.array) if self.row is None else f"{self.array} row {self.row}"


class Source(NamedTuple):
    """All images that one argument names, in order; without names they are known by their position alone."""

    path: Path
    names: tuple[str, ...] | None
    places: tuple[Place, ...]

    @property
    def stacked(self) -> bool:
        """Whether the images are the rows of one array."""
        return self.places[0].row is not None


class Pair(NamedTuple):
    """One image: its name, its prediction and its labels."""

    name: str
    prediction: Place
    labels: Place


def listed(names: Iterable[object]) -> str:
    """Says how many there are, and names the first ten.

    Example:
        >>> listed(range(12))
        '12: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...'
    """
    texts = [str(name) for name in names]
    return f"{len(texts)}: {', '.join([*texts[:SHOWN], *['...'] * (len(texts) > SHOWN)])}"


def repeated(names: Sequence[str]) -> list[str]:
    """Returns the names that stand more than once, sorted.

    Example:
        >>> repeated(["b", "a", "c", "b"])
        ['b']
    """
    return sorted(name for name, count in Counter(names).items() if count > 1)


def check_printable(where: object, names: Iterable[str]) -> None:
    """Raises AuditError where names have control characters, which would steer a terminal or break a table."""
    wrong = [ascii(name) for name in names if not name.isprintable()]
    if wrong:
        raise AuditError(f"{where}: expected names without control characters, found {listed(wrong)}")


def open_source(path: Path, *, wanted: str, rank: int, reader: Reader, limits: Limits = DEFAULT_LIMITS) -> Source:
    """Finds the images of a folder (one file an image) or of a file (a stack of images, or an array for each).

    Only headers and the names in an npz are read.

    Args:
        path: a folder of npy, npz and, for labels, PNG files; or one of them.
        wanted: the array to take from an npz that holds several: logits, probabilities or labels.
        rank: axes of one image's array; a stack has one more.
        reader: reads the array `names` of an npz.
        limits: of what an npz unpacks to.

    Raises:
        AuditError: nothing there, files of another type, or damaged, or names that stand for two images.
    """
    suffixes = (".npy", ".npz", ".png") if wanted == "labels" else (".npy", ".npz")
    if path.is_dir():
        return _folder(path, suffixes, wanted, rank, limits)
    if not path.exists():
        raise AuditError(f"{path}: expected a folder or a file ({' '.join(suffixes)}), found nothing there")
    _check_suffixes(path, [path], suffixes)
    arrays = read_npz(path, limits=limits) if path.suffix.lower() == ".npz" else {}
    if path.suffix.lower() == ".npz" and _member(arrays, wanted) is None:
        members = {name: array for name, array in arrays.items() if name not in RESERVED}
        if not members or any(len(array.shape) != rank for array in members.values()):
            texts = listed(f"{name} {array.shape}" for name, array in arrays.items())
            raise AuditError(
                f"{path}: expected an array named {wanted}, or for each image an array of {rank} axes; found {texts}"
            )
        check_printable(path, members)
        return Source(path, tuple(sorted(members)), tuple(Place(members[name]) for name in sorted(members)))
    array = _array(path, wanted, limits)
    if len(array.shape) == rank:
        return Source(path, (path.stem,), (Place(array),))
    if not array.shape or array.shape[0] == 0:
        raise AuditError(f"{array}: expected images, found an array of shape {array.shape}")
    places = tuple(Place(array, row) for row in range(array.shape[0]))
    return Source(path, _stored_names(arrays, len(places), reader), places)


def _folder(path: Path, suffixes: Sequence[str], wanted: str, rank: int, limits: Limits) -> Source:
    files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    if not files:
        raise AuditError(f"{path}: expected files ({' '.join(suffixes)}), one an image; the folder is empty")
    _check_suffixes(path, files, suffixes)
    stems = [file.stem for file in files]
    check_printable(path, stems)
    if repeated(stems):
        raise AuditError(f"{path}: names that stand for more than one file, {listed(repeated(stems))}")
    places = []
    for file in files:
        array = _array(file, wanted, limits)
        # Models often save a batch of one.
        if len(array.shape) == rank + 1 and array.shape[0] == 1:
            array = array._replace(shape=array.shape[1:])
        places.append(Place(array))
    return Source(path, tuple(stems), tuple(places))


def _check_suffixes(path: Path, files: Sequence[Path], suffixes: Sequence[str]) -> None:
    wrong = [file.name for file in files if not file.is_file() or file.suffix.lower() not in suffixes]
    if wrong:
        what = "files" if path.is_dir() else "a file"
        lossy = any(name.lower().endswith((".jpg", ".jpeg")) for name in wrong)
        hint = ", and no JPEG, whose compression changes class indices" if lossy and ".png" in suffixes else ""
        raise AuditError(f"{path}: expected {what} of type {' '.join(suffixes)}{hint}; found others, {listed(wrong)}")


def _array(path: Path, wanted: str, limits: Limits) -> Array:
    suffix = path.suffix.lower()
    if suffix == ".png":
        return read_mask(path)
    if suffix == ".npy":
        return read_npy(path)
    arrays = read_npz(path, limits=limits)
    name = _member(arrays, wanted)
    if name is None:
        raise AuditError(f"{path}: expected one array, or one named {wanted}; found {listed(arrays)}")
    return arrays[name]


def _member(arrays: dict[str, Array], wanted: str) -> str | None:
    """The array to take from an npz: the one of that name, or the only one that has no other meaning."""
    if wanted in arrays:
        return wanted
    others = [name for name in arrays if name not in RESERVED]
    return others[0] if len(others) == 1 else None


def _stored_names(arrays: dict[str, Array], count: int, reader: Reader) -> tuple[str, ...] | None:
    """The names of a stack's rows, where an npz holds them."""
    if "names" not in arrays:
        return None
    array = arrays["names"]
    if array.shape != (count,) or array.dtype.kind != "U":
        raise AuditError(f"{array}: expected {count} strings, found {array.dtype} of shape {array.shape}")
    names = tuple(str(name) for name in reader.read(array))
    check_printable(array, names)
    if repeated(names):
        raise AuditError(f"{array}: names that stand more than once, {listed(repeated(names))}")
    return names


def pair(predictions: Source, labels: Source) -> list[Pair]:
    """Pairs each prediction with its labels: by name where both have names, else by position.

    Raises:
        AuditError: names that only one side has, other orders, other counts, or names on one side alone.
    """
    # Two files of one image each are a pair, whatever they are called.
    single = len(predictions.places) == len(labels.places) == 1 and not predictions.path.is_dir()
    if single or predictions.names is None or labels.names is None:
        _check_positions(predictions, labels, single=single)
        names = predictions.names or labels.names or tuple(map(str, range(len(labels.places))))
        return [Pair(*entry) for entry in zip(names, predictions.places, labels.places, strict=True)]
    _check_names(predictions, predictions.names, labels, labels.names)
    by_name = dict(zip(labels.names, labels.places, strict=True))
    return [Pair(name, place, by_name[name]) for name, place in zip(predictions.names, predictions.places, strict=True)]


def _check_positions(predictions: Source, labels: Source, *, single: bool) -> None:
    if not single and not (predictions.stacked and labels.stacked):
        raise AuditError(
            f"{predictions.path} and {labels.path}: images with names are matched by name, those of a stack by "
            "position; give two folders, two stacks, or npz files that also hold the array names"
        )
    if len(predictions.places) != len(labels.places):
        raise AuditError(
            f"expected as many labels as predictions, found {len(predictions.places)} predictions in "
            f"{predictions.path} and {len(labels.places)} labels in {labels.path}"
        )


def _check_names(predictions: Source, ours: Sequence[str], labels: Source, theirs: Sequence[str]) -> None:
    without = sorted(set(ours) - set(theirs))
    unused = sorted(set(theirs) - set(ours))
    parts = [f"predictions without labels, {listed(without)}"] if without else []
    parts += [f"labels without a prediction, {listed(unused)}"] if unused else []
    if parts:
        common = "" if len(without) < len(ours) else " (no name in common)"
        where = f"{predictions.path} and {labels.path}"
        raise AuditError(f"expected the same names in {where}; found {'; '.join(parts)}{common}")
    moved = [a for a, b in zip(ours, theirs, strict=True) if a != b]
    if predictions.stacked and labels.stacked and moved:
        raise AuditError(
            f"{predictions.path} and {labels.path} hold the same names in another order: rows that differ, "
            f"{listed(moved)}; sort one of them as the other"
        )
