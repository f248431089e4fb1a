"""One convolution of K members in the forms that a card could be given; `gpu.py` times and `compile.py` compiles it."""

from unittest import mock

import jax
import jax.numpy as jnp

from flipjax.models.convolutions import stride_one as convolution
from flipjax.models.convolutions import tracing
from flipjax.models.packs.pack import convolve_pack


def packed(images, kernels):
    """Returns the convolution of members side by side in channels, (B, H, W, K C), by one block-diagonal kernel."""
    (output,) = convolve_pack([images], kernels)
    return output


def vmapped(images, kernels):
    """Returns a convolution of K groups; images (K, B, H, W, C)."""
    return jax.vmap(convolution.convolve)(images, kernels)


def shifts(images, kernels):
    """Returns nine products of shifted images, the member being the batch of each; images (K, B, H, W, C)."""
    _, _, H, W, _ = images.shape
    height, width = kernels.shape[1:3]
    around = [(0, 0), (0, 0), (height // 2, height // 2), (width // 2, width // 2), (0, 0)]
    padded = jnp.pad(images, around)
    return sum(
        jnp.einsum("kbhwc,kco->kbhwo", padded[:, :, i : i + H, j : j + W], kernels[:, i, j])
        for i in range(height)
        for j in range(width)
    )


FORMS = {"packed": packed, "vmap": vmapped, "shifts": shifts}


def arguments(form, *, members, batch, size, channels, dtype):
    """Returns shapes of a form's images and kernels: 3 x 3, as many outputs as inputs."""
    images = (members, batch, size, size, channels)
    if form == "packed":
        images = (batch, size, size, members * channels)
    kernels = (members, 3, 3, channels, channels)
    return tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in (images, kernels))


def passes(form):
    """Returns the forward pass, and the gradients of images and of kernels alone, as functions of both."""

    def convolved(images, kernels):
        with mock.patch.object(tracing, "for_cpu", lambda: False):
            return FORMS[form](images, kernels)

    def gradient(which):
        def of(images, kernels):
            output, pull = jax.vjp(convolved, images, kernels)
            return pull(output)[which]

        return of

    return {"forward": convolved, "input gradient": gradient(0), "kernel gradient": gradient(1)}
