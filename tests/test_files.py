"""Folders that are kept small, and arrays that are what was written."""

import os
import zipfile

import numpy as np
import pytest

from flipjax import files
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


@pytest.mark.parametrize("change", [lambda a: {**a, "x": a["x"] + 1}, lambda a: {"y": a["x"]}, lambda a: {}])
def test_an_npz_whose_arrays_are_others_is_damaged(tmp_path, change):
    arrays = {"x": np.arange(4)}
    files.write_arrays(tmp_path / "a.npz", arrays)
    assert files.read_arrays(tmp_path / "a.npz").keys() == {"x"}
    np.savez(tmp_path / "b.npz", **change(arrays), digest=files.digest(arrays))
    with pytest.raises(files.DamagedError, match=r"b\.npz"):
        files.read_arrays(tmp_path / "b.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_numpy_would_not_have_written_is_refused(tmp_path):
    for names, method, said in (("aa", zipfile.ZIP_STORED, "one name"), ("ab", zipfile.ZIP_LZMA, "another way")):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
            for name in names:
                archive.writestr(name, b"x")
        with pytest.raises(ValueError, match=said):
            files.check_archive(tmp_path / "a.npz", max_bytes=9, option="--max")
