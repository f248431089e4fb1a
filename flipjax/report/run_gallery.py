"""The gallery of a run: the stored images of its members, with their settings and groups.

Example:
    >>> CAPTION.split(".")[0]
    'Test images and their predictions'
"""

import math
from collections.abc import Sequence

import numpy as np

from flipjax.config.groups import TWO_BY_TWO, Groups
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.scenes.flips import region_class
from flipjax.metrics.scenes.swap import SceneSwap
from flipjax.page.gallery.store import StoredImages, load_gallery
from flipjax.page.style import class_colours
from flipjax.page.tiles import Item, Palette
from flipjax.results.run import StoredRun
from flipjax.results.statistics.setting_tables import FirstRule
from flipjax.results.store import GALLERY
from flipjax.results.text import setting_label, varying_axes
from flipjax.support.files import DamagedError
from flipjax.support.frames import Row, records_of
from flipjax.support.terminal import listed

CAPTION = (
    "Test images and their predictions. Flip is a share of the image's true foreground; flip-risk is drawn over the "
    "faded image where foreground is predicted. Riskiest: highest flip-risk; typical: near its median. A pair shows "
    "one object in all scenes. If scene-swap risk is above 0, the model labels the region differently on other scenes."
)
"""Caption of the images of a run."""


def palette_of(run: StoredRun) -> Palette:
    """Returns the colours of the run's classes."""
    names = run.example.class_names
    colours = class_colours(len(names))
    return Palette(colours, dict(zip(names[1:], colours[1:], strict=True)), 0, len(names))


def items_of(run: StoredRun, tables: FirstRule) -> tuple[list[Item], list[str]]:
    """Returns the stored images of all members, and a sentence on each damaged file.

    Args:
        run: the run.
        tables: of the settings that are named beside their members.
    """
    records = {record["member"]: record for record in records_of(tables.members)}
    axes = ["rho", "seed", *varying_axes(tables.means)]
    items = []
    damaged = []
    for name, cell in run.cells.items():
        path = run.folder / "cells" / name / GALLERY
        if not path.is_file():
            continue
        try:
            stored = load_gallery(path, program=str(cell.results.program) or None)
        except DamagedError as error:
            damaged.append(f"{error}; its images are left out")
            continue
        for member in dict.fromkeys(stored.member.tolist()):
            images = cell.images_of(member, "test")
            swap = None
            if images.log_odds is not None:
                swap = images.swap
            items += member_items(
                stored.of_member(member),
                images.decomposition,
                images.pair,
                class_names=cell.class_names,
                scene_names=cell.results.scene_name.tolist(),
                label=_label_of(member, records.get(member, {}), axes),
                swap=swap,
                all_groups=cell.groups,
            )
    return items, damaged


def _label_of(member: str, record: Row, axes: Sequence[str]) -> str:
    """Returns the name of a member, with its setting if `record` holds any of the axes."""
    setting = setting_label(record, [axis for axis in axes if axis in record])
    if not setting:
        return member
    return f"{member}: {setting}"


def member_items(
    stored: StoredImages,
    decomposition: Decomposition,
    pairs: np.ndarray | None,
    *,
    class_names: Sequence[str],
    scene_names: Sequence[str],
    label: str,
    swap: SceneSwap | None = None,
    all_groups: Groups = TWO_BY_TWO,
) -> list[Item]:
    """Returns the stored images of one member as items, with quantities computed from the whole split.

    Args:
        stored: R images.
        decomposition: the decomposition of the split's n images.
        pairs: int (n,), the counterfactual set of each image or -1; None without any.
        class_names: of all classes.
        scene_names: of all scenes.
        label: the member's label.
        swap: the scene swap of the split's n images, if any.
        all_groups: the groups that the stored groups number.
    """
    predicted_names = np.asarray(class_names)[region_class(decomposition)]
    swap_risk = np.full(len(predicted_names), math.nan)
    repaired_flip = swap_risk
    if swap is not None:
        swap_risk = swap.risk
        repaired_flip = np.asarray(swap.repaired.flip)
    items = []
    for row in range(len(stored.member)):
        index = int(stored.index[row])
        group = int(stored.group[row])
        kind = str(stored.kind[row])
        change = ""
        if pairs is not None and kind.startswith("pair"):
            of_pair = predicted_names[np.asarray(pairs) == pairs[index]].tolist()
            change = f"predicted as {listed([*dict.fromkeys(of_pair)])}"
        item = Item(
            name=all_groups.title_of(group, class_names[1:], scene_names),
            member=label,
            group=all_groups.kind_of(group),
            kind=kind,
            flip=float(stored.flip[row]),
            flip_risk=float(stored.flip_risk[row]),
            truth=stored.label[row],
            prediction=stored.prediction[row],
            errors=stored.error_map[row],
            risk=stored.risk_map[row],
            image=stored.image[row],
            pair=change,
            swap_risk=float(swap_risk[index]),
            repaired_flip=float(repaired_flip[index]),
        )
        items.append(item)
    return items
