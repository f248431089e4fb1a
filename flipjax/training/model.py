"""A trained network as a pure function of images, with conversion to files, Flax and PyTorch."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from numpy.typing import ArrayLike

from flipjax import metrics
from flipjax.backend.compiler import program
from flipjax.backend.convolutions import ONEDNN, XLA, faster_library, has_onednn
from flipjax.config import FROZEN, ConfigError, Experiment, ModelSpec
from flipjax.config.checks import check_value
from flipjax.config.groups import Groups
from flipjax.metrics.inputs.checks import to_array
from flipjax.metrics.inputs.host import NARROW
from flipjax.models.networks.frozen import Projection, features_of
from flipjax.models.weights.files import path_of, read_digested, write_digested
from flipjax.models.weights.initial import Weights, overlay, weight_shapes
from flipjax.models.weights.pretrained import encoder_weights
from flipjax.models.weights.pytorch_names import WeightsError, from_state_dict, to_state_dict
from flipjax.support.arrays import Array
from flipjax.support.files import sha256
from flipjax.training.network.forward import EVALUATION_BATCH, logits_of, model_of

if TYPE_CHECKING:
    from flipjax.models.networks.torch_networks import TorchModule

ABOUT = "flipjax_model"
"""Key of the metadata of a file that holds the description of its network, after the description's SHA-256."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=["spec", "class_names", "size"]
)
@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A network and its weights: a pytree whose leaves are the weights, callable as a pure function.

    Example:
        >>> from flipjax.models.weights.initial import draw_weights
        >>> spec = ModelSpec(width=4, depth=1)
        >>> model = Model(draw_weights(jax.random.key(0), spec, 3), spec, ("background", "cat", "dog"), 16)
        >>> model(jnp.zeros((2, 16, 24, 3))).shape, model.predict(np.zeros((5, 16, 16, 3), np.uint8)).shape
        ((2, 16, 24, 3), (5, 16, 16))
        >>> model
        <Model unet: background, cat, dog; images of 16 x 16>
    """

    weights: Weights
    """Parameters and running statistics."""
    spec: ModelSpec
    """The network."""
    class_names: tuple[str, ...]
    """C names, background first."""
    size: int
    """Side of the training images, in pixels."""

    def __repr__(self) -> str:
        """Shows the network, its classes and its images, but no weights."""
        return f"<Model {self.spec.name}: {', '.join(self.class_names)}; images of {self.size} x {self.size}>"

    @classmethod
    def from_state_dict(
        cls, arrays: Mapping[str, np.ndarray], spec: ModelSpec, class_names: Sequence[str], size: int
    ) -> "Model":
        """Returns the model of arrays under PyTorch's names and in its axis order, as `state_dict` returns them.

        Args:
            arrays: the weights by name, real numbers of any type.
            spec: of the network.
            class_names: C names, background first.
            size: side of the training images, in pixels.

        Raises:
            WeightsError: arrays are missing, unused or misshapen, or hold numbers that are not finite.

        Example:
            >>> from flipjax.models.weights.initial import draw_weights
            >>> spec = ModelSpec(width=4, depth=1)
            >>> names = ("background", "cat", "dog")
            >>> model = Model(draw_weights(jax.random.key(0), spec, 3), spec, names, 16)
            >>> again = Model.from_state_dict(model.state_dict(), spec, names, 16)
            >>> bool((again(jnp.ones((1, 8, 8, 3))) == model(jnp.ones((1, 8, 8, 3)))).all())
            True
        """
        names = tuple(class_names)
        given = from_state_dict(arrays, spec, len(names))
        # On the host, where a new shape compiles no program.
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), weight_shapes(spec, len(names)))
        return cls(jax.device_put(Weights(*map(overlay, zeros, given))), spec, names, size)

    @property
    def stride(self) -> int:
        """The required divisor of an image's height and width, in pixels: 2 ** (depth - 1) for a U-Net, 32 for `smp_*`.

        Photos of other sizes are padded below and on the right with their last row and column, and the logits are
        cropped, as `flipjax audit --model` does. 1 for a user's own network.
        """
        return self.spec.stride

    @property
    def experiment(self) -> Experiment:
        """The experiment of this network, for the functions of `flipjax.training`."""
        return _experiment(self.spec, len(self.class_names))

    def __call__(self, images: ArrayLike) -> jax.Array:
        """Returns logits (B, H, W, C) float32 of images (B, H, W, 3), uint8 or in [0, 1].

        Under jit and other transformations the values of images are not known: the logits of an image with floats out
        of range, or NaN, are then NaN.

        Raises:
            ValueError: images of another shape or type, or out of range.
        """
        array = _read_images(images)
        logits = self._logits(array)
        if not isinstance(array, Tracer) or array.dtype == jnp.uint8:
            return logits
        inside = ((array >= 0) & (array <= 1)).all((1, 2, 3))
        return jnp.where(inside[:, None, None, None], logits, jnp.nan)

    def _logits(self, images: Array) -> jax.Array:
        """Returns logits of images whose values are taken as they are."""
        array = jnp.asarray(images)
        stride = self.stride
        divisible = array.ndim == 4 and array.shape[1] % stride == 0 and array.shape[2] % stride == 0
        if not divisible or array.shape[3] != 3 or not array.size:
            raise ValueError(f"images: expected (B, H, W, 3), H and W multiples of {stride}; found {array.shape}")
        if array.dtype == jnp.uint8:
            array = array.astype(jnp.float32) / 255
        return logits_of(self.experiment, self.weights, self._inputs(array.astype(jnp.float32)))

    def _inputs(self, images: jax.Array) -> jax.Array:
        """Returns what the network sees of images: these, or their frozen features, for which the package is needed."""
        if self.spec.title != FROZEN:
            return images
        projection = Projection(**self.weights.statistics["projection"])
        return features_of(encoder_weights(), projection, images).astype(jnp.float32)

    def logits(self, images: ArrayLike) -> np.ndarray:
        """Returns logits (n, H, W, C) float32 of images (n, H, W, 3), uint8 or in [0, 1], in batches.

        On a CPU with JAX 0.11 or newer a call of many images, such as 1,526 of 512 x 512 by a U-Net on ResNet-50, takes
        oneDNN's convolutions, as a long training run does; logits agree to rounding.

        Raises:
            ValueError: images of another shape or type, out of range, or none.
        """
        return self._by_batches(_logits, images)

    def predict(self, images: ArrayLike) -> np.ndarray:
        """Returns classes (n, H, W) uint8 of images as in `logits`; 0 is the background."""
        return self._by_batches(_classes, images)

    def _by_batches(self, function: Callable, images: ArrayLike) -> np.ndarray:
        """Returns a function of this model and of images (B, ...), compiled, for all images, (n, ...)."""
        images = _host_images(images)
        compiled = program(function, convolutions=_library_of(self.spec, images))
        parts = []
        for batch in _batches(images):
            # Padding to a power of two keeps the number of compiled programs small.
            size = 2 ** (len(batch) - 1).bit_length()
            padded = jax.device_put(np.resize(batch, (size, *batch.shape[1:])))
            parts.append(jax.device_get(compiled(self, padded))[: len(batch)])
        return np.concatenate(parts)

    def decompose(self, images: ArrayLike, labels: ArrayLike) -> metrics.Decomposition:
        """Returns `flipjax.metrics.decompose` of images and labels (n, H, W), leaves numpy.

        On a sweep's images the counts are those stored, and flip-risk agrees with the stored one to rounding.

        Raises:
            ValueError: as `logits` and `flipjax.metrics.decompose`, or as many images as labels are missing.
        """
        images = _host_images(images)
        labels = to_array(labels, name="labels")
        if np.ndim(labels) == 0 or len(images) != len(labels):
            raise ValueError(f"labels: expected {len(images)}, one for each image; found {np.shape(labels)}")
        # In a single program the entropy sum would be fused with the last layer and rounded differently.
        pairs = zip(_batches(images), _batches(labels), strict=True)
        parts = [metrics.decompose(self.logits(batch), truth) for batch, truth in pairs]
        return jax.tree.map(np.asarray, metrics.concatenate(parts))

    def nnx(self) -> nnx.Module:
        """Returns the network as a Flax module in evaluation mode."""
        return model_of(self.experiment, self.weights, training=False)

    def torch(self) -> "TorchModule":
        """Returns the network as a module of PyTorch in evaluation mode, with a copy of the weights.

        It maps images (B, 3, H, W) in [0, 1] to logits (B, C, H, W). The small U-Net needs PyTorch alone; those with
        ResNet-50 and MiT-B2 are built by segmentation_models_pytorch. `from_state_dict` takes its weights back.

        Raises:
            ConfigError: the network has no such module: frozen, EfficientNet-Lite0, or a user's own.
            ModuleNotFoundError: PyTorch or segmentation_models_pytorch is missing.
        """
        from flipjax.models.networks.torch_networks import with_weights

        return with_weights(self.state_dict(), self.spec, num_classes=len(self.class_names))

    def state_dict(self) -> dict[str, np.ndarray]:
        """Returns the weights under PyTorch's names and in its axis order, as `torch` has them.

        The small U-Net uses the names of `flipjax.models.TorchUNet`, the large ones those of
        segmentation_models_pytorch. A user's own network keeps its names and axis order.
        """
        return to_state_dict(self.weights, self.spec, len(self.class_names))

    def save(self, path: str | Path) -> Path:
        """Writes `state_dict` and a description of the network as .safetensors, whose arrays PyTorch can read."""
        path = path_of(path)
        fields = dict(vars(self.spec))
        fields["build"] = self.spec.title if self.spec.build else ""
        fields["weights"] = ""
        about = json.dumps({"spec": fields, "class_names": self.class_names, "size": self.size})
        write_digested(path, self.state_dict(), {ABOUT: f"{sha256(about)} {about}"})
        return path


def load_model(path: str | Path, *, build: Callable[..., nnx.Module] | None = None) -> Model:
    """Reads a file written by `Model.save`.

    Args:
        path: the file.
        build: `config.model.build`, for a user's own network.

    Raises:
        WeightsError: the file is missing, damaged or not flipjax's; or `build` is missing, superfluous, or builds a
            network with other weights.

    Example:
        >>> import tempfile
        >>> from flipjax.models.weights.initial import draw_weights
        >>> spec = ModelSpec(width=4, depth=1)
        >>> model = Model(draw_weights(jax.random.key(0), spec, 3), spec, ("background", "cat", "dog"), 16)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = model.save(Path(folder, "model.safetensors"))
        ...     again = load_model(path)
        >>> again.spec == spec, again.class_names, path.name
        (True, ('background', 'cat', 'dog'), 'model.safetensors')
    """
    path = path_of(path)
    arrays, metadata = read_digested(path)
    digest, _, text = metadata.get(ABOUT, "").partition(" ")
    if digest != sha256(text):
        raise WeightsError(f"{path}: expected a file that flipjax.Model.save wrote; found another or a damaged one")
    about = json.loads(text)
    fields = about["spec"]
    own_network = fields.pop("build")
    try:
        # A later version may have other networks and keys.
        for name, value in fields.items():
            check_value(f"model.{name}", value)
        spec = ModelSpec(**fields, build=build)
    except (ConfigError, KeyError, TypeError) as error:
        problem = f"expected the description of a network that this version of flipjax can build; {error}"
        raise WeightsError(f"{path}: {problem}") from error
    if own_network and build is None:
        found = f"the function that makes the network, {own_network}, to read {path}"
        raise WeightsError(f"build: expected {found}; found none")
    try:
        return Model.from_state_dict(arrays, spec, about["class_names"], about["size"])
    except (TypeError, WeightsError) as error:
        raise WeightsError(f"{path}: {error}") from error


@functools.cache
def _experiment(spec: ModelSpec, num_classes: int) -> Experiment:
    return Experiment(model=dataclasses.replace(spec, dtype="float32"), groups=Groups(num_classes - 1, 2, partial=True))


def _read_images(images: ArrayLike) -> Array:
    """Returns images of any framework as an array, traced ones as they are.

    Raises:
        ValueError: what is no array, other types than uint8 and floats, or floats outside [0, 1].
    """
    # Integers of 2 and 4 bits are widened to 8.
    given = str(getattr(images, "dtype", ""))
    try:
        array = to_array(images, name="images")
    except TypeError as error:
        raise ValueError(str(error)) from error
    if given in NARROW:
        raise ValueError(f"images: expected uint8, or floats in [0, 1]; found {given}")
    if array.dtype == np.uint8:
        return array
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"images: expected uint8, or floats in [0, 1]; found {array.dtype}")
    if array.size and not isinstance(array, Tracer):
        values = np.asarray(jax.device_get(array))
        lowest = values.min()
        highest = values.max()
        if not (lowest >= 0 and highest <= 1):
            raise ValueError(f"images: expected floats in [0, 1], or uint8; found {lowest} to {highest}")
    return array


def _host_images(images: ArrayLike) -> np.ndarray:
    """Returns images as a NumPy array; raises ValueError as `_read_images`, and for none."""
    array = np.asarray(_read_images(images))
    if array.ndim == 0 or not array.size:
        raise ValueError(f"images: expected at least one, found {array.shape}")
    return array


def _library_of(spec: ModelSpec, images: np.ndarray) -> str:
    """Returns the library of convolutions on a CPU; like a sweep, a call of many images takes oneDNN where it gains."""
    library = faster_library(spec, pixels=math.prod(images.shape[:-1]))
    if library == ONEDNN and not has_onednn():
        return XLA
    return library


def _batches(arrays: Array) -> list[Array]:
    """Divides arrays into batches as large as a sweep's for images of up to 256 pixels a side."""
    return [arrays[start : start + EVALUATION_BATCH] for start in range(0, len(arrays), EVALUATION_BATCH)]


def _logits(model: Model, images: jax.Array) -> jax.Array:
    """Returns logits, for `program`, which keeps a program of each function."""
    return model._logits(images)


def _classes(model: Model, images: jax.Array) -> jax.Array:
    """Returns classes, in the same way."""
    return model._logits(images).argmax(-1).astype(jnp.uint8)
