"""Random damage to a run folder: `python tests/faults.py --count 200` continues damaged copies of a finished run.

Each trial damages one file of checkpoints or cells (a bit, 16 bytes, its second half, all of it), or puts a whole one
of another run or of an earlier epoch in its place, in a run whose last epochs are gone, and runs the command again.
It must end with the same results.csv and gallery, or with a refusal in one line that names the run folder.

`--signals N` sends a SIGINT or SIGTERM at N moments from 0.05 to 4 s after the start: the command must end with exit
code 75 and one line that says how to go on, or go on to its end.

`--full_disk N` gives the command N disks of 8 to 900 KB, which are too small for its 1.1 MB: it must end with exit code
1 and one sentence, and the same command with the same results.csv once the disk is larger. To root the disk is a
tmpfs, to others a limit on the size of each file.
"""

import argparse
import atexit
import collections
import contextlib
import functools
import io
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from unittest import mock

from flipjax import command
from flipjax.report import html, page
from flipjax.sweep.__main__ import main

CONFIG = """
from flipjax.config import default_config

def get_config():
    config = default_config()
    config.pool.size, config.pool.objects, config.pool.scenes = 16, 12, 6
    config.split.n_train, config.split.n_val, config.split.n_test = 16, 8, 8
    config.model.width, config.model.depth = 4, 1
    config.train.epochs, config.train.batch_size = 3, 8
    config.axes.rho = (0.5, 1.0)
    return config
"""
KINDS = ("bit", "bytes", "half", "empty", "gone", "other", "older")


def sweep(*arguments):
    """Exit code and all that the command printed; the report's pictures, of which no trial asks, are not drawn."""
    text = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(page, "save_gallery"))
        stack.enter_context(mock.patch.object(html, "draw_chart", return_value={"svg": b""}))
        stack.enter_context(contextlib.redirect_stdout(text))
        stack.enter_context(contextlib.redirect_stderr(text))
        code = main([str(part) for part in arguments])
    return code, text.getvalue()


@functools.cache
def whole_run():
    """A finished run of CONFIG, which the tests of this process share and none changes: its folder and its file."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="flipjax-run-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    config = place / "tiny.py"
    config.write_text(CONFIG)
    code, text = sweep("--config", config, "--workdir", place / "whole")
    assert code == 0, text
    return place / "whole", config


def read_config(path, *overrides):
    """The configuration of a file."""
    return command.read_config(path, overrides)


def damage(path, kind, chance):
    """Damages a file; returns whether its bytes changed."""
    whole = path.read_bytes()
    if kind == "gone":
        path.unlink()
        return True
    new = bytearray(whole)
    place = chance.randrange(max(len(whole), 1))
    if kind == "bit" and whole:
        new[place] ^= 1 << chance.randrange(8)
    elif kind == "bytes":
        new[place : place + 16] = chance.randbytes(len(new[place : place + 16]))
    elif kind == "half":
        del new[len(new) // 2 :]
    elif kind == "empty":
        new.clear()
    path.write_bytes(new)
    return bytes(new) != whole


def exchange(path, folder, other, kind):
    """Puts a whole file of another run in a file's place, or a whole checkpoint of it or of the epoch before."""
    inside = path.relative_to(folder)
    if inside.parts[0] != "checkpoints":
        shutil.copy(other / inside, path)
        return
    place = folder.joinpath(*inside.parts[:3])
    source = other.joinpath(*inside.parts[:3]) if kind == "other" else place.with_name("2")
    if source != place:
        shutil.rmtree(place)
        shutil.copytree(source, place)


