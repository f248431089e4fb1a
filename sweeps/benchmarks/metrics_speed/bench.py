"""How long `flipjax.metrics.decompose` takes against reading its logits once.

    python sweeps/benchmarks/metrics_speed/bench.py

All formulations are timed in turn, round after round, on the same logits; each must return the same counts. PyTorch is
measured where it can be imported. Prints a table and writes results.csv beside this file.
"""

import argparse
import os
import pathlib
import platform
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from flipjax import metrics
from flipjax.results.frames import write_csv

CLASSES = 3


@jax.jit
def plain(logits, labels):
    """Returns counts by argmax and C * C masked sums, and the entropy from a log-softmax."""
    prediction = jnp.argmax(logits, axis=-1)
    counts = [
        [jnp.sum((labels == truth) & (prediction == p), axis=(-2, -1)) for p in range(CLASSES)]
        for truth in range(CLASSES)
    ]
    log_probability = jax.nn.log_softmax(logits[..., 1:])
    entropy = -jnp.sum(jnp.exp(log_probability) * log_probability, axis=-1)
    return jnp.array(counts), jnp.sum(entropy, axis=(-2, -1), where=prediction > 0)


def pytorch(logits, labels):
    """Returns the same in vectorised PyTorch, counting with one bincount; None where PyTorch is absent."""
    try:
        import torch
    except ImportError:
        return None
    logits, labels = torch.from_numpy(np.array(logits)), torch.from_numpy(np.array(labels)).long()

    def run():
        with torch.inference_mode():
            prediction = logits.argmax(-1)
            image = torch.arange(len(logits)).view(-1, 1, 1)
            cells = (image * CLASSES + labels) * CLASSES + prediction
            counts = torch.bincount(cells.flatten(), minlength=len(logits) * CLASSES**2)
            log_probability = torch.log_softmax(logits[..., 1:], -1)
            entropy = -(log_probability.exp() * log_probability).sum(-1)
            return counts, (entropy * (prediction > 0)).sum((-2, -1))

    return run


def measure(calls, rounds):
    """Returns milliseconds of each call in each round."""
    times = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def check_counts(calls):
    total = np.asarray(calls["flipjax decompose"]().confusion)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(calls["plain JAX"]()[0]), -1, 0), total)
    if "PyTorch" in calls:
        np.testing.assert_array_equal(calls["PyTorch"]()[0].reshape(total.shape), total)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    shape = (options.images, options.size, options.size)
    logits = jnp.asarray(rng.normal(0, 3, (*shape, CLASSES)).astype(np.float32))
    labels = jnp.asarray(rng.integers(0, CLASSES, shape).astype(np.uint8))
    wide_labels, half_logits = labels.astype(jnp.int32), logits.astype(jnp.bfloat16)
    read, decompose, flip_risk = jax.jit(jnp.sum), jax.jit(metrics.decompose), jax.jit(metrics.flip_risk)
    calls = {
        "one read (jnp.sum)": lambda: read(logits),
        "flipjax decompose": lambda: decompose(logits, labels),
        "flipjax decompose, int32 labels": lambda: decompose(logits, wide_labels),
        "flipjax decompose, bfloat16 logits": lambda: decompose(half_logits, labels),
        "flipjax decompose, not jitted": lambda: metrics.decompose(logits, labels),
        "flipjax flip_risk": lambda: flip_risk(logits),
        "plain JAX": lambda: plain(logits, labels),
    }
    if run := pytorch(logits, labels):
        calls["PyTorch"] = run
    check_counts(calls)
    times = measure(calls, options.rounds)

    one_read = statistics.median(times["one read (jnp.sum)"])
    rows = []
    for name, values in times.items():
        median = statistics.median(values)
        rows.append(
            {
                "formulation": name,
                "median_ms": f"{median:.2f}",
                "best_ms": f"{min(values):.2f}",
                "images_per_second": f"{1e3 * options.images / median:.0f}",
                "times_one_read": f"{median / one_read:.2f}",
            }
        )
    print(f"logits {(*shape, CLASSES)} float32, {jax.devices()[0].device_kind}, {os.cpu_count()} cores,", end=" ")
    print(f"Python {platform.python_version()}, JAX {jax.__version__}, median of {options.rounds} rounds")
    print(f"{'':36}{'ms':>8}{'best':>8}{'images/s':>10}{'reads':>8}")
    for row in rows:
        name, *figures = row.values()
        print(f"{name:36}" + "".join(f"{v:>{w}}" for v, w in zip(figures, (8, 8, 10, 8), strict=True)))
    write_csv(pathlib.Path(__file__).with_name("results.csv"), rows)


if __name__ == "__main__":
    main()
