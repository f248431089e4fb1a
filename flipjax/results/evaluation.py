"""One model's evaluation: every number of the paper with its interval, as rows, as text, and image by image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flipjax.metrics import bootstrap, summarize
from flipjax.metrics.decomposition import Decomposition
from flipjax.results.files import Row
from flipjax.results.rows import rounded
from flipjax.results.text import to_text

if TYPE_CHECKING:
    import jax

TITLES = {
    "iou/foreground": "IoU foreground, any label",
    "fg_correct": "FG-Corr",
    "fg_flip": "FG-Flip",
    "fg_miss": "FG-Miss",
    "flip_image_mean": "Flip, image-mean",
    "risk_auroc": "flip-risk AUROC",
    "risk_aurc": "flip-risk AURC",
    "top_decile_flip_share": "top-10% flip share",
}
DECILES = ("risk_decile", "flip_by_risk_decile")


def quantities(class_names: Sequence[str], scene_names: Sequence[str]) -> dict[str, str]:
    """Returns what is reported, keys of `flipjax.metrics.summarize`, and its titles.

    Args:
      class_names: the two classes, without the background.
      scene_names: the two scenes.

    Example:
      >>> quantities(("cat", "dog"), ("indoor", "outdoor"))["group/1/iou/cat"]
      'IoU cat in group 1, outdoor'
    """
    titles = {f"iou/{name}": f"IoU {name}" for name in ("background", *class_names)}
    titles["iou/foreground"] = TITLES["iou/foreground"]
    for y, name in enumerate(class_names):
        for group in (2 * y, 2 * y + 1):
            titles[f"group/{group}/iou/{name}"] = f"IoU {name} in group {group}, {scene_names[group % 2]}"
        titles[f"gap/{name}"] = f"IoU gap {name}, common - rare"
    for group in ("common", "rare"):
        titles[f"group/{group}/fg_flip"] = f"FG-Flip {group}"
    return titles | TITLES


def evaluation_rows(
    decomposition: Decomposition,
    groups: np.ndarray,
    *,
    class_names: Sequence[str],
    scene_names: Sequence[str],
    key: "jax.Array",
    samples: int,
) -> list[Row]:
    """Returns a row for each quantity: its name, title, value and the ends of its 95% bootstrap interval over images.

    A decile's row has its number, 1 to 10, in `decile`, which is blank elsewhere.

    Args:
      decomposition: leaves (n, C, C) and (n,).
      groups: int (n,).
      class_names: the two classes, without the background.
      scene_names: the two scenes.
      key: of the resampling.
      samples: number of resamples.
    """
    summary = summarize(decomposition, groups, class_names=class_names)
    options = {"key": key, "samples": samples, "groups": groups, "class_names": class_names}
    rows = []
    for name, title in (quantities(class_names, scene_names) | dict(zip(DECILES, DECILES, strict=True))).items():
        low, high = bootstrap(decomposition, name, **options)
        if name in DECILES:
            ends = zip(summary[name], low, high, strict=True)
            rows += [_row(name, title, decile, *values) for decile, values in enumerate(ends, 1)]
        else:
            rows.append(_row(name, title, "", summary[name], low, high))
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