def damaged_files(folder):
    """The files that a trial may choose from: those of the run's state."""
    paths = [path for name in ("checkpoints", "cells") for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return [*paths, folder / "config.json", folder / "results.csv", folder / "history.csv"]


def outcome(folder, config, whole):
    """Runs the command on a folder: 'same', 'refused', or what else happened."""
    try:
        code, text = sweep("--config", config, "--workdir", folder)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if "Traceback" in text:
        return "traceback"
    if code == 0:
        names = ("results.csv", "cells/000/gallery.npz")
        same = all((folder / name).read_bytes() == (whole / name).read_bytes() for name in names)
        return "same" if same else "other bytes"
    return "refused" if code == 2 and str(folder) in text else f"exit {code}: {text[-300:]}"


def trials(place, count, *, seed=0, checkpoints_only=False):
    """Runs trials in a folder; returns how many had which outcome, by kind of damage and of file."""
    chance = random.Random(seed)
    config = place / "tiny.py"
    config.write_text(CONFIG)
    whole, _ = whole_run()
    other = place / "other"
    assert sweep("--config", config, "--workdir", other, "--config.axes.seed=(1,)")[0] == 0
    counts = collections.Counter()
    for trial in range(count):
        folder = place / f"trial{trial}"
        shutil.copytree(whole, folder)
        unfinished = checkpoints_only or chance.random() < 0.6
        if unfinished:
            # As killed before the last evaluation: all rests on the checkpoints.
            shutil.rmtree(folder / "cells")
        choices = [path for path in damaged_files(folder) if path.exists()]
        path = chance.choice(choices)
        kind = chance.choice(KINDS)
        if kind in ("other", "older"):
            exchange(path, folder, other, kind)
        else:
            damage(path, kind, chance)
        counts[path.relative_to(folder).parts[0], kind, outcome(folder, config, whole)] += 1
        shutil.rmtree(folder)
    return counts


@contextlib.contextmanager
def small_disk(folder, size):
    """Makes a folder a disk of so many bytes; yields what a command starts with on it, and what makes it large."""
    folder.mkdir()
    if os.geteuid():
        # No file but the page has more than an eighth of what they all have; the shell counts blocks of 512 bytes.
        yield ["sh", "-c", f'ulimit -f {size // 8 // 512}; exec "$@"', "sh"], lambda: None
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield [], functools.partial(subprocess.run, ["mount", "-o", "remount,size=64m", folder], check=True)
    finally:
        subprocess.run(["umount", folder], check=True)


def filled(folder, config, size, whole):
    """Runs the command on a disk that is too small, and again on a larger one: 'as it must', or what else happened."""
    line = [sys.executable, "-m", "flipjax.sweep", "--config", config, "--workdir", folder / "run"]
    run = functools.partial(subprocess.run, capture_output=True, text=True, timeout=300)
    with small_disk(folder, size) as (limited, enlarge):
        done = run([*limited, *line])
        *_, last = ["", *done.stderr.splitlines()]
        full = any(words in last for words in ("No space left on device", "File too large"))
        said = full and last.endswith("the same command continues")
        if done.returncode != 1 or not said or "Traceback" in done.stderr:
            return f"{size} bytes, exit {done.returncode}: {done.stderr[-300:]}"
        enlarge()
        done = run(line)
        same = done.returncode == 0 and (folder / "run/results.csv").read_bytes() == whole
        return "as it must" if same else f"{size} bytes, then exit {done.returncode}: {done.stderr[-300:]}"


def full_disk(place, count, *, seed=0):
    """Fills disks while the command runs; returns how many had which outcome."""
    chance = random.Random(seed)
    config = place / "tiny.py"
    config.write_text(CONFIG)
    assert sweep("--config", config, "--workdir", place / "whole")[0] == 0
    whole = (place / "whole/results.csv").read_bytes()
    sizes = [1024 * chance.randrange(8, 900) for _ in range(count)]
    return collections.Counter(
        ("full disk", "", filled(place / f"disk{trial}", config, size, whole)) for trial, size in enumerate(sizes)
    )


def signals(place, count, *, seed=0):
    """Interrupts the command at random moments; returns how many had which exit code and last words, by signal."""
    chance = random.Random(seed)
    config = place / "tiny.py"
    config.write_text(CONFIG)
    counts = collections.Counter()
    for trial in range(count):
        line = [sys.executable, "-m", "flipjax.sweep", "--config", config, "--workdir", place / f"run{trial}"]
        number = chance.choice((signal.SIGINT, signal.SIGTERM))
        with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(chance.uniform(0.05, 4))
            process.send_signal(number)
            text = process.communicate()[1]
        said = process.returncode == 75 and "the same command continues" in text and "Traceback" not in text
        counts[
            number.name, "", "as it must" if said or process.returncode == 0 else f"{process.returncode}: {text}"
        ] += 1
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", type=int, metavar="N")
    parser.add_argument("--full_disk", type=int, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        runs = ((signals, options.signals), (full_disk, options.full_disk), (trials, options.count))
        run, count = next((run, count) for run, count in runs if count)
        table = run(pathlib.Path(place), count, seed=options.seed)
    for (name, kind, result), number in sorted(table.items()):
        print(f"{name:12} {kind:6} {number:5} {result}")
    sys.exit(any(result not in ("same", "refused", "as it must") for _, _, result in table))
