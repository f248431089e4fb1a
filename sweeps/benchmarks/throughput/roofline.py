"""Compares each layer of the benchmark's U-Net with what one core can do: FLOPs, bytes and measured speed.

    taskset -c 0 python sweeps/benchmarks/throughput/roofline.py [--size 32 64 128] [--convolutions xla] [--out FILE]

A pass runs alone in a loop, and its time is that of the processor, which other programs hardly change. Its FLOPs are
those of the definition, without wasted taps, and its bytes those of every input and output, once. Its roof is the
longer of two times: of the FLOPs in a matrix product, and of the bytes in a copy within the second-level cache.
"""

import argparse
import collections
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
from jax import lax

from flipjax.backend.compiler import fast_jit
from flipjax.models.convolutions.doubled import convolve_doubled
from flipjax.models.convolutions.stride_one import convolve
from flipjax.models.packs import layers as pack_layers
from flipjax.models.packs import network as pack_network
from flipjax.support.frames import write_csv

BATCH, WIDTH, CLASSES, ROUNDS, SECONDS = 16, 16, 3, 5, 0.05


def seconds(function, *arguments, convolutions="xla"):
    """Returns the median time of a call inside a loop."""

    def repeat(count, *given):
        def step(_, carry):
            # A call waits for the one before, and what a loop carries is written out whole.
            *own, total = lax.optimization_barrier((*given, carry[0]))
            outputs = jax.tree.leaves(function(*own))
            return total + outputs[0].ravel()[0], outputs

        shapes = jax.tree.leaves(jax.eval_shape(function, *given))
        zeros = [jnp.zeros(shape.shape, shape.dtype) for shape in shapes]
        return lax.fori_loop(0, count, step, (jnp.float32(0), zeros))

    program = fast_jit(repeat, convolutions=convolutions)

    def timed(count):
        start = time.process_time()
        jax.block_until_ready(program(count, *arguments))
        return time.process_time() - start

    timed(1)
    count = max(2, int(SECONDS / timed(1)))
    return statistics.median(timed(count) for _ in range(ROUNDS)) / count


def normalise(images, scale, bias):
    return pack_layers.rectify(pack_layers._normalise_by_batch(images, scale, bias)[0])


def size_of(*trees):
    return sum(4 * leaf.size for leaf in jax.tree.leaves(trees))


def passes_of(kind, channels, function, arguments, flops):
    """Yields the passes of a layer: kind, channels, pass, function, arguments, FLOPs and bytes."""
    output = jax.eval_shape(function, *arguments)
    given, moved = (*arguments, jnp.ones(output.shape)), size_of(arguments, output)

    def backward(*given):
        return jax.vjp(function, *given[:-1])[1](given[-1])

    yield kind, channels, "forward", function, arguments, flops, moved
    if kind != "convolution":
        yield kind, channels, "backward", backward, given, 2 * flops, moved + size_of(arguments)
        return
    # Each of the gradients, too, reads two of these three arrays and writes the third.
    if arguments[0].shape[-1] > 3:
        yield kind, channels, "input gradient", lambda *given: backward(*given)[0], given, flops, moved
    yield kind, channels, "kernel gradient", lambda *given: backward(*given)[1], given, flops, moved


def layers(size):
    """Yields the passes of every layer at a size of images."""

    def images(level, channels):
        return jnp.ones((BATCH, size >> level, size >> level, channels))

    def products(level, pairs):
        return 2 * BATCH * (size >> level) ** 2 * pairs

    def then_norm(passes, level, channels):
        yield from passes
        given = images(level, channels), jnp.ones(channels), jnp.ones(channels)
        yield from passes_of("norm and ReLU", channels, normalise, given, 0)

    def convolution(level, inputs, outputs):
        given = images(level, inputs), jnp.ones((3, 3, inputs, outputs))
        named = f"{inputs} to {outputs}"
        passes = passes_of("convolution", named, convolve, given, products(level, 9 * inputs * outputs))
        return then_norm(passes, level, outputs)

    def doubled(level, outputs):
        given = images(level + 1, 2 * outputs), images(level, outputs), jnp.ones((3, 3, 3 * outputs, outputs))
        flops = products(level, (4 * 2 * outputs + 9 * outputs) * outputs)
        named = f"{2 * outputs} and {outputs} to {outputs}"
        return then_norm(passes_of("doubled and skip", named, convolve_doubled, given, flops), level, outputs)

    for level in range(3):
        outputs = WIDTH << level
        yield from convolution(level, outputs // 2 if level else 3, outputs)
        yield from convolution(level, outputs, outputs)
        if level < 2:
            yield from passes_of("halving", outputs, pack_layers.halve, (images(level, outputs),), 0)
    for level in (1, 0):
        outputs = WIDTH << level
        yield from doubled(level, outputs)
        yield from convolution(level, outputs, outputs)
    given = images(0, WIDTH), jnp.ones((WIDTH, CLASSES)), jnp.ones(CLASSES)
    yield from passes_of(
        "head", f"{WIDTH} to {CLASSES}", pack_network.planes_by_class, given, products(0, WIDTH * CLASSES)
    )


def limits():
    """Returns this core's FLOPs a second in a matrix product, and bytes a second of a copy of 1 MiB."""
    matrix, values = jnp.ones((1024, 1024)), jnp.ones(2**18)
    return 2 * 1024**3 / seconds(jnp.matmul, matrix, matrix), size_of(values, values) / seconds(jnp.negative, values)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=(32, 64, 128), help="sides of the images in pixels")
    parser.add_argument("--convolutions", choices=("xla", "onednn"), default="xla", help="their library")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "roofline.csv")
    options = parser.parse_args()
    speed, bandwidth = limits()
    print(f"JAX {jax.__version__}: a matrix product {speed / 1e9:.0f} GFLOP/s, a copy {bandwidth / 1e9:.1f} GB/s")
    rows, known = [], {}
    for size in options.size:
        for kind, channels, each, function, arguments, flops, moved in layers(size):
            images = "x".join(map(str, arguments[0].shape))
            name = {
                "convolutions": options.convolutions,
                "size": size,
                "layer": kind,
                "channels": channels,
                "pass": each,
                "images": images,
            }
            key = tuple(name.values())
            if key in known:
                known[key]["calls"] += 1
                continue
            took = seconds(function, *arguments, convolutions=options.convolutions)
            roof = max(flops / speed, moved / bandwidth)
            figures = {"mflop": flops / 1e6, "megabytes": moved / 1e6, "ms": took * 1e3, "gflop_s": flops / took / 1e9}
            figures |= {"gbyte_s": moved / took / 1e9, "of_roof": roof / took}
            known[key] = name | {"calls": 1} | {column: f"{value:.3g}" for column, value in figures.items()}
            rows.append(known[key])
            print(*rows[-1].values(), sep=", ", flush=True)
        write_csv(options.out, rows)
        summarise([row for row in rows if row["size"] == size])


def summarise(rows):
    """Prints a step's milliseconds by layer and pass, and the share of their roof that they reach."""
    table = collections.defaultdict(lambda: [0.0, 0.0])
    for row in rows:
        took = row["calls"] * float(row["ms"])
        for kind in (f"{row['layer']}, {row['pass']}", "all"):
            table[kind][0] += took
            table[kind][1] += took * float(row["of_roof"])
    for kind, (took, roof) in sorted(table.items(), key=lambda item: -item[1][0]):
        print(f"{rows[0]['size']} px {took:8.2f} ms, {roof / took:.2f} of its roof: {kind}")


if __name__ == "__main__":
    main()
