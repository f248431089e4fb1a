"""The authors' two checkpoints on their test images: the paper's figures beside flipjax's, row by row.

    python sweeps/studies/paper/compare.py CHECKPOINTS [--data_dir DIR] [--coco_cd NAME] [--waterbirds_seg NAME]

CHECKPOINTS is the folder `checkpoints` of the authors' repository. NAME is another data set than those of README.md.
The difference is in half-widths of the 95% bootstrap interval over images: up to 1 is what other images of the same
kind would give. Writes results.csv to --out.
"""

import argparse
import itertools
import pathlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

import flipjax
from flipjax.data.sources.tfds_folders import data_dir_of
from flipjax.evaluate.converted import evaluate_weights
from flipjax.models.weights.files import convert_weights
from flipjax.report.paper import PUBLISHED
from flipjax.support.frames import read_csv

CHECKPOINT = "best_model_resnet_ce.pt"
CONFIGS = {"coco_cd": "coco_cd:paper", "waterbirds_seg": "waterbirds:paper"}
PRINTED = {
    "coco_cd": {"Flip (mean over images)": 0.098, "top-decile share": 0.39},
    "waterbirds_seg": {"Flip (mean over images)": 0.142, "top-decile share": 0.30},
}
"""What the paper prints at rho 0.95 of ResNet-50 trained by cross-entropy."""
COMPOSITES = "waterbirds_seg/manifest_metadata_corr0.95_*"
"""What `flipjax data prepare` makes of the released manifest, below its folder."""
DECILES = 10
SAMPLES = 2000


def evaluate(data_set: str, checkpoint: pathlib.Path, changes: Mapping[str, object], out: pathlib.Path) -> pd.DataFrame:
    """Evaluates a checkpoint on the test images of a prepared data set, and returns a row an image."""
    out.mkdir(parents=True, exist_ok=True)
    weights = out / "weights.safetensors"
    if not weights.exists():
        print(convert_weights(checkpoint, weights, encoder="resnet50", num_classes=3))
    config = flipjax.configure(CONFIGS[data_set], {"split.n_train": 0, **changes})
    evaluate_weights(config, model="smp_resnet50", weights=str(weights), out=out / "audit")
    return read_csv(out / "audit/images.csv")


def figures_of(flip: np.ndarray, risk: np.ndarray) -> dict[str, float]:
    """Returns the paper's figures of images: their mean Flip, and Flip by decile of flip-risk.

    Args:
        flip: (images,), the flipped share of each image's foreground.
        risk: (images,), NaN without a predicted foreground: such images are in the mean and in no decile.
    """
    ranked = flip[np.argsort(risk, kind="stable")][: np.isfinite(risk).sum()]
    # The paper's deciles: rows d n // 10 to (d + 1) n // 10.
    ends = np.arange(DECILES + 1) * len(ranked) // DECILES
    deciles = [ranked[first:last] for first, last in itertools.pairwise(ends)]
    figures = {"Flip (mean over images)": flip.mean(), "top-decile share": ratio(deciles[-1].sum(), ranked.sum())}
    for number, values in enumerate(deciles, start=1):
        figures[f"Flip, decile {number} of flip-risk"] = ratio(values.sum(), len(values))
    return figures


def ratio(numerator: float, denominator: float) -> float:
    """Returns a ratio, NaN where nothing is counted."""
    if denominator == 0:
        return np.nan
    return numerator / denominator


def printed_of(data_set: str) -> dict[str, float]:
    """Returns the paper's figures under the names of `figures_of`; deciles are read off its figure."""
    deciles = pd.read_csv(PUBLISHED)
    deciles = deciles[(deciles["dataset"] == data_set) & (deciles["encoder"] == "resnet50")]
    by_decile = {f"Flip, decile {row.decile} of flip-risk": row.mean_flip for row in deciles.itertuples()}
    return PRINTED[data_set] | by_decile


def compare(images: pd.DataFrame, printed: Mapping[str, float], *, samples: int = SAMPLES) -> pd.DataFrame:
    """Returns a row a figure: the paper's, flipjax's with its interval, and the difference in half-widths."""
    flip = images["flip"].to_numpy(np.float64)
    risk = images["flip_risk"].to_numpy(np.float64)
    generator = np.random.default_rng(0)
    chosen = generator.integers(0, len(flip), (samples, len(flip)))
    drawn = pd.DataFrame([figures_of(flip[index], risk[index]) for index in chosen])
    rows = []
    for name, value in figures_of(flip, risk).items():
        low, high = drawn[name].quantile([0.025, 0.975])
        half = (high - low) / 2
        difference = ratio(value - printed[name], half)
        rows.append([name, printed[name], value, low, high, difference])
    return pd.DataFrame(rows, columns=["figure", "paper", "flipjax", "low", "high", "difference"])


def main(arguments: list[str] | None = None, changes: Mapping[str, object] | None = None) -> None:
    """Runs the command line; `changes` of the configurations are for other images than the paper's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=pathlib.Path)
    parser.add_argument("--coco_cd", default="coco_cd/corr0.95", metavar="NAME")
    parser.add_argument("--waterbirds_seg", metavar="NAME", help="default: the composites of the released manifest")
    parser.add_argument("--data_dir", default="", help="where `flipjax data prepare` wrote (default TFDS's)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/paper"))
    options = parser.parse_args(arguments)
    if options.waterbirds_seg is None:
        found = sorted(data_dir_of(options.data_dir).glob(COMPOSITES))
        if len(found) != 1:
            parser.error(f"--waterbirds_seg: expected one data set {COMPOSITES} (README.md), found {len(found)}")
        options.waterbirds_seg = f"waterbirds_seg/{found[0].name}"
    tables = []
    for data_set in CONFIGS:
        pool = {"pool.root": getattr(options, data_set), "pool.data_dir": options.data_dir}
        checkpoint = options.checkpoints / data_set / CHECKPOINT
        images = evaluate(data_set, checkpoint, pool | dict(changes or {}), options.out / data_set)
        tables.append(compare(images, printed_of(data_set)).assign(data_set=data_set, images=len(images)))
        print(tables[-1].to_string(index=False, float_format="{:.3f}".format))
    pd.concat(tables).to_csv(options.out / "results.csv", index=False)


if __name__ == "__main__":
    main()
