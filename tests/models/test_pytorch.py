"""PyTorch's own files: read where PyTorch is installed, and never as a pickle."""

import builtins
import importlib
import types

import numpy as np
import pytest

from flipjax.models import names
from flipjax.models import read as reading
from models.command import convert


def test_pytorch_is_asked_for_only_where_it_is_needed(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.pt").write_bytes(b"")

    def absent(name):
        raise builtins.ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    code, _, err = convert(capsys, "--from", tmp_path / "a.pt", "--out", tmp_path / "to")
    assert code == 2 and "pip install torch" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("version", "message"),
    [("2.5.1+cu121", "needs PyTorch 2.6 or newer"), ("2.6.0", "no whole PyTorch file: EOFError")],
)
def test_an_unsafe_pytorch_is_refused_and_a_cut_file_named(tmp_path, capsys, monkeypatch, version, message):
    def load(*arguments, **options):
        raise EOFError  # Of a file in the old format; it says no more.

    (tmp_path / "a.pt").write_bytes(b"")
    monkeypatch.setattr(importlib, "import_module", lambda _: types.SimpleNamespace(__version__=version, load=load))
    code, _, err = convert(capsys, "--from", tmp_path / "a.pt", "--out", tmp_path / "to")
    assert code == 2 and message in err and err.count("\n") == 1


def test_pytorchs_files_are_read(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(4)
    shapes = {"encoder.layer1.0.conv1.weight": (4, 3, 1, 1), "decoder.blocks.0.conv1.0.weight": (2, 4, 3, 3)}
    # Multiples of 1/8, which bfloat16 holds.
    arrays = {name: rng.integers(-16, 17, shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    arrays["encoder.bn1.num_batches_tracked"] = np.array(7)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    halves = {name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}
    torch.save(tensors, tmp_path / "plain.pt")
    torch.save(wrapped, tmp_path / "wrapped.ckpt")
    torch.save(halves, tmp_path / "halves.pth", _use_new_zipfile_serialization=False)
    for name in ("plain.pt", "wrapped.ckpt", "halves.pth"):
        encoder, result = names.canonical(reading.read(tmp_path / name))
        assert encoder == "resnet50" and result.keys() == arrays.keys()
        for key, array in arrays.items():
            assert result[key].dtype == array.dtype
            np.testing.assert_array_equal(result[key], array)
        content = (tmp_path / name).read_bytes()
        for size in (0, 30, len(content) // 2, len(content) - 20):
            (tmp_path / name).write_bytes(content[:size])
            code, _, err = convert(capsys, "--from", tmp_path / name, "--out", tmp_path / "to")
            assert code == 2 and err.count("\n") == 1, (name, size, err)


def test_a_pickle_is_never_run(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"a": Harm()}, tmp_path / "harm.pt")
    code, _, err = convert(capsys, "--from", tmp_path / "harm.pt", "--out", tmp_path / "to")
    assert code == 2 and "never unpickled" in err and not (tmp_path / "harm").exists()
