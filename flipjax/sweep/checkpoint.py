"""Checkpoints of a population: the stacked states and what was recorded so far, through Orbax."""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from flipjax.files import DIGEST, DamagedError, digest, replacing

MAX_CHECKPOINTS = 2
PASSING = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What a system answers that may answer otherwise a minute later."""
DIGESTS = "digests.json"
"""Digests of a checkpoint's files, by path: TensorStore's threads choke on damaged ones after the error is told."""


def _flat(tree: Any) -> dict[str, np.ndarray]:
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _digest(arrays: dict[str, np.ndarray], identity: str, epoch: int) -> np.ndarray:
    """A digest of the arrays, whose they are and of which epoch: a whole checkpoint in another's place is none."""
    named = np.frombuffer(f"{identity} {epoch}".encode(), np.uint8)
    return np.frombuffer(bytes.fromhex(digest({**arrays, "identity": named})), np.uint8)


def _file_digests(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and DIGESTS not in path.name)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _epochs(folder: Path) -> list[int]:
    """Returns the epochs of the checkpoints in a folder."""
    names = [path.name for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    return [int(name) for name in names if name == str(int(name))]


def _is_of_the_machine(error: BaseException) -> bool:
    """Says whether a checkpoint that cannot be read may be whole all the same: nothing is removed then."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in PASSING)


def _sentence(error: BaseException) -> str:
    """Returns the first line of an error, or what the system said: those of TensorStore go on for a page."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:
        return os.strerror(int(code[1]))
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


def _except_late(event: Any) -> None:
    """Leaves out what TensorStore's other writes print when one has failed and Orbax has closed its event loop."""
    if "Event loop is closed" not in str(event.exc_value):
        sys.__unraisablehook__(event)


class Checkpoints:
    """The checkpoints of one program by epoch, the last two; one that was cut short or damaged is never trusted."""

    def __init__(self, folder: str | Path, *, identity: str = ""):
        """Opens or makes the folder; `identity` says whose states they are."""
        self._identity = identity
        self._folder = Path(folder).absolute()
        # What goes wrong is said in one line, here; Orbax and asyncio log it with tracebacks, too.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if sys.unraisablehook is sys.__unraisablehook__:
            sys.unraisablehook = _except_late
        options = ocp.CheckpointManagerOptions(max_to_keep=MAX_CHECKPOINTS, enable_async_checkpointing=False)
        # Named here, it is not guessed from what lies in the folder.
        handler = ocp.StandardCheckpointHandler()
        self._manager = ocp.CheckpointManager(self._folder, options=options, item_handlers=handler)

    def save(self, epoch: int, tree: Any) -> None:
        """Saves a pytree of arrays as the state after `epoch` epochs, with their digest.

        Raises:
          OSError: it cannot be written.
        """
        arrays = _flat(tree)
        try:
            self._manager.save(
                epoch, args=ocp.args.StandardSave(arrays | {DIGEST: _digest(arrays, self._identity, epoch)})
            )
        except Exception as error:
            # A full disk is an OSError to Python and a ValueError to TensorStore.
            raise OSError(
                f"{self._folder / str(epoch)}: a checkpoint cannot be written ({_sentence(error)})"
            ) from error
        folder = self._folder / str(epoch)
        text = json.dumps(_file_digests(folder), indent=1)
        with replacing(folder / DIGESTS) as stream:
            stream.write(text.encode())

    def restore(self, like: Any, *, say: Callable[[str], Any]) -> tuple[int, Any] | None:
        """Returns the latest whole epoch and its pytree, numpy leaves in the structure of `like`; None without one.

        A damaged checkpoint is named by `say` and removed, and the one before it is tried.
        """
        blank = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in _flat(like).items()}
        for epoch in sorted(_epochs(self._folder), reverse=True):
            try:
                arrays = self._read(epoch, blank)
            except Exception as error:
                if _is_of_the_machine(error):
                    raise
                # Garbled bytes raise anything, from JSON's errors to those of TensorStore.
                say(f"{self._folder / str(epoch)}: a damaged checkpoint, removed ({_sentence(error)})")
                shutil.rmtree(self._folder / str(epoch))
                self._manager.reload()
                continue
            leaves = [arrays[name] for name in blank]
            return epoch, jax.tree.unflatten(jax.tree.structure(like), leaves)
        return None

    def _read(self, epoch: int, blank: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        folder = self._folder / str(epoch)
        # A run that was killed behind the checkpoint has not written them; its arrays' own digest is still compared.
        if (folder / DIGESTS).is_file() and json.loads((folder / DIGESTS).read_bytes()) != _file_digests(folder):
            raise DamagedError("its files are not those that were written")
        target = blank | {DIGEST: np.empty(32, np.uint8)}
        tree = self._manager.item_metadata(epoch).tree
        if not isinstance(tree, dict) or tree.keys() != target.keys():
            raise DamagedError("it holds other arrays than this flipjax writes for this program")
        stored = self._manager.restore(epoch, args=ocp.args.StandardRestore(target))
        arrays = {name: np.asarray(stored[name]) for name in target}
        expected = arrays.pop(DIGEST)
        if not np.array_equal(expected, _digest(arrays, self._identity, epoch)):
            raise DamagedError("its arrays are not those that were written for this program and epoch")
        if any(arrays[name].shape != leaf.shape or arrays[name].dtype != leaf.dtype for name, leaf in blank.items()):
            raise DamagedError("its arrays are not of this program")
        return arrays

    def close(self) -> None:
        """Ends Orbax's threads."""
        self._manager.close()
