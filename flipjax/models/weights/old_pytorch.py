"""Reads PyTorch's files of the old form, which is no zip, without PyTorch and without running what they name.

Such a file is a row of pickles (a magic number, a version, facts of the machine, the state_dict, and the names of its
storages), then the storages one after the other, each behind its length. Pickles name classes and functions; all but
the three that a state_dict needs are refused.
"""

import collections
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
"""The number that such a file begins with."""
VERSION = 1001
"""The version of the form."""
TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
"""The types of numbers that are read, by the names of PyTorch's storages."""


class OldFormError(ValueError):
    """A file that is not of the old form, is damaged, or needs more than arrays."""


@dataclass
class Storage:
    """A row of numbers that tensors look into."""

    dtype: np.dtype
    """The type of its numbers."""
    size: int
    """How many they are."""
    values: np.ndarray | None = None
    """The numbers, once they are read."""


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, before its numbers are read."""

    storage: Storage
    """The numbers."""
    offset: int
    """The number of the first one."""
    shape: tuple[int, ...]
    """Of the array."""
    stride: tuple[int, ...]
    """How many numbers further the next entry along each axis is."""

    def array(self) -> np.ndarray:
        """Returns the array; raises OldFormError if it reaches outside its storage."""
        last = self.offset
        for length, step in zip(self.shape, self.stride, strict=True):
            if length < 0 or step < 0:
                raise OldFormError(f"an array of shape {self.shape} and steps {self.stride}")
            last += (length - 1) * step
        values = self.storage.values
        if 0 in self.shape:
            return np.empty(self.shape, self.storage.dtype)
        if values is None or self.offset < 0 or last >= len(values):
            raise OldFormError(f"an array of shape {self.shape} that reaches outside its numbers")
        steps = [step * values.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps).copy()


class _Unpickler(pickle.Unpickler):
    """Reads the pickles of such a file: ordered dicts, tensors and storages, and refuses everything else."""

    def __init__(self, stream: IO[bytes]):
        """Reads from a stream."""
        super().__init__(stream)
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Returns what a pickle names, if it is among the few that are allowed."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in TYPES:
            return name
        raise OldFormError(f"it names {module}.{name}, which is not read")

    def persistent_load(self, pid: Any) -> Storage:
        """Returns the storage that a pickle refers to."""
        kind, type_name, key, _, size, *views = pid
        if kind != "storage" or any(view is not None for view in views):
            raise OldFormError("it refers to something else than a storage")
        return self.storages.setdefault(key, Storage(np.dtype(TYPES[type_name]), size))


def _tensor(storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    """Takes the place of PyTorch's function; whether a gradient is taken does not matter here."""
    return Tensor(storage, offset, shape, stride)


def is_old_form(path: Path) -> bool:
    """Returns whether a file begins with a pickle, as those of the old form do; PyTorch's newer files are zips."""
    with open(path, "rb") as stream:
        return stream.read(1) == pickle.PROTO


def read_old_form(path: Path) -> Mapping[str, Any]:
    """Returns what such a file holds, dicts of arrays by name.

    Raises:
        OldFormError: it is of another form, is damaged, or names other classes than those of arrays.
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        try:
            return _read(stream)
        except (OldFormError, OSError):
            raise
        except Exception as error:  # Pickles that are damaged raise arbitrary errors.
            raise OldFormError(f"it is damaged ({type(error).__name__})") from error


def _read(stream: IO[bytes]) -> Mapping[str, Any]:
    """Returns what a file holds, from its pickles and the storages behind them, in their order in the file."""
    magic = _Unpickler(stream).load()
    version = _Unpickler(stream).load()
    machine = _Unpickler(stream).load()
    if (magic, version) != (MAGIC, VERSION) or not machine["little_endian"]:
        raise OldFormError("it is no file of PyTorch's old form")
    unpickler = _Unpickler(stream)
    stored = unpickler.load()
    if not isinstance(stored, dict):
        raise OldFormError("it holds no dict of arrays")
    for key in _Unpickler(stream).load():
        storage = unpickler.storages[key]
        (size,) = struct.unpack("<q", stream.read(8))
        content = stream.read(storage.size * storage.dtype.itemsize)
        if size != storage.size or len(content) != storage.size * storage.dtype.itemsize:
            raise OldFormError("it is damaged: its numbers are cut short")
        storage.values = np.frombuffer(content, storage.dtype)
    return _with_arrays(stored)


def _with_arrays(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dicts with arrays in place of tensors."""
    result: dict[str, Any] = {}
    for name, value in stored.items():
        if isinstance(value, Tensor):
            value = value.array()
        elif isinstance(value, dict):
            value = _with_arrays(value)
        result[name] = value
    return result
