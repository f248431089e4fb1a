"""Computes beta, the influence of context on flips, of stored predictions, and writes its tables and page."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax import metrics
from flipjax.audit.arrays import AuditError, check_folder, open_source
from flipjax.audit.audits import describe_images
from flipjax.audit.counts import count_pairs
from flipjax.audit.files import draws_pages
from flipjax.audit.pairs import Pair, in_options, open_pairs
from flipjax.audit.results import Objects, count_objects, pixel_shares
from flipjax.audit.tables import context_document
from flipjax.context import LEAST_FLIPS, Choice, context_beta, context_evidence, image_shares
from flipjax.metrics.classes import Background, LabelSpec
from flipjax.report.document import terminal_text, write_summary
from flipjax.support.files import write_text

TABLES = ("shares.csv", "segments.csv", "segment_flips.csv", "flip_matrix.csv", "beta.csv")
FILES = {*TABLES, "summary.md", "index.html", "figures"}


def measure_context(
    predictions: Path,
    labels: Path,
    *,
    out: Path,
    training_labels: Path | None = None,
    class_names: tuple[str, ...] | None = None,
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
        class_names: as in `flipjax.metrics.class_names`.
        background: the background class, several in a tuple, or None.
        samples: number of resamples.
        encoding: further arguments of `flipjax.audit.pairs.open_pairs`.

    Raises:
        AuditError: files or values do not fit, flips are too few, or the folder holds other files.
    """
    if samples < 1:
        raise AuditError(f"--samples: expected a number >= 1, found {samples}")
    check_folder(out, FILES)
    for name, path in (("labels", labels), ("training_labels", training_labels)):
        if path and path.suffix == ".json":
            raise AuditError(f"--{name}: expected PNG, npy or npz, found {path}")
    own: dict[str, Any] = {"kind": "masks", "class_names": class_names, "background": background}
    with in_options(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        stored = _read_shares(training_labels) if training_labels and training_labels.suffix == ".csv" else None
        classes = None if stored is None else stored.shape[1]
        pairs, values, *_ = open_pairs(predictions, labels, num_classes=classes, **own, **encoding)
        shown = metrics.class_names(class_names, classes=values.classes, background=background)
        measured, names = count_pairs(pairs, values), [each.name for each in pairs]
        shares = pd.DataFrame(pixel_shares(measured), names) if stored is None else stored
        if training_labels and stored is None:
            shares = _training_shares(training_labels, pairs, values.spec)
        images, true = shares.index.get_indexer(pd.Index(names)), measured.segments.true
        evidence = context_evidence(true, shares.to_numpy(), own=images, background=background)
        betas = _betas(true, evidence, background, samples)
    objects = count_objects(measured, shown, samples=samples, betas=betas)
    source = f"{len(shares)} images of {training_labels or f'{labels}, each without itself'}"
    facts = [describe_images(measured.shapes, values), f"Contexts: {source}."]
    notes = [f"Note: {warning.message}" for warning in caught if issubclass(warning.category, UserWarning)]
    options = {"predictions": str(predictions), "labels": str(labels), "samples": samples}
    document = context_document(objects, facts=facts, notes=notes, options=options)
    _write_tables(out, objects, names, shares.set_axis(list(shown), axis=1).rename_axis("name"))
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
        write_text(out / name, table.to_csv(index=False, float_format="%.6g"))


def _training_shares(path: Path, pairs: list[Pair], spec: LabelSpec) -> pd.DataFrame:
    """Returns the class shares of training images by name (those of the pairs if they have none)."""
    source = open_source(path, wanted="labels", label_map=pairs[0].labels.label_map)
    # Numeric names would be mistaken for those of evaluated images.
    numbers = (f"training {i}" for i in range(len(source.images)))
    rows = source.names or ([pair.name for pair in pairs] if len(pairs) == len(source.images) else numbers)
    labels = (image.to_classes(image.read(), ignore_index=spec.ignore_index) for image in source.images)
    shares = [image_shares([each], num_classes=spec.num_classes or 0)[0] for each in labels]
    return pd.DataFrame(np.stack(shares), list(rows))


def _betas(true: pd.DataFrame, evidence: np.ndarray, background: Background, samples: int) -> dict[str, Choice]:
    """Returns beta of all flips, and of confusion and bleeding if there are enough."""
    bleeding = np.asarray(true["bleeding"].fillna(False), bool)
    flips = np.asarray(true["outcome"] == "flip")
    parts = {"all": np.ones(len(true), bool), "confusion": ~bleeding, "bleeding": bleeding}
    kept = {name: chosen for name, chosen in parts.items() if name == "all" or (chosen & flips).sum() >= LEAST_FLIPS}
    wanted: dict[str, Any] = {"background": background, "samples": samples}
    return {name: context_beta(true, evidence, chosen=chosen, **wanted) for name, chosen in kept.items()}


def _read_shares(path: Path) -> pd.DataFrame:
    """Returns the shares (n, C) of shares.csv by name."""
    try:
        table = pd.read_csv(path, dtype={"name": str}, keep_default_na=False)
        shares = table.set_index("name").astype(np.float64)
    except (KeyError, ValueError) as error:
        form = "a column `name` and a column of numbers for each class"
        raise AuditError(f"{path}: expected {form} ({error})") from error
    values = shares.to_numpy()
    known = values.size and shares.index.is_unique and np.isfinite(values).all()
    if not known or values.min() < 0 or values.sum(1).max() > 1 + 1e-3:
        raise AuditError(f"{path}: expected a row an image, of fractions, 0 or more, that sum to 1 or less")
    return shares
