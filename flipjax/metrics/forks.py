"""Children of a process in which JAX has started: they lack its threads, and would wait for them for ever."""

import os

import jax

_FORKED: set[int] = set()
"""This process, where it is such a child."""


def refuse_forked() -> None:
    """Raises a RuntimeError, which says how to start workers, in a process that was forked after JAX had started."""
    if _FORKED:
        raise RuntimeError(
            "this process was forked after JAX had started, whose threads it lacks: start workers with "
            "multiprocessing.get_context('spawn'), a DataLoader's with multiprocessing_context='spawn'."
        )


def _note_fork() -> None:
    devices = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    try:
        # JAX refuses another number once it has started; there is no other way to ask.
        jax.config.update("jax_num_cpu_devices", devices + 1)
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:
        _FORKED.add(os.getpid())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
