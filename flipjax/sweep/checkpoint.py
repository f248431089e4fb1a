"""Orbax checkpoints of a population: stacked states and the history so far."""

import functools
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import jax
import numpy as np
import orbax.checkpoint as ocp

from flipjax.config import ConfigError
from flipjax.support.arrays import PyTree
from flipjax.support.files import DamagedError, adding_folder, read_json, sha256_of

RECORD = "record.json"
"""File of the run's identity, the epoch and the SHA-256 of the files: damaged ones and other runs' are rejected."""
ARRAYS = "arrays"
"""Folder of the blocks, by number."""
BYTES = "bytes"
"""Name of the array in a block."""
BLOCK = 2**24
"""Bytes of arrays that are copied, compressed and written at once, about."""


class Leaf(Protocol):
    """An array of a state, or the shape of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Of the array."""
        ...


class Checkpoints:
    """The last two checkpoints of a program, by epoch. Rejects damaged ones; never removes another run's intact one."""

    def __init__(self, folder: str | Path, *, identity: str = ""):
        """Creates nothing yet; `identity` identifies the run."""
        self._identity = identity
        self._folder = Path(folder).absolute()

    def save(self, epoch: int, tree: PyTree) -> None:
        """Saves a pytree of arrays as the state after `epoch` epochs.

        Raises:
            OSError: writing failed.
        """
        folder = self._folder / str(epoch)
        try:
            with adding_folder(folder) as partial:
                # One array at a time: after an error, TensorStore prints a traceback for others that it still writes.
                for number, block in enumerate(_blocks(tree)):
                    arrays = (np.asarray(leaf, order="C") for leaf in block)
                    whole = np.concatenate([array.reshape(-1).view(np.uint8) for array in arrays])
                    _orbax().save(partial / ARRAYS / str(number), args=ocp.args.StandardSave({BYTES: whole}))
                record = {**self._description(epoch, tree), "files": _file_digests(partial)}
                (partial / RECORD).write_text(json.dumps(record, indent=1))
        except Exception as error:
            # A full disk is an OSError to Python and a ValueError to TensorStore.
            raise OSError(f"{folder}: a checkpoint cannot be written ({_sentence(error)})") from error
        for old in self._epochs()[:-2]:
            shutil.rmtree(self._folder / str(old))

    def restore(self, like: PyTree, *, say: Callable[[str], object]) -> tuple[int, PyTree] | None:
        """Returns the latest intact epoch and its pytree, with numpy leaves in the structure of `like`, or None.

        A damaged checkpoint is reported through `say` and removed, and the previous one is tried.

        Raises:
            ConfigError: an intact checkpoint belongs to another run, epoch or layout, or holds other arrays than its
                record says; it is kept.
        """
        for epoch in reversed(self._epochs()):
            folder = self._folder / str(epoch)
            try:
                record = _verified_record(folder)
            except DamagedError as error:
                say(f"{folder}: a damaged checkpoint, removed ({error})")
                shutil.rmtree(folder)
                continue
            for name, value in self._description(epoch, like).items():
                if record.get(name) != value:
                    problem = f"{folder} is a whole checkpoint, but not of this {name}; move it away, or pass --fresh"
                    raise ConfigError("--workdir", problem=problem)
            try:
                return epoch, _read_blocks(folder / ARRAYS, like)
            except (MemoryError, OSError):
                raise
            except Exception as error:  # Orbax and TensorStore raise errors of many kinds.
                problem = f"{folder} holds other arrays than its record says ({_sentence(error)})"
                raise ConfigError("--workdir", problem=f"{problem}; move it away, or pass --fresh") from error
        return None

    def _epochs(self) -> list[int]:
        return sorted(int(path.name) for path in self._folder.glob("[1-9]*") if path.name.isdecimal() and path.is_dir())

    def _description(self, epoch: int, tree: PyTree) -> dict[str, object]:
        """Returns what a checkpoint of this run and epoch says of itself."""
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        layout = {jax.tree_util.keystr(path): [str(leaf.dtype), *leaf.shape] for path, leaf in leaves}
        return {"run": self._identity, "epoch": epoch, "layout of blocks": layout}


def _read_blocks(folder: Path, like: PyTree) -> PyTree:
    """Returns the pytree of the blocks in a folder, with NumPy leaves in the structure of `like`."""
    leaves = []
    for number, block in enumerate(_blocks(like)):
        ends = np.cumsum([_bytes(leaf) for leaf in block])
        form = ocp.args.StandardRestore({BYTES: jax.ShapeDtypeStruct(ends[-1:], np.uint8)})
        whole = np.asarray(_orbax().restore(folder / str(number), args=form)[BYTES])
        for part, leaf in zip(np.split(whole, ends[:-1]), block, strict=True):
            leaves.append(part.view(leaf.dtype).reshape(leaf.shape))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


@functools.cache
def _orbax() -> ocp.Checkpointer:
    """Returns the writer of checkpoints, with the libraries' own logs silenced."""
    # They would log tracebacks for errors that `save` reports in one line.
    for name in ("absl", "asyncio", "concurrent.futures"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


def _bytes(leaf: Leaf) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _blocks(tree: PyTree) -> list[list[Leaf]]:
    """Returns the leaves, in order, in blocks of about BLOCK bytes or one leaf."""
    blocks: dict[int, list[Leaf]] = {}
    end = 0
    for leaf in jax.tree.leaves(tree):
        end += _bytes(leaf)
        blocks.setdefault((end - 1) // BLOCK, []).append(leaf)
    return list(blocks.values())


def _file_digests(folder: Path) -> dict[str, str]:
    paths = sorted(filter(Path.is_file, (folder / ARRAYS).rglob("*")))
    return {str(path.relative_to(folder)): sha256_of(path) for path in paths}


def _verified_record(folder: Path) -> dict[str, object]:
    """Returns a checkpoint's record, which is absent if another program or an older version wrote it.

    Raises:
        DamagedError: its files are not those written.
    """
    try:
        record = read_json(folder / RECORD)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DamagedError(f"{RECORD} is no JSON") from error
    if not isinstance(record, dict) or record.get("files") != _file_digests(folder):
        raise DamagedError("its files are not those that were written")
    return record


def _sentence(error: BaseException) -> str:
    """Returns the system's message or the first line of an error, since TensorStore's errors fill a page."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code is not None:
        return os.strerror(int(code[1]))
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
