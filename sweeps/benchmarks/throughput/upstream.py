"""Times the convolutions of a small U-Net on one CPU core, inside `lax.scan`; needs JAX alone, for a report upstream.

taskset -c 0 python sweeps/benchmarks/throughput/upstream.py    (once for each version of JAX, several times in turn)

oneDNN comes last: from JAX 0.11 on, writing such a program to the compilation cache ends the process (SIGSEGV in
CustomCallThunkToProto, which takes the oneDNN thunk for a custom call).
"""

import statistics
import time

import jax
import jax.numpy as jnp
from jax import lax

# Name, images NHWC, kernel HWIO, strides, padding, kernel dilation, calls in a training step.
SHAPES = [
    ("padded, 4 columns at once", (16, 32, 32, 8), (3, 6, 8, 32), (1, 4), (1, 1), (1, 1), 6),
    ("padded, 2 columns at once", (16, 16, 16, 16), (3, 4, 16, 32), (1, 2), (1, 1), (1, 1), 6),
    ("padded", (16, 8, 8, 32), (3, 3, 32, 32), (1, 1), (1, 1), (1, 1), 2),
    ("padded at one end", (16, 9, 9, 32), (2, 2, 32, 64), (1, 1), (0, 1), (1, 1), 1),
    ("padded at one end", (16, 17, 17, 16), (2, 2, 16, 32), (1, 1), (0, 1), (1, 1), 1),
    ("kernel gradient, 4 columns", (8, 32, 32, 16), (32, 8, 16, 32), (1, 1), (1, 1), (1, 4), 3),
    ("kernel gradient, 2 columns", (16, 16, 16, 16), (16, 8, 16, 32), (1, 1), (1, 1), (1, 2), 3),
    ("kernel gradient", (32, 8, 8, 16), (8, 8, 16, 32), (1, 1), (1, 1), (1, 1), 1),
]
EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
COMPILERS = {"XLA's choice": {}, "Eigen": EIGEN, "oneDNN": EIGEN | {"xla_cpu_experimental_onednn_custom_call": True}}
STEPS, ROUNDS = 200, 9


def milliseconds(compiler, images, kernel, strides, padding, dilation):
    options = {"padding": [padding] * 2, "rhs_dilation": dilation}
    options["dimension_numbers"] = ("NHWC", "HWIO", "NHWC")

    def step(carry, _):
        x, w, carry = lax.optimization_barrier((jnp.ones(images), jnp.ones(kernel), carry))
        return carry + lax.conv_general_dilated(x, w, strides, **options).ravel()[0], None

    run = (
        jax.jit(lambda: lax.scan(step, jnp.float32(0), None, length=STEPS)[0], compiler_options=compiler)
        .lower()
        .compile()
    )
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run().block_until_ready()
        times.append((time.perf_counter() - start) / STEPS * 1e3)
    return statistics.median(times)


print(f"JAX {jax.__version__}, milliseconds a call, median of {ROUNDS}: {', '.join(COMPILERS)}")
totals = [0.0] * len(COMPILERS)
for name, *shape, calls in SHAPES:
    took = [milliseconds(compiler, *shape) for compiler in COMPILERS.values()]
    totals = [total + calls * each for total, each in zip(totals, took, strict=True)]
    print(*(f"{each:7.3f}" for each in took), f" x {calls}  {name}: {shape[0]} * {shape[1]}")
print(*(f"{total:7.2f}" for total in totals), " of a training step")
