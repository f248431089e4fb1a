"""The names that others give to the same weights, brought to those of `segmentation_models_pytorch`."""

import re
from collections.abc import Mapping

import numpy as np

from flipjax.models.smp import WeightsError

WRAPPERS = ("module.", "model.", "_orig_mod.", "net.", "backbone.", "segformer.", "encoder.")
"""What wraps a whole network; removed where every name has it."""
CLASSIFIERS = ("fc.", "head.", "classifier.", "decode_head.")
"""Parts of an encoder's file that are no encoder."""
SIGNS = {"resnet50": "layer1.0.conv1.weight", "mit_b2": "patch_embed1.proj.weight"}

# How transformers names MiT's layers. Stages count from 0 there and from 1 here: `{}` is the number plus one.
_STAGES = (
    (r"^patch_embeddings\.(\d)\.layer_norm\.", "patch_embed{}.norm."),
    (r"^patch_embeddings\.(\d)\.", "patch_embed{}."),
    (r"^layer_norm\.(\d)\.", "norm{}."),
    (r"^block\.(\d)\.", "block{}."),
)
_PARTS = (
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
        arrays: of a whole U-Net, or of an encoder alone in the naming of torchvision and timm (ResNet-50), or of the
            original SegFormer or transformers (MiT-B2).

    Returns:
        'resnet50' or 'mit_b2', and the arrays; those of an encoder alone begin with 'encoder.', without its classifier.

    Raises:
        WeightsError: if neither encoder's names are there.
    """
    if not any("decoder.blocks." in name for name in arrays):
        return _encoder_alone(arrays)
    arrays = _unwrapped(arrays)
    for encoder, sign in SIGNS.items():
        if f"encoder.{sign}" in arrays:
            return encoder, arrays
    raise _unknown(arrays)


def _encoder_alone(arrays: Mapping[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    inner = {name: array for name, array in arrays.items() if not name.startswith(CLASSIFIERS)}
    inner = {name: array for name, array in _unwrapped(inner).items() if not name.startswith(CLASSIFIERS)}
    renamed = _joined({_renamed(name): array for name, array in inner.items()})
    for encoder, sign in SIGNS.items():
        if sign in renamed:
            # Files from before PyTorch 0.4.1 lack the count of batches, on which nothing depends.
            means = [name for name in renamed if name.endswith(".running_mean")]
            counts = {name.replace("running_mean", "num_batches_tracked"): np.zeros((), np.int64) for name in means}
            return encoder, {f"encoder.{name}": array for name, array in (counts | renamed).items()}
    raise _unknown(arrays)


def _unwrapped(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    for prefix in WRAPPERS:
        if arrays and all(name.startswith(prefix) for name in arrays):
            return _unwrapped({name.removeprefix(prefix): array for name, array in arrays.items()})
    return dict(arrays)


def _renamed(name: str) -> str:
    for pattern, template in _STAGES:
        name = re.sub(pattern, lambda match, template=template: template.format(int(match[1]) + 1), name)
    for pattern, template in _PARTS:
        name = re.sub(pattern, template, name)
    return name


def _joined(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Stacks keys and values that stand apart, as transformers has them: the keys come first."""
    for name in [name for name in arrays if ".attn.key." in name]:
        value = name.replace(".attn.key.", ".attn.value.")
        if value in arrays:
            arrays[name.replace(".attn.key.", ".attn.kv.")] = np.concatenate([arrays.pop(name), arrays.pop(value)])
    return arrays


def _unknown(arrays: Mapping[str, np.ndarray]) -> WeightsError:
    first = ", ".join(list(arrays)[:4])
    return WeightsError(
        f"expected the weights of a U-Net or an encoder, {' or '.join(SIGNS)}; found arrays such as {first}"
    )
