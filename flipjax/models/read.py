"""Files of weights from elsewhere: PyTorch's (.pt, .pth, .ckpt), .safetensors and .npz, as NumPy arrays by name.

Nothing in a file is ever run: PyTorch's are read with `weights_only`, by a version in which that is safe, and NumPy's
without pickles.
"""

import importlib
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from flipjax.files import DAMAGED
from flipjax.models.smp import WeightsError

NESTS = ("state_dict", "model_state_dict", "model", "ema_state_dict", "net")
"""Keys under which training scripts put a state_dict beside other things; the first found is taken."""
SAFE_TORCH = (2, 6)
"""Before it, `weights_only` could be made to run code (CVE-2025-32434)."""


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a file by name; a checkpoint's state_dict is found under the usual keys.

    Raises:
      WeightsError: no such file, another kind of file, or one that cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"expected a file of weights; found none at {path}")
    if path.suffix not in READERS:
        raise WeightsError(f"expected a file that ends in {', '.join(READERS)}; found {path}")
    arrays = READERS[path.suffix](path)
    if not arrays:
        raise WeightsError(f"expected arrays by name; found none in {path}")
    return arrays


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise WeightsError(
            f"{path.suffix} needs PyTorch: pip install torch, or save the state_dict as .safetensors or .npz elsewhere"
        ) from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        raise WeightsError(
            f"{path.suffix} needs PyTorch {'.'.join(map(str, SAFE_TORCH))} or newer, whose weights_only runs no code "
            f"(CVE-2025-32434); found {torch.__version__}: pip install --upgrade torch"
        )
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors, which is never unpickled: expected torch.save(model.state_dict(), ...)"
        ) from error
    except (*DAMAGED, RuntimeError, OSError, ValueError, LookupError, struct.error) as error:
        raise WeightsError(f"{path} is no whole PyTorch file: {_first_line(error)}") from error
    found = _inner(stored, path)
    strays = [str(name) for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if strays:
        raise WeightsError(f"{path}: expected tensors alone in its state_dict; found others: {', '.join(strays)}")
    return {str(name): _from_torch(tensor) for name, tensor in found.items()}


def _inner(stored: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(stored, Mapping):
        raise WeightsError(f"{path}: expected a state_dict; found a {type(stored).__name__}")
    for name in NESTS:
        if isinstance(stored.get(name), Mapping):
            return _inner(stored[name], path)
    return stored


def _from_torch(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="numpy") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is no whole safetensors file: {_first_line(error)}") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as stream:
            stored = np.load(stream, allow_pickle=False)
            if not isinstance(stored, Mapping):
                raise ValueError("it holds one array, as np.save writes it")
            return dict(stored)
    except (*DAMAGED, ValueError, OSError) as error:
        raise WeightsError(f"{path} is no whole npz file of arrays: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


READERS = {
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".ckpt": _read_torch,
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
}
