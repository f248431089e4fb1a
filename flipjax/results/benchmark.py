"""Rows of results.csv for any model's predictions of a benchmark's images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from flipjax import metrics
from flipjax.metrics.decomposition import RegionSums
from flipjax.metrics.images import read_images
from flipjax.metrics.quantities import SWEPT
from flipjax.metrics.summary import names as quantities
from flipjax.metrics.summary.evaluate import evaluate
from flipjax.results.rows import TRAILING
from flipjax.support.frames import Row, rounded, to_frame

if TYPE_CHECKING:
    from flipjax.data.member_images import Benchmark


def score(
    predictions: ArrayLike,
    benchmark: Benchmark,
    *,
    part: str = "test",
    kind: str = "logits",
    channels: str = "last",
    **columns: str | float,
) -> pd.DataFrame:
    """Returns the rows of results.csv for a model's predictions: each group, `all`, `common` and `rare`.

    The numbers equal those of a sweep, without quantities that need predictions on other scenes. Append them to a run
    with `pd.concat([load(run).results, rows])`. See `flipjax.data.benchmark` for an example.

    Args:
        predictions: for `benchmark.test.images` in order, as in `flipjax.metrics.decompose`: logits (n, H, W, C) of
            NumPy, JAX or PyTorch.
        benchmark: of `flipjax.data.benchmark`.
        part: the split, `val` or `test`.
        kind: `logits`, `probabilities`, or `masks`, whose rows have no flip-risk.
        channels: `last`, or `first` for (n, C, H, W).
        **columns: `member` ("own" by default) and axes, such as `method="mine"`; rho and seed are the benchmark's.

    Raises:
        ValueError: predictions do not match the images or classes.
    """
    images = getattr(benchmark, part)
    C = len(benchmark.class_names)
    num_classes = None
    if kind == "masks":
        # Logits have an axis of classes that says how many there are; masks do not.
        num_classes = C
    counts = metrics.decompose(predictions, images.masks, num_classes=num_classes, kind=kind, channels=channels)
    if counts.confusion.shape[-1] != C:
        names = ", ".join(benchmark.class_names)
        raise ValueError(f"predictions: expected {C} classes ({names}), found {counts.confusion.shape[-1]}.")
    regions = None
    if kind != "masks":
        sums = metrics.region_sums(predictions, images.masks, kind=kind, channels=channels)
        regions = RegionSums(*(np.asarray(leaf) for leaf in sums))
    scored = read_images(
        counts,
        images.groups,
        class_names=benchmark.class_names,
        all_groups=benchmark.all_groups,
        pair=np.asarray(images.pairs),
        regions=regions,
    )
    member = {"member": "own", "rho": benchmark.rho, "seed": benchmark.seed, "status": "finished", **columns}
    leading = {name: value for name, value in member.items() if name not in TRAILING}
    trailing = {name: member.get(name, "") for name in TRAILING}
    rows: dict[str, Row] = {}
    for group in scored.group_names:
        title = benchmark.all_groups.title_of_name(group, benchmark.class_names[1:], benchmark.scene_names)
        rows[group] = {**leading, "split": part, "group": group, "group_name": title}
    for evaluated in evaluate(scored, evaluators=SWEPT):
        rows[evaluated.group][quantities.column(evaluated.key)] = rounded(evaluated.value[0])
    return to_frame([{**row, **trailing} for row in rows.values()])
