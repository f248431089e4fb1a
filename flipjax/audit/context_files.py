"""The command's work: label maps to tables and a summary."""

from __future__ import annotations

import argparse
import csv
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax.audit.arrays import ArrayReader, AuditError, Limits
from flipjax.audit.pairs import Arrays, Encoding, Pair, find_photos, in_options, open_pairs, open_source, read_values
from flipjax.context.choice import LEAST_FLIPS, Choice, context_beta
from flipjax.context.evidence import context_evidence, image_shares
from flipjax.context.scenes import cluster_scenes, scene_evidence, scene_features
from flipjax.context.strata import context_pairs, natural_gap
from flipjax.data.images import read_image, rgb, squash
from flipjax.files import replacing
from flipjax.metrics import segment_flips
from flipjax.metrics.classes import background_classes, class_names
from flipjax.metrics.objects import Columns
from flipjax.metrics.segment_table import join_columns, segment_columns
from flipjax.threads import in_order

FILES = ("shares.csv", "segments.csv", "segment_flips.csv", "beta.csv", "natural_gap.csv", "pairs.csv")
SIDE = 128
"""Pixels a side of the photos whose scenes are told apart."""
RATE = 0.1
"""False discovery rate up to which the terminal lists pairs."""
LISTED = 5
BY_SCENE = "all, evidence of the scene, objects filled"


