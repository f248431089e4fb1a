"""One model's evaluation: every number of the paper with its interval, as rows, as text, and image by image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flipjax.metrics import bootstrap, summarize
from flipjax.metrics.decomposition import Decomposition
from flipjax.results.files import Row
from flipjax.results.quantities import DECILES, of_classes, title_of
from flipjax.results.rows import rounded
from flipjax.results.text import to_text

if TYPE_CHECKING:
    import jax


def quantities(class_names: Sequence[str]) -> list[str]:
    """Returns the keys of `flipjax.metrics.summarize` that are reported.

    Args:
      class_names: the two classes, without the background.

    Example:
        >>> quantities(("cat", "dog"))[-4:]
        ['group/2/iou/dog', 'group/3/iou/dog', 'group/common/fg_flip', 'group/rare/fg_flip']
    """
    keys = [key for key in of_classes(("background", *class_names)) if key != "n_images"]
    keys += [f"group/{2 * y + scene}/iou/{name}" for y, name in enumerate(class_names) for scene in (0, 1)]
    return [*keys, "group/common/fg_flip", "group/rare/fg_flip"]


def evaluation_rows(
    decomposition: Decomposition,
    groups: np.ndarray,
    *,
    class_names: Sequence[str],
    key: "jax.Array",
    samples: int,
) -> list[Row]:
    """Returns a row for each quantity: its name, title, value and the ends of its 95% bootstrap interval over images.

    A decile's row has its number, 1 to 10, in `decile`, which is blank elsewhere.

    Args:
      decomposition: leaves (n, C, C) and (n,).
      groups: int (n,).
      class_names: the two classes, without the background.
      key: of the resampling.
      samples: number of resamples.
    """
    summary = summarize(decomposition, groups, class_names=class_names)
    keys = [*quantities(class_names), *DECILES]
    intervals = bootstrap(decomposition, keys, key=key, samples=samples, groups=groups, class_names=class_names)
    rows = []
    for name in keys:
        low, high = intervals[name]
        if name in DECILES:
            ends = zip(summary[name], low, high, strict=True)
            rows += [_row(name, title_of(name), decile, *values) for decile, values in enumerate(ends, 1)]
        else:
            rows.append(_row(name, title_of(name), "", summary[name], low, high))
    return rows


def _row(name: str, title: str, decile: int | str, value: float, low: float, high: float) -> Row:
    numbers = {"value": rounded(value), "low": rounded(low), "high": rounded(high)}
    return {"quantity": name, "title": title, "decile": decile, **numbers}


def evaluation_text(rows: Sequence[Row]) -> str:
    """Returns the rows of `evaluation_rows` as two tables: quantities, and risk deciles."""
    plain = [[row["title"], *_shown(row)] for row in rows if row["decile"] == ""]
    by_name = {(row["quantity"], row["decile"]): row for row in rows}
    deciles = [
        [str(decile), *(text for name in DECILES for text in _shown(by_name[name, decile]))] for decile in range(1, 11)
    ]
    header = ["flip-risk decile", "mean risk", "95% interval", "mean Flip", "95% interval"]
    return "\n\n".join([to_text((["", "value", "95% interval"], plain)), to_text((header, deciles))])


def _shown(row: Row) -> tuple[str, str]:
    value, low, high = (f"{row[name]:.4f}" if row[name] != "" else "-" for name in ("value", "low", "high"))
    return value, f"{low} to {high}"


def image_rows(
    decomposition: Decomposition, groups: np.ndarray, images: Sequence[str], scenes: Sequence[str]
) -> list[Row]:
    """Returns a row for each image: names, group, shares of its foreground and flip-risk; blank where there is none."""
    measures = {name: getattr(decomposition, name) for name in ("correct", "flip", "miss", "spill", "flip_risk")}
    return [
        {"image": image, "scene_photo": scene, "group": int(group)}
        | {name: rounded(values[index]) for name, values in measures.items()}
        for index, (image, scene, group) in enumerate(zip(images, scenes, groups, strict=True))
    ]
