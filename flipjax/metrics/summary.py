"""Summaries of a decomposition on the host, in exact integers and float64. NumPy only.

Each number is a quantity of `flipjax.metrics.quantities`, evaluated on all images or on many resamples at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from flipjax.config.groups import AnyGroups
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.evaluate import evaluate
from flipjax.metrics.images import Images, read_images

Summary: TypeAlias = "dict[str, Any]"
"""Numbers by the keys of `summarize`: int, float, lists of float, and `flip_matrix`, a list of lists of int."""


def summarize(
    decomposition: Decomposition,
    groups: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    all_groups: AnyGroups | None = None,
) -> Summary:
    """Summarises the images of one model on the host, in exact integers and float64.

    Pixels are pooled over images, except in image means and rankings by flip-risk:

    - `n_images`; `n_images_without_risk`: images without true or predicted foreground, or with a NaN risk, which are
      not ranked.
    - `fg_correct`, `fg_flip`, `fg_miss`: shares of the true foreground. `flip_image_mean`: the mean flip share
      of images with true foreground. `flipped_images`: the share of these images whose flip share is above 0.5.
    - `iou/<class>` for each class, and `iou/foreground` of the union of the foreground classes. `mean_iou`: over the
      classes, background included, that occur in truth or prediction.
    - `flip/<class>`, `miss/<class>`: the share of a foreground class predicted as another one, and as background.
    - `risk_auroc`: the AUROC of flip-risk for images with a flip share above 0.5; ties count half.
    - `risk_aurc`: the area under the risk-coverage curve (Geifman and El-Yaniv, 2017), the flip share as the loss:
      the mean flip share of the k images with the lowest flip-risk, averaged over all k.
    - `risk_decile`, `flip_by_risk_decile`: mean flip-risk and mean flip share of each tenth of the ranking, lists
      of 10. Decile d holds the places d*n//10 up to (d+1)*n//10, so some are empty where n < 10.
    - `top_decile_flip_share`: the part of all flip shares in the last decile. `top_decile_ceiling`: the largest
      part that any ranking can reach. `top_decile_of_ceiling`: (share - .1) / (ceiling - .1), 0 by chance and 1
      at the ceiling; NaN where the ceiling is not above .1.
      Images of equal risk share their mean flip share.

    - `flip_matrix`: pixels by true class (rows) and prediction (columns), lists of int (C, C).

    With `groups`, each key but the matrix appears again for each group g, as `group/<g>/<key>`:

    - Of F foreground classes in S scenes (`all_groups`, two by two by default) g is each of 0, ..., F S - 1
      (y * S + scene), `common` (of two by two 0, 3) and `rare` (1, 2).
    - `gap/<class>`: the class's IoU in its common groups minus that in its rare groups, means over the groups;
      `gap/mean`: the mean over the classes. `worst_group_iou`: the lowest IoU of a group's class over all groups.
    - `scene_pull`, of three classes or more: the share of the flips in rare groups that go to a class whose usual
      scene the image shows.

    Without `all_groups`, for more than two classes, g is each integer in `groups`, and the others are left out.

    Args:
        decomposition: leaves of shape (n, C, C) and (n,), NumPy or JAX.
        groups: (n,) integers.
        class_names: names of all C classes, or of the foreground classes alone; else `background`, `class1`, ...
        all_groups: what the groups number; the F foreground classes are its classes, in order.

    Returns:
        A dict of int, float and lists of float; NaN where a denominator, a decile or one side of the AUROC is empty.

    Raises:
        TypeError: confusion does not hold integers.
        ValueError: not exactly one image axis, or groups or class names that do not fit.

    Source: Achara et al., arXiv 2604.13326, evaluation.

    Example:
        >>> counts = np.array([[[5, 0, 0], [0, 3, 1], [0, 0, 0]], [[5, 0, 0], [0, 0, 0], [2, 2, 0]]])
        >>> summary = summarize(Decomposition(counts, np.array([1.0, 2.0])), [0, 2], class_names=["cat", "dog"])
        >>> summary["fg_flip"], summary["iou/cat"], summary["group/2/fg_flip"]
        (0.375, 0.5, 0.5)
    """
    images = read_images(decomposition, groups, class_names=class_names, all_groups=all_groups)
    matrix = images.decomposition.confusion.sum(0)
    return {**summary_of(images), "flip_matrix": matrix.tolist()}


def summary_of(images: Images) -> Summary:
    """Returns every quantity that images have, by its key in `summarize`: int, float or a list of float."""
    return {name: value[0].tolist() for name, value in values_of(images).items()}


def values_of(images: Images, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Returns quantities of resamples by their key in `summarize`, (S,) or (S, 10); by default all that there are."""
    values = {value.name: value.value for value in evaluate(images, names=names)}
    if names is None:
        return values
    return {name: values[name] for name in names}
