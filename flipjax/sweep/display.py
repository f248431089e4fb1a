"""What a running sweep shows."""

from typing import TextIO

import numpy as np

from flipjax.terminal import Bar
from flipjax.training.member import Status


class Display(Bar):
    """Shows epochs done, members running, stopped and diverged, losses and the time left, as a context manager."""

    def __init__(self, *, total: int, programs: int = 1, stream: TextIO | None = None):
        """Starts the clock; `total` counts member epochs over all `programs`, an upper bound."""
        super().__init__("member epochs", total=total, starts=programs, stream=stream)
        self._programs: set[str] = set()

    def epoch(self, name: str, epoch: int, epochs: int, status: np.ndarray, losses: np.ndarray, *, freed: int) -> None:
        """Reports an epoch of a program.

        Args:
          name: of the program.
          epoch: just done, from 1.
          epochs: at most.
          status: (K,) status of all members.
          losses: (R,) validation losses of the members that ran it; those of diverged ones are left out of the mean.
          freed: member epochs that will not be run, since members stopped early in this one.
        """
        self.skip(freed)
        counts = {kind.name.lower(): int((status == kind).sum()) for kind in Status}
        members = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        finite = losses[np.isfinite(losses)]
        mean = f"{finite.mean():.4f}" if finite.size else "-"
        # The first epoch of a program has its compilation in it.
        compiling = name not in self._programs
        self._programs.add(name)
        note = f"cell {name}, epoch {epoch}/{epochs}: {members}; mean validation loss {mean}"
        self.advance(len(losses), note, last=not (status == Status.RUNNING).any(), warmup=compiling)
