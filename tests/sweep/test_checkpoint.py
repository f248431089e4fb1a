"""Checkpoints of a cell: what they hold, which are kept, and that a whole one is never removed."""

import errno
import json
import logging
import pathlib
import resource
import shutil
import time
from unittest import mock

import numpy as np
import pytest

from flipjax.config import ConfigError
from flipjax.support.files import DamagedError
from flipjax.sweep import checkpoint
from flipjax.sweep.checkpoint import Checkpoints, member_weights

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
    assert epoch == 2 and said == [f"{tmp_path / '3'}: removed a damaged checkpoint (record.json is no JSON)"]
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
    problem = f"{tmp_path / '3'}: expected the arrays that its record lists, found others"
    with pytest.raises(ConfigError, match=problem) as error:
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
    problem = f"{tmp_path / '3'}: expected a checkpoint of this {said}, found one of another"
    with pytest.raises(ConfigError, match=problem):
        Checkpoints(tmp_path, identity=identity).restore(TREE | leaves, say=print)
    assert checkpoints.restore(TREE, say=print)[0] == 3


def test_a_checkpoint_that_an_older_version_left_is_not_of_this_run(checkpoints, tmp_path):
    # Its record has another name.
    (tmp_path / "3" / checkpoint.RECORD).rename(tmp_path / "3/digests.json")
    with pytest.raises(ConfigError, match="expected a checkpoint of this run"):
        checkpoints.restore(TREE, say=print)


def test_a_checkpoint_in_the_folder_of_another_epoch_is_refused(checkpoints, tmp_path):
    shutil.rmtree(tmp_path / "3")
    shutil.copytree(tmp_path / "2", tmp_path / "3")
    with pytest.raises(ConfigError, match="expected a checkpoint of this epoch"):
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


NAMES = {"params": {"head/bias": [2], "head/kernel": [2, 2]}}
NAMED = {"weights": {"params": np.arange(18, dtype=np.float32).reshape(3, 6)}, "epoch": np.array([5, 5, 4])}


def test_the_lines_of_the_page_read_a_member_with_orbax_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "BLOCK", 50)
    Checkpoints(tmp_path / "runs/smoke/checkpoints/000").save(4, NAMED, names=NAMES)
    text = (pathlib.Path(checkpoint.__file__).parent / "README.md").read_text()
    lines = text.partition("## Read a checkpoint\n")[2].partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(lines, found := {})
    assert len(list(found["blocks"])) == 2 and found["member"]["weights/params"].tolist() == [6, 7, 8, 9, 10, 11]
    assert found["member"]["epoch"] == 5 and found["vectors"] == NAMES


def test_weights_of_a_member_have_names(tmp_path):
    Checkpoints(tmp_path).save(4, NAMED, names=NAMES)
    weights = member_weights(tmp_path / "4", 1)
    found = {name: array.tolist() for name, array in weights.items()}
    assert found == {"params/head/bias": [6, 7], "params/head/kernel": [[8, 9], [10, 11]]}


def test_weights_of_a_damaged_checkpoint_are_not_read(tmp_path):
    Checkpoints(tmp_path).save(4, NAMED, names=NAMES)
    files = filter(pathlib.Path.is_file, (tmp_path / "4/arrays").rglob("*"))
    data = max(files, key=lambda path: path.stat().st_size)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(DamagedError, match="not those that were written"):
        member_weights(tmp_path / "4", 1)


def test_loggers_are_as_before_after_saving_and_reading(checkpoints):
    loggers = [logging.getLogger(name) for name in (None, *checkpoint.LOGGERS)]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    checkpoints.save(4, TREE)
    checkpoints.restore(TREE, say=print)
    assert [(logger.level, list(logger.handlers)) for logger in loggers] == before


def test_large_arrays_are_written_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "BLOCK", 100)
    tree = {"a": np.arange(10.0), "b": np.array(True), "c": np.arange(3, dtype=np.int32), "d": np.arange(40.0)}
    tree["empty"] = np.empty((3, 0), np.float32)
    made = Checkpoints(tmp_path)
    made.save(1, tree)
    assert len(list((tmp_path / "1/arrays").iterdir())) == 2
    stored = made.restore(tree, say=print)[1]
    kinds = {name: (leaf.dtype, leaf.tolist()) for name, leaf in tree.items()}
    assert {name: (leaf.dtype, leaf.tolist()) for name, leaf in stored.items()} == kinds
