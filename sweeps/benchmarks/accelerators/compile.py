"""Compiles flipjax's programs for a TPU v5e or an H100 from a machine with neither: compiled, not run.

    pip install 'jax[tpu]==0.10.2'                                                  # --target v5e
    pip install --no-deps jax-cuda12-plugin==0.10.2 jax-cuda12-pjrt==0.10.2         # --target h100
    python sweeps/benchmarks/accelerators/compile.py --target v5e --members 1 16 --form loop packed --out DIR

Writes programs.csv (a row a program: XLA's own static cycles where it estimates them, temporary memory) and
convolutions.csv (its convolutions as the compiled program prints them). No figure is a speed. Loops count by known
trips; memory is a member's of those that are at work at once (1 in the loop, 16 at most else).

The loop is compiled first. From its memory follows about what another form needs, by the rule of a sweep
(`flipjax.training.population.fastest`); a form that the device has no room for is not compiled.
"""

import argparse
import collections
import functools
import itertools
import os
import pathlib
import re
import sys
import time
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from flipjax.config import Cue, Experiment, Recipe
from flipjax.config.methods import Augmentation, Knobs
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool
from flipjax.models.convolutions import tracing
from flipjax.support.frames import write_csv
from flipjax.training.epoch import step
from flipjax.training.member import Member, init_state
from flipjax.training.network.forward import evaluate
from flipjax.training.population import epochs as population_run
from flipjax.training.population import selected as population_selected
from flipjax.training.population.devices import AXIS, Layout
from flipjax.training.population.fastest import FormTiming, estimated_memory
from flipjax.training.population.memory import USED, memory_of

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent / "throughput"))
import layers  # noqa: E402 - in the folder of the line above

WIDTH = 16
FORMS = ("loop", "vmap", "packed", "shifts")
PLATFORMS = {"v5e": "tpu", "h100": "cuda"}
GIGABYTES = {"v5e": 16, "h100": 80}


def devices(target):
    if target == "v5e":
        return topologies.get_topology_desc("v5e:2x2", "tpu").devices[:1]
    # XLA's description of the card, openxla/xla: xla/backends/gpu/target_config/specs/h100_sxm.txtpb.
    config = (HERE / "h100.txtpb").read_text()
    return topologies.get_topology_desc("", "cuda", target_config=config, topology="1x1x1").devices


def arguments(experiment, mesh, members):
    """Returns shapes of a population's arguments: members, states, pool, validation rows, groups and refit."""
    spec, pool, shape = experiment.split, experiment.pool, jax.ShapeDtypeStruct
    scalar = shape((), jnp.float32)
    member = Member(
        jax.eval_shape(lambda: jax.random.key(0)),
        shape((spec.n_train, 2), jnp.int32),
        shape((spec.n_train,), jnp.int32),
        *jax.tree.map(lambda _: scalar, (Recipe(), Knobs(), Augmentation(), Cue())),
    )
    state = jax.eval_shape(functools.partial(init_state, experiment), member)
    count, scenes, size = 2 * pool.objects, 2 * pool.scenes, pool.size
    pixels = Pool(
        kind="composite",
        images=shape((count, size, size, 3), jnp.uint8),
        masks=shape((count, size, size), jnp.uint8),
        labels=shape((count,), jnp.uint8),
        scenes=shape((scenes, size, size, 3), jnp.uint8),
    )
    numbers = shape((spec.n_val,), jnp.int32)
    validation = Table(shape((spec.n_val, 2), jnp.int32), numbers, numbers, shape((spec.n_val,), jnp.bool_))

    def placed(tree, part, lead=()):
        sharding = NamedSharding(mesh, part)
        return jax.tree.map(lambda leaf: shape((*lead, *leaf.shape), leaf.dtype, sharding=sharding), tree)

    dealt = placed((member, state), P(AXIS), (members,))
    return *dealt, *placed((pixels, validation), P())


