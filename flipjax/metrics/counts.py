"""`FlipCounts`: sums of many images as a pytree, for evaluation loops in JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import EllipsisType
from typing import Any, ClassVar, NamedTuple, Self, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from flipjax.metrics.decomposition import Decomposition, divide, mean_over_classes, pixel_ratios
from flipjax.metrics.inputs.classes import Background, LabelOptions, LabelSpec, check_background, is_foreground
from flipjax.metrics.inputs.classes import class_names as class_names_of
from flipjax.metrics.inputs.host import Array
from flipjax.metrics.kernels import decompose
from flipjax.metrics.quantities import EVALUATORS
from flipjax.metrics.summary.evaluate import Summary, class_keys, is_per_class

LOW_BITS = 16
"""Bits of the low part of a `LongSum`."""
MOST_TERMS = 1 << (31 - LOW_BITS)
"""Most `LongSum`s that are summed at once, so that no sum of low parts exceeds an int32."""
SHARE_BITS = 24
"""Bits after the point of a flip share: as precise as float32, and the sum does not depend on the order."""
OPTIONS = tuple(field.name for field in dataclasses.fields(LabelSpec) if field.name != "class_names")
"""The fields of `LabelSpec` without the class names, which kernels do not need."""


class LongSum(NamedTuple):
    """Integers up to 2^47 in two int32 arrays, because JAX has no int64 by default.

    Low and high parts may be added on their own, as `psum` does: the value stays high * 2^16 + low.

    Example:
        >>> term = LongSum.of(jnp.array([2**30] * 6))
        >>> int(term.sum().to_numpy()) == 6 * 2**30
        True
    """

    low: jax.Array
    """int32, the value modulo 2^16; 2^16 or more after `psum`, which does not carry."""
    high: jax.Array
    """int32, the rest, in units of 2^16."""

    @classmethod
    def of(cls, values: jax.Array) -> LongSum:
        """Splits non-negative int32 values."""
        return cls(values & ((1 << LOW_BITS) - 1), values >> LOW_BITS)

    def plus(self, other: LongSum) -> LongSum:
        """Returns the sums."""
        return LongSum(self.low + other.low, self.high + other.high)._carried()

    def sum(self) -> LongSum:
        """Returns the sums over the first axis."""
        return LongSum(self.low.sum(0, dtype=jnp.int32), self.high.sum(0, dtype=jnp.int32))._carried()

    def _carried(self) -> LongSum:
        """Returns the same values with low parts below 2^16."""
        carry = self.low >> LOW_BITS
        return LongSum(self.low & ((1 << LOW_BITS) - 1), self.high + carry)

    def to_numpy(self) -> np.ndarray:
        """Returns the values as int64."""
        return (np.asarray(self.high, np.int64) << LOW_BITS) + np.asarray(self.low, np.int64)

    def to_float(self) -> jax.Array:
        """Returns the values as float32, also under jit."""
        return self.high.astype(jnp.float32) * (1 << LOW_BITS) + self.low


@dataclasses.dataclass(frozen=True, eq=False)
class FlipCounts:
    """Sums over images that merge in any order, with `empty`, `from_model_output`, `merge`, `reduce` and `compute`.

    Arrays of JAX stay on their device, and so do the counts until `compute`; other arrays are read on the host.

    A pytree of int32 arrays of a fixed size, for `jit`, `scan`, `vmap` over seeds and `psum`. Counts are exact in any
    order, up to 2^47 pixels of a kind and 2^23 images, eight million, whose flip shares of up to 2^24 units then sum to
    2^47. The results of `compute` have the leading axes of the leaves, such as seeds.

    `compute` returns the keys of `flipjax.metrics.summarize` that follow from sums; rankings by flip-risk do not.

    Example:
        >>> labels = jnp.array([[[0, 1, 2, 2]]])
        >>> logits = 9.0 * jax.nn.one_hot(jnp.array([[[0, 1, 1, 2]]]), 3)
        >>> counts = FlipCounts.empty(num_classes=3)
        >>> for _ in range(4):
        ...     counts = counts.merge(jax.jit(FlipCounts.from_model_output)(logits, labels))
        >>> summary = counts.compute()
        >>> summary["n_images"], round(summary["fg_flip"], 4), summary["flip/class2"]
        (4, 0.3333, 0.5)
    """

    pixels: LongSum
    """(..., C, C), pixels by truth (rows) and prediction (columns), without ignored pixels."""
    flip_shares: LongSum
    """(...), sum of the images' flip shares, in units of 2^-24."""
    images: Array
    """int32 (...), number of images."""
    foreground_images: Array
    """int32 (...), number of images with true foreground."""
    flipped_images: Array
    """int32 (...), number of images with a flip share above 0.5."""
    background: Background = 0
    """The background class, a tuple of them, or None. Static."""

    options: ClassVar[LabelOptions] = {}
    """Default options of `from_model_output` and `empty`; see `with_options`."""

    @classmethod
    def with_options(cls, **options: Unpack[LabelOptions]) -> type[Self]:
        """Returns a class with these options, for a collection of metrics, which passes none.

        Args:
            **options: fields of `LabelSpec` other than `class_names`.

        Raises:
            TypeError, ValueError: invalid options.

        Example:
            >>> FlipCounts.with_options(ignore_index=255, num_classes=4).empty().num_classes
            4
        """
        LabelSpec(**options)
        if "class_names" in options:
            raise TypeError("class_names: expected by compute, found in the options.")
        # A `Collection` holds a class and passes it no options, so the class has them: a subclass made here.
        bound = type(cls.__name__, (cls,), {"options": {**cls.options, **options}, "__doc__": cls.__doc__})
        return _registered(bound)

    @classmethod
    def empty(cls, *, num_classes: int | None = None, background: Background | EllipsisType = ...) -> Self:
        """Returns counts of no image, which merge with any others.

        Args:
            num_classes: C, which a carry of `scan` needs; None: merging returns the other counts.
            background: the background class, a tuple of them, or None; by default the background of the options, or 0.

        Raises:
            TypeError, ValueError: invalid classes.
        """
        if isinstance(background, EllipsisType):
            chosen: Background = cls.options.get("background", 0)
        else:
            chosen = background
        if num_classes is None:
            num_classes = cls.options.get("num_classes")
        spec = LabelSpec(chosen, num_classes=num_classes)
        classes = spec.num_classes or 0
        zero = jnp.zeros((), jnp.int32)
        pixels = jnp.zeros((classes, classes), jnp.int32)
        return cls(
            pixels=LongSum(pixels, pixels),
            flip_shares=LongSum(zero, zero),
            images=zero,
            foreground_images=zero,
            flipped_images=zero,
            background=spec.background,
        )

    @classmethod
    def from_model_output(
        cls, logits: ArrayLike, labels: ArrayLike, *, mask: ArrayLike | None = None, **others: object
    ) -> Self:
        """Returns the counts of a batch.

        Args:
            logits: (..., *spatial, C), as in `decompose`.
            labels: (..., *spatial) integers.
            mask: bool (...), the images to count, such as all but those that pad the batch; None counts all.
            **others: options of `decompose`. Arrays under other names are ignored.

        Raises:
            TypeError: an unknown option, or arrays of other types.
            ValueError: invalid arrays or options, as in `decompose`.
        """
        options = cls._options_with(others)
        return cls._of_images(decompose(logits, labels, **options), mask)

    @classmethod
    def _options_with(cls, others: dict[str, object]) -> dict[str, Any]:
        """Returns the options of the class with those among others; raises TypeError for an unknown one."""
        options: dict[str, Any] = dict(cls.options)
        for name, value in others.items():
            if name in OPTIONS:
                options[name] = value
            # A collection of metrics passes all arrays of a model's output, so other names of arrays are no error.
            elif not hasattr(value, "dtype"):
                raise TypeError(f"{name}: expected one of {', '.join(OPTIONS)}, or an array, found {value!r}.")
        return options

    @classmethod
    def _of_images(cls, decomposition: Decomposition, mask: ArrayLike | None) -> Self:
        """Returns the counts of the images that the mask selects; None selects all."""
        confusion = jnp.asarray(decomposition.confusion)
        lead = confusion.shape[:-2]
        C = confusion.shape[-1]
        counted = jnp.ones(lead, bool)
        if mask is not None:
            counted = jnp.asarray(mask)
        if counted.shape != lead or counted.dtype != bool:
            raise ValueError(f"mask: expected bool {lead}, found {counted.dtype} {counted.shape}.")
        counted = counted.reshape(-1)
        if len(counted) > MOST_TERMS:
            raise ValueError(f"logits: expected at most {MOST_TERMS:,} images at once, found {len(counted):,}.")
        confusion = jnp.where(counted[:, None, None], confusion.reshape(-1, C, C), 0)
        background = decomposition.background
        flips, foreground = pixel_ratios(confusion, background=background).flip
        share = flips / jnp.maximum(foreground, 1)
        share_in_units = jnp.round(share * (1 << SHARE_BITS)).astype(jnp.int32)
        return cls(
            pixels=LongSum.of(confusion).sum(),
            flip_shares=LongSum.of(share_in_units).sum(),
            images=counted.sum(dtype=jnp.int32),
            foreground_images=(foreground > 0).sum(dtype=jnp.int32),
            # More than half; twice the flips could exceed an int32.
            flipped_images=(flips > foreground - flips).sum(dtype=jnp.int32),
            background=background,
        )

    @property
    def num_classes(self) -> int:
        """The number of classes C; 0 for an `empty` without classes."""
        return self.pixels.low.shape[-1]

    def merge(self, other: FlipCounts) -> Self:
        """Returns the counts of the images of both.

        Raises:
            TypeError: not counts.
            ValueError: other classes, another background, or other leading axes.
        """
        if not isinstance(other, FlipCounts):
            raise TypeError(f"merge: expected FlipCounts, found {type(other).__name__}.")
        # Counts without classes hold no image.
        if not other.num_classes:
            return self
        if not self.num_classes:
            # The values of `other` in the class of `self`, which may have other options.
            return type(self)(**{field.name: getattr(other, field.name) for field in dataclasses.fields(other)})
        for name in ("num_classes", "background"):
            expected = getattr(self, name)
            found = getattr(other, name)
            if found != expected:
                raise ValueError(f"{name}: expected {expected}, as in the counts to merge with, found {found}.")
        if self.images.shape != other.images.shape:
            shapes = f"{self.images.shape}, found {other.images.shape}"
            raise ValueError(f"merge: expected counts with leading axes {shapes}; reduce sums over the first axis.")
        return dataclasses.replace(
            self,
            pixels=self.pixels.plus(other.pixels),
            flip_shares=self.flip_shares.plus(other.flip_shares),
            images=self.images + other.images,
            foreground_images=self.foreground_images + other.foreground_images,
            flipped_images=self.flipped_images + other.flipped_images,
        )

    def reduce(self) -> Self:
        """Returns the sums over the first axis, such as the devices of an `all_gather`.

        Raises:
            ValueError: no leading axis, or one of more than 32,768 parts.
        """
        if not self.images.ndim or self.images.shape[0] > MOST_TERMS:
            shape = self.images.shape
            raise ValueError(f"reduce: expected a leading axis of at most {MOST_TERMS:,} parts, found shape {shape}.")
        return dataclasses.replace(
            self,
            pixels=self.pixels.sum(),
            flip_shares=self.flip_shares.sum(),
            images=self.images.sum(0, dtype=jnp.int32),
            foreground_images=self.foreground_images.sum(0, dtype=jnp.int32),
            flipped_images=self.flipped_images.sum(0, dtype=jnp.int32),
        )

    def compute(self, *, class_names: Sequence[str] | None = None) -> Summary:
        """Returns the keys of `flipjax.metrics.summarize` that follow from sums.

        They are `n_images`, `fg_correct`, `fg_flip`, `fg_miss`, `flip_image_mean`, `flipped_images`, `iou/<class>`,
        `iou/foreground`, `mean_iou`, `dice/<class>`, `dice/foreground`, `mean_dice`, `flip/<class>`, `miss/<class>` and
        `flip_matrix`.

        Args:
            class_names: names of all C classes, or of the foreground classes alone; else `background`, `class1`, ...

        Returns:
            Exact integers and float64: numbers, and lists for `flip_matrix`; NumPy arrays (...) where the leaves have
            leading axes, and (..., C, C). Under jit float32 arrays.

        Raises:
            ValueError: no image, or class names that do not fit.
        """
        if not self.num_classes:
            raise ValueError("FlipCounts: expected at least one image, found none.")
        check_background(self.background, self.num_classes)
        names = class_names_of(class_names, classes=self.num_classes, background=self.background)
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(self)):
            return _summarize(self, names, pixels=self.pixels.to_float(), flip_shares=self.flip_shares.to_float())
        counts = self._with_images_in_numpy()
        if not counts.images.any():
            raise ValueError("FlipCounts: expected at least one image, found none.")
        values = _summarize(counts, names, pixels=self.pixels.to_numpy(), flip_shares=self.flip_shares.to_numpy())
        if counts.images.ndim:
            return values
        return {name: np.asarray(value).tolist() for name, value in values.items()}

    def _with_images_in_numpy(self) -> Self:
        """Returns the counts with numbers of images as NumPy arrays, whose quotients are float64."""
        return dataclasses.replace(
            self,
            images=np.asarray(self.images),
            foreground_images=np.asarray(self.foreground_images),
            flipped_images=np.asarray(self.flipped_images),
        )


