"""Images with their predictions, as tiles for the page and as one figure."""

import base64
import dataclasses
import functools
import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.patches import Patch
from PIL import Image

from flipjax.metrics.inputs.classes import Background, background_classes
from flipjax.page.charts import Chart, Panel
from flipjax.page.style import EMPTY, INK, OUTCOMES, plain

SMALL_SIDE = 96
"""Pixels of the longer side up to which photos are stored as PNG."""
OUTLINED = 256
"""Pixels of the longer side that an image with contours has at least, so that they are thin lines."""
CONTOUR = 2
"""Width of the contours on such an image, in pixels."""
FADE = 0.3
"""How much of a photo shows below flip-risk."""
LEAST_ERROR = 0.05
"""The share of the true foreground below which errors are not named."""
MOST_DRAWN_ITEMS = 16
"""The most items of the figure of a gallery."""
ITEM_INCHES = (6.2, 1.15)
"""Width and height of an item of the figure."""
RISK_COLOURS = "viridis"
"""The colour map of flip-risk."""


@dataclasses.dataclass(frozen=True)
class Item:
    """One image and its prediction by one member."""

    name: str
    """Its title."""
    member: str
    """The member's label; '' of an audit."""
    group: str
    """`common` or `rare`, or the group of an audit's image."""
    kind: str
    """Why it was chosen."""
    flip: float
    """Share of its true foreground; NaN without any."""
    flip_risk: float
    """Nats; NaN without predicted foreground."""
    truth: np.ndarray
    """Integer (H, W), classes."""
    prediction: np.ndarray
    """Integer (H, W), classes."""
    errors: np.ndarray
    """uint8 (H, W), coded as in `flipjax.metrics.error_map`."""
    risk: np.ndarray
    """Float (H, W), nats."""
    image: np.ndarray | None = None
    """uint8 (H, W, 3)."""
    pair: str = ""
    """How its label changes in the counterfactual pair."""
    swap_risk: float = math.nan
    """NaN without scene swap."""
    repaired_flip: float = math.nan
    """NaN without scene swap."""
    anchor: str = ""
    """Its anchor on the page."""
    outlined: bool = False
    """Whether truth and prediction are drawn as contours on its image, if it has one."""
    sides: tuple[str, str] = ("", "")
    """Letters of what is on its left and on its right, such as R and L; blank where it is not known."""

    @property
    def error(self) -> str:
        """The kind of error with the most pixels; 'correct' if all errors are under 5% of the true foreground."""
        pixels = np.bincount(self.errors.ravel(), minlength=len(OUTCOMES)).tolist()
        counts = dict(zip(OUTCOMES, pixels, strict=False))
        foreground = counts["correct"] + counts["flip"] + counts["miss"]
        errors = {name: counts[name] for name in ("flip", "miss", "spill")}
        worst = max(errors, key=errors.__getitem__)
        if errors[worst] <= LEAST_ERROR * foreground:
            return "correct"
        return worst


@dataclasses.dataclass(frozen=True)
class Palette:
    """Colours of classes."""

    colours: Sequence[str]
    """The colour of each class, then that of ignored pixels, if any."""
    names: Mapping[str, str]
    """Colours by the names in the legend."""
    background: Background = 0
    """The background class, several, or None."""
    classes: int = 3
    """The number of classes, with the background."""

    @property
    def highest(self) -> float:
        """The largest flip-risk, nats."""
        return math.log(self.classes - len(background_classes(self.background)))


def tiles(item: Item, palette: Palette) -> dict[str, np.ndarray]:
    """Returns the pictures of an item by name, uint8 (H, W, 3); `image` and `flip-risk` only if they exist.

    Draws flip-risk over the faded image where foreground is predicted, because only that enters the score.
    """
    classes = _colours(palette.colours)
    outcomes = _colours(OUTCOMES.values())
    pictures = {}
    if item.image is not None:
        pictures["image"] = item.image
    pictures["truth"] = classes[item.truth]
    pictures["prediction"] = classes[item.prediction]
    if item.outlined and item.image is not None:
        pictures["truth"] = _outline_tile(item.image, item.truth, palette)
        pictures["prediction"] = _outline_tile(item.image, item.prediction, palette)
    pictures["outcome"] = outcomes[item.errors]
    if np.isfinite(item.risk).any():
        pictures["flip-risk"] = _risk_tile(item, palette)
    return pictures


