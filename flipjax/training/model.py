"""A trained network as a pure function of images, with conversion to files, Flax and PyTorch."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from flipjax import metrics
from flipjax.config import Experiment, ModelSpec
from flipjax.groups import Groups
from flipjax.models.smp import WeightsError, check_arrays, jax_order, to_torch
from flipjax.models.weights import read_digested, write_digested
from flipjax.support.files import sha256
from flipjax.training.network import Weights, build, logits_of, model_of, weights_of

ABOUT = "flipjax_model"
BATCH = 16
"""Batch size; equals a sweep's evaluation batch for images up to 256 pixels, so that results agree bit for bit."""
# Indices of the layers in PyTorch's Sequential block (convolution, norm, ReLU, twice).
LAYERS = {"first": "0", "first_norm": "1", "second": "3", "second_norm": "4"}
LEAVES = {"scale": "weight", "kernel": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
COUNT = "num_batches_tracked"
"""Buffer of PyTorch's BatchNorm that the small U-Net does not have."""
RANDOM = "drop_path_key"
"""State of MiT's stochastic depth that PyTorch does not have."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=["spec", "class_names", "size"]
)
@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A network and its weights: a pytree whose leaves are the weights, callable as a pure function.

    Attributes:
        weights: parameters and running statistics.
        spec: of the network.
        class_names: C names, background first.
        size: side of the training images, in pixels.

    Example:
        >>> spec = ModelSpec(width=4, depth=1)
        >>> model = Model(draw_weights(jax.random.key(0), spec, 3), spec, ("background", "cat", "dog"), 16)
        >>> model(jnp.zeros((2, 16, 24, 3))).shape, model.predict(np.zeros((5, 16, 16, 3), np.uint8)).shape
        ((2, 16, 24, 3), (5, 16, 16))
    """

    weights: Weights
    spec: ModelSpec
    class_names: tuple[str, ...]
    size: int

    @property
    def experiment(self) -> Experiment:
        """The experiment of this network, for the functions of `flipjax.training`."""
        return _experiment(self.spec, len(self.class_names))

    def __call__(self, images: Any) -> jax.Array:
        """Returns logits (B, H, W, C) float32 of images (B, H, W, 3), uint8 or in [0, 1].

        Raises:
            ValueError: images of another shape or type.
        """
        images, stride = jnp.asarray(images), self.spec.stride
        if images.ndim != 4 or images.shape[1] % stride or images.shape[2] % stride or images.shape[3] != 3:
            raise ValueError(f"images: expected (B, H, W, 3), H and W multiples of {stride}; found {images.shape}")
        if images.dtype == jnp.uint8:
            images = images.astype(jnp.float32) / 255
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"images: expected uint8, or floats in [0, 1]; found {images.dtype}")
        return logits_of(self.experiment, self.weights, images.astype(jnp.float32))

    def logits(self, images: Any) -> np.ndarray:
        """Returns logits (n, H, W, C) float32 of images (n, H, W, 3), uint8 or in [0, 1], in batches."""
        return self._by_batches(_logits, images)

    def predict(self, images: Any) -> np.ndarray:
        """Returns classes (n, H, W) uint8 of images as in `logits`; 0 is the background."""
        return self._by_batches(_classes, images)

    def _by_batches(self, function: Callable, images: Any) -> np.ndarray:
        images = np.asarray(images)
        if images.dtype.kind == "f" and not (images.min(initial=0) >= 0 and images.max(initial=1) <= 1):
            raise ValueError(f"images: expected floats in [0, 1], or uint8; found {images.min()} to {images.max()}")
        parts = []
        for part in _batches(images):
            # Padding to a power of two keeps the number of compiled programs small.
            size = 2 ** (len(part) - 1).bit_length()
            parts.append(np.asarray(function(self, np.resize(part, (size, *part.shape[1:]))))[: len(part)])
        return np.concatenate(parts)

    def decompose(self, images: Any, labels: Any) -> metrics.Decomposition:
        """Returns `flipjax.metrics.decompose` of images and labels (n, H, W), leaves numpy.

        On a sweep's images of at most 256 pixels the result equals the stored one bit for bit.
        """
        # In a single program the entropy sum would be fused with the last layer and rounded differently.
        if len(images) != len(labels):
            raise ValueError(f"labels: expected {len(images)}, one for each image; found {len(labels)}")
        pairs = zip(_batches(images), _batches(labels), strict=True)
        parts = [metrics.decompose(self.logits(part), truth) for part, truth in pairs]
        return jax.tree.map(np.asarray, metrics.concatenate(parts))

    def nnx(self) -> nnx.Module:
        """Returns the network as a Flax module in evaluation mode."""
        return model_of(self.experiment, self.weights, training=False)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Returns the weights under PyTorch's names and in its axis order.

        The small U-Net uses the names of `sweeps/examples/benchmark_pytorch.py`, the large ones those of
        segmentation_models_pytorch. A user's own network keeps its names and axis order.
        """
        flat = {_name(self.spec, path): leaf for path, leaf in _flat(self.weights).items() if path[-1] != RANDOM}
        arrays = {name: _torch_array(self.spec, name, np.asarray(leaf)) for name, leaf in flat.items()}
        if self.spec.title == "unet":
            means = [name for name in arrays if name.endswith("running_mean")]
            arrays |= {name.replace("running_mean", COUNT): np.zeros((), np.int64) for name in means}
        return arrays

    def save(self, path: str | Path) -> Path:
        """Writes `state_dict` and a description of the network as .safetensors, which PyTorch can read."""
        fields = {field.name: getattr(self.spec, field.name) for field in dataclasses.fields(self.spec)}
        fields |= {"build": self.spec.title if self.spec.build else "", "weights": ""}
        about = json.dumps({"spec": fields, "class_names": self.class_names, "size": self.size})
        arrays = {name: np.asarray(array, order="C") for name, array in self.state_dict().items()}
        write_digested(path, arrays, {ABOUT: f"{sha256(about)} {about}"})
        return Path(path)


def load_model(path: str | Path, *, build: Callable[..., nnx.Module] | None = None) -> Model:
    """Reads a file written by `Model.save`.

    Args:
        path: the file.
        build: `config.model.build`, for a user's own network.

    Raises:
        WeightsError: the file is missing, damaged or not flipjax's; or `build` is missing, superfluous, or builds a
            network with other weights.
    """
    path = Path(path).expanduser()
    arrays, metadata = read_digested(path)
    stored, _, text = metadata.get(ABOUT, "").partition(" ")
    if stored != sha256(text):
        raise WeightsError(f"{path}: expected a file that flipjax.Model.save wrote; found another or a damaged one")
    about = json.loads(text)
    own = about["spec"].pop("build")
    if bool(own) != bool(build):
        expected = f"the function that makes the network, {own}" if own else f"none for {about['spec']['name']}"
        raise WeightsError(f"build: expected {expected}, to read {path}; found {build}")
    names = tuple(about["class_names"])
    try:
        return from_state_dict(arrays, ModelSpec(**about["spec"], build=build), names, about["size"])
    except (TypeError, WeightsError) as error:
        raise WeightsError(f"{path}: {error}") from error


def from_state_dict(
    arrays: Mapping[str, np.ndarray], spec: ModelSpec, class_names: tuple[str, ...], size: int
) -> Model:
    """Returns the model of a `state_dict`.

    Raises:
        WeightsError: arrays are missing, unused or misshapen.
    """
    outline = jax.eval_shape(lambda: draw_weights(jax.random.key(0), spec, len(class_names)))
    leaves = _flat(outline)
    paths = {_name(spec, path): path for path in leaves if path[-1] != RANDOM}
    ignored = (RANDOM, COUNT) if spec.title == "unet" else RANDOM
    arrays = {name: array for name, array in arrays.items() if not name.endswith(ignored)}
    blank = {name: np.broadcast_to(np.float32(0), leaves[path].shape) for name, path in paths.items()}
    check_arrays(arrays, {name: _torch_array(spec, name, array).shape for name, array in blank.items()})
    flat = {path: jnp.zeros(leaf.shape, leaf.dtype) for path, leaf in leaves.items() if path[-1] == RANDOM}
    flat |= {
        path: jnp.asarray(_jax_array(spec, name, arrays[name]), leaves[path].dtype) for name, path in paths.items()
    }
    parts = [unflatten_dict({path: flat[path] for path in flatten_dict(part)}) for part in outline]
    return Model(Weights(*parts), spec, class_names, size)


def draw_weights(key: jax.Array, spec: ModelSpec, num_classes: int) -> Weights:
    """Returns a network's initial weights."""
    return weights_of(build(_experiment(spec, num_classes), key))


