"""The galleries of a run: what its gallery.npz files hold, as items of the page and as one figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flipjax.groups import TWO_BY_TWO, Groups
from flipjax.intervene.identity import SceneSwap
from flipjax.metrics.decomposition import Decomposition
from flipjax.report.pictures import Item, Palette, save_items
from flipjax.report.run import UNREADABLE, Run
from flipjax.report.style import class_colours
from flipjax.results import gallery
from flipjax.results.frames import records_of
from flipjax.results.pairs import region_class
from flipjax.results.text import setting_label, varying_axes

CAPTION = (
    "Test images and what a member made of them. Flip is the share of the image's true foreground; flip-risk is drawn "
    "where foreground is predicted, over the faded image. Riskiest: highest flip-risk; typical: near its median. "
    "A pair shows one object in all scenes. Scene-swap risk, "
    "where there is one: above 0 the model itself would label the region otherwise on other scenes."
)


def palette_of(run: Run) -> Palette:
    """Returns the colours of the run's classes."""
    names = next(iter(run.cells.values())).class_names
    colours = class_colours(len(names))
    return Palette(colours, dict(zip(names[1:], colours[1:], strict=True)), 0, len(names))


def items_of(run: Run) -> list[Item]:
    """Returns the stored images of all members. Damaged files are named in `run.missing`."""
    records = {record["member"]: record for record in records_of(run.records)}
    axes = ["rho", "seed", *(axis for axis in varying_axes(run.summary) if axis != "seed")]
    items = []
    for name, cell in run.cells.items():
        path = run.folder / "cells" / name / "gallery.npz"
        if not path.is_file():
            continue
        try:
            stored = gallery.load_gallery(path, program=cell.program or None)
        except UNREADABLE as error:
            run.missing.append(f"cells/{name}/gallery.npz: damaged ({error}); its images are left out")
            continue
        for member in dict.fromkeys(stored.member.tolist()):
            record = records.get(member, {})
            label = setting_label(record, [axis for axis in axes if axis in record])
            items += member_items(
                gallery.StoredImages(*(values[stored.member == member] for values in stored)),
                cell.decomposition(member, "test"),
                cell.parts["test"].pairs,
                class_names=cell.class_names,
                scene_names=cell.scene_names,
                all_groups=cell.groups,
                label=f"{member}: {label}" if label else member,
                swap=cell.scene_swap(member, "test"),
            )
    return items


def member_items(
    stored: gallery.StoredImages,
    decomposition: Decomposition,
    pairs: np.ndarray,
    *,
    class_names: Sequence[str],
    scene_names: Sequence[str],
    label: str,
    swap: SceneSwap | None = None,
    all_groups: Groups = TWO_BY_TWO,
) -> list[Item]:
    """Returns the stored images of one member as items, with what is known of them from all images of the split.

    Args:
        stored: R images.
        decomposition: of the split's n images.
        pairs: int (n,), the counterfactual set of each image or -1.
        class_names: of all classes.
        scene_names: of all scenes.
        label: names the member.
        swap: of the split's n images, where their scenes were swapped.
        all_groups: what the stored groups number.
    """
    labels = region_class(decomposition)
    blank = np.full(len(labels), np.nan)
    risk, repaired = (blank, blank) if swap is None else (swap.risk, np.asarray(swap.repaired.flip))
    items = []
    for place, index in enumerate(stored.index.tolist()):
        group, kind = int(stored.group[place]), str(stored.kind[place])
        twins = labels[np.asarray(pairs) == pairs[index]].tolist() if kind.startswith("pair") else []
        items.append(
            Item(
                name=all_groups.title_of(group, class_names[1:], scene_names),
                member=label,
                group=all_groups.kind_of(group),
                kind=kind,
                flip=float(stored.flip[place]),
                flip_risk=float(stored.flip_risk[place]),
                truth=stored.label[place],
                prediction=stored.prediction[place],
                errors=stored.error_map[place],
                risk=stored.risk_map[place],
                image=stored.image[place],
                pair=_outcome([str(class_names[twin]) for twin in twins]),
                swap_risk=float(risk[index]),
                repaired_flip=float(repaired[index]),
            )
        )
    return items


def _outcome(labels: Sequence[str]) -> str:
    """Returns what the scene does to the label of a set."""
    if len(set(labels)) > 1:
        return f"the label changes with the scene, {', '.join(labels[:-1])} and {labels[-1]}"
    return f"the label stays {labels[0]}" if labels else ""


def save_gallery(run: Run, items: Sequence[Item], folder: Path) -> None:
    """Writes the first member's images as gallery.png."""
    path = folder / "gallery.png"
    if not items:
        path.unlink(missing_ok=True)
        return
    first = [item for item in items if item.member == items[0].member]
    note = f"Member {items[0].member}. {CAPTION}"
    save_items(path, first, palette_of(run), title="Test images", note=note)