def _outline_tile(image: np.ndarray, labels: np.ndarray, palette: Palette) -> np.ndarray:
    """Returns an image with the contours of its foreground classes, uint8, of a side of OUTLINED pixels or more."""
    factor = math.ceil(OUTLINED / max(labels.shape))
    enlarged = np.kron(labels, np.ones((factor, factor), labels.dtype))
    pixels = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    contour = np.zeros(enlarged.shape, bool)
    for axis, distance in itertools.product((0, 1), range(-CONTOUR, CONTOUR + 1)):
        contour |= np.roll(enlarged, distance, axis) != enlarged
    contour &= ~np.isin(enlarged, background_classes(palette.background)) & (enlarged < palette.classes)
    return np.where(contour[..., None], _colours(palette.colours)[enlarged], pixels)


def _risk_tile(item: Item, palette: Palette) -> np.ndarray:
    """Returns flip-risk where foreground is predicted, over the faded image, uint8 (H, W, 3)."""
    base = item.image
    if base is None:
        base = np.full((*item.truth.shape, 3), _colours([EMPTY])[0])
    faded = (255 - FADE * (255 - base.astype(np.float32))).astype(np.uint8)
    shades = matplotlib.colormaps[RISK_COLOURS](np.nan_to_num(item.risk) / palette.highest, bytes=True)[..., :3]
    counted = ~np.isin(item.prediction, background_classes(palette.background)) & np.isfinite(item.risk)
    return np.where(counted[..., None], shades, faded)


def _colours(colours: Iterable[str]) -> np.ndarray:
    """Returns colours as uint8 (n, 3)."""
    return np.round(255 * to_rgba_array([*colours])[:, :3]).astype(np.uint8)


def tile_uris(item: Item, palette: Palette) -> dict[str, str]:
    """Returns the pictures of an item as data URIs, by name."""
    uris = {}
    for name, pixels in tiles(item, palette).items():
        photo = item.image is not None and (item.outlined or name in ("image", "flip-risk"))
        uris[name] = data_uri(pixels, drawing=not photo)
    return uris


def data_uri(pixels: np.ndarray, *, drawing: bool) -> str:
    """Encodes a picture as a data URI, in PNG or, for large photos, JPEG. A `drawing` has few colours."""
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    kind = "png"
    if drawing:
        image = image.quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        image.save(stream, format=kind)
    elif max(pixels.shape[:2]) <= SMALL_SIDE:
        image.save(stream, format=kind)
    else:
        kind = "jpeg"
        image.save(stream, format=kind, quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def colour_bar() -> str:
    """Returns the colour bar of flip-risk, from 0 to its maximum, as a data URI."""
    ramp = matplotlib.colormaps[RISK_COLOURS](np.linspace(0, 1, 128), bytes=True)[None, :, :3]
    return data_uri(np.repeat(ramp, 2, axis=0), drawing=False)


def gallery_chart(items: Sequence[Item], palette: Palette, caption: str) -> Chart:
    """Returns the chart of a member's first MOST_DRAWN_ITEMS items, a panel of tiles each, and of the legend."""

    def draw_legend(axes: Axes) -> None:
        named = {**palette.names, **OUTCOMES}
        patches = [Patch(facecolor=colour, label=plain(name)) for name, colour in named.items()]
        axes.legend(handles=patches, loc="center", ncols=4)
        axes.set_axis_off()

    panels = []
    for item in items[:MOST_DRAWN_ITEMS]:
        draw = functools.partial(_draw_tiles, item=item, palette=palette)
        panels.append(Panel(draw, item.name, ITEM_INCHES))
    panels.append(Panel(draw_legend, "", ITEM_INCHES))
    note = f"Member {items[0].member}. {' · '.join(tiles(items[0], palette))}. {caption}"
    return Chart("gallery", "Test images", "", note, panels, columns=2)


def _draw_tiles(axes: Axes, item: Item, palette: Palette) -> None:
    """Draws the pictures of an item beside each other, with its name and numbers to the left."""
    height, width = item.truth.shape
    gap = np.full((height, max(1, width // 16), 3), 255, np.uint8)
    parts = []
    for tile in tiles(item, palette).values():
        parts += [tile, gap]
    axes.imshow(np.concatenate(parts[:-1], axis=1), interpolation="nearest")
    axes.set_axis_off()
    lines = [plain(text) for text in (item.name[:24], item.group, item.kind) if text]
    shares = f"flip {item.flip:.2f}"
    if not math.isnan(item.flip_risk):
        shares += f", risk {item.flip_risk:.2f}"
    words = "\n".join([*lines, shares])
    axes.text(-0.02, 0.5, words, transform=axes.transAxes, ha="right", va="center", fontsize=7, color=INK)
