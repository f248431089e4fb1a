"""Draws images with their predictions, as tiles for the page and as one figure."""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from flipjax.groups import TWO_BY_TWO, Groups
from flipjax.metrics.classes import Background, background_classes
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.log_odds import SceneSwap
from flipjax.report.panels import DPI
from flipjax.report.run import UNREADABLE, RunTables
from flipjax.report.style import EMPTY, INK, NOTE, OUTCOMES, PLAIN, TITLE, class_colours, plain
from flipjax.results import gallery
from flipjax.results.frames import records_of
from flipjax.results.rows import region_class
from flipjax.results.text import setting_label, varying_axes
from flipjax.support.files import replacing

SMALL_SIDE = 96
FADE = 0.3
LEAST_ERROR = 0.05
SHOWN = 16
RISK_COLOURS = "viridis"


class Item(NamedTuple):
    """One image and its prediction by one member.

    truth and prediction: integers (H, W), classes; errors uint8 (H, W), coded as in `flipjax.metrics.error_map`;
    risk float (H, W), nats; image uint8 (H, W, 3) or None. `kind` is why it was chosen, `pair` how its label changes in
    the counterfactual pair, and `anchor` its anchor on the page; `swap_risk` and `repaired_flip` are NaN without scene
    swap.
    """

    name: str
    member: str
    group: str
    kind: str
    flip: float
    flip_risk: float
    truth: np.ndarray
    prediction: np.ndarray
    errors: np.ndarray
    risk: np.ndarray
    image: np.ndarray | None = None
    pair: str = ""
    swap_risk: float = math.nan
    repaired_flip: float = math.nan
    anchor: str = ""

    @property
    def error(self) -> str:
        """The kind of error with the most pixels; 'correct' if all errors are under 5% of the true foreground."""
        counts = dict(zip(OUTCOMES, np.bincount(self.errors.ravel(), minlength=len(OUTCOMES)).tolist(), strict=False))
        foreground = counts["correct"] + counts["flip"] + counts["miss"]
        worst = max(("flip", "miss", "spill"), key=lambda name: counts[name])
        return worst if counts[worst] > LEAST_ERROR * foreground else "correct"


class Palette(NamedTuple):
    """Colours of the classes by index (then of ignored pixels, if any), and the names in the legend."""

    colours: Sequence[Any]
    names: Mapping[str, Any]
    background: Background = 0
    classes: int = 3

    @property
    def highest(self) -> float:
        """The largest flip-risk, nats."""
        return math.log(self.classes - len(background_classes(self.background)))


def tiles(item: Item, palette: Palette) -> dict[str, np.ndarray]:
    """Returns the pictures of an item by name, uint8 (H, W, 3); `image` and `flip-risk` only if they exist.

    Draws flip-risk over the faded image where foreground is predicted, because only that enters the score.
    """
    classes, outcomes = _colours(palette.colours), _colours(OUTCOMES.values())
    base = np.full((*item.truth.shape, 3), _colours([EMPTY])[0]) if item.image is None else item.image
    faded = (255 - FADE * (255 - base.astype(np.float32))).astype(np.uint8)
    shades = matplotlib.colormaps[RISK_COLOURS](np.nan_to_num(item.risk) / palette.highest, bytes=True)[..., :3]
    counted = ~np.isin(item.prediction, background_classes(palette.background)) & np.isfinite(item.risk)
    made = {} if item.image is None else {"image": item.image}
    made |= {"truth": classes[item.truth], "prediction": classes[item.prediction], "outcome": outcomes[item.errors]}
    return made | ({"flip-risk": np.where(counted[..., None], shades, faded)} if np.isfinite(item.risk).any() else {})


def _colours(colours: Iterable[Any]) -> np.ndarray:
    return np.round(255 * to_rgba_array([*colours])[:, :3]).astype(np.uint8)


def tile_uris(item: Item, palette: Palette) -> dict[str, str]:
    """Returns the pictures of an item as data URIs, by name."""
    photos = {"image", "flip-risk"} if item.image is not None else set()
    return {name: data_uri(pixels, drawing=name not in photos) for name, pixels in tiles(item, palette).items()}


def data_uri(pixels: np.ndarray, *, drawing: bool) -> str:
    """Encodes a picture as a data URI, in PNG or, for large photos, JPEG. A `drawing` has few colours."""
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    kind = "png" if drawing or max(pixels.shape[:2]) <= SMALL_SIDE else "jpeg"
    if drawing:
        image = image.quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    image.save(stream, format=kind, **({"quality": 88} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def colour_bar() -> str:
    """Returns the colour bar of flip-risk, from 0 to its maximum, as a data URI."""
    ramp = matplotlib.colormaps[RISK_COLOURS](np.linspace(0, 1, 128), bytes=True)[None, :, :3]
    return data_uri(np.repeat(ramp, 2, axis=0), drawing=False)


def save_items(path: Path, items: Sequence[Item], palette: Palette, *, title: str, note: str) -> None:
    """Writes the first SHOWN items as a PNG, one row of tiles per item, in two columns."""
    items = items[:SHOWN]
    rows = math.ceil(len(items) / 2)
    legend = [*palette.names.items(), *((name, OUTCOMES[name]) for name in OUTCOMES if name != "background")]
    with replacing(path) as stream, matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(12.5, 1.15 * rows + 1.2), dpi=DPI, facecolor="white", layout="constrained")
        figure.suptitle(title, **TITLE)
        figure.supxlabel(note, **NOTE)
        grid = figure.subplots(rows, 2, squeeze=False).T
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, item in zip(grid.flat, items, strict=False):
            _draw_tiles(axes, item, palette)
        for axes in grid[:, 0]:
            axes.set_title(" · ".join(tiles(items[0], palette)), fontsize=8, color=INK)
        patches = [Patch(facecolor=colour, label=plain(name)) for name, colour in legend]
        figure.legend(handles=patches, loc="outside upper right", ncols=8, frameon=False, fontsize=8)
        FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None}, pil_kwargs={"compress_level": 3})


