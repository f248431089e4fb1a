"""Images a second of the paper's two U-Nets at 512 x 512 on a CPU: flipjax beside PyTorch, taking turns.

    python sweeps/benchmarks/throughput/inference.py [--size 512] [--rounds 5] [--batches 1 4] [--out inference.csv]

Every contender lives in a process of its own and waits while another works; both have the same weights, and their
logits are compared first. Needs PyTorch and segmentation_models_pytorch (pip install -e '.[bench]'), and Linux.
"""

import argparse
import multiprocessing
import os
import pathlib
import statistics
import time

import numpy as np

from flipjax.results.frames import write_csv

HERE = pathlib.Path(__file__).parent
CORES = len(os.sched_getaffinity(0))
ENCODERS = ("resnet50", "mit_b2")
CONTENDERS = ("flipjax, one device", "flipjax, a device a core", "PyTorch", "PyTorch, channels_last")


def weights_of(encoder):
    """Returns the same weights for all: He-scaled kernels, norms near the identity."""
    from flipjax.config import ModelSpec
    from flipjax.models.weights import shapes_of

    rng, state = np.random.default_rng(0), {}
    for name, shape in shapes_of(ModelSpec(name=f"smp_{encoder}"), 3).items():
        if len(shape) > 1:
            state[name] = (rng.standard_normal(shape) * np.sqrt(1 / np.prod(shape[1:]))).astype(np.float32)
        else:
            ones = name.endswith("running_var") or name.endswith("weight")
            state[name] = np.full(shape, ones, np.float32)
    return state


def make_flipjax(encoder, devices):
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    from flax import nnx
    from jax.sharding import Mesh, NamedSharding
    from jax.sharding import PartitionSpec as P

    from flipjax.config import ModelSpec
    from flipjax.training.model import Model

    spec, names = ModelSpec(name=f"smp_{encoder}"), ("background", "cat", "dog")
    graph, state = nnx.split(Model.from_state_dict(weights_of(encoder), spec, names, 512).nnx())
    mesh = Mesh(np.array(jax.devices()), ("images",))
    state = jax.device_put(state, NamedSharding(mesh, P()))

    def local(state, images):
        return nnx.merge(graph, state)(images)

    specs = {"in_specs": (P(), P("images")), "out_specs": P("images"), "check_vma": False}
    call = jax.jit(jax.shard_map(local, mesh=mesh, **specs))

    def run(images):
        return np.asarray(call(state, jax.device_put(images, NamedSharding(mesh, P("images")))))

    return run


def make_torch(encoder, channels_last):
    import segmentation_models_pytorch
    import torch

    torch.set_num_threads(CORES)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = segmentation_models_pytorch.Unet(encoder, encoder_weights=None, classes=3).eval()
    weights = {name: torch.from_numpy(array) for name, array in weights_of(encoder).items()}
    model.load_state_dict(model.state_dict() | weights)
    model = model.to(memory_format=layout)

    def run(images):
        with torch.inference_mode():
            batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
            return model(batch).permute(0, 2, 3, 1).numpy()

    return run


def serve(pipe, name, encoder):
    """Builds a contender in its own process, then answers with seconds and logits until told to stop."""
    if name.startswith("flipjax"):
        run = make_flipjax(encoder, 1 if "one" in name else CORES)
    else:
        run = make_torch(encoder, "channels_last" in name)
    while (images := pipe.recv()) is not None:
        start = time.perf_counter()
        logits = run(images)
        pipe.send((time.perf_counter() - start, logits))


def compare(encoder, names, batches, size, rounds):
    context, pipes, processes = multiprocessing.get_context("spawn"), {}, []
    for name in names:
        pipes[name], there = context.Pipe()
        processes.append(context.Process(target=serve, args=(there, name, encoder), daemon=True))
        processes[-1].start()
    rows, rng = [], np.random.default_rng(1)

    def ask(name, images):
        pipes[name].send(images)
        return pipes[name].recv()

    for batch in batches:
        images = rng.random((batch, size, size, 3), np.float32)
        taking = [name for name in names if batch % CORES == 0 or "a core" not in name]
        warm = {name: ask(name, images)[1] for name in taking}
        wanted = warm[names[-1]]
        worst = max(float(np.abs(logits - wanted).max() / np.abs(wanted).max()) for logits in warm.values())
        assert worst < 1e-4, f"{encoder}: logits differ by {worst} of the largest"
        speeds = {name: [] for name in taking}
        for number in range(rounds):
            for name in taking[number % len(taking) :] + taking[: number % len(taking)]:
                speeds[name].append(batch / ask(name, images)[0])
        for name, rates in speeds.items():
            rows.append(
                {
                    "encoder": encoder,
                    "batch": batch,
                    "contender": name,
                    "images_per_second": f"{statistics.median(rates):.3f}",
                    "lowest": f"{min(rates):.3f}",
                    "highest": f"{max(rates):.3f}",
                    "rounds": rounds,
                    "largest_difference": f"{worst:.1e}",
                }
            )
            print(*rows[-1].values(), flush=True)
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 4))
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=ENCODERS)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "inference.csv")
    options = parser.parse_args()
    rows = []
    for encoder in options.encoders:
        compared = compare(encoder, CONTENDERS, options.batches, options.size, options.rounds)
        rows += compared
        for batch in options.batches:
            best = {
                side: max(
                    float(row["images_per_second"])
                    for row in compared
                    if row["batch"] == batch and row["contender"].startswith(side)
                )
                for side in ("flipjax", "PyTorch")
            }
            print(f"{encoder}, batch {batch}: best PyTorch / best flipjax {best['PyTorch'] / best['flipjax']:.2f}")
    write_csv(options.out, rows)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
