"""`python -m flipjax.evaluate --model smp_resnet50 --weights DIR --config configs/NAME.py`: a trained model, evaluated.

DIR is what `python -m flipjax.models convert` wrote, and the configuration says on which pool and split: IoU, group IoU
and gaps, FG-Corr, FG-Flip and FG-Miss, flip-risk and its deciles, each with a 95% bootstrap interval over images.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from flipjax import command, results
from flipjax.config import DTYPES, MODEL_NAMES, Config, ConfigError, Experiment, ModelSpec, PopulationSpec, leaves
from flipjax.data.pool import Pool
from flipjax.files import make_folder
from flipjax.metrics import Decomposition
from flipjax.plan import Program, plan
from flipjax.sweep.program import Study, load_pool, make_study, starting_weights
from flipjax.terminal import Bar
from flipjax.training.member import Weights, first_weights
from flipjax.training.predict import evaluate, evaluation_batch

MODELS = tuple(name for name in MODEL_NAMES if name != "unet")


def _parser() -> command.ConfigParser:
    parser = command.ConfigParser("evaluate", __doc__ or "")
    parser.add_argument("--model", choices=MODELS, required=True, help="the network")
    parser.add_argument("--weights", metavar="DIR", required=True, help="folder of converted weights")
    parser.add_argument("--split", choices=results.PARTS, default="test", help="which images (default test)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="what the network computes in")
    parser.add_argument("--samples", type=int, default=1000, help="resamples of the intervals (default 1000)")
    parser.add_argument("--out", metavar="DIR", help="folder for summary.csv, summary.json and images.csv")
    return parser


def make_program(config: Config, model: ModelSpec) -> Program:
    """Returns the configuration's pool and split with another model.

    Raises:
      ConfigError: for a field that cannot run, or a grid with more than one pool or split.
    """
    for name in leaves(config.grid):
        if name.startswith(("pool.", "split.")):
            raise ConfigError(f"config.grid.{name}", "a configuration of one pool and one split to evaluate on")
    with config.unlocked():
        config.grid = ConfigDict()
    for name in ("name", "width", "depth", "norm", "dtype", "weights"):
        config.model[name] = getattr(model, name)
    return plan(config)[0]


def decompose(experiment: Experiment, start: Weights, pool: Pool, rows: np.ndarray) -> Decomposition:
    """Returns the decomposition of the weights `start` on pool rows (n, 2), numpy leaves.

    Images are dealt over the devices; progress goes to stderr.
    """
    model = jax.jit(first_weights, static_argnums=0)(experiment, jax.random.key(0), start)
    devices = jax.devices()
    size = len(devices) * min(evaluation_batch(experiment), -(-len(rows) // len(devices)))
    mesh = Mesh(np.array(devices), ("images",))
    specs = (P(), P(), P("images"))
    run = jax.jit(
        jax.shard_map(
            lambda model, pool, rows: evaluate(experiment, model, pool, rows),
            mesh=mesh,
            in_specs=specs,
            out_specs=P("images"),
            check_vma=False,
        )
    )
    model, pool = jax.device_put((model, pool), NamedSharding(mesh, P()))
    parts = []
    with Bar("images", total=len(rows)) as bar:
        for first in range(0, len(rows), size):
            chunk = rows[first : first + size]
            parts.append(jax.tree.map(np.asarray, run(model, pool, np.resize(chunk, (size, 2)))))
            done = first + len(chunk)
            bar.advance(len(chunk), f"{done} of {len(rows)} images", last=done == len(rows))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(rows)], *parts)


def _load(program: Program) -> Study:
    try:
        return make_study(program, *load_pool(program))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError("config.split", problem=str(error)) from error


@contextlib.contextmanager
def _writing(folder: str) -> Iterator[Path]:
    try:
        yield Path(folder)
    except OSError as error:
        raise ConfigError("--out", "a folder that can be written", f"{folder} ({error})") from error


def _write(folder: Path, facts: dict, rows: list[results.Row], images: list[results.Row]) -> None:
    results.write_csv(folder / "summary.csv", rows)
    results.write_csv(folder / "images.csv", images)
    with results.replacing(folder / "summary.json") as stream:
        stream.write((json.dumps({**facts, "quantities": rows}, indent=2) + "\n").encode())


def _evaluate(values: argparse.Namespace) -> None:
    if values.samples < 1:
        raise ConfigError("--samples", "a number >= 1", values.samples)
    spec = ModelSpec(name=values.model, dtype=values.dtype, weights=values.weights)
    program = make_program(values.config, spec)
    if values.out:
        with _writing(values.out) as folder:
            make_folder(folder)
    device = command.start_backend(PopulationSpec(**values.config.population), sys.maxsize)
    start = starting_weights(spec, whole=True)
    study = _load(program)
    table, catalog = study.tables[values.split], study.catalog
    found = decompose(program.experiment, start, study.pool, np.asarray(table.rows))
    groups = np.asarray(table.groups)
    rows = results.evaluation_rows(
        found, groups, class_names=catalog.class_names, key=jax.random.key(0), samples=values.samples
    )
    pool = program.experiment.pool
    facts = {"model": spec.name, "weights": spec.weights, "pool": pool.name, "size": pool.size, "device": device}
    facts |= {"split": values.split, "n_images": len(groups), "samples": values.samples}
    images = f"{len(groups)} {values.split} images of {pool.name}, {pool.size} x {pool.size}"
    print(f"{spec.name} of {spec.weights} on {images}\n\n{results.evaluation_text(rows)}")
    if values.out:
        objects = [catalog.object_names[index] for index in table.rows[:, 0]]
        scenes = [catalog.scene_photo_names[index] if index >= 0 else "" for index in table.rows[:, 1]]
        with _writing(values.out) as folder:
            _write(folder, facts, rows, results.image_rows(found, groups, objects, scenes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, without the program's name, and returns its exit code."""
    try:
        options = _parser().parse(sys.argv[1:] if arguments is None else arguments)
        if options.list_configs:
            print(command.describe_configs())
        else:
            _evaluate(options)
    except ConfigError as error:
        print(f"flipjax evaluate: {error.named({'config.model.weights': '--weights'})}", file=sys.stderr)
        return command.USAGE
    except KeyboardInterrupt:
        print("flipjax evaluate: interrupted", file=sys.stderr)
        return command.INTERRUPTED
    return command.DONE


if __name__ == "__main__":
    sys.exit(main())
