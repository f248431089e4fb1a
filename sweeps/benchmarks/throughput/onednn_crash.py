"""Shows that XLA:CPU cannot serialize a program with oneDNN's convolution; needs JAX alone, for a report upstream.

python sweeps/benchmarks/throughput/onednn_crash.py

From JAX 0.11 on the process ends in the write to the compilation cache: SIGSEGV in CustomCallThunkToProto, which takes
the oneDNN thunk for a custom call; some runs raise std::bad_alloc. Without the first line of code it ends well.
"""

import tempfile

import jax
import jax.numpy as jnp

jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
options = {"xla_cpu_experimental_onednn_custom_call": True}
images, kernel = jnp.ones((1, 32, 32, 16)), jnp.ones((3, 3, 16, 16))
convolve = jax.jit(
    lambda images, kernel: jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ),
    compiler_options=options,
)
print(f"JAX {jax.__version__}: {convolve(images, kernel).sum()}, and the process is alive")
