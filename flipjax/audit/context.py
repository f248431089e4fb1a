"""Computes beta, the influence of context on flips, of an audit or of stored predictions."""

import csv
import math
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax.audit.arrays import ArrayReader, AuditError, Limits
from flipjax.audit.pairs import Arrays, Encoding, Pair, in_options, open_pairs, read_labels, read_values
from flipjax.audit.sources import open_source
from flipjax.context.choice import LEAST_FLIPS, Choice, context_beta
from flipjax.context.evidence import SHOWN, context_evidence, image_shares
from flipjax.files import replacing
from flipjax.metrics import Decomposition, segment_confusion, segment_flips
from flipjax.metrics.classes import Background, class_names, is_foreground
from flipjax.metrics.segment_table import Columns, join_columns, segment_columns
from flipjax.results.text import TextTable, number
from flipjax.threads import in_order

FILES = ("shares.csv", "segments.csv", "segment_flips.csv", "flip_matrix.csv", "beta.csv")
LEAST_CLASSES = 3
"""Fewest foreground classes for beta: with two, there is only one wrong class to choose."""
WORK = 5e7
"""Most resamples times flips times classes: about ten seconds."""
CONTEXT = "Context of flips, from where classes stand together in these images, each without itself"


def beta_of_audit(
    true: pd.DataFrame, decomposition: Decomposition, ignored: np.ndarray
) -> tuple[Choice | None, np.ndarray]:
    """Computes beta of an audit's flips, and the evidence of each segment's context for its predicted class.

    Training statistics come from the audited labels; flips to classes that no image shows are left out.

    Args:
        true: S rows of `flipjax.metrics.segments`.
        decomposition: of n images.
        ignored: int (n,), ignored pixels of each image.

    Returns:
        None below 50 flips or three foreground classes; float (S,) in nats, NaN for segments that do not flip.
    """
    confusion, background = np.asarray(decomposition.confusion), decomposition.background
    evidence = np.full(len(true), np.nan)
    flip = np.asarray(true["outcome"] == "flip", bool)
    labels, wrong = confusion.sum(2), np.asarray(true["predicted"], np.int64)
    C = confusion.shape[-1]
    shares = labels / (labels.sum(1) + ignored)[:, None]
    shown = (shares >= SHOWN).any(0)[wrong] | ~flip
    if (flip & shown).sum() < LEAST_FLIPS or is_foreground(C, background).sum() < LEAST_CLASSES:
        return None, evidence
    kept = true[shown].reset_index(drop=True)
    with warnings.catch_warnings():
        # CONTEXT already says that there are few images.
        warnings.simplefilter("ignore", UserWarning)
        own = context_evidence(kept, shares, own=np.arange(len(labels)), background=background)
    if not own[flip[shown]].any():
        return None, evidence
    evidence[shown & flip] = own[flip[shown], wrong[shown & flip]]
    samples = int(np.clip(WORK / (flip.sum() * C), 100, 1000))
    return context_beta(kept, own, background=background, samples=samples), evidence


def beta_table(beta: Choice) -> TextTable:
    """Returns beta and its difference from the permutation baseline, with their meaning."""
    values = [(beta.beta, beta.low, beta.high), (beta.difference, beta.difference_low, beta.difference_high)]
    cells = [["-", "-"] if math.isnan(v) else [number(v), f"[{low:.3f}, {high:.3f}]"] for v, low, high in values]
    meanings = [f"{beta.flips} flips; 1: as in the labels", beta.verdict]
    rows = [[n, *c, m] for n, c, m in zip(("beta", "beta less shuffled"), cells, meanings, strict=True)]
    return TextTable(["quantity", "value", "95% interval", "meaning"], rows)


