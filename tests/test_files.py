"""Folders that are kept small."""

import os

from flipjax.files import keep_newest


def test_a_folder_keeps_what_was_used_last(tmp_path):
    for age, name in enumerate(("new", "read", "old", "oldest")):
        path = tmp_path / name
        path.write_bytes(bytes(100))
        written = 10_000 - 1_000 * age
        os.utime(path, (20_000 if name == "read" else written, written))
    keep_newest(tmp_path, most=399)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "read", "old"}
    keep_newest(tmp_path, most=200)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "read"}
    keep_newest(tmp_path / "missing", most=0)
