"""Times `flipjax.metrics.decompose` against one read of its logits, a plain JAX formulation and PyTorch.

    python sweeps/benchmarks/metrics_speed/bench.py [--classes 3 5 9 21 150 1000] [--rounds 25] [--out FILE]

Formulations take turns, round after round, on the same logits, and must return the same counts. In its turn each is
called twice and the second call timed, so that all find the caches as they leave them. PyTorch, where it can be
imported, comes after the others, as its threads wait busily. Prints a table and writes FILE, or results.csv beside this
file.
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
from flipjax.support.frames import write_csv

PIXELS, SCORES = 1 << 21, 1 << 27
"""Pixels and logits of a case at most: 128 images of 128 x 128 pixels, of many classes 512 MiB."""
SIDE = 128
COLUMNS = ("classes", "formulation", "median_ms", "best_ms", "images_per_second", "times_one_read", "first_call_s")


@jax.jit
def plain(logits, labels):
    """Returns counts by argmax and a scatter, and the entropy from a log-softmax."""
    C = logits.shape[-1]
    prediction = jnp.argmax(logits, axis=-1)
    cells = (labels.astype(jnp.int32) * C + prediction).reshape(len(logits), -1)
    counts = jax.vmap(lambda each: jnp.bincount(each, length=C * C))(cells)
    log_probability = jax.nn.log_softmax(logits[..., 1:])
    entropy = -jnp.sum(jnp.exp(log_probability) * log_probability, axis=-1)
    return counts, jnp.sum(entropy, axis=(-2, -1), where=prediction > 0)


def pytorch_calls(logits, labels):
    """Returns formulations in PyTorch by name, with whether they read bfloat16; none where PyTorch is absent.

    The first is written down as the definition reads, of the layout of JAX. The second is a careful user's, of
    PyTorch's own layout (N, C, H, W): one argmax, one bincount and one log-softmax over the foreground, in float32
    whatever the logits are. The last is flipjax's, which checks labels, too.
    """
    try:
        import torch
    except ImportError:
        return {}
    last = torch.from_numpy(np.array(logits))
    first = last.movedim(-1, 1).contiguous()
    half = first.bfloat16()
    labels = torch.from_numpy(np.array(labels)).long()
    C = logits.shape[-1]
    images = torch.arange(len(labels)).view(-1, 1, 1)

    def count(prediction):
        cells = (images * C + labels) * C + prediction
        return torch.bincount(cells.flatten(), minlength=len(labels) * C**2)

    @torch.inference_mode()
    def plainly():
        prediction = last.argmax(-1)
        log_probability = torch.log_softmax(last[..., 1:], -1)
        entropy = -(log_probability.exp() * log_probability).sum(-1)
        return count(prediction), (entropy * (prediction > 0)).sum((-2, -1))

    @torch.inference_mode()
    def carefully(outputs):
        prediction = outputs.argmax(1)
        log_probability = torch.log_softmax(outputs[:, 1:], 1, dtype=torch.float32)
        entropy = -torch.linalg.vecdot(log_probability.exp(), log_probability, dim=1)
        return count(prediction), torch.where(prediction > 0, entropy, 0).sum((1, 2))

    def by_flipjax(outputs):
        metric = metrics.FlipMetric(channels="first")
        metric.update(outputs, labels)
        return metric.decomposition.confusion, metric.decomposition.risk_sum

    return {
        "PyTorch": (plainly, False),
        "PyTorch, with care": (lambda: carefully(first), False),
        "PyTorch, with care, bfloat16 logits": (lambda: carefully(half), True),
        "flipjax FlipMetric, tensors": (lambda: by_flipjax(first), False),
        "flipjax FlipMetric, tensors, bfloat16 logits": (lambda: by_flipjax(half), True),
    }


def measure(classes, rounds):
    """Returns rows of one number of classes."""
    images = min(PIXELS, SCORES // classes) // SIDE**2
    generator = np.random.default_rng(classes)
    logits = generator.normal(0, 3, (images, SIDE, SIDE, classes)).astype(np.float32)
    labels = generator.integers(0, classes, logits.shape[:-1]).astype(np.uint8 if classes <= 256 else np.int32)
    own, own_labels = jnp.asarray(logits), jnp.asarray(labels)
    half, read = own.astype(jnp.bfloat16), jax.jit(jnp.sum)
    decompose, flip_risk = jax.jit(metrics.decompose), jax.jit(metrics.flip_risk)
    calls = {
        "one read (jnp.sum)": lambda: read(own),
        "flipjax decompose": lambda: decompose(own, own_labels),
        "flipjax decompose, bfloat16 logits": lambda: decompose(half, own_labels),
        "flipjax decompose, NumPy arrays, not jitted": lambda: metrics.decompose(logits, labels),
        "flipjax flip_risk": lambda: flip_risk(own),
        "plain JAX": lambda: plain(own, own_labels),
    }
    of_pytorch = pytorch_calls(own, own_labels)
    first, times = {}, {}
    for group in (calls, {name: call for name, (call, _) in of_pytorch.items()}):
        for name, call in group.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            first[name], times[name] = time.perf_counter() - start, []
        for _ in range(rounds):
            for name, call in group.items():
                jax.block_until_ready(call())
                start = time.perf_counter()
                jax.block_until_ready(call())
                times[name].append(1e3 * (time.perf_counter() - start))
    expected = decompose(own, own_labels)
    expected_of_half = decompose(half, own_labels)
    for call, is_half in ((calls["plain JAX"], False), *of_pytorch.values()):
        counts, entropies = call()
        of_flipjax = expected_of_half if is_half else expected
        np.testing.assert_array_equal(np.asarray(counts).ravel(), np.asarray(of_flipjax.confusion).ravel())
        np.testing.assert_allclose(entropies, of_flipjax.risk_sum, rtol=1e-4)
    one_read = statistics.median(times["one read (jnp.sum)"])
    rows = []
    for name, values in times.items():
        median = statistics.median(values)
        figures = f"{median:.2f}", f"{min(values):.2f}", f"{1e3 * images / median:.0f}", f"{median / one_read:.2f}"
        rows.append(dict(zip(COLUMNS, (classes, name, *figures, f"{first[name]:.2f}"), strict=True)))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[3, 5, 9, 21, 150, 1000])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).with_name("results.csv"))
    options = parser.parse_args()
    machine = f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, JAX {jax.__version__}, median of {options.rounds} rounds")
    rows = []
    for classes in options.classes:
        rows += measure(classes, options.rounds)
    for row in rows:
        print(f"{row['classes']:>6}  {row['formulation']:46}" + "".join(f"{row[name]:>10}" for name in COLUMNS[2:]))
    write_csv(options.out, rows)


if __name__ == "__main__":
    main()
