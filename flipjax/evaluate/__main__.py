"""`flipjax evaluate`: evaluates a trained network on labelled images, with 95% intervals over images.

    flipjax evaluate --model smp_resnet50 --weights FILE --config NAME
    flipjax evaluate --run RUN --member m003 [--rule RULE] --images DIR --labels DIR

Both write the files and the page of `flipjax audit`. The first form evaluates FILE (from `flipjax convert`) on the pool
and split of a configuration; --intervene adds scene-swap risk, repair and reliance. The second form is `flipjax audit`
with the same options: it audits a sweep's member on photos.
"""

from pathlib import Path

from flipjax import command
from flipjax.audit.__main__ import run_audit
from flipjax.config import DTYPES, LARGE

MODELS = LARGE
"""Networks of which converted weights can be evaluated."""
SPLITS = ("val", "test")
"""Parts of a pool that can be evaluated."""


def _parser() -> command.ConfigParser:
    parser = command.ConfigParser("evaluate", __doc__ or "")
    parser.add_argument("--model", choices=MODELS, required=True, help="the network")
    parser.add_argument("--weights", metavar="FILE", required=True, help="converted weights")
    parser.add_argument("--split", choices=SPLITS, default="test", help="which images (default test)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="what the network computes in")
    text = "scene-swap risk, repair and reliance, on the scenes of the training split (config.intervene)"
    parser.add_argument("--intervene", action="store_true", help=text)
    parser.add_argument("--samples", type=int, default=1000, help="resamples of the intervals (default 1000)")
    default = Path("runs/evaluate")
    parser.add_argument("--out", type=Path, default=default, metavar="DIR", help=f"output folder (default {default})")
    parser.add_argument("--run", metavar="DIR", help="the second form: a sweep's folder, with options of flipjax audit")
    return parser


def _names_a_run(arguments: list[str]) -> bool:
    """Returns whether the command line is of the second form, as its own parser reads `--run`."""
    form = command.Parser(prog="flipjax evaluate", add_help=False)
    form.add_argument("--run")
    options, _ = form.parse_known_args(arguments)
    return options.run is not None


@command.main("flipjax evaluate", options={"config.model.weights": "--weights"})
def main(arguments: list[str]) -> int:
    """Runs the command line, without the program's name, and returns its exit code."""
    if _names_a_run(arguments):
        return run_audit(arguments)
    options = _parser().parse(arguments)
    # Imported late, because JAX takes a second and `--help` does not need most of it.
    from flipjax.evaluate.converted import evaluate_weights

    text = evaluate_weights(
        options.config,
        model=options.model,
        weights=options.weights,
        dtype=options.dtype,
        split=options.split,
        intervene=options.intervene,
        samples=options.samples,
        out=options.out,
    )
    print(text)
    return command.DONE
