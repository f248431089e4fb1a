"""Images a second of the paper's two U-Nets on a CPU, inference or training: flipjax beside PyTorch, taking turns.

    python sweeps/benchmarks/throughput/inference.py [--train] [--size 512] [--rounds 5] [--batches 1 4]
                                                     [--only CONTENDER ...] [--torch PYTHON] [--out inference.csv]

Every contender lives in a process of its own and waits while another works; both have the same weights, and their
logits, or their losses before the first step, are compared first. Needs PyTorch and segmentation_models_pytorch
(pip install -e '.[bench]', or an interpreter that has them, `--torch`), and Linux.
"""

import argparse
import os
import pathlib
import statistics
import sys
import time
from multiprocessing.connection import Client

import numpy as np
from contest import start_process

HERE = pathlib.Path(__file__).parent
CORES = len(os.sched_getaffinity(0))
ENCODERS = ("resnet50", "mit_b2")
INFERENCE = (
    "flipjax, one device",
    "flipjax, one device, oneDNN",
    "flipjax, a device a core",
    "flipjax, a device a core, oneDNN",
    "PyTorch",
    "PyTorch, channels_last",
)
TRAINING = ("flipjax", "flipjax, oneDNN", "PyTorch", "PyTorch, channels_last")
RATE = 1e-4
STEPS = 3
"""Training steps at a time, on the same images."""


def weights_of(encoder):
    """Returns the same weights for all: He-scaled kernels, norms near the identity."""
    from flipjax.config import ModelSpec
    from flipjax.models.weights.pytorch_names import shapes_of

    rng, state = np.random.default_rng(0), {}
    for name, shape in shapes_of(ModelSpec(name=f"smp_{encoder}"), 3).items():
        if len(shape) > 1:
            state[name] = (rng.standard_normal(shape) * np.sqrt(1 / np.prod(shape[1:]))).astype(np.float32)
        else:
            ones = name.endswith("running_var") or name.endswith("weight")
            state[name] = np.full(shape, ones, np.float32)
    return state


def labels_of(images):
    """Returns classes (B, H, W) that follow from the images."""
    return (images.argmax(-1)).astype(np.int32)


def model_of(encoder, weights):
    """Returns flipjax's model of these weights, as a Flax module."""
    from flipjax.config import ModelSpec
    from flipjax.training.model import Model

    names = "background", "cat", "dog"
    return Model.from_state_dict(weights, ModelSpec(name=f"smp_{encoder}"), names, 512).nnx()