def _summarize(counts: FlipCounts, names: Sequence[str], *, pixels: Array, flip_shares: Array) -> Summary:
    """Returns the summary of counts.

    Args:
        counts: of which it reads the background and the numbers of images, arrays of the same kind as `pixels`.
        names: of all C classes.
        pixels: `counts.pixels` as an array (..., C, C), NumPy's or JAX's.
        flip_shares: `counts.flip_shares` as an array (...).
    """
    foreground = np.flatnonzero(is_foreground(len(names), counts.background))
    ratios = pixel_ratios(pixels, background=counts.background)
    from_images = {
        "n_images": counts.images,
        "flip_image_mean": divide(flip_shares, counts.foreground_images) / (1 << SHARE_BITS),
        # A share under this key, though the field of this name is a number of images.
        "flipped_images": divide(counts.flipped_images, counts.foreground_images),
    }
    summary = {}
    for evaluator in EVALUATORS:
        key = evaluator.quantity.key
        if key in from_images:
            summary[key] = from_images[key]
        elif evaluator.mean_of_pixels is not None:
            summary[key] = mean_over_classes(evaluator.mean_of_pixels(ratios))
        # What is no rate of pixels is left out: it needs each image, with its flip-risk, group or scene.
        elif evaluator.of_pixels is not None:
            value = evaluator.of_pixels(ratios).value
            if is_per_class(evaluator.quantity):
                for column, class_key in enumerate(class_keys(evaluator.quantity, names, foreground)):
                    summary[class_key] = value[..., column]
            else:
                summary[key] = value
    summary["flip_matrix"] = pixels
    return summary


def _registered(cls: type) -> Any:
    """Returns the class, registered as a pytree whose background is static."""
    fields = [field.name for field in dataclasses.fields(cls) if field.name != "background"]
    return jax.tree_util.register_dataclass(cls, data_fields=fields, meta_fields=["background"])


_registered(FlipCounts)
