"""Folders that are kept small, and arrays that are what was written."""

import os
import subprocess
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from flipjax.support import files
from flipjax.support.files import keep_newest


def test_a_folder_keeps_what_was_used_last(tmp_path):
    for name, used in {"new": 10_000, "read": 20_000, "old": 8_000, "oldest": 7_000}.items():
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (used, min(used, 9_000)))
    for most, kept in ((399, {"new", "read", "old"}), (200, {"new", "read"})):
        keep_newest(tmp_path, most=most)
        assert {path.name for path in tmp_path.iterdir()} == kept
    keep_newest(tmp_path / "missing", most=0)


def test_an_array_that_compresses_well_is_read_again(tmp_path):
    arrays = {"zeros": np.zeros(10**6), "ones": np.ones(3)}
    files.write_arrays(tmp_path / "a.npz", arrays)
    again = files.read_arrays(tmp_path / "a.npz")
    assert {*again} == {*arrays} and all((again[name] == arrays[name]).all() for name in arrays)


def test_a_small_file_that_unpacks_to_much_is_refused_before_it_is_unpacked(tmp_path):
    with (tmp_path / "a.npz").open("wb") as stream:
        np.savez_compressed(stream, zeros=np.zeros(10**6), digest=np.array("0"))
    assert (tmp_path / "a.npz").stat().st_size < 10**5
    message = r"a\.npz: damaged \(ValueError: expected at most 1,048,576 bytes when unpacked, found 8,"
    tracemalloc.start()
    with pytest.raises(files.DamagedError, match=message):
        files.read_arrays(tmp_path / "a.npz")
    with pytest.raises(files.DamagedError, match=message):
        files.read_text_entry(tmp_path / "a.npz", "digest")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_temporary_file_is_new_and_its_writers_own(tmp_path, monkeypatch):
    texts = {"a" * 10**5, "b" * 10**5}
    path = tmp_path / "shared.txt"

    def write_often(text):
        for _ in range(20):
            files.write_text(path, text)
            assert path.read_text() in texts

    with ThreadPoolExecutor() as threads:
        list(threads.map(write_often, texts))
    assert [*tmp_path.iterdir()] == [path]
    # Whoever guessed the name put a link there.
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0")
    guessed = files._beside(path)[1]
    guessed.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        files.write_text(path, "c")
    assert not (tmp_path / "elsewhere").exists() and path.read_text() in texts


def test_only_what_a_dead_process_of_this_namespace_left_is_stale(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    host, space = files._machine().rsplit(".", 1)
    stale, *others = (f".x.{host}.{s}.{p}.0.tmp" for s, p in ((space, dead.pid), (space, os.getpid()), ("1", dead.pid)))
    for name in (stale, *others):
        (tmp_path / name).touch()
    files.remove_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*others}


@pytest.mark.parametrize("change", [lambda a: {**a, "x": a["x"] + 1}, lambda a: {"y": a["x"]}, lambda a: {}])
def test_an_npz_whose_arrays_are_others_is_damaged(tmp_path, change):
    arrays = {"x": np.arange(4)}
    files.write_arrays(tmp_path / "a.npz", arrays)
    assert files.read_arrays(tmp_path / "a.npz").keys() == {"x"}
    np.savez(tmp_path / "b.npz", **change(arrays), digest=files.digest(arrays))
    with pytest.raises(files.DamagedError, match=r"b\.npz"):
        files.read_arrays(tmp_path / "b.npz")
