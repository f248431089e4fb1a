"""Folders of converted weights (Orbax): what `config.model.weights` names.

One is written whole or not at all: `files.json`, the sizes of its files, is written last.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from flipjax.files import make_folder, replacing
from flipjax.models.names import canonical
from flipjax.models.read import read
from flipjax.models.smp import WeightsError, check_shapes, dtype_of, expected_shapes, jax_order, to_jax, torch_order

FILES = "files.json"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def convert(source: str | Path, folder: str | Path, *, encoder: str | None = None, num_classes: int = 3) -> str:
    """Converts a file of weights, of a whole U-Net or of an encoder alone, to a new folder.

    Args:
      source: a file that `flipjax.models.files.read` reads.
      folder: must not exist.
      encoder: whose weights they must be; None: those of either.
      num_classes: outputs of the head.

    Returns:
      What was written, as a sentence.

    Raises:
      WeightsError: if the file cannot be read, is another encoder's, or lists keys that are missing, unused or
        misshapen; or if the folder exists.
      OSError: the folder cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise WeightsError(f"expected a folder that does not exist yet; found {folder}")
    found, arrays = canonical(read(source))
    if encoder not in (None, found):
        raise WeightsError(f"expected the weights of {encoder}; found those of {found} in {source}")
    converted = to_jax(arrays, _wanted(arrays, folder, found, num_classes, False))
    whole = any(name.startswith("decoder.") for name in arrays)
    save(folder, converted, encoder=found)
    count = sum(array.size for name, array in converted.items() if not name.endswith(STATISTICS))
    what = "a whole U-Net" if whole else "the encoder alone, decoder and head will be drawn afresh"
    return f"{found}: {what}; {count:,} parameters from {source} to {folder}"


def save(folder: str | Path, arrays: Mapping[str, np.ndarray], *, encoder: str) -> None:
    """Writes arrays, PyTorch's names and this package's axis order, to a new folder; raises OSError if it cannot."""
    folder = Path(folder).absolute()
    make_folder(folder.parent)
    shapes = {name: [array.shape[axis] for axis in torch_order(array.ndim)] for name, array in arrays.items()}
    about = {"encoder": encoder, "shapes": shapes}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(
            folder,
            ocp.args.Composite(arrays=ocp.args.StandardSave(dict(arrays)), about=ocp.args.JsonSave(about)),
        )
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    with replacing(folder / FILES) as stream:
        stream.write(json.dumps(sizes, indent=2).encode())


def load(folder: str | Path, *, encoder: str, num_classes: int = 3, whole: bool = False) -> tuple[Any, Any]:
    """Returns parameters and batch statistics, nested like those of the model; an encoder alone lacks the other parts.

    Args:
      folder: that `convert` or `save` wrote.
      encoder: whose weights are wanted.
      num_classes: outputs of the head.
      whole: whether an encoder alone is an error.

    Raises:
      WeightsError: no such folder, a damaged one, weights of another encoder, or keys that are missing or misshapen,
        all listed.
    """
    path = Path(folder).expanduser().absolute()
    if not (path / FILES).is_file():
        raise WeightsError(
            f"expected a folder that python -m flipjax.models convert wrote; found "
            f"{'another one' if path.is_dir() else 'none'} at {folder}"
        )
    _check_sizes(path)
    with _whole(folder), ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        about = checkpointer.restore(path, ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
        if about["encoder"] != encoder:
            raise WeightsError(f"expected the weights of {encoder}; found those of {about['encoder']} in {folder}")
        shapes = about["shapes"]
        check_shapes(shapes, _wanted(shapes, folder, encoder, num_classes, whole))
        blank = {
            name: np.empty([shape[axis] for axis in jax_order(len(shape))], dtype_of(name))
            for name, shape in shapes.items()
        }
        stored = checkpointer.restore(path, ocp.args.Composite(arrays=ocp.args.StandardRestore(blank)))["arrays"]
    parts: tuple[dict, dict] = {}, {}
    for name in blank:
        *steps, last = (int(step) if step.isdigit() else step for step in name.split("."))
        place = parts[last in STATISTICS]
        for step in steps:
            place = place.setdefault(step, {})
        place[last] = np.asarray(stored[name])
    return parts


def _check_sizes(folder: Path) -> None:
    """Finds truncated files before Orbax does, whose other reads would complain on stderr of having been left."""
    with _whole(folder):
        sizes = json.loads((folder / FILES).read_text(encoding="utf-8"))
        damaged = [name for name, size in sizes.items() if (folder / name).stat().st_size != size]
        if damaged:
            raise _damaged(folder, f"{len(damaged)} of {len(sizes)} files have another size, such as {damaged[0]}")


@contextlib.contextmanager
def _whole(folder: str | Path) -> Iterator[None]:
    """Says which folder it was that Orbax could not read."""
    try:
        yield
    except WeightsError:
        raise
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _damaged(folder, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def _damaged(folder: str | Path, text: str) -> WeightsError:
    return WeightsError(f"{folder} is damaged, convert the weights again ({text})")


def _wanted(
    shapes: Mapping[str, Any], folder: str | Path, encoder: str, num_classes: int, whole: bool
) -> dict[str, tuple[int, ...]]:
    wanted = expected_shapes(encoder, num_classes=num_classes)
    if any(name.startswith("decoder.") for name in shapes):
        return wanted
    if whole:
        raise WeightsError(f"expected the weights of a whole U-Net; found an encoder alone in {folder}: train it first")
    return {name: shape for name, shape in wanted.items() if name.startswith("encoder.")}
