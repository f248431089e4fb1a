"""Computes beta, the influence of context on flips, of stored predictions, and writes its tables and page."""

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax.audit.arrays import ArrayReader, AuditError, Limits, open_source
from flipjax.audit.audits import describe_images
from flipjax.audit.counts import count_pairs
from flipjax.audit.files import draws_pages
from flipjax.audit.pairs import Pair, in_options, open_pairs
from flipjax.audit.results import Objects, count_objects, pixel_shares
from flipjax.audit.tables import context_document
from flipjax.context import LEAST_FLIPS, Choice, context_beta, context_evidence, image_shares
from flipjax.files import replacing
from flipjax.metrics.classes import Background, LabelSpec, class_names
from flipjax.report.document import terminal_text, write_summary

TABLES = ("shares.csv", "segments.csv", "segment_flips.csv", "flip_matrix.csv", "beta.csv")
FILES = {*TABLES, "summary.md", "index.html", "figures"}


def measure_context(
    predictions: Path,
    labels: Path,
    *,
    out: Path,
    training_labels: Path | None = None,
    names: tuple[str, ...] | None = None,
    background: Background = 0,
    samples: int = 1000,
    **encoding: Any,
) -> str:
    """Writes TABLES and a page into `out`, and returns the page's text.

    Args:
        predictions: class indices, a folder or a file.
        labels: class indices of the same images.
        out: a new folder, or the folder of an earlier call.
        training_labels: labels of the training images, or shares.csv of an earlier call; None uses `labels`.
        names: class names.
        background: the background class, several in a tuple, or None.
        samples: number of resamples.
        encoding: further arguments of `flipjax.audit.pairs.open_pairs`.

    Raises:
        AuditError: files or values do not fit, flips are too few, or the folder holds other files.
    """
    if samples < 1:
        raise AuditError(f"--samples: expected a number >= 1, found {samples}")
    if out.exists() and {path.name for path in out.iterdir()} - FILES:
        raise AuditError(f"--out: expected a new folder, or one of this command; found other files in {out}")
    for name, path in (("labels", labels), ("training_labels", training_labels)):
        if path and path.suffix == ".json":
            raise AuditError(f"--{name}: expected PNG, npy or npz, found {path}")
    own: dict[str, Any] = {"kind": "masks", "class_names": names, "background": background}
    with in_options(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        stored = _read_shares(training_labels) if training_labels and training_labels.suffix == ".csv" else None
        pairs, values, *_ = open_pairs(
            predictions, labels, num_classes=stored and stored[1].shape[1], **own, **encoding
        )
        shown = class_names(names, classes=values.classes, background=background)
        measured = count_pairs(pairs, values)
        rows, shares = stored or ([each.name for each in pairs], pixel_shares(measured))
        if training_labels and not stored:
            rows, shares = _training_shares(training_labels, pairs, values.spec)
        place = {name: row for row, name in enumerate(rows)}
        true = measured.segments.true
        images = np.array([place.get(each.name, -1) for each in pairs])
        betas = _betas(true, context_evidence(true, shares, own=images, background=background), background, samples)
    objects = count_objects(measured, shown, samples=samples, betas=betas)
    source = f"{len(shares)} images of {training_labels or f'{labels}, each without itself'}"
    facts = [describe_images([each.labels.shape for each in pairs], values), f"Contexts: {source}."]
    notes = [f"Note: {warning.message}" for warning in caught if issubclass(warning.category, UserWarning)]
    options = {"predictions": str(predictions), "labels": str(labels), "samples": samples}
    document = context_document(objects, facts=facts, notes=notes, options=options)
    _write_tables(out, objects, [each.name for each in pairs], pd.DataFrame(shares, pd.Index(rows, name="name"), shown))
    write_summary(out, document)
    if draws_pages():
        from flipjax.audit.page import write_context_page

        write_context_page(out, document, measured.decomposition, shown)
    return f"{terminal_text(document)}\n\n{', '.join(str(path) for path in sorted(out.iterdir()) if path.is_file())}"


def _write_tables(out: Path, objects: Objects, names: list[str], shares: pd.DataFrame) -> None:
    true = objects.tables.true
    true = true.assign(image=[names[image] for image in true["image"]])
    matrix = pd.DataFrame(objects.confusion, pd.Index(objects.class_names, name="class"), objects.class_names)
    betas = pd.DataFrame(objects.betas.values(), pd.Index(objects.betas, name="flips_of"))
    tables = [shares.reset_index(), true, *(table.reset_index() for table in (objects.flips, matrix, betas))]
    for name, table in zip(TABLES, tables, strict=True):
        with replacing(out / name) as stream:
            table.to_csv(stream, index=False, float_format="%.6g", quoting=csv.QUOTE_MINIMAL)


def _training_shares(path: Path, pairs: list[Pair], spec: LabelSpec) -> tuple[list[str], np.ndarray]:
    """Returns the names of training images (those of the pairs if they have none) and their class shares."""
    source = open_source(path, wanted="labels", limits=Limits(), label_map=pairs[0].labels.label_map)
    # Numeric names would be mistaken for those of evaluated images.
    numbers = (f"training {i}" for i in range(len(source.images)))
    rows = source.names or ([pair.name for pair in pairs] if len(pairs) == len(source.images) else numbers)
    with ArrayReader() as reader:
        labels = (image.to_classes(reader.read(image), ignore_index=spec.ignore_index) for image in source.images)
        shares = [image_shares([each], num_classes=spec.num_classes or 0)[0] for each in labels]
    return list(rows), np.stack(shares)


def _betas(true: pd.DataFrame, evidence: np.ndarray, background: Background, samples: int) -> dict[str, Choice]:
    """Returns beta of all flips, and of confusion and bleeding if there are enough."""
    bleeding = np.asarray(true["bleeding"].fillna(False), bool)
    flips = np.asarray(true["outcome"] == "flip")
    parts = {"all": np.ones(len(true), bool), "confusion": ~bleeding, "bleeding": bleeding}
    kept = {name: chosen for name, chosen in parts.items() if name == "all" or (chosen & flips).sum() >= LEAST_FLIPS}
    wanted: dict[str, Any] = {"background": background, "samples": samples}
    return {name: context_beta(true, evidence, chosen=chosen, **wanted) for name, chosen in kept.items()}


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
