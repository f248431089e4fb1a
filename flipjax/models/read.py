"""Files of weights from elsewhere: PyTorch's (.pt, .pth, .ckpt), .safetensors and .npz, as NumPy arrays by name.

Nothing in a file is ever run: PyTorch's are read with `weights_only`, by a version in which that is safe, and NumPy's
without pickles.
"""

import contextlib
import importlib
import os
import pickle
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from flipjax.files import DAMAGED, check_archive
from flipjax.models.smp import WeightsError

NESTS = ("state_dict", "model_state_dict", "model", "ema_state_dict", "net")
"""Keys under which training scripts put a state_dict beside other things; the first found is taken."""
SAFETENSORS_TYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
UNREADABLE = (*DAMAGED, SafetensorError, OSError, MemoryError, ValueError, LookupError, struct.error)
MAX_BYTES = 4 << 30
"""What the arrays of a file may take unpacked, unless told otherwise."""
SAFE_TORCH = (2, 6)
"""Before it, `weights_only` could be made to run code (CVE-2025-32434)."""


def read(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Returns the arrays of a file by name, real numbers all; a checkpoint's state_dict is sought under the usual keys.

    Raises:
        WeightsError: no such file, another kind of file, one that cannot be read, complex or 8-bit numbers, or more
            than `max_bytes`.
    """
    path = Path(path)
    if not os.path.isfile(path):
        what = "no regular file" if os.path.exists(path) else "none"
        raise WeightsError(f"expected a file of weights; found {what} at {path}")
    if path.suffix not in READERS:
        raise WeightsError(f"expected a file that ends in {', '.join(READERS)}; found {path}")
    arrays = READERS[path.suffix](path, max_bytes)
    if not arrays:
        raise WeightsError(f"expected arrays by name; found none in {path}")
    others = [f"{name} ({array.dtype})" for name, array in arrays.items() if array.dtype.kind not in "biuf"]
    if others:
        raise WeightsError(f"{path}: expected real numbers; found others: {', '.join(others)}")
    return arrays


def read_metadata(path: Path) -> dict[str, str]:
    """Returns what a safetensors file says of itself; raises WeightsError where it is none."""
    with _whole(path, "safetensors file"), safe_open(path, framework="numpy") as stored:
        return stored.metadata() or {}


def _read_torch(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise WeightsError(
            f"{path} needs PyTorch: pip install torch, or save the state_dict as .safetensors or .npz elsewhere"
        ) from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        raise WeightsError(
            f"{path} needs PyTorch {'.'.join(map(str, SAFE_TORCH))} or newer, whose weights_only runs no code "
            f"(CVE-2025-32434); found {torch.__version__}: pip install --upgrade torch"
        )
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors, which is never unpickled: expected torch.save(model.state_dict(), ...)"
        ) from error
    except (*UNREADABLE, RuntimeError) as error:
        raise WeightsError(f"{path} is no whole PyTorch file: {_first_line(error)}") from error
    tensors = _inner(stored, path)
    strays = [str(name) for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if strays:
        raise WeightsError(f"{path}: expected tensors alone in its state_dict; found others: {', '.join(strays)}")
    _check_size(path, sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()), max_bytes)
    sparse = [str(name) for name, tensor in tensors.items() if tensor.layout != torch.strided or tensor.is_quantized]
    if sparse:
        raise WeightsError(f"{path}: expected dense tensors; found others: {', '.join(sparse)}")
    return {str(name): _from_torch(tensor) for name, tensor in tensors.items()}


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


def _read_safetensors(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    _check_size(path, path.stat().st_size, max_bytes)
    with _whole(path, "safetensors file"), safe_open(path, framework="numpy") as stored:
        types = {name: stored.get_slice(name).get_dtype() for name in stored.keys()}  # noqa: SIM118
        others = [f"{name} ({dtype})" for name, dtype in types.items() if dtype not in SAFETENSORS_TYPES]
        if others:
            raise WeightsError(f"{path}: expected {', '.join(SAFETENSORS_TYPES)}; found others: {', '.join(others)}")
        return {name: stored.get_tensor(name) for name in types}


def _read_npz(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    with _whole(path, "npz file of arrays"), path.open("rb") as stream:
        check_archive(path, max_bytes=max_bytes, option="--max_bytes")
        stored = np.load(stream, allow_pickle=False)
        arrays = {name: stored[name] for name in stored.files}
    others = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if others:
        raise WeightsError(f"{path}: expected arrays alone; found others: {', '.join(others)}")
    return arrays


def _check_size(path: Path, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise WeightsError(f"{path}: expected at most {max_bytes:,} bytes (--max_bytes sets the limit); found {size:,}")


@contextlib.contextmanager
def _whole(path: Path, kind: str) -> Iterator[None]:
    """Says which file it was that could not be read."""
    try:
        yield
    except WeightsError:
        raise
    except UNREADABLE as error:
        raise WeightsError(f"{path} is no whole {kind}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


READERS = {
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".ckpt": _read_torch,
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
}
