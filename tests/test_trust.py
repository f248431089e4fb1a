"""No file that flipjax reads runs code: arrays that hold pickles are refused, and what is pickled is never called."""

import numpy as np
import pytest
from audited import refused
from run_folder import SETTINGS, make_run

from flipjax.results import load
from flipjax.support.files import DamagedError


class Harm:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def harm(tmp_path):
    """Objects that write a file when they are unpickled, and at the end the proof that none was."""
    yield np.array([Harm(tmp_path / "harm")], dtype=object)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_pickle_among_predictions_is_refused_and_not_run(tmp_path, capsys, harm, suffix):
    path = tmp_path / f"predictions.{suffix}"
    if suffix == "npy":
        np.save(path, harm, allow_pickle=True)
    else:
        np.savez(path, predictions=harm)
    np.save(tmp_path / "labels.npy", np.zeros((1, 4, 4), np.uint8))
    line = refused(capsys, f"--predictions={path}", f"--labels={tmp_path}/labels.npy", f"--out={tmp_path}/out")
    assert path.name in line


def test_a_pickle_among_results_is_refused_and_not_run(tmp_path, harm):
    make_run(tmp_path / "run", SETTINGS[:1])
    np.savez(tmp_path / "run/cells/only/results.npz", member=harm)
    with pytest.raises(DamagedError, match=r"results\.npz"):
        load(tmp_path / "run")
