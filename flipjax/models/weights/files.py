"""Files of weights: those of others, which are read, and flipjax's own.

Files are those of `segmentation_models_pytorch`, of its encoders, and flipjax's own: `.safetensors` under PyTorch's
names, with a digest that is compared at each reading. No file can run code: PyTorch's are read with `weights_only`, and
those of its old form without PyTorch.
"""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes

from flipjax.config import ModelSpec
from flipjax.models.weights.initial import Weights
from flipjax.models.weights.old_pytorch import OldFormError, is_old_form, read_old_form
from flipjax.models.weights.pytorch_names import COUNT, WeightsError, canonical, from_state_dict
from flipjax.support.files import digest, replacing, sha256_of

SUFFIX = ".safetensors"
"""Ending of the files that flipjax writes."""
SUFFIXES = (".pt", ".pth", ".ckpt", SUFFIX)
"""Endings of the files that flipjax reads."""
DIGEST = "flipjax_digest"
"""Key of a file's metadata that holds the digest of its arrays."""
NESTS = ("state_dict", "model_state_dict", "model", "ema_state_dict", "net")
"""Keys under which training scripts store a state_dict; the first one found is read."""
SAFE_TORCH = (2, 6)
"""Earlier versions can run code in spite of `weights_only` (CVE-2025-32434)."""


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a PyTorch or safetensors file, or those below a key of `NESTS`, by name.

    Raises:
        WeightsError: no such file, another kind of file, PyTorch unsafe, a damaged file, or one with objects other
            than arrays.
        ModuleNotFoundError: PyTorch is missing, and the file is not of its old form.
    """
    path = path_of(path)
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise WeightsError(f"expected a regular file of weights, {', '.join(SUFFIXES)}; found none at {path}")
    try:
        if path.suffix == SUFFIX:
            return load_file(path)
        return _read_torch(path)
    except (WeightsError, ModuleNotFoundError):
        raise
    except Exception as error:  # Parsers raise arbitrary errors on damaged files.
        text = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise WeightsError(f"{path} cannot be read as weights alone: {text}") from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of PyTorch's file by name; those of the old form are read without PyTorch if possible."""
    if is_old_form(path):
        try:
            return _read_without_torch(path)
        except OldFormError:
            # PyTorch reads a few more types and classes.
            if importlib.util.find_spec("torch") is None:
                raise
    return _read_by_torch(path)


