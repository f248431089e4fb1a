"""The galleries of a run: what its gallery.npz files hold, as items of the page and as one figure."""

from collections.abc import Sequence
from pathlib import Path

from flipjax.report.html import Gallery
from flipjax.report.pictures import Item, Palette, save_items
from flipjax.report.run import UNREADABLE, Run
from flipjax.report.style import class_colours
from flipjax.results import gallery, setting_label, varying_axes

CAPTION = (
    "Test images and what a member made of them. Flip is the share of the image's true foreground; flip-risk is drawn "
    "where foreground is predicted, over the faded image. A pair shows one object in both scenes."
)


def gallery_block(run: Run, items: Sequence[Item]) -> list[Gallery]:
    """Returns the gallery of all stored images; none where there are none."""
    return [Gallery(items, palette_of(run), CAPTION)] if items else []


def palette_of(run: Run) -> Palette:
    """Returns the colours of the run's classes."""
    names = next(iter(run.cells.values())).class_names
    colours = class_colours(len(names))
    return Palette(colours, dict(zip(names[1:], colours[1:], strict=True)), 0, len(names))


def items_of(run: Run) -> list[Item]:
    """Returns the stored images of all members. Damaged files are named in `run.missing`."""
    records = {record["member"]: record for record in run.records}
    axes = ["rho", "seed", *(axis for axis in varying_axes(run.summary) if axis != "seed")]
    items = []
    for name, cell in run.cells.items():
        path = run.folder / "cells" / name / "gallery.npz"
        if not path.is_file():
            continue
        try:
            stored = gallery.load(path)
        except UNREADABLE as error:
            run.missing.append(f"cells/{name}/gallery.npz: damaged ({error}); its images are left out")
            continue
        for index, member in enumerate(stored.member.tolist()):
            record = records.get(member, {})
            label = setting_label(record, [axis for axis in axes if axis in record])
            y, scene = divmod(int(stored.group[index]), 2)
            where = f"{cell.class_names[1 + y]} on {cell.scene_names[scene]}"
            items.append(
                Item(
                    name=where,
                    member=f"{member}: {label}" if label else member,
                    group="common" if y == scene else "rare",
                    kind=str(stored.kind[index]),
                    flip=float(stored.flip[index]),
                    flip_risk=float(stored.flip_risk[index]),
                    truth=stored.label[index],
                    prediction=stored.prediction[index],
                    errors=stored.error_map[index],
                    risk=stored.risk_map[index],
                    image=stored.image[index],
                )
            )
    return items


def save_gallery(run: Run, items: Sequence[Item], folder: Path) -> None:
    """Writes the first member's images as gallery.png."""
    if not items:
        (folder / "gallery.png").unlink(missing_ok=True)
        return
    first = [item for item in items if item.member == items[0].member]
    note = f"Member {items[0].member}. {CAPTION}"
    save_items(folder / "gallery.png", first, palette_of(run), title="Test images", note=note)
