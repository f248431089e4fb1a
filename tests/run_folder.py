"""Writes a run folder as a sweep leaves it, from made-up decompositions."""

import json
from pathlib import Path

import numpy as np
from results.tables import cell_of, curves_of

from flipjax.config.groups import TWO_BY_TWO
from flipjax.metrics import Decomposition
from flipjax.page import gallery
from flipjax.results.arrays import EVALUATED
from flipjax.results.rows import CLASSES_NOT_LEARNT
from flipjax.results.tables import history_table, results_table
from flipjax.support.frames import write_csv
from flipjax.support.npz import write_arrays

CLASSES, SCENES = ("background", "hopper", "skimmer"), ("land", "water")
SCORES = ("max_softmax", "margin", "energy", "p_norm", "mirror", "grey_fill", "blur_fill")
END = {"epochs": 3, "best_epoch": 2, "selection": "val_loss"}
SETTINGS = [{"rho": rho, "seed": seed} for rho in (0.5, 0.9) for seed in (0, 1)]
IMAGES = 24
TRAINED = {"finished", "stopped", CLASSES_NOT_LEARNT}
"""Statuses of members that trained without failing; tiny ones may learn nothing."""
CURVES = {
    "train_loss": [1.0, 1.0, 1.0],
    "valid_cross_entropy": [1.0, 1 / 2, 1 / 3],
    "valid_flip": [0.2, 0.2, 0.2],
    "valid_loss": [1.0, 1 / 2, 1 / 3],
    "valid_worst_group_iou": [0.0, 0.1, 0.2],
}


def counts_at(groups, *, rho=0.9, seed, shift=0.0, **_):
    """Counts whose flips in the rare groups of two classes grow with rho."""
    generator = np.random.default_rng([seed, int(100 * rho)])
    share = np.where(np.isin(groups, (1, 2)), rho - 0.4, 0.1) + generator.normal(0, 0.1, IMAGES)
    flips = np.rint(100 * (np.clip(share, 0, 0.75) + shift)).astype(int)
    confusion = np.zeros((IMAGES, 3, 3), np.int32)
    image, label = np.arange(IMAGES), 1 + groups // 2
    confusion[image, label, label] = 100 - flips
    confusion[image, label, 3 - label] = flips
    confusion[:, 0, 0] = 400
    confusion[image, label, 0] = 5
    return Decomposition(confusion, (100 * generator.uniform(0, 0.69, IMAGES)).astype(np.float32))


def scores_and_masks(shape):
    """Scores and predicted classes of noise."""
    scores = np.random.default_rng(0).normal(size=(*shape, len(SCORES)))
    return {
        "score": np.array(SCORES),
        "scores": scores,
        "masks": np.random.default_rng(1).integers(0, 128, (*shape, 2, 8)),
    }


def gallery_of(member, decomposition, groups, pairs):
    """A gallery of noise."""
    indices, kinds = gallery.choose_images(decomposition, groups, pairs, riskiest=2, typical=2, paired=1)
    generator = np.random.default_rng(0)
    shape, classes = (len(indices), 8, 8), decomposition.confusion.shape[-1]
    images, labels = generator.uniform(size=(*shape, 3)), generator.integers(0, 3, shape)
    own = {"indices": indices, "groups": groups[indices], "kinds": kinds, "member": member}
    logits = generator.normal(size=(*shape, classes)).astype(np.float32)
    return gallery.make_gallery(images, labels, gallery.maps_of(logits, labels), **own)


def make_run(
    folder: Path,
    settings=SETTINGS,
    *,
    status="finished",
    config=None,
    classes=CLASSES,
    scenes=SCENES,
    all_groups=TWO_BY_TWO,
    groups=None,
    counts=counts_at,
    stored=True,
    further=None,
    cell_name="only",
    best_epoch=2,
    **options,
):
    """Writes a cell of a run folder with a member per dict of axes in `settings`, the first two of them with images.

    `status` and `best_epoch` may be lists, and `further` returns more arrays of images from the decompositions.
    """
    if groups is None:
        groups = np.arange(IMAGES) % all_groups.count
    pairs = np.arange(IMAGES) // all_groups.scenes
    members = {}
    for axes in settings:
        name = "_".join(f"{key}={value}" for key, value in axes.items())
        members[name] = counts(groups, **axes, **options)
    names = list(members)
    shape = (len(names), len(EVALUATED) * IMAGES)
    cell = cell_of(
        {name: [decomposition] for name, decomposition in members.items()},
        groups,
        pairs,
        settings=settings,
        curves=curves_of(names, CURVES, epochs=3),
        classes=classes,
        scenes=scenes,
        all_groups=all_groups,
        status=status,
        best_epoch=best_epoch,
        **(scores_and_masks(shape) if stored else {}),
        **(further(list(members.values())) if further else {}),
    )
    write_csv(folder / "results.csv", results_table(cell.results))
    write_csv(folder / "history.csv", history_table(cell.results))
    write_arrays(folder / f"cells/{cell_name}/results.npz", cell.results, cell.images)
    made = [gallery_of(name, members[name], groups, pairs) for name in names[:2]]
    gallery.save_gallery(folder / f"cells/{cell_name}/gallery.npz", gallery.concatenate_galleries(made))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
