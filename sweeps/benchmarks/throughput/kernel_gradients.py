"""Milliseconds of a convolution's kernel gradient in the forms that were tried, by library.

taskset -c 0 python sweeps/benchmarks/throughput/kernel_gradients.py
"""

import functools
import pathlib
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from roofline import seconds

from flipjax.backend.compiler import fast_jit
from flipjax.models.convolutions import cross_correlation
from flipjax.models.convolutions import stride_one as convolution

SHAPES = [(16, 64, 16, 16), (16, 128, 16, 16), (16, 32, 32, 32), (16, 48, 8, 8)]
"""Batch, size, channels in and out."""


def summed(images, gradient, *, form, pixels, blocked=cross_correlation.BLOCKED):
    """A form of `cross_correlation.cross_correlate`, with a number of pixels at once."""
    chosen = {"cross_correlate": form, "_pixels_abreast": lambda *_: pixels}
    with mock.patch.multiple(convolution, **chosen), mock.patch.object(cross_correlation, "BLOCKED", blocked):
        shape = (3, 3, images.shape[-1], gradient.shape[-1])
        return convolution.kernel_gradient(images, gradient, shape)


by_rows = functools.partial(summed, form=cross_correlation.by_rows)
by_images = functools.partial(summed, form=cross_correlation.by_images)


def derived(images, gradient):
    """XLA's own."""
    kernel = jnp.zeros((3, 3, images.shape[-1], gradient.shape[-1]))

    def forward(kernel):
        return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    return jax.linear_transpose(forward, kernel)(gradient)[0]


def columns_of(images):
    """Three columns beside one another: (B, H, W, C) to (B, H, W, 3 C)."""
    W = images.shape[2]
    padded = jnp.pad(images, ((0, 0), (0, 0), (1, 1), (0, 0)))
    return jnp.concatenate([padded[:, :, i : i + W] for i in range(3)], axis=-1)


def products(images, gradient):
    """A matrix product for each row of the kernel."""
    _, H, _, C = images.shape
    outputs = gradient.shape[-1]
    wide = jnp.pad(columns_of(images), ((0, 0), (1, 1), (0, 0), (0, 0)))
    wide, gradient = lax.optimization_barrier((wide, gradient))
    flat = gradient.reshape(-1, outputs)
    rows = [lax.dot_general(wide[:, i : i + H].reshape(-1, 3 * C), flat, (((0,), (0,)), ((), ()))) for i in range(3)]
    return jnp.stack(rows).reshape(3, 3, C, outputs)


def products_by_image(images, gradient):
    """The same, image by image."""

    def add(index, total):
        return total + products(*(lax.dynamic_slice_in_dim(values, index, 1) for values in (images, gradient)))

    zero = jnp.zeros((3, 3, images.shape[-1], gradient.shape[-1]))
    return lax.fori_loop(0, len(images), add, zero)


FORMS = {
    "by rows, one pixel": functools.partial(by_rows, pixels=1),
    "by rows, two pixels": functools.partial(by_rows, pixels=2),
    "by rows, four pixels": functools.partial(by_rows, pixels=4),
    "by rows, one pixel, without blocks": functools.partial(by_rows, pixels=1, blocked=2**40),
    "by images, one pixel": functools.partial(by_images, pixels=1),
    "by images, two pixels": functools.partial(by_images, pixels=2),
    "by images, one pixel, without blocks": functools.partial(by_images, pixels=1, blocked=2**40),
    "products": products,
    "products by image": products_by_image,
    "XLA's own": derived,
}


def main():
    for batch, size, inputs, outputs in SHAPES:
        rng = np.random.default_rng(0)
        images = jnp.asarray(rng.standard_normal((batch, size, size, inputs)), jnp.float32)
        gradient = jnp.asarray(rng.standard_normal((batch, size, size, outputs)), jnp.float32)
        for library in ("xla", "onednn"):
            wanted = fast_jit(FORMS["by rows, one pixel"])(images, gradient)
            for name, form in FORMS.items():
                result = fast_jit(form, convolutions=library)(images, gradient)
                np.testing.assert_allclose(result, wanted, rtol=1e-3, atol=1e-2)
                took = 1e3 * seconds(form, images, gradient, convolutions=library)
                print(f"{size} px, {inputs} to {outputs}, {library}: {name} {took:.2f} ms", flush=True)


if __name__ == "__main__":
    print(f"JAX {jax.__version__}, {pathlib.Path(__file__).name}")
    main()
