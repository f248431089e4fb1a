"""Orbax checkpoints of a population: stacked states and the history so far.

A checkpoint is a folder of blocks. A block is an Orbax checkpoint of a dictionary: from a leaf's path, such as
`weights/params`, to the array, whose first axis is that of members. Short weights are one vector a member;
`record.json` names the arrays in it. `flipjax/sweep/README.md` reads a checkpoint with Orbax alone.
"""

import contextlib
import functools
import gc
import json
import logging
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import jax
import numpy as np
import orbax.checkpoint as ocp

from flipjax.config import ConfigError
from flipjax.support.arrays import PyTree
from flipjax.support.files import DamagedError, adding_folder, read_json, sha256_of
from flipjax.support.restoring import logging_as_before

RECORD = "record.json"
"""File of the run's identity, the epoch and the SHA-256 of the files: damaged ones and other runs' are rejected."""
ARRAYS = "arrays"
"""Folder of the blocks, by number."""
BLOCK = 2**24
"""Bytes of arrays that are copied and written at once, about."""
VECTORS = "vectors"
"""Entry of the record: `Names`."""
Names: TypeAlias = dict[str, dict[str, list[int]]]
"""The names and shapes, in order, of the arrays in the vector `params` or `statistics` of a network's weights."""
SECONDS_OF_WRITERS = 0.5
"""Time that TensorStore's threads have, after an error, to end what they write."""
LOGGERS = ("absl", "asyncio", "concurrent.futures")
"""Loggers of tracebacks for errors that `Checkpoints.save` reports in one line."""


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

    def save(self, epoch: int, tree: PyTree, *, names: Names | None = None) -> None:
        """Saves a pytree of arrays as the state after `epoch` epochs.

        Args:
            epoch: the number of epochs.
            tree: the state.
            names: what vectors of weights hold, for other readers.

        Raises:
            OSError: writing failed.
        """
        folder = self._folder / str(epoch)
        try:
            with _silenced(), adding_folder(folder) as partial:
                for number, block in enumerate(_blocks(tree)):
                    arrays = {name: np.asarray(leaf, order="C") for name, leaf in block.items()}
                    _orbax().save(partial / ARRAYS / str(number), args=ocp.args.PyTreeSave(arrays))
                record = {**self._description(epoch, tree), VECTORS: names or {}, "files": _file_digests(partial)}
                (partial / RECORD).write_text(json.dumps(record, indent=1))
        except Exception as error:
            # A full disk is an OSError to Python and a ValueError to TensorStore.
            raise OSError(f"{folder}: a checkpoint cannot be written ({_sentence(error)})") from error
        for old in epochs_in(self._folder)[:-2]:
            shutil.rmtree(self._folder / str(old))

    def restore(self, like: PyTree, *, say: Callable[[str], object]) -> tuple[int, PyTree] | None:
        """Returns the latest intact epoch and its pytree, with numpy leaves in the structure of `like`, or None.

        A damaged checkpoint is reported through `say` and removed, and the previous one is tried.

        Raises:
            ConfigError: an intact checkpoint belongs to another run, epoch or layout, or holds other arrays than its
                record says; it is kept.
        """
        for epoch in reversed(epochs_in(self._folder)):
            folder = self._folder / str(epoch)
            try:
                record = _verified_record(folder)
            except DamagedError as error:
                say(f"{folder}: removed a damaged checkpoint ({error})")
                shutil.rmtree(folder)
                continue
            for name, value in self._description(epoch, like).items():
                if record.get(name) != value:
                    problem = f"{folder}: expected a checkpoint of this {name}, found one of another"
                    raise ConfigError("--workdir", problem=f"{problem}; move it away, or pass --fresh")
            try:
                return epoch, _read_blocks(folder / ARRAYS, like)
            except (MemoryError, OSError):
                raise
            except Exception as error:  # Orbax and TensorStore raise errors of many kinds.
                problem = f"{folder}: expected the arrays that its record lists, found others ({_sentence(error)})"
                raise ConfigError("--workdir", problem=f"{problem}; move it away, or pass --fresh") from error
        return None

    def _description(self, epoch: int, tree: PyTree) -> dict[str, object]:
        """Returns what a checkpoint of this run and epoch says of itself."""
        layout = {name: [str(leaf.dtype), *leaf.shape] for name, leaf in _leaves(tree).items()}
        return {"run": self._identity, "epoch": epoch, "layout of blocks": layout}


