"""A layout of files as their owner's tools write them, and what an audit must say of it, computed apart."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from flipjax.audit import audit_files
from flipjax.audit.__main__ import main

GENERATOR = np.random.default_rng(7)
NAMES = tuple(f"p{patient:02d}_{number}" for patient in range(3) for number in range(4))
"""Twelve images of three patients."""
SIZE = (12, 16)
LABELS = np.kron(GENERATOR.integers(0, 3, (12, 3, 4)), np.ones((4, 4), int)).astype(np.uint8)
"""Three classes in blocks, uint8 (12, H, W)."""
PREDICTED = np.where(GENERATOR.random(LABELS.shape) < 0.2, (LABELS + 1) % 3, LABELS).astype(np.uint8)
"""Class indices, a fifth of them wrong."""
LOGITS = (4 * np.eye(3)[PREDICTED] - 1).astype(np.float32)
"""Scores (12, H, W, C) of these predictions."""
CLASSES = "background,cat,dog"


def matrix(predicted=PREDICTED, labels=LABELS, *, classes=3, ignored=None):
    """Returns the pixels by true and predicted class."""
    counts = np.zeros((classes, classes), int)
    counted = np.ones(labels.shape, bool) if ignored is None else labels != ignored
    np.add.at(counts, (labels[counted].astype(int), predicted[counted].astype(int)), 1)
    return counts


def flip_of(chosen):
    """Returns the share of flipped foreground pixels of some images."""
    counts = matrix(PREDICTED[chosen], LABELS[chosen])
    foreground = counts[1:]
    return (foreground[:, 1:].sum() - np.trace(foreground[:, 1:])) / foreground.sum()


@dataclasses.dataclass(frozen=True)
class Layout:
    """Files of one owner."""

    name: str
    """What is special in them."""
    write: Callable[[Path], list[str]]
    """Writes them into a folder, and returns the options of the audit."""
    expected: np.ndarray | str
    """The flip matrix, or a part of the sentence that refuses."""
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Numbers of summary.json."""
    says: str = ""
    """A part of a sentence on the page."""
    clusters: int = 0
    """The number of clusters, if there are any."""
    model: Callable[[np.ndarray], np.ndarray] | None = None
    """Predicts photos."""


@dataclasses.dataclass(frozen=True)
class Said:
    """What an audit said of a layout."""

    refusal: str
    """The sentence that refuses; empty if it was read."""
    flip_matrix: np.ndarray | None = None
    summary: Mapping[str, float] = dataclasses.field(default_factory=dict)
    page: str = ""
    clusters: int = 0


def ask(layout: Layout, folder: Path, read_errors: Callable[[], str]) -> Said:
    """Audits a layout.

    Args:
        layout: of the files.
        folder: an empty one.
        read_errors: returns what was printed on stderr.
    """
    options = layout.write(folder)
    out = folder / "out"
    if layout.model is not None:
        given = dict(option.removeprefix("--").split("=", 1) for option in options)
        try:
            audit_files(None, Path(given["labels"]), model=layout.model, images=Path(given["images"]), out=out)
        except ValueError as error:
            return Said(str(error))
    elif main([*options, f"--out={out}"]) != 0:
        return Said(read_errors().splitlines()[-1])
    stored = json.loads((out / "summary.json").read_text())
    with np.load(out / "decomposition.npz") as arrays:
        clusters = len(np.unique(arrays["clusters"])) if "clusters" in arrays else 0
    page = (out / "summary.md").read_text()
    return Said("", np.array(stored["flip_matrix"]), stored["summary"], page, clusters)


def misfit(layout: Layout, said: Said) -> str:
    """Returns in what an audit differs from what is expected; empty if in nothing."""
    if isinstance(layout.expected, str):
        if not said.refusal:
            return "read, expected a refusal"
        return "" if layout.expected in said.refusal else f"refused otherwise: {said.refusal}"
    if said.refusal:
        return f"refused: {said.refusal}"
    if said.flip_matrix is None or said.flip_matrix.shape != layout.expected.shape:
        return "another number of classes"
    if not np.array_equal(said.flip_matrix, layout.expected):
        right = np.trace(said.flip_matrix) / said.flip_matrix.sum()
        return f"wrong numbers: {right:.3f} right, expected {np.trace(layout.expected) / layout.expected.sum():.3f}"
    for key, value in layout.numbers.items():
        if key not in said.summary or abs(said.summary[key] - value) > 1e-6:
            return f"{key}: {said.summary.get(key)}, expected {value:.4f}"
    if layout.clusters != said.clusters:
        return f"{said.clusters} clusters, expected {layout.clusters}"
    if layout.says not in said.page:
        return f"read, but not said: {layout.says}"
    return ""
