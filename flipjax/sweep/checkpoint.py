"""Checkpoints of a population: the stacked states and what was recorded so far, through Orbax."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

MAX_CHECKPOINTS = 2


def _flat(tree: Any) -> dict[str, np.ndarray]:
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


class Checkpoints:
    """The checkpoints of one program by epoch, the last two; one that was cut short is never taken for whole."""

    def __init__(self, folder: str | Path):
        """Opens or makes the folder."""
        options = ocp.CheckpointManagerOptions(max_to_keep=MAX_CHECKPOINTS, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(Path(folder).absolute(), options=options)

    def save(self, epoch: int, tree: Any) -> None:
        """Saves a pytree of arrays as the state after `epoch` epochs."""
        self._manager.save(epoch, args=ocp.args.StandardSave(_flat(tree)))

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """Returns the latest epoch and its pytree, numpy leaves in the structure of `like`; None where there is none.

        Raises:
          ValueError: if the stored arrays are not those of `like`.
        """
        epoch = self._manager.latest_step()
        if epoch is None:
            return None
        target = jax.tree_util.tree_leaves_with_path(like)
        names = [jax.tree_util.keystr(path) for path, _ in target]
        blank = {name: np.empty(leaf.shape, leaf.dtype) for name, (_, leaf) in zip(names, target, strict=True)}
        stored = self._manager.restore(epoch, args=ocp.args.StandardRestore(blank))
        leaves = [np.asarray(stored[name]) for name in names]
        return epoch, jax.tree.unflatten(jax.tree.structure(like), leaves)

    def close(self) -> None:
        """Ends Orbax's threads."""
        self._manager.close()