def make_flipjax(encoder, weights, devices, library):
    """Returns flipjax's inference, images (B, H, W, 3) to logits."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    from flax import nnx
    from jax.sharding import Mesh, NamedSharding
    from jax.sharding import PartitionSpec as P

    from flipjax.backend.compiler import fast_jit

    graph, state = nnx.split(model_of(encoder, weights))
    mesh = Mesh(np.array(jax.devices()), ("images",))
    state = jax.device_put(state, NamedSharding(mesh, P()))

    def local(state, images):
        return nnx.merge(graph, state)(images)

    specs = {"in_specs": (P(), P("images")), "out_specs": P("images"), "check_vma": False}
    sharded = jax.shard_map(local, mesh=mesh, **specs)
    call = fast_jit(sharded, convolutions="onednn") if library == "onednn" else jax.jit(sharded)

    def run(images):
        return np.asarray(call(state, jax.device_put(images, NamedSharding(mesh, P("images")))))

    return run


def make_flipjax_steps(encoder, weights, library):
    """Returns steps of Adam in one program, as in an epoch of a sweep: images to the loss before the first."""
    import jax
    import optax
    from flax import nnx

    from flipjax import losses
    from flipjax.backend.compiler import fast_jit
    from flipjax.backend.memory import keep_freed

    keep_freed()
    model = model_of(encoder, weights)
    model.train()
    graph, params, statistics = nnx.split(model, nnx.Param, ...)
    adam = optax.adam(RATE)

    def step(state, batch):
        params, statistics, optimiser = state
        images, labels = batch

        def loss_of(params):
            model = nnx.merge(graph, params, statistics, copy=True)
            loss = losses.cross_entropy(model(images), labels).mean()
            return loss, nnx.split(model, nnx.Param, ...)[2]

        (loss, moved), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, optimiser = adam.update(gradients, optimiser)
        return (optax.apply_updates(params, updates), moved, optimiser), loss

    def steps(state, batches):
        return jax.lax.scan(step, state, batches)

    call = fast_jit(steps, convolutions=library, donate_argnums=0)
    state = params, statistics, adam.init(params)

    def run(images):
        nonlocal state
        state, losses_before = call(state, (np.stack([images] * STEPS), np.stack([labels_of(images)] * STEPS)))
        return np.asarray(losses_before[0])

    return run


def make_torch(encoder, weights, *, channels_last, train):
    """Returns PyTorch's inference, or steps of its Adam."""
    import segmentation_models_pytorch
    import torch

    torch.set_num_threads(CORES)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = segmentation_models_pytorch.Unet(encoder, encoder_weights=None, classes=3).train(train)
    model.load_state_dict(model.state_dict() | {name: torch.from_numpy(array) for name, array in weights.items()})
    model = model.to(memory_format=layout)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)

    def batch_of(images):
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)

    def infer(images):
        with torch.inference_mode():
            return model(batch_of(images)).permute(0, 2, 3, 1).numpy()

    def step(images):
        loss = torch.nn.functional.cross_entropy(model(batch_of(images)), torch.from_numpy(labels_of(images)).long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach().numpy()

    def steps(images):
        losses_before = [step(images) for _ in range(STEPS)]
        return losses_before[0]

    return steps if train else infer


def make(name, encoder, weights, *, train):
    """Returns what a contender does with images."""
    if name.startswith("PyTorch"):
        return make_torch(encoder, weights, channels_last=name.endswith("last"), train=train)
    library = "onednn" if name.endswith("oneDNN") else "xla"
    if train:
        return make_flipjax_steps(encoder, weights, library)
    return make_flipjax(encoder, weights, CORES if "a core" in name else 1, library)


def serve(address):
    """Makes a contender in this process, then answers with seconds and results until told to stop."""
    with Client(address) as pipe:
        run = make(*pipe.recv(), train=pipe.recv())
        while (images := pipe.recv()) is not None:
            start = time.perf_counter()
            result = run(images)
            pipe.send((time.perf_counter() - start, result))


def compare(encoder, names, options):
    """Returns a row for each contender and batch."""
    pipes, processes, weights = {}, [], weights_of(encoder)
    for name in names:
        python = options.torch if name.startswith("PyTorch") else sys.executable
        process, pipes[name] = start_process([python, __file__])
        processes.append(process)
        pipes[name].send((name, encoder, weights))
        pipes[name].send(options.train)
    rows, rng = [], np.random.default_rng(1)

    def ask(name, images):
        pipes[name].send(images)
        return pipes[name].recv()

    for batch in options.batches:
        images = rng.random((batch, options.size, options.size, 3), np.float32)
        count = batch * STEPS if options.train else batch
        taking = [name for name in names if batch % CORES == 0 or "a core" not in name]
        warm = {name: ask(name, images) for name in taking}
        wanted = warm[names[-1]][1]
        worst = max(float(np.abs(result - wanted).max() / np.abs(wanted).max()) for _, result in warm.values())
        check_results(worst, encoder, stepped=options.train and bool(rows), train=options.train)
        speeds = {name: [] for name in taking}
        for number in range(options.rounds):
            for name in taking[number % len(taking) :] + taking[: number % len(taking)]:
                speeds[name].append(count / ask(name, images)[0])
        for name, rates in speeds.items():
            rows.append(
                {
                    "task": "training step" if options.train else "inference",
                    "size": options.size,
                    "encoder": encoder,
                    "batch": batch,
                    "contender": name,
                    "images_per_second": f"{statistics.median(rates):.3f}",
                    "lowest": f"{min(rates):.3f}",
                    "highest": f"{max(rates):.3f}",
                    "rounds": options.rounds,
                    "first_seconds": f"{warm[name][0]:.1f}",
                    "largest_difference": f"{worst:.1e}",
                }
            )
            print(*rows[-1].values(), flush=True)
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.wait()
    return rows


def check_results(difference, encoder, *, stepped, train):
    """Asserts that all contenders compute the same: by rounding, or by the layers that MiT-B2 drops in training."""
    if stepped:
        # After steps of Adam, losses have parted by more than rounding.
        return
    bound = 1e-3
    if train and encoder == "mit_b2":
        bound = 1e-2
    assert difference < bound, f"{encoder}: results differ by {difference} of the largest"


def best(rows, batch, side):
    """Returns the most images a second of a side's contenders."""
    alike = [row for row in rows if row["batch"] == batch and row["contender"].startswith(side)]
    return max(float(row["images_per_second"]) for row in alike)


def main():
    from flipjax.support.frames import write_csv

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="training steps in place of inference")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 4))
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=ENCODERS)
    parser.add_argument("--only", nargs="+", choices=[*INFERENCE, *TRAINING], metavar="CONTENDER")
    parser.add_argument("--torch", default=sys.executable, metavar="PYTHON", help="the interpreter that has PyTorch")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "inference.csv")
    options = parser.parse_args()
    names = TRAINING if options.train else INFERENCE
    if options.only:
        names = [name for name in names if name in options.only]
    rows = []
    for encoder in options.encoders:
        compared = compare(encoder, names, options)
        rows += compared
        for batch in options.batches:
            ratio = best(compared, batch, "flipjax") / best(compared, batch, "PyTorch")
            print(f"{encoder}, batch {batch}: best flipjax / best PyTorch {ratio:.2f}")
    write_csv(options.out, rows)
    print(f"written to {options.out}")


if __name__ == "__main__":
    # A contender's process is given the address of its pipe.
    if len(sys.argv) == 2 and os.path.exists(sys.argv[1]):
        serve(sys.argv[1])
    else:
        main()