def traced_layer(experiment, mesh, members, form):
    """Returns a layer of the first level, its forward pass and both gradients; "shifts" is in no program of flipjax."""
    spec = experiment.model
    shape = {"members": members, "batch": experiment.train.batch_size, "size": experiment.pool.size}
    given = layers.arguments(form, **shape, channels=spec.width, dtype=spec.dtype)
    sharding = NamedSharding(mesh, P())
    placed = [jax.ShapeDtypeStruct(part.shape, part.dtype, sharding=sharding) for part in given]
    return jax.jit(lambda *given: [run(*given) for run in layers.passes(form).values()]).trace(*placed)


def traced(program, experiment, mesh, members, form):
    if program == "layer":
        return traced_layer(experiment, mesh, members, form)
    width = 1 if form == "loop" else min(WIDTH, members)
    layout = Layout(mesh, width, packed=form == "packed")
    stacked, states, pool, validation = arguments(experiment, mesh, members)
    sharding = NamedSharding(mesh, P(AXIS))
    shape = functools.partial(jax.ShapeDtypeStruct, sharding=sharding)
    if program == "epoch":
        given = stacked, states, pool, validation
        return jax.jit(population_run._epoch, static_argnums=(0, 1)).trace(experiment, layout, *given)
    if program == "decompose":
        weights = states.best[experiment.train.selection[0]].weights
        wanted = shape((members,), jnp.bool_)
        strengths = shape((members,), jnp.float32)
        asked = weights, wanted, strengths, pool, validation[0]
        return jax.jit(population_selected._map_selected, static_argnums=(0, 1, 2)).trace(
            experiment, layout, evaluate, *asked
        )
    packed = dataclasses.replace(experiment, packed=layout.packed)

    def steps(members, pool, states, batches, keys):
        def one(inputs):
            member, state, batch, key = inputs
            return step.train_step(packed, member, pool, state, batch, key)

        together = (members, states, batches, keys)
        if width == states.status.shape[0] > 1:
            return jax.vmap(one)(together)
        return jax.lax.map(one, together, batch_size=width if width > 1 else None)

    batches = shape((members, experiment.train.batch_size), jnp.int32)
    keys = shape((members,), jax.eval_shape(lambda: jax.random.key(0)).dtype)
    return jax.jit(steps, donate_argnums=2).trace(stacked, pool, states, batches, keys)


def computations(text):
    """Returns the lines of each computation of an HLO module, and the name of the entry."""
    result, entry, name = {}, None, None
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$", line)
        if head and not line.startswith(" "):
            name = head[2]
            result[name] = []
            entry = name if head[1] else entry
        elif line.startswith("}"):
            name = None
        elif name is not None:
            result[name].append(line)
    return result, entry


def trips(line, lines_of):
    """Returns how often a loop runs: as XLA says, or what its counter is compared with; 1 where it is data."""
    if known := re.search(r'known_trip_count":\{"n":"(\d+)"', line):
        return int(known[1])
    condition = lines_of.get(re.search(r"condition=%?([\w.\-]+)", line)[1], ())
    limits = [int(limit[1]) for text in condition if (limit := re.search(r"= s32\[\]\S* constant\((\d+)\)", text))]
    return limits[0] if len(limits) == 1 and any("direction=LT" in text for text in condition) else 1


def cycles(text):
    """Returns libtpu's estimated cycles: bodies of loops by their known trips, else once; of branches the dearest."""
    lines_of, entry = computations(text)

    @functools.cache
    def cost(name):
        total = 0
        for line in lines_of.get(name, ()):
            if estimate := re.search(r'"estimated_cycles":"(\d+)"', line):
                total += int(estimate[1])
            if " while(" in line:
                total += cost(re.search(r"body=%?([\w.\-]+)", line)[1]) * trips(line, lines_of)
            elif " conditional(" in line:
                branches = re.search(r"branch_computations=\{([^}]*)\}", line)
                names = branches[1].replace("%", "").split(", ") if branches else None
                names = names or re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line)
                total += max(map(cost, names), default=0)
            elif " call(" in line and (called := re.search(r"to_apply=%?([\w.\-]+)", line)):
                total += cost(called[1])
        return total

    return cost(entry)