def _draw_tiles(axes: Axes, item: Item, palette: Palette) -> None:
    height, width = item.truth.shape
    gap = np.full((height, max(1, width // 16), 3), 255, np.uint8)
    strip = np.concatenate([part for tile in tiles(item, palette).values() for part in (tile, gap)], axis=1)
    axes.imshow(strip[:, : -gap.shape[1]], interpolation="nearest")
    name = "\n".join(plain(text) for text in (item.name[:24], item.group, item.kind) if text)
    risk = f", risk {item.flip_risk:.2f}" if item.flip_risk == item.flip_risk else ""
    words = f"{name}\nflip {item.flip:.2f}{risk}"
    axes.text(-0.02, 0.5, words, transform=axes.transAxes, ha="right", va="center", fontsize=7, color=INK)


CAPTION = (
    "Test images and their predictions. Flip is a share of the image's true foreground; flip-risk is drawn over the "
    "faded image where foreground is predicted. Riskiest: highest flip-risk; typical: near its median. A pair shows "
    "one object in all scenes. If scene-swap risk is above 0, the model labels the region differently on other scenes."
)


def palette_of(run: RunTables) -> Palette:
    """Returns the colours of the run's classes."""
    names = next(iter(run.cells.values())).class_names
    colours = class_colours(len(names))
    return Palette(colours, dict(zip(names[1:], colours[1:], strict=True)), 0, len(names))


def items_of(run: RunTables) -> list[Item]:
    """Returns the stored images of all members, and adds damaged files to `run.missing`."""
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
        names: dict[str, Any] = {"class_names": cell.class_names, "scene_names": cell.scene_names}
        for member in dict.fromkeys(stored.member.tolist()):
            record = records.get(member, {})
            label = setting_label(record, [axis for axis in axes if axis in record])
            names |= {"all_groups": cell.groups, "label": f"{member}: {label}" if label else member}
            own = gallery.StoredImages(*(values[stored.member == member] for values in stored))
            images, swap = cell.decomposition(member, "test"), cell.scene_swap(member, "test")
            items += member_items(own, images, cell.parts["test"].pairs, swap=swap, **names)
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
    """Returns the stored images of one member as items, with quantities computed from the whole split.

    Args:
        stored: R images.
        decomposition: the decomposition of the split's n images.
        pairs: int (n,), the counterfactual set of each image or -1.
        class_names: of all classes.
        scene_names: of all scenes.
        label: the member's label.
        swap: the scene swap of the split's n images, if any.
        all_groups: the groups that the stored groups number.
    """
    labels = np.asarray(class_names)[region_class(decomposition)]
    swapped = {} if swap is None else {"swap_risk": swap.risk, "repaired_flip": np.asarray(swap.repaired.flip)}
    items = []
    for index, *values in zip(stored.index.tolist(), *stored, strict=True):
        one = gallery.StoredImages(*values)
        group, kind = int(one.group), str(one.kind)
        twins = labels[np.asarray(pairs) == pairs[index]].tolist() if kind.startswith("pair") else []
        outcome = f"the label stays {twins[0]}" if twins else ""
        if len(set(twins)) > 1:
            outcome = f"the label changes with the scene, {', '.join(twins[:-1])} and {twins[-1]}"
        name = all_groups.title_of(group, class_names[1:], scene_names)
        about: dict[str, Any] = {"flip": float(one.flip), "flip_risk": float(one.flip_risk), "pair": outcome}
        about |= {score: float(of_images[index]) for score, of_images in swapped.items()}
        about |= {"truth": one.label, "prediction": one.prediction, "errors": one.error_map, "risk": one.risk_map}
        items.append(Item(name, label, all_groups.kind_of(group), kind, image=one.image, **about))
    return items


def save_gallery(run: RunTables, items: Sequence[Item], folder: Path) -> None:
    """Writes the first member's images as gallery.png."""
    path = folder / "gallery.png"
    if items:
        first = [item for item in items if item.member == items[0].member]
        note = f"Member {items[0].member}. {CAPTION}"
        save_items(path, first, palette_of(run), title="Test images", note=note)
    else:
        path.unlink(missing_ok=True)
