"""Folders that are kept small, and files that are written whole."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from flipjax.support import files
from flipjax.support.files import keep_newest


def test_a_folder_keeps_what_was_used_last(tmp_path):
    for name, used in {"new": 10_000, "read": 20_000, "old": 8_000, "oldest": 7_000}.items():
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (used, min(used, 9_000)))
    for most, kept in ((399, {"new", "read", "old"}), (200, {"new", "read"})):
        keep_newest(tmp_path, most_bytes=most)
        assert {path.name for path in tmp_path.iterdir()} == kept
    keep_newest(tmp_path / "missing", most_bytes=0)


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