def _read_by_torch(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of PyTorch's file by name, floats as float32: NumPy has no bfloat16."""
    torch: Any = importlib.import_module("torch")
    major, minor = torch.__version__.split(".")[:2]
    if (int(major), int(minor)) < SAFE_TORCH:
        needed = "PyTorch 2.6 or newer, whose weights_only runs no code (CVE-2025-32434)"
        raise WeightsError(f"{path} needs {needed}; found {torch.__version__}")
    arrays = {}
    for name, tensor in find_state_dict(torch.load(path, map_location="cpu", weights_only=True)).items():
        if tensor.is_floating_point():
            tensor = tensor.float()
        arrays[str(name)] = tensor.detach().numpy()
    return arrays


def _read_without_torch(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of PyTorch's file of the old form by name, floats as float32."""
    arrays = {}
    for name, array in find_state_dict(read_old_form(path)).items():
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        arrays[str(name)] = array
    return arrays


def find_state_dict(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the state_dict of a checkpoint, below any number of keys of `NESTS`; what has none of them is one itself.

    Example:
        >>> find_state_dict({"epoch": 3, "model": {"state_dict": {"conv1.weight": 0.5}}})
        {'conv1.weight': 0.5}
    """
    for name in NESTS:
        if isinstance(checkpoint.get(name), Mapping):
            return find_state_dict(checkpoint[name])
    return checkpoint


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
        found, arrays = _with_encoder(encoder, read_weights(source))
        # An error if arrays do not fit.
        _nested(arrays, encoder=found, num_classes=num_classes)
        save_weights(target, arrays)
    except WeightsError as error:
        if str(source) in str(error):
            raise
        raise WeightsError(f"{source}: {error}") from error
    kind = "the encoder alone; decoder and head are drawn afresh"
    if _is_whole(arrays):
        kind = "a whole U-Net"
    return f"{found}: {kind}; from {source} (SHA-256 {sha256_of(Path(source))}) to {target}"


def save_weights(target: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under PyTorch's names in PyTorch's axis order, float32, without the counts of batches.

    Raises:
        WeightsError: for numbers that are not finite, or not within float32.
        OSError: the file cannot be written.
    """
    kept = [name for name in arrays if not name.endswith(COUNT)]
    with np.errstate(over="ignore"):
        stored = {name: np.asarray(arrays[name], np.float32, order="C") for name in kept}
    infinite = [name for name, array in stored.items() if not np.isfinite(array).all()]
    if infinite:
        raise WeightsError(f"expected finite numbers within float32; found others: {', '.join(infinite)}")
    write_digested(file_of(target), stored, {})


def load_weights(source: str | Path, *, encoder: str, num_classes: int = 3, whole: bool = False) -> Weights:
    """Returns weights nested as in the model; those of an encoder lack the other parts.

    Args:
        source: a file that `convert_weights` or `save_weights` wrote; its name may lack `.safetensors`.
        encoder: the required encoder.
        num_classes: outputs of the head.
        whole: whether to refuse an encoder alone.

    Raises:
        WeightsError: no such file, a damaged one, weights of another encoder, or keys that are missing or misshapen.
    """
    stored, _ = read_digested(file_of(source))
    _, arrays = _with_encoder(encoder, stored)
    if whole and not _is_whole(arrays):
        raise WeightsError("expected the weights of a whole U-Net; found an encoder alone: train it first")
    return _nested(arrays, encoder=encoder, num_classes=num_classes)


def _with_encoder(encoder: str | None, arrays: Mapping[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    """Returns `canonical` arrays and their encoder; raises WeightsError if another one is required."""
    found, arrays = canonical(arrays)
    if encoder not in (None, found):
        raise WeightsError(f"expected the weights of {encoder}; found those of {found}")
    return found, arrays


def _is_whole(arrays: Mapping[str, np.ndarray]) -> bool:
    """Returns whether `canonical` arrays are those of a whole U-Net."""
    return any(name.startswith("decoder.") for name in arrays)


def _nested(arrays: Mapping[str, np.ndarray], *, encoder: str, num_classes: int) -> Weights:
    """Returns the weights of `canonical` arrays, of a whole U-Net or of its encoder alone."""
    start = "encoder."
    if _is_whole(arrays):
        start = ""
    return from_state_dict(arrays, ModelSpec(name=f"smp_{encoder}"), num_classes, start=start)


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
    metadata = _metadata_of(path)
    if digest(arrays) != metadata.get(DIGEST):
        raise WeightsError(f"expected a file of weights that flipjax wrote; {path} is another one, or damaged")
    return arrays, metadata


def _metadata_of(path: Path) -> dict[str, str]:
    """Returns the metadata of a file of weights, which .safetensors alone has."""
    if path.suffix != SUFFIX:
        return {}
    with safe_open(path, framework="numpy") as stored:
        return stored.metadata() or {}


def file_of(path: str | Path) -> Path:
    """Returns the path of a file of weights, with `.safetensors` added to a name that lacks it.

    Example:
        >>> str(file_of("weights/resnet50"))
        'weights/resnet50.safetensors'
    """
    path = path_of(path)
    return path if path.suffix == SUFFIX else path.with_name(f"{path.name}{SUFFIX}")


def path_of(path: str | Path) -> Path:
    """Returns a path, with the home folder in place of ~; raises WeightsError for what cannot name a file."""
    expected = "expected the name of a file of weights"
    if not isinstance(path, str | os.PathLike):
        raise WeightsError(f"{expected}, found {path!r}")
    text = os.fsdecode(path)
    if not text or "\0" in text or Path(text).name == "":
        raise WeightsError(f"{expected}, found {text!r}")
    return Path(text).expanduser()
