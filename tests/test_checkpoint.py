"""Checkpoints of a cell: what they hold, and which of them are kept."""

import errno
from unittest import mock

import numpy as np
import pytest

from flipjax.sweep import checkpoint


def test_a_checkpoint_knows_its_arrays(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path)
    tree = {"b": np.arange(3.0), "a": np.zeros((2, 2), np.int32)}
    checkpoints.save(1, tree)
    lines = []
    epoch, stored = checkpoints.restore(tree, say=lines.append)
    assert epoch == 1 and not lines
    np.testing.assert_array_equal(stored["b"], tree["b"])
    # Arrays of another shape are another program's.
    assert checkpoints.restore({"b": np.zeros(4), "a": tree["a"]}, say=lines.append) is None
    assert len(lines) == 1 and str(tmp_path / "1") in lines[0]
    # An older flipjax stored the tree as it is.
    checkpoints._manager.save(2, args=checkpoint.ocp.args.StandardSave([tree]))
    assert checkpoints.restore(tree, say=lines.append) is None
    assert "other arrays than this flipjax writes" in lines[1]
    checkpoints.close()


def test_a_checkpoint_that_cannot_be_read_now_is_kept(tmp_path, monkeypatch):
    checkpoints = checkpoint.Checkpoints(tmp_path)
    tree = {"a": np.arange(3.0)}
    checkpoints.save(1, tree)
    (tmp_path / "007").mkdir()
    (tmp_path / "9").write_text("no folder")
    checkpoints.close()
    checkpoints = checkpoint.Checkpoints(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_file_digests", mock.Mock(side_effect=PermissionError(errno.EACCES, "")))
        with pytest.raises(PermissionError):
            checkpoints.restore(tree, say=print)
    assert checkpoints.restore(tree, say=print)[0] == 1
    checkpoints.close()
