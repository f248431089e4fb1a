"""The images of an audit as samples of FiftyOne: photos, masks, and a detection for each segment that flips."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flipjax.audit.arrays import StoredArray
from flipjax.audit.read import Pair
from flipjax.audit.results import Audit, image_rows
from flipjax.files import write_text

NUMBERS = ("flip", "miss", "flip_risk", "flip_risk_share")


def write_samples(folder: Path, audit: Audit, pairs: Sequence[Pair], photos: Mapping[str, Path]) -> None:
    """Writes fiftyone.json: {"samples": [...]}, each as `fiftyone.Sample.from_dict` takes it; needs no FiftyOne.

    Masks that are PNGs of class indices are named by their paths. Boxes are shares of the image's width and height.

    Args:
        folder: of the audit.
        audit: of n images.
        pairs: the n images.
        photos: of each by its name.
    """
    rows = {row["name"]: row for row in image_rows(audit)}
    samples = []
    for index, (name, pair) in enumerate(zip(audit.names, pairs, strict=True)):
        masks = {"ground_truth": pair.labels, "prediction": pair.prediction}
        sample: dict[str, Any] = {"filepath": str(photos[name].resolve()), "tags": []}
        sample |= {field: _mask(array) for field, array in masks.items() if array.path.suffix.lower() == ".png"}
        numbers = {key: rows[name].get(key, "") for key in NUMBERS}
        sample |= {key: value for key, value in numbers.items() if value != ""}
        sample["flips"] = {"_cls": "Detections", "detections": _flips(audit, index, pair.labels.shape)}
        samples.append(sample)
    write_text(folder / "fiftyone.json", json.dumps({"samples": samples}, ensure_ascii=False) + "\n")


def _mask(array: StoredArray) -> dict[str, str]:
    return {"_cls": "Segmentation", "mask_path": str(array.path.resolve())}


def _flips(audit: Audit, index: int, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    if audit.objects is None or len(shape) != 2:
        return []
    true = audit.objects.tables.true
    found = true[(true["image"] == index) & (true["outcome"] == "flip")]
    height, width = shape
    detections = []
    for row in found.to_dict("records"):
        top, left = row["top"] / height, row["left"] / width
        box = [left, top, row["right"] / width - left, row["bottom"] / height - top]
        label = f"{audit.class_names[row['class']]} as {audit.class_names[row['predicted']]}"
        detections.append({"_cls": "Detection", "label": label, "bounding_box": box, "tags": [], "attributes": {}})
    return detections
