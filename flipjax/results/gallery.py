"""The gallery of a run: chooses the test images to show, and stores their pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.pairs import whole_pairs
from flipjax.support.files import DamagedError, read_arrays, write_arrays

PAIRS = 2
"""Counterfactual sets in a gallery: images of one object in all scenes."""


class StoredImages(NamedTuple):
    """R images with a member's predictions, as stored in `gallery.npz`.

    image uint8 (R, H, W, 3); label and prediction uint8 (R, H, W); error_map uint8 (R, H, W), coded as in
    `flipjax.metrics.error_map`; risk_map float32 (R, H, W), nats; flip_risk and flip float32 (R,), NaN where undefined;
    index int32 (R,), the image's index in its split; group int32 (R,); kind (see
    `choose_images`) and member (R,) str.
    """

    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    error_map: np.ndarray
    risk_map: np.ndarray
    flip_risk: np.ndarray
    flip: np.ndarray
    index: np.ndarray
    group: np.ndarray
    kind: np.ndarray
    member: np.ndarray


def choose_images(
    decomposition: Decomposition,
    groups: np.ndarray | None = None,
    pairs: np.ndarray | None = None,
    *,
    riskiest: int = 6,
    typical: int = 6,
    confident: int = 0,
    paired: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses the images that a page shows, with the reason. Only a pair may repeat an image.

    Args:
        decomposition: one member's, of n images.
        groups: int (n,), or None; typical images alternate between groups.
        pairs: int (n,), the counterfactual set of each image or -1.
        riskiest: number of images with the highest flip-risk, in descending order.
        typical: number of images near the median flip-risk.
        confident: number of the most flipped images among the half with lower flip-risk, with a flip share above 0.1.
        paired: number of sets, largest change of flip share first; all their images have a flip-risk.

    Returns:
        Indices int64 (R,) and kinds (R,): 'riskiest', 'typical', 'flipped, but sure', or 'pair' and its number. Images
        without flip-risk or flip share are never chosen, so R may be smaller than requested.

    Example:
        >>> confusion = np.zeros((4, 3, 3), int)
        >>> confusion[:, 1, 1] = 10
        >>> four = Decomposition(confusion, np.array([1.0, 4.0, 3.0, 2.0]))
        >>> indices, kinds = choose_images(four, np.arange(4), riskiest=1, typical=2)
        >>> indices.tolist(), kinds.tolist()
        ([1, 2, 3], ['riskiest', 'typical', 'typical'])
    """
    risk, flip = (np.asarray(share, np.float64) for share in (decomposition.flip_risk, decomposition.flip))
    images = pd.DataFrame({"risk": risk, "flip": flip, "group": 0 if groups is None else np.asarray(groups)})
    images = images.replace([-np.inf, np.inf], np.nan).dropna()
    highest = images.sort_values("risk", ascending=False, kind="stable").index[:riskiest]
    from_middle = (images["risk"] - images["risk"].median()).drop(highest)
    rest = images.loc[from_middle.abs().sort_values(kind="stable").index]
    # Sorting by rank within the group alternates between groups.
    near = rest.groupby("group").cumcount().sort_values(kind="stable").index[:typical]
    blind = rest[(rest["flip"] > 0.1) & (from_middle[rest.index] <= 0)].drop(near, errors="ignore").sort_index()
    blind = blind.sort_values("flip", ascending=False, kind="stable").index[:confident]
    twins = _pairs(images["flip"], np.full(len(risk), -1) if pairs is None else np.asarray(pairs))[:paired]
    kinds = ["riskiest"] * len(highest) + ["typical"] * len(near) + ["flipped, but sure"] * len(blind)
    kinds += [f"pair {number}" for number, twin in enumerate(twins) for _ in twin]
    return np.concatenate([highest, near, blind, twins.ravel()]).astype(np.int64), np.array(kinds, np.str_)


def _pairs(flip: pd.Series, pairs: np.ndarray) -> np.ndarray:
    """Returns sets of S images int64 (P, S), largest difference of flip share first; `flip` may lack images."""
    known = flip.index.to_numpy()
    places = whole_pairs(pairs[known], size=whole_pairs(pairs).shape[1])
    change = np.ptp(flip.to_numpy()[places], axis=1)
    return known[places[np.argsort(-change, kind="stable")]]


def maps_of(logits: Any, labels: Any) -> tuple[Any, ...]:
    """Returns prediction, error map, risk map, flip-risk and flip of images, as in `StoredImages`; also under jit.

    Args:
        logits: float32 (R, H, W, C), a member's, in eval mode.
        labels: int (R, H, W).
    """
    # Imported here so that reading a gallery does not load JAX.
    from flipjax.metrics import decompose, error_map, risk_map

    decomposition = decompose(logits, labels)
    risks = decomposition.flip_risk, decomposition.flip
    return logits.argmax(-1), error_map(logits, labels), risk_map(logits), *risks


def make_gallery(
    images: Any,
    labels: Any,
    *maps: Any,
    indices: Sequence[int] | np.ndarray,
    groups: Sequence[int] | np.ndarray,
    kinds: Sequence[str] | np.ndarray,
    member: str,
) -> StoredImages:
    """Makes the gallery of one member.

    Args:
        images: float (R, H, W, 3) in [0, 1].
        labels: int (R, H, W).
        *maps: as `maps_of` returns them.
        indices: int (R,), the images' indices in their split.
        groups: int (R,).
        kinds: (R,), as `choose_images` returns them.
        member: the member's name.
    """
    prediction, errors, risks, flip_risk, flip = maps
    return StoredImages(
        image=np.rint(np.clip(np.asarray(images, np.float32), 0, 1) * 255).astype(np.uint8),
        label=np.asarray(labels, np.uint8),
        prediction=np.asarray(prediction, np.uint8),
        error_map=np.asarray(errors, np.uint8),
        risk_map=np.asarray(risks, np.float32),
        flip_risk=np.asarray(flip_risk, np.float32),
        flip=np.asarray(flip, np.float32),
        index=np.asarray(indices, np.int32),
        group=np.asarray(groups, np.int32),
        kind=np.asarray(kinds, np.str_),
        member=np.array([member] * len(indices), np.str_),
    )


def save_gallery(path: str | Path, gallery: StoredImages, *, program: str = "") -> None:
    """Writes `gallery.npz` atomically and deterministically, with the identity of the members' program."""
    write_arrays(path, gallery._asdict() | {"program": np.array(program)})


def load_gallery(path: str | Path, *, program: str | None = None) -> StoredImages:
    """Reads a file of `save_gallery`. Raises DamagedError if it is invalid or belongs to another program."""
    arrays = read_arrays(path)
    stored = str(arrays.pop("program", ""))
    if program is not None and stored != program:
        raise DamagedError(f"{path}: expected the images of this run; found those of another")
    if set(arrays) != set(StoredImages._fields):
        raise DamagedError(f"{path}: expected the arrays of a gallery.npz; found {', '.join(arrays)}")
    return StoredImages(**arrays)


def concatenate_galleries(galleries: Sequence[StoredImages]) -> StoredImages:
    """Concatenates galleries with images of the same size."""
    return StoredImages(*(np.concatenate(values) for values in zip(*galleries, strict=True)))