@functools.cache
def _experiment(spec: ModelSpec, num_classes: int) -> Experiment:
    return Experiment(model=dataclasses.replace(spec, dtype="float32"), groups=Groups(num_classes - 1, 2, partial=True))


def _flat(weights: Weights) -> dict[tuple, Any]:
    return flatten_dict(weights.params) | flatten_dict(weights.statistics)


def _name(spec: ModelSpec, path: tuple) -> str:
    """Returns PyTorch's name of a weight."""
    if spec.title != "unet":
        return ".".join(map(str, path))
    if path[0] == "head":
        return f"head.{LEAVES[path[1]]}"
    part, level, layer, *leaf = path
    # Without a norm, PyTorch's convolution has the bias.
    layer = layer.removesuffix("_norm") if spec.norm == "none" else layer
    return f"{part}.{level}.{LAYERS[layer]}.{LEAVES[leaf[0]] if leaf else 'weight'}"


def _torch_array(spec: ModelSpec, name: str, array: np.ndarray) -> np.ndarray:
    array = array if spec.build else to_torch(array)
    return array[:, :, None, None] if _pointwise(spec, name) else array


def _jax_array(spec: ModelSpec, name: str, array: np.ndarray) -> np.ndarray:
    array = array[:, :, 0, 0] if _pointwise(spec, name) else array
    return array if spec.build else array.transpose(jax_order(array.ndim))


def _pointwise(spec: ModelSpec, name: str) -> bool:
    """Returns whether a weight is a matrix here but a 1 x 1 convolution in PyTorch."""
    return spec.title == "unet" and name == "head.weight"


def _batches(arrays: Any) -> list[Any]:
    if not len(arrays):
        raise ValueError("images: expected at least one, found none")
    return [arrays[first : first + BATCH] for first in range(0, len(arrays), BATCH)]


_logits = jax.jit(Model.__call__)
_classes = jax.jit(lambda model, images: model(images).argmax(-1).astype(jnp.uint8))
