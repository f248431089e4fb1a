"""Converted weights, one `.safetensors` file under PyTorch's names: what `config.model.weights` names.

The file carries a digest of its arrays, which is compared when they are read.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as to_bytes

from flipjax.files import digest, make_folder, replacing
from flipjax.models.names import canonical
from flipjax.models.read import MAX_BYTES, read, read_metadata
from flipjax.models.smp import WeightsError, check_shapes, dtype_of, expected_shapes, to_jax

SUFFIX = ".safetensors"
DIGEST = "flipjax_digest"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def convert(
    source: str | Path,
    target: str | Path,
    *,
    encoder: str | None = None,
    num_classes: int = 3,
    max_bytes: int = MAX_BYTES,
) -> str:
    """Converts a file of weights, of a whole U-Net or of an encoder alone, and returns what was written as a sentence.

    Args:
        source: a file that `flipjax.models.read.read` reads.
        target: a file that does not exist; `.safetensors` is added to a name without it.
        encoder: whose weights they must be; None: those of either.
        num_classes: outputs of the head.
        max_bytes: what the arrays may take unpacked, see `flipjax.models.read.read`.

    Raises:
        WeightsError: the file cannot be read, is another encoder's, or lists keys that are missing, unused or
            misshapen, or holds weights that float32 does not; or the target exists.
        OSError: the target cannot be written.
    """
    target = file_of(target)
    # A link that leads nowhere would be replaced, too.
    if os.path.lexists(target):
        raise WeightsError(f"--out: expected a file that does not exist yet; found {target}")
    try:
        name, arrays = canonical(read(source, max_bytes=max_bytes))
    except WeightsError as error:
        raise error if str(source) in str(error) else WeightsError(f"{source}: {error}") from error
    if encoder not in (None, name):
        raise WeightsError(f"expected the weights of {encoder}; found those of {name} in {source}")
    shapes = {key: array.shape for key, array in arrays.items()}
    check_shapes(shapes, _shapes_of(arrays, source, name, num_classes, whole=False))
    _check_finite(arrays, source)
    save(target, arrays)
    whole = any(key.startswith("decoder.") for key in arrays)
    count = sum(array.size for key, array in arrays.items() if not key.endswith(STATISTICS))
    what = "a whole U-Net" if whole else "the encoder alone, decoder and head will be drawn afresh"
    return f"{name}: {what}; {count:,} parameters from {source} to {target}"


def save(target: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under PyTorch's names at PyTorch's axis order: float32, counts int64.

    Raises:
        OSError: it cannot be written.
    """
    target = file_of(target)
    stored = {}
    for name, array in arrays.items():
        stored[name] = np.asarray(array, np.float32 if dtype_of(name) is np.float32 else np.int64, order="C")
    make_folder(target.absolute().parent)
    with replacing(target) as stream:
        stream.write(to_bytes(stored, metadata={"format": "pt", DIGEST: digest(stored)}))


def load(source: str | Path, *, encoder: str, num_classes: int = 3, whole: bool = False) -> tuple[Any, Any]:
    """Returns parameters and batch statistics, nested like those of the model; an encoder alone lacks the other parts.

    Args:
        source: a file that `convert` or `save` wrote; its name may lack `.safetensors`.
        encoder: whose weights are wanted.
        num_classes: outputs of the head.
        whole: whether an encoder alone is an error.

    Raises:
        WeightsError: no such file, a damaged one, weights of another encoder, or keys that are missing or misshapen,
            all listed.
    """
    path = file_of(source)
    name, arrays = canonical(read_converted(path))
    if name != encoder:
        raise WeightsError(f"expected the weights of {encoder}; found those of {name} in {path}")
    return _nested(to_jax(arrays, _shapes_of(arrays, path, encoder, num_classes, whole=whole)))


def read_converted(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a file that `save` wrote; raises WeightsError unless they are those that were written."""
    if not path.is_file():
        raise WeightsError(f"expected a file that python -m flipjax.models convert wrote; found none at {path}")
    try:
        arrays = read(path)
        written = read_metadata(path).get(DIGEST)
    except WeightsError as error:
        raise WeightsError(f"{path} is damaged, convert the weights again ({error})") from error
    if written is None:
        raise WeightsError(f"expected a file that python -m flipjax.models convert wrote; found another one at {path}")
    if digest(arrays) != written:
        raise WeightsError(f"{path} is damaged, convert the weights again (its arrays differ from their digest)")
    return arrays


def file_of(path: str | Path) -> Path:
    """Returns the path of a file of weights, with `.safetensors` added to a name that lacks it.

    Example:
        >>> str(file_of("weights/resnet50"))
        'weights/resnet50.safetensors'
    """
    path = Path(path).expanduser()
    return path if path.suffix == SUFFIX else path.with_name(f"{path.name}{SUFFIX}")


def _check_finite(arrays: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Raises WeightsError for arrays that hold NaN, an infinite number, or one beyond float32."""
    with np.errstate(over="ignore"):
        others = [name for name, array in arrays.items() if not np.isfinite(np.asarray(array, np.float32)).all()]
    if others:
        raise WeightsError(f"{path}: expected finite numbers within float32; found others: {', '.join(others)}")


def _nested(arrays: Mapping[str, np.ndarray]) -> tuple[dict, dict]:
    parameters: dict = {}
    statistics: dict = {}
    for name, array in arrays.items():
        *steps, last = (int(step) if step.isdigit() else step for step in name.split("."))
        place = statistics if last in STATISTICS else parameters
        for step in steps:
            place = place.setdefault(step, {})
        place[last] = array
    return parameters, statistics


def _shapes_of(
    arrays: Mapping[str, Any], path: str | Path, encoder: str, num_classes: int, *, whole: bool
) -> dict[str, tuple[int, ...]]:
    """The shapes that the arrays must have: those of the whole network, or of its encoder."""
    shapes = expected_shapes(encoder, num_classes=num_classes)
    if any(name.startswith("decoder.") for name in arrays):
        return shapes
    if whole:
        raise WeightsError(f"expected the weights of a whole U-Net; found an encoder alone in {path}: train it first")
    return {name: shape for name, shape in shapes.items() if name.startswith("encoder.")}