def convolutions(text):
    """Returns (pass, window, groups, dtype) of each convolution, and how often."""
    result = collections.Counter()
    for line in text.splitlines():
        call = re.search(r'custom_call_target="__cudnn\$(conv\w+)"', line)
        if not call and " convolution(" not in line:
            continue
        name = (re.search(r'op_name="([^"]*)"', line) or ["", ""])[1]
        where = "backward" if "transpose(" in name or "Backward" in (call[1] if call else "") else "forward"
        window = re.search(r"window=\{(size=[\dx]+)", line)
        groups = max(map(int, re.findall(r"(?:feature|batch)_group_count=(\d+)", line)), default=1)
        dtype = re.search(r"= \(?(\w+)\[", line)[1]
        result[(f"{where} {call[1]}" if call else where, window[1] if window else "size=1", groups, dtype)] += 1
    return result


def measure(target, program, experiment, members, form):
    mesh = Mesh(np.array(devices(target)), (AXIS,))
    began = time.process_time()
    with mock.patch.object(tracing, "for_cpu", lambda: False):
        lowered = traced(program, experiment, mesh, members, form).lower(lowering_platforms=(PLATFORMS[target],))
    compiled = lowered.compile()
    seconds = time.process_time() - began
    text = compiled.as_text()
    at_once = 1 if form == "loop" else min(WIDTH, members)
    row = {"target": target, "program": program, "form": form, "members": members, "dtype": experiment.model.dtype}
    row["kilocycles_a_member"] = f"{cycles(text) / members / 1e3:.0f}" if target == "v5e" else ""
    memory = memory_of(compiled)
    row["temporary_mb_a_member"] = f"{memory.working / 1e6 / at_once:.1f}"
    row["taken_mb"] = f"{memory.total / 1e6:.1f}"
    flops = (compiled.cost_analysis() or {}).get("flops", 0)
    samples = members * experiment.train.batch_size
    row["mflop_a_sample"] = f"{flops / samples / 1e6:.1f}" if flops and program == "step" else ""
    row["compile_s"] = f"{seconds:.0f}"
    return row, convolutions(text), memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=PLATFORMS, required=True)
    parser.add_argument("--members", type=int, nargs="+", default=(1, 16))
    parser.add_argument("--form", nargs="+", choices=FORMS, default=("packed",))
    parser.add_argument("--program", nargs="+", choices=("step", "epoch", "decompose", "layer"), default=("step",))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    for program, form in itertools.product(options.program, options.form):
        if (form == "shifts" and program != "layer") or (form == "loop" and program == "layer"):
            parser.error(f"--form {form} --program {program}: shifts are those of a layer, which has no loop")
    experiment = Experiment()
    experiment = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, dtype=options.dtype))
    programs, rows = [], []
    limit = USED * GIGABYTES[options.target] * 1e9
    for program in options.program:
        loop = FormTiming("loop")
        for form in sorted(options.form, key=FORMS.index):
            # Of a loop, its body: how often it runs is not known when it is compiled.
            for members in (1,) if form == "loop" else options.members:
                needed = estimated_memory(loop, width=min(WIDTH, members))
                if needed > limit:
                    in_words = f"about {needed / 1e6:.1f} of {limit / 1e6:.1f} MB"
                    print(form, members, "not compiled:", in_words, flush=True)
                    continue
                row, result, memory = measure(options.target, program, experiment, members, form)
                row["estimated_mb"] = f"{needed / 1e6:.1f}" if needed else ""
                if form == "loop":
                    loop = FormTiming("loop", memory=memory)
                print(row, "compiled, not run", flush=True)
                programs.append(row)
                rows += [
                    {"program": program, "form": form, "K": members, "pass": name, "window": window, "groups": groups}
                    | {"dtype": dtype, "count": count}
                    for (name, window, groups, dtype), count in sorted(result.items())
                ]
                options.out.mkdir(parents=True, exist_ok=True)
                write_csv(options.out / "programs.csv", programs)
                write_csv(options.out / "convolutions.csv", rows)


if __name__ == "__main__":
    main()
