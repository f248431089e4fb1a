"""What an unpadded convolution costs XLA:CPU: python sweeps/benchmarks/throughput/padding.py

The corners of a U-Net's decoder (`flipjax.models.convolution.convolve_doubled`), their gradients of images and of
kernels, each padded beforehand and by the convolution: milliseconds on one core, and whether XLA calls YNNPACK.
"""

import os
import platform
import statistics
import time

import jax
import jax.numpy as jnp
from jax import lax

BATCH, WIDTH = 16, 32  # channels of the small image; half as many come out
PLAIN, LOW, HIGH = ((0, 0), (0, 0)), ((1, 0), (1, 0)), ((0, 1), (0, 1))


def forms(size):
    """Shapes of image and kernel, and the padding, of each pass unpadded and padded."""
    corners = 4 * WIDTH // 2
    more = size + 1
    kernel, turned = (2, 2, WIDTH, corners), (2, 2, corners, WIDTH)
    gradient = (corners, more, more, BATCH)
    return {
        "forward": (((BATCH, more + 1, more + 1, WIDTH), kernel, PLAIN), ((BATCH, more, more, WIDTH), kernel, HIGH)),
        "image gradient": (((BATCH, more, more, corners), turned, PLAIN), ((BATCH, more, more, corners), turned, LOW)),
        "kernel gradient": (
            (gradient, (size, size, BATCH, WIDTH), PLAIN),
            (gradient, (more, more, BATCH, WIDTH), LOW),
        ),
    }


def measure(image, kernel, padding, *, repeats=9):
    """Returns milliseconds, the median, and whether the convolution is YNNPACK's."""
    arguments = jnp.ones(image), jnp.ones(kernel)
    layout = ("NHWC", "HWIO", "NHWC")
    call = jax.jit(lambda *a: lax.conv_general_dilated(*a, (1, 1), padding, dimension_numbers=layout))
    compiled = call.lower(*arguments).compile()
    compiled(*arguments).block_until_ready()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        compiled(*arguments).block_until_ready()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times), "ynn" in compiled.as_text()


def main():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"Python {platform.python_version()}, JAX {jax.__version__}, one core")
    for size in (8, 16, 24, 32, 64):
        for name, both in forms(size).items():
            (plain, library), (padded, other) = (measure(*form) for form in both)
            called = "YNNPACK" if library and other else f"YNNPACK: {library}, {other}"
            print(f"{size:3} {name:15} unpadded {plain:6.2f} ms, padded {padded:6.2f} ms  {called}", flush=True)


if __name__ == "__main__":
    main()
