"""Checkpoints of a cell: what they hold, which are kept, and that a whole one is never removed."""

import errno
import json
import resource
import shutil
import time
from unittest import mock

import numpy as np
import pytest

from flipjax.config import ConfigError
from flipjax.sweep import checkpoint
from flipjax.sweep.checkpoint import Checkpoints

TREE = {"b": np.arange(3.0), "a": [np.zeros((2, 2), np.int32)]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    made = Checkpoints(folder := tmp_path_factory.mktemp("saved"), identity="mine")
    for epoch in (1, 2, 3):
        made.save(epoch, TREE)
    return folder


@pytest.fixture
def checkpoints(saved, tmp_path):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    return Checkpoints(tmp_path, identity="mine")


def test_the_last_two_are_kept_and_damaged_ones_are_passed_over(checkpoints, tmp_path):
    (tmp_path / "007").mkdir()
    (tmp_path / "9").write_text("no folder")
    (tmp_path / "3" / checkpoint.RECORD).write_text("{")
    said = []
    epoch, stored = checkpoints.restore(TREE, say=said.append)
    assert epoch == 2 and said == [f"{tmp_path / '3'}: a damaged checkpoint, removed (record.json is no JSON)"]
    np.testing.assert_array_equal(stored["b"], TREE["b"])
    assert {path.name for path in tmp_path.iterdir()} == {"007", "9", "2"}
    shutil.rmtree(tmp_path / "2/arrays")
    assert checkpoints.restore(TREE, say=said.append) is None and not (tmp_path / "2").exists()


def test_arrays_that_are_not_those_of_the_record_are_one_sentence_and_stay(checkpoints, tmp_path):
    Checkpoints(tmp_path / "large", identity="mine").save(3, {"b": np.zeros(10**5)})
    shutil.rmtree(tmp_path / "3/arrays")
    shutil.copytree(tmp_path / "large/3/arrays", tmp_path / "3/arrays")
    record = json.loads((tmp_path / "3" / checkpoint.RECORD).read_text())
    record["files"] = checkpoint._file_digests(tmp_path / "3")
    (tmp_path / "3" / checkpoint.RECORD).write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=f"{tmp_path / '3'} holds other arrays than its record says") as error:
        checkpoints.restore(TREE, say=print)
    assert "\n" not in str(error.value) and (tmp_path / "3/arrays").exists()


OTHERS = {
    "another run": ("other", {}, "run"),
    "a leaf more": ("mine", {"ema": np.zeros(2)}, "layout of blocks"),
    "another type": ("mine", {"b": np.arange(3, dtype=np.float32)}, "layout of blocks"),
    "another shape": ("mine", {"b": np.arange(4.0)}, "layout of blocks"),
}


@pytest.mark.parametrize(("identity", "leaves", "said"), OTHERS.values(), ids=OTHERS)
def test_a_whole_checkpoint_that_does_not_fit_is_refused_by_name_and_stays(
    checkpoints, tmp_path, identity, leaves, said
):
    with pytest.raises(ConfigError, match=f"{tmp_path / '3'} is a whole checkpoint, but not of this {said}"):
        Checkpoints(tmp_path, identity=identity).restore(TREE | leaves, say=print)
    assert checkpoints.restore(TREE, say=print)[0] == 3


def test_a_checkpoint_that_an_older_version_left_is_not_of_this_run(checkpoints, tmp_path):
    # Its record has another name.
    (tmp_path / "3" / checkpoint.RECORD).rename(tmp_path / "3/digests.json")
    with pytest.raises(ConfigError, match="not of this run"):
        checkpoints.restore(TREE, say=print)


def test_a_checkpoint_in_the_folder_of_another_epoch_is_refused(checkpoints, tmp_path):
    shutil.rmtree(tmp_path / "3")
    shutil.copytree(tmp_path / "2", tmp_path / "3")
    with pytest.raises(ConfigError, match="not of this epoch"):
        checkpoints.restore(TREE, say=print)


def test_a_write_that_fails_is_one_error_without_tracebacks_and_leaves_nothing(checkpoints, tmp_path, capfd):
    before = sorted(tmp_path.rglob("*"))
    values = np.random.default_rng(0).normal(size=(8, 10**4))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, limits[1]))
    try:
        with pytest.raises(OSError, match=r"4: a checkpoint cannot be written .*File too large"):
            checkpoints.save(4, dict(zip("abcdefgh", values, strict=True)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    time.sleep(0.2)  # TensorStore's threads end later.
    assert capfd.readouterr() == ("", "") and sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_that_cannot_be_read_now_is_kept(checkpoints):
    refused = mock.patch.object(checkpoint, "_file_digests", side_effect=PermissionError(errno.EACCES, ""))
    with refused, pytest.raises(PermissionError):
        checkpoints.restore(TREE, say=print)
    assert checkpoints.restore(TREE, say=print)[0] == 3


def test_large_arrays_are_written_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "BLOCK", 100)
    tree = {"a": np.arange(10.0), "b": np.array(True), "c": np.arange(3, dtype=np.int32), "d": np.arange(40.0)}
    made = Checkpoints(tmp_path)
    made.save(1, tree)
    assert len(list((tmp_path / "1/arrays").iterdir())) == 2
    stored = made.restore(tree, say=print)[1]
    kinds = {name: (leaf.dtype, leaf.tolist()) for name, leaf in tree.items()}
    assert {name: (leaf.dtype, leaf.tolist()) for name, leaf in stored.items()} == kinds
