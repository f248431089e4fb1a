"""A strange input at a door, what became of it, and what a trial holds the door to."""

import contextlib
import io
import pathlib
import resource
import signal
import tempfile
from collections.abc import Callable
from typing import NamedTuple

SECONDS = 60
KILOBYTES = 1_000_000
"""What a trial may take of time, and of memory beyond what the process had."""
CODES = {0: "done", 1: "listed", 2: "refused"}
"""Exit codes: done; files are bad, and all of them listed; usage, in one sentence."""


class Door(NamedTuple):
    """A command, its cases by name, and the arguments of a case in an empty folder, of which it is made."""

    command: Callable
    cases: dict
    arguments: Callable


class Strange(NamedTuple):
    """A case: what it must end as, what the command must name, and how a whole input is made strange."""

    expected: str
    named: str
    harm: Callable


@contextlib.contextmanager
def alarm():
    """Raises TimeoutError in what takes too long."""

    def ring(number, frame):
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def call(command, arguments):
    """Exit code and all that a command printed."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text), alarm():
        code = command([str(part) for part in arguments])
    return code, text.getvalue()


def files_of(place):
    """All that is no folder, below one."""
    return {path for path in place.rglob("*") if path.is_symlink() or not path.is_dir()}


def outcome(door, case, place):
    """What became of a case: its expected outcome, or another."""
    arguments = door.arguments(place, case.harm)
    before = files_of(place)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        code, text = call(door.command, arguments)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    result = CODES.get(code, f"exit {code}")
    # Lines behind the sentence say more of what it says.
    said = next((line for line in reversed(text.splitlines()) if line[:2].strip()), "")
    if taken > KILOBYTES:
        return f"{taken} KB of memory: {text[-300:]}"
    if "Traceback" in text or (result == "refused" and not said.startswith("flipjax ")):
        return f"{result}, not in one sentence: {text[-300:]}"
    if result != "done" and files_of(place) != before:
        return f"{result}, and left {sorted(files_of(place) ^ before)}"
    if case.named not in text or any((ord(letter) < 32 and letter != "\n") or letter == "\x7f" for letter in text):
        return f"{result}, without {case.named!r}: {text[-400:]!r}"
    return result if result == case.expected else f"{result}: {text[-300:]}"


def trials(door, *, names=None):
    """Runs the cases of a door; returns how many ended as they must, and what became of the others by name."""
    right = 0
    wrong = {}
    for name, case in door.cases.items():
        if names is None or name in names:
            with tempfile.TemporaryDirectory() as folder:
                result = outcome(door, case, pathlib.Path(folder))
            right += result == case.expected
            if result != case.expected:
                wrong[name] = f"{case.expected} expected, {result}"
    return right, wrong