def measure_context(
    predictions: Path,
    labels: Path,
    *,
    out: Path,
    training_labels: Path | None = None,
    label_map: str | None = None,
    prediction_map: str | None = None,
    ignore_index: int | None = None,
    background: Background = 0,
    names: tuple[str, ...] | None = None,
    unit: str = "class",
    samples: int = 1000,
) -> str:
    """Writes the tables FILES into `out` and returns the summary.

    Args:
        predictions: class indices, a folder or a file.
        labels: class indices of the same images.
        out: a new folder, or the folder of an earlier call.
        training_labels: labels of the training images, or shares.csv of an earlier call; None uses `labels`.
        label_map: a label map, as for an audit.
        prediction_map: the same for predictions.
        ignore_index: the label of ignored pixels.
        background: the background class, several in a tuple, or None.
        names: class names.
        unit: 'class' or 'component'.
        samples: number of resamples.

    Raises:
        AuditError: files or values do not fit, flips are too few, or the folder holds other files.
    """
    if samples < 1:
        raise AuditError(f"--samples: expected a number >= 1, found {samples}")
    if out.exists() and {path.name for path in out.iterdir()} - set(FILES):
        raise AuditError(f"--out: expected a new folder, or one of this command; found other files in {out}")
    for name, path in (("labels", labels), ("training_labels", training_labels)):
        if path and path.suffix == ".json":
            raise AuditError(f"--{name}: expected PNG, npy or npz, found {path}")
    maps: dict[str, Any] = {"label_map": label_map, "prediction_map": prediction_map, "class_names": names}
    maps |= {"background": background, "ignore_index": ignore_index, "unit": unit, "kind": "masks"}
    with in_options(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        stored = _read_shares(training_labels) if training_labels and training_labels.suffix == ".csv" else None
        pairs, encoding, *_ = open_pairs(predictions, labels, **maps, num_classes=stored and stored[1].shape[1])
        shown = class_names(names, classes=encoding.classes, background=background)
        true, own_shares = _measure_images(pairs, encoding)
        rows, shares = stored or ([each.name for each in pairs], own_shares)
        if training_labels and not stored:
            rows, shares = _training_shares(training_labels, rows, encoding)
        place = {name: row for row, name in enumerate(rows)}
        own = np.array([place.get(each.name, -1) for each in pairs])
        betas = _betas(true, context_evidence(true, shares, own=own, background=background), background, samples)
    flips = segment_flips(true, class_names=shown)
    true = true.assign(image=[pairs[image].name for image in true["image"]])
    matrix = pd.DataFrame(segment_confusion(true, num_classes=len(shown)), pd.Index(shown, name="class"), shown)
    tables = [pd.DataFrame(shares, pd.Index(rows, name="name"), shown).reset_index(), true, flips.reset_index()]
    tables += [matrix.reset_index(), pd.DataFrame(betas.values(), pd.Index(betas, name="flips_of")).reset_index()]
    for name, frame in zip(FILES, tables, strict=True):
        with replacing(out / name) as stream:
            frame.to_csv(stream, index=False, float_format="%.6g", quoting=csv.QUOTE_MINIMAL)
    source = f"{len(shares)} images of {training_labels or f'{labels}, each without itself'}"
    lines = _summary(flips, betas, source)
    lines += [f"Note: {warning.message}" for warning in caught if issubclass(warning.category, UserWarning)]
    return "\n".join([*lines, "", ", ".join(str(out / name) for name in FILES)])


def _measure_images(pairs: list[Pair], encoding: Encoding) -> tuple[pd.DataFrame, np.ndarray]:
    """Returns the true segments of the images, and their class shares."""

    def measure(job: tuple[Pair, Arrays]) -> tuple[Columns, np.ndarray]:
        pair, (predicted, labels, unit, _) = job
        with in_options(pair):
            columns = segment_columns(predicted, labels, encoding.options, unit=unit)
        return columns, image_shares([labels], num_classes=encoding.classes)[0]

    with closing(read_values(pairs, encoding)) as values:
        parts, shares = zip(*in_order(measure, zip(pairs, values, strict=True)), strict=True)
    return join_columns(parts).true, np.stack(shares)


def _training_shares(path: Path, names: list[str], encoding: Encoding) -> tuple[list[str], np.ndarray]:
    """Returns the names of training images (those given if they have none) and their class shares."""
    source = open_source(path, wanted="labels", limits=Limits())
    # Numeric names would be mistaken for those of evaluated images.
    numbers = (f"training {i}" for i in range(len(source.images)))
    rows = source.names or (names if len(names) == len(source.images) else numbers)
    with ArrayReader() as reader:
        own: dict[str, Any] = {"ignore_index": encoding.ignore_index}
        labels = (read_labels(reader, image, encoding.label_map, **own)[0] for image in source.images)
        shares = [image_shares([each], num_classes=encoding.classes)[0] for each in labels]
    return list(rows), np.stack(shares)


def _betas(true: pd.DataFrame, evidence: np.ndarray, background: Background, samples: int) -> dict[str, Choice]:
    """Returns beta of all flips, and of confusion and bleeding if there are enough."""
    bleeding = np.asarray(true["bleeding"].fillna(False), bool)
    flips = np.asarray(true["outcome"] == "flip")
    parts = {"all": np.ones(len(true), bool), "confusion": ~bleeding, "bleeding": bleeding}
    kept = {name: chosen for name, chosen in parts.items() if name == "all" or (chosen & flips).sum() >= LEAST_FLIPS}
    wanted: dict[str, Any] = {"background": background, "samples": samples}
    return {name: context_beta(true, evidence, chosen=chosen, **wanted) for name, chosen in kept.items()}


def _summary(flips: pd.DataFrame, betas: dict[str, Choice], source: str) -> list[str]:
    whole: dict[Any, float] = flips.to_dict("index")["all"]
    lines = [
        f"SegFlip {whole['seg_flip']:.3f}: {int(whole['flip'])} of {int(whole['segments'])} segments flip, "
        f"{whole['bleeding']:.0%} of them to a class elsewhere in the image (bleeding).",
        f"Verdict: {betas['all'].verdict}",
        f"Contexts: {source}.",
    ]
    for name, beta in betas.items():
        lines.append(
            f"{name}: beta {beta.beta:.2f} [{beta.low:.2f}, {beta.high:.2f}], shuffled {beta.shuffled:.2f}, difference "
            f"{beta.difference:.2f} [{beta.difference_low:.2f}, {beta.difference_high:.2f}], within classes "
            f"{beta.within:.2f}, {beta.flips} flips"
        )
    lines.append("beta = 0: context does not influence which wrong class is predicted; 1: as in the training labels.")
    return [*lines, "Observational: images with another context differ in other ways, too."]


def _read_shares(path: Path) -> tuple[list[str], np.ndarray]:
    """Returns the names and shares (n, C) of shares.csv."""
    try:
        table = pd.read_csv(path, dtype={"name": str}, keep_default_na=False)
        shares = table.drop(columns="name").to_numpy(np.float64)
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise AuditError(
            f"{path}: expected a column called `name` and a column of numbers for each class ({error})"
        ) from error
    if not len(shares) or not np.isfinite(shares).all() or shares.min() < 0 or shares.sum(1).max() > 1 + 1e-3:
        raise AuditError(f"{path}: expected fractions of an image in each row, 0 or more, that sum to 1 or less")
    if (twice := table["name"][table["name"].duplicated()]).size:
        raise AuditError(f"{path}: expected one row for each training image, found {twice.iloc[0]} twice")
    return table["name"].tolist(), shares