def measure_context(options: argparse.Namespace) -> str:
    """Measures what the command line names, writes its tables and returns the summary.

    Raises:
        AuditError: files or values that do not fit, too few flips, or a folder that holds other files.
    """
    folder = options.out
    if folder.exists() and {path.name for path in folder.iterdir()} - set(FILES):
        raise AuditError(f"--out: expected a new folder, or one of this command; found other files in {folder}")
    with in_options(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        lines = _measure(options)
    lines += [f"Note: {warning.message}" for warning in caught if issubclass(warning.category, UserWarning)]
    return "\n".join([*lines, "", ", ".join(str(folder / name) for name in FILES)])


def _measure(options: argparse.Namespace) -> list[str]:
    given = options.training_labels
    if options.labels.suffix == ".json":
        raise AuditError(f"--labels: expected PNG, npy or npz, found {options.labels}")
    stored = _read_shares(given) if given and given.suffix == ".csv" else None
    own = {name: getattr(options, name) for name in ("background", "ignore_index", "class_names", "unit")}
    own |= {"kind": "masks", "num_classes": stored and stored[1].shape[1]}
    pairs, encoding, *_ = open_pairs(options.predictions, options.labels, **own)
    names = class_names(options.class_names, classes=encoding.classes, background=options.background)
    true, own_shares, scenes = _measure_images(options, pairs, encoding)
    rows, shares = stored or ([each.name for each in pairs], own_shares)
    if given and not stored:
        rows, shares = _training_shares(given, rows, encoding.classes)
    place = {name: row for row, name in enumerate(rows)}
    evidence = context_evidence(
        true, shares, own=np.array([place.get(each.name, -1) for each in pairs]), background=options.background
    )
    labels, both = _betas(options, true, evidence)
    if scenes is not None:
        told = scene_evidence(
            true, scenes, own_shares, scenes, own=np.arange(len(pairs)), background=options.background
        )
        both.append(context_beta(true, told, background=options.background, samples=options.samples))
        labels.append(BY_SCENE)
    gap = natural_gap(true, evidence, samples=options.samples)
    table = context_pairs(true, background=options.background)
    for column in ("class", "context"):
        table[column] = [names[c] for c in table[column]]
    flips = segment_flips(true, class_names=names)
    shares_table = pd.DataFrame(shares, columns=list(names))
    shares_table.insert(0, "name", rows)
    betas = pd.DataFrame(both)
    betas.insert(0, "flips_of", labels)
    true = true.assign(image=[pairs[image].name for image in true["image"]])
    written = (shares_table, true, flips.reset_index(), betas, pd.DataFrame([gap]), table)
    for name, frame in zip(FILES, written, strict=True):
        with replacing(options.out / name) as stream:
            frame.to_csv(stream, index=False, float_format="%.6g", quoting=csv.QUOTE_MINIMAL)
    source = f"{len(shares)} images of {given or f'{options.labels}, each without itself'}"
    return _summary(flips, labels, both, gap, table, source)


def _measure_images(
    options: argparse.Namespace, pairs: list[Pair], encoding: Encoding
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray | None]:
    """Returns the true segments of the images, the shares of their classes, and of photos the scene of each."""
    background = background_classes(options.background)
    photos = {}
    if options.images:
        if not background:
            raise AuditError("--images: expected a background, whose pixels are the scene, found --background none")
        photos = find_photos(options.images, [each.name for each in pairs])

    def measure(job: tuple[Pair, Arrays]) -> tuple[Columns, np.ndarray, np.ndarray | None]:
        pair, (predicted, labels, unit, _) = job
        with in_options(pair):
            columns = segment_columns(predicted, labels, encoding.options, unit=unit)
        shares = image_shares([labels], num_classes=encoding.classes)[0]
        return columns, shares, _features(photos[pair.name], labels, background) if photos else None

    with closing(read_values(pairs, encoding)) as values:
        parts, shares, features = zip(*in_order(measure, zip(pairs, values, strict=True)), strict=True)
    return join_columns(parts).true, np.stack(shares), cluster_scenes(np.stack(features)) if photos else None


def _features(photo: Path, labels: np.ndarray, background: tuple[int, ...]) -> np.ndarray:
    """Returns the features of an image's scene: of its photo with all that is not background filled."""
    name = str(photo)
    pixels = np.asarray(squash(rgb(read_image(photo, name=name, turn=True), name), SIDE)) / 255
    rows, columns = ((np.arange(SIDE) * size) // SIDE for size in labels.shape)
    objects = ~np.isin(labels[np.ix_(rows, columns)], background)
    return scene_features(pixels[None].astype(np.float32), objects[None])[0]


def _training_shares(path: Path, names: list[str], C: int) -> tuple[list[str], np.ndarray]:
    """Returns the names of training images, or where they have none those given, and the shares of their classes."""
    source = open_source(path, wanted="labels", limits=Limits())
    numbers = map(str, range(len(source.images)))
    rows = source.names or (names if len(names) == len(source.images) else numbers)
    with ArrayReader() as reader:
        shares = [image_shares([reader.read(image)], num_classes=C)[0] for image in source.images]
    return list(rows), np.stack(shares)


def _betas(options: argparse.Namespace, true: pd.DataFrame, evidence: np.ndarray) -> tuple[list[str], list[Choice]]:
    """Returns what each beta is of, and it: of all flips, of confusion and of bleeding where there are enough."""
    bleeding = np.asarray(true["bleeding"].fillna(False), bool)
    flips = np.asarray(true["outcome"] == "flip")
    parts = {"all": np.ones(len(true), bool), "confusion": ~bleeding, "bleeding": bleeding}
    kept = {name: chosen for name, chosen in parts.items() if name == "all" or (chosen & flips).sum() >= LEAST_FLIPS}
    wanted: dict[str, Any] = {"background": options.background, "samples": options.samples}
    return list(kept), [context_beta(true, evidence, chosen=chosen, **wanted) for chosen in kept.values()]


def _summary(
    flips: pd.DataFrame, labels: list[str], betas: list[Choice], gap: Any, table: pd.DataFrame, source: str
) -> list[str]:
    whole: dict[Any, float] = flips.to_dict("index")["all"]
    lines = [
        f"{int(whole['flip'])} of {int(whole['segments'])} segments flip ({whole['seg_flip']:.3f}); "
        f"{whole['bleeding']:.0%} of the flips go to a class that the image has elsewhere (bleeding), the others are "
        "confusion.",
        f"Contexts are those of {source}.",
    ]
    for label, beta in zip(labels, betas, strict=True):
        lines.append(
            f"beta {beta.beta:.2f} [{beta.low:.2f}, {beta.high:.2f}], with contexts shuffled {beta.shuffled:.2f}, "
            f"within classes {beta.within:.2f} ({beta.flips} flips, {label})."
        )
    lines.append("0: the context has no say in which wrong class it is; 1: all that the labels give it.")
    lines.append(
        f"SegFlip in rare contexts less that in common ones, within class and size: {gap.gap:.3f} "
        f"[{gap.low:.3f}, {gap.high:.3f}] ({gap.rare} and {gap.common} segments)."
    )
    found = table[table["q"] <= RATE]
    lines.append(
        f"{len(found)} of {len(table)} pairs of class and context differ in confusion, false discovery rate {RATE}."
    )
    for row in found.head(LISTED).to_dict("records"):
        lines.append(
            f"  {row['class']} with {row['context']}: {row['flips_with']} of {row['segments_with']}, without "
            f"{row['flips_without']} of {row['segments_without']} (q {row['q']:.3f})"
        )
    return [*lines, "All of this is observational: images with another context differ in other things, too."]


def _read_shares(path: Path) -> tuple[list[str], np.ndarray]:
    """Returns the names and shares (n, C) of shares.csv."""
    try:
        table = pd.read_csv(path, dtype={"name": str}, keep_default_na=False)
        shares = table.drop(columns="name").to_numpy(np.float64)
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise AuditError(f"{path}: expected a column name and one of numbers a class ({error})") from error
    if not len(shares) or not np.isfinite(shares).all() or shares.min() < 0 or shares.sum(1).max() > 1 + 1e-3:
        raise AuditError(f"{path}: expected shares of an image in each row, 0 or more, that sum to 1 or less")
    if table["name"].duplicated().any():
        raise AuditError(
            f"{path}: expected a row a training image, found {table['name'][table['name'].duplicated()].iloc[0]} twice"
        )
    return table["name"].tolist(), shares