def epochs_in(folder: Path) -> list[int]:
    """Returns the epochs of the checkpoints of a program, which its folder holds."""
    return sorted(int(path.name) for path in folder.glob("[1-9]*") if path.name.isdecimal() and path.is_dir())


def member_weights(folder: str | Path, row: int, *, part: str = "weights") -> dict[str, np.ndarray]:
    """Returns the weights of a member from an intact checkpoint, by names such as `params/head/bias`.

    Args:
        folder: of the checkpoint: RUN/checkpoints/000/12 of program 000 after epoch 12.
        row: the position of the member among those of its program that train together.
        part: `weights`, those after the epoch; `average`; or `best/RULE/weights`, those that a rule has kept so far.

    Raises:
        DamagedError: its files are not those that were written.
        FileNotFoundError: there is no checkpoint.
    """
    folder = Path(folder).absolute()
    record = _verified_record(folder)
    if not record:
        raise FileNotFoundError(f"{folder}: expected a checkpoint, with {RECORD}; found none")
    weights = {}
    for block in (folder / ARRAYS).iterdir():
        for name, array in _read_block(block).items():
            if name.startswith(f"{part}/"):
                weights[name.removeprefix(f"{part}/")] = array[row]
    for vector, shapes in cast(Names, record[VECTORS]).items():
        if vector in weights:
            whole = weights.pop(vector)
            ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
            for (name, shape), cut in zip(shapes.items(), np.split(whole, ends[:-1]), strict=True):
                weights[f"{vector}/{name}"] = cut.reshape(shape)
    return weights


def _read_blocks(folder: Path, like: PyTree) -> PyTree:
    """Returns the pytree of the blocks in a folder, with NumPy leaves in the structure of `like`.

    Raises:
        ValueError: they hold other arrays.
    """
    arrays: dict[str, np.ndarray] = {}
    for number, _ in enumerate(_blocks(like)):
        arrays.update(_read_block(folder / str(number)))
    leaves = []
    for name, leaf in _leaves(like).items():
        array = np.empty(leaf.shape, leaf.dtype)
        if _bytes(leaf):
            array = arrays.pop(name)
        if (array.dtype, array.shape) != (leaf.dtype, leaf.shape):
            expected = f"{leaf.dtype} {leaf.shape}"
            raise ValueError(f"{name}: expected {expected}; found {array.dtype} {array.shape}")
        leaves.append(array)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _read_block(folder: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a block by their paths."""
    with _silenced():
        described = _orbax().metadata(folder).item_metadata
        names = ()
        if described is not None:
            names = described.tree
        kinds = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
        return _orbax().restore(folder, args=ocp.args.PyTreeRestore(restore_args=kinds))


@functools.cache
def _orbax() -> ocp.Checkpointer:
    """Returns the writer of checkpoints, which does not compress: weights would take a tenth less, and more time."""
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False))


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Silences what the libraries print of errors that `save` reports in one line; at the end all is as before."""
    with logging_as_before():
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        hook = sys.unraisablehook
        sys.unraisablehook = functools.partial(_report_unless_closed, hook)
        try:
            yield
        except Exception:
            # TensorStore's threads still write other arrays of the block, and then report to a loop that is closed.
            time.sleep(SECONDS_OF_WRITERS)
            # A task whose error nobody asked for is logged when it is freed.
            gc.collect()
            raise
        finally:
            sys.unraisablehook = hook


def _report_unless_closed(hook: Callable[["sys.UnraisableHookArgs"], object], error: "sys.UnraisableHookArgs") -> None:
    """Reports an error in a callback, unless it says that the callback's loop is closed."""
    if not (isinstance(error.exc_value, RuntimeError) and "loop is closed" in str(error.exc_value)):
        hook(error)


def _bytes(leaf: Leaf) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _leaves(tree: PyTree) -> dict[str, Leaf]:
    """Returns the leaves by their paths, in order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _blocks(tree: PyTree) -> list[dict[str, Leaf]]:
    """Returns the leaves by their paths, in order, in blocks of about BLOCK bytes or one leaf."""
    blocks: dict[int, dict[str, Leaf]] = {}
    end = 0
    for name, leaf in _leaves(tree).items():
        end += _bytes(leaf)
        # Orbax refuses arrays without elements.
        if _bytes(leaf):
            blocks.setdefault((end - 1) // BLOCK, {})[name] = leaf
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
