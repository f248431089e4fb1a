"""PyTorch's own files: read where a safe PyTorch is installed, and never as code."""

import sys
import types

import numpy as np
import pytest

from flipjax.models import weights
from flipjax.models.smp import WeightsError
from flipjax.models.weights import _state_dict, read_weights

VERSIONS = {None: "pip install torch", "2.5.1+cu121": "needs PyTorch 2.6", "2.6.0": "as weights alone: EOFError"}


@pytest.mark.parametrize(("torch", "message"), VERSIONS.items())
def test_without_a_safe_pytorch_nothing_is_read(tmp_path, monkeypatch, torch, message):
    def load(path, *, map_location, weights_only):
        assert map_location == "cpu" and weights_only
        raise EOFError

    (tmp_path / "a.pt").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", torch and types.SimpleNamespace(__version__=torch, load=load))
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / "a.pt")


def test_a_state_dict_is_found_under_the_usual_keys(tmp_path):
    inner = {"a.weight": 1}
    for stored in (inner, {"epoch": 3, "state_dict": inner}, {"model": {"model_state_dict": inner}}):
        assert _state_dict(stored, tmp_path) == inner
    with pytest.raises(WeightsError, match="expected a state_dict; found a list"):
        _state_dict([1], tmp_path)


def test_pytorchs_files_are_read(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(4)
    shapes = {"encoder.layer1.0.conv1.weight": (4, 3, 1, 1), "decoder.blocks.0.conv1.0.weight": (2, 4, 3, 3)}
    # Multiples of 1/8, which bfloat16 holds.
    arrays = {name: rng.integers(-16, 17, shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    arrays["encoder.bn1.num_batches_tracked"] = np.array(7)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    halves = {name: t.bfloat16() if t.is_floating_point() else t for name, t in tensors.items()}
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": t for name, t in tensors.items()}}
    trained = {name: torch.nn.Parameter(t) if t.is_floating_point() else t for name, t in tensors.items()}
    torch.save(trained, tmp_path / "plain.pt")
    torch.save(wrapped, tmp_path / "wrapped.ckpt")
    torch.save(halves, tmp_path / "halves.pth", _use_new_zipfile_serialization=False)
    for name in ("plain.pt", "wrapped.ckpt", "halves.pth"):
        encoder, result = weights.canonical(read_weights(tmp_path / name))
        assert encoder == "resnet50" and result.keys() == arrays.keys()
        for key, array in arrays.items():
            assert result[key].dtype == array.dtype
            np.testing.assert_array_equal(result[key], array)
        content = (tmp_path / name).read_bytes()
        for size in (0, 30, len(content) // 2, len(content) - 20):
            (tmp_path / name).write_bytes(content[:size])
            with pytest.raises(WeightsError, match=name):
                read_weights(tmp_path / name)
    torch.save({"a": torch.zeros(1).expand(1 << 31)}, tmp_path / "expanded.pt")
    with pytest.raises(WeightsError, match="at most"):
        read_weights(tmp_path / "expanded.pt")


def test_a_pickle_is_never_run(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"a": Harm()}, tmp_path / "harm.pt")
    with pytest.raises(WeightsError, match="cannot be read as weights alone"):
        read_weights(tmp_path / "harm.pt")
    assert not (tmp_path / "harm").exists()
