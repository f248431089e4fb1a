"""What one card makes of a population: samples a second by form, K and dtype; a layer apart; decompose; PyTorch.

    pip install -e '.[cuda]'; python sweeps/benchmarks/throughput/gpu.py [--minutes 7] [--out gpu.csv]
    python sweeps/benchmarks/throughput/gpu.py --device cpu --tiny      # the same code on any machine

Each row is written as soon as it is measured. Nothing new begins once three quarters of the time are over.
"""

import argparse
import dataclasses
import importlib.util
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import jax_contenders
import layers
from contest import Contender, Running

from flipjax import metrics
from flipjax.support.frames import write_csv


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="few members and repeats: to see that it runs")
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).with_name("gpu.csv"))
    return parser.parse_args()


OPTIONS = parse()
jax.config.update("jax_platforms", OPTIONS.device)
BEGAN = time.perf_counter()
MEMBERS = (1, 2) if OPTIONS.tiny else (1, 4, 16, 32, 64, 256)
STEPS = 1 if OPTIONS.tiny else 8
ROUNDS = 1 if OPTIONS.tiny else 5
# Each compiled model compiles by itself: a single one, for their speed one after another does not depend on K.
PEERS = (
    (("eager", 2, 1),) if OPTIONS.tiny else (("eager", 1, 1), ("eager", 32, 1), ("eager", 16, 16), ("compiled", 1, 1))
)
DTYPES = ("float32", "bfloat16")


def in_time():
    return time.perf_counter() - BEGAN < 0.75 * 60 * OPTIONS.minutes


def seconds(function):
    """Returns seconds of the first call, and the median of the others."""
    times = []
    for _ in range(1 + ROUNDS):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return times[0], statistics.median(times[1:])


def populations():
    """Yields samples a second of whole epochs, as a sweep runs them."""
    whole = jax_contenders.EXPERIMENT
    for members in MEMBERS:
        for dtype in DTYPES:
            model = dataclasses.replace(whole.model, dtype=dtype)
            jax_contenders.EXPERIMENT = dataclasses.replace(whole, model=model)
            for form in ("packed", "vmap", "loop"):
                if not in_time():
                    return
                made = jax_contenders.Flipjax(members=members, steps=STEPS, map=form)
                first, rest = seconds(made.epoch)
                rate = members * STEPS * jax_contenders.BATCH / rest
                yield {"what": "epoch", "form": form, "K": members, "dtype": dtype} | row(
                    first, rest, rate, "samples/s"
                )
    jax_contenders.EXPERIMENT = whole


def convolutions():
    """Times a layer of members that fill 128 lanes, in each form; a gradient's time holds the forward pass it needs."""
    size, channels, members = (8, 16, 2) if OPTIONS.tiny else (32, 16, 8)
    for dtype in DTYPES:
        for form in layers.FORMS:
            shape = {"members": members, "batch": jax_contenders.BATCH, "size": size, "channels": channels}
            given = [jnp.ones(part.shape, dtype) for part in layers.arguments(form, **shape, dtype=dtype)]
            useful = 2 * 9 * given[0].size * channels
            for name, function in layers.passes(form).items():
                if not in_time():
                    return
                compiled = jax.jit(function)
                first, rest = seconds(lambda run=compiled, given=given: run(*given))
                work = useful * (1 if name == "forward" else 2)
                yield {"what": name, "form": form, "K": members, "dtype": dtype} | row(
                    first, rest, work / rest / 1e9, "useful GFLOP/s"
                )


def peers():
    """Times PyTorch, models one after another and a process each; its images are ready, none is composed or flipped."""
    if not importlib.util.find_spec("torch"):
        print("PyTorch cannot be imported: its rows are left out", flush=True)
        return
    for form, members, processes in PEERS:
        if not in_time():
            return
        contender = Contender(f"PyTorch {form}", "torch_twin", f"{OPTIONS.device} {form}", processes)
        running = Running(contender, members)
        name = contender.name if processes == 1 else f"{contender.name}, a process each"
        try:
            running.wait_until_ready()
            first, _ = running.ask("epoch")
            rest = statistics.median(running.ask("epoch")[0] for _ in range(ROUNDS))
        except EOFError:
            print(f"{name}, K = {members}: its process ended; see its message above", flush=True)
            continue
        finally:
            for process in running.processes:
                process.terminate()
        yield {"what": "epoch", "form": name, "K": members, "dtype": "float32"} | row(
            first, rest, running.samples / rest, "samples/s"
        )


def reads():
    """Times `decompose` beside one plain read of its inputs."""
    count, size = (2, 32) if OPTIONS.tiny else (64, 512)
    logits = jax.random.normal(jax.random.key(0), (count, size, size, 3))
    labels = jax.random.randint(jax.random.key(1), (count, size, size), 0, 3)
    read = jax.jit(lambda logits, labels: (logits.sum(), labels.sum()))
    for name, function in (("decompose", jax.jit(metrics.decompose)), ("read", read)):
        first, rest = seconds(lambda run=function: run(logits, labels))
        rate = (logits.nbytes + labels.nbytes) / rest / 1e9
        yield {"what": name, "form": "", "K": "", "dtype": "float32"} | row(first, rest, rate, "GB/s")


def row(first, rest, rate, unit):
    return {"first_seconds": f"{first:.3f}", "seconds": f"{rest:.6f}", "rate": f"{rate:.1f}", "unit": unit}


def main():
    device = jax.devices()[0].device_kind
    rows = []
    for part in (reads, convolutions, peers, populations):
        for measured in part():
            rows.append({"device": device, "jax": jax.__version__} | measured)
            print(rows[-1], flush=True)
            write_csv(OPTIONS.out, rows)
    print(f"{time.perf_counter() - BEGAN:.0f} s; written to {OPTIONS.out}")


if __name__ == "__main__":
    main()
