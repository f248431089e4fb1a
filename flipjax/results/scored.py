"""Predictions of any model on a benchmark's images, as rows of results.csv."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from flipjax import metrics
from flipjax.results.frames import to_frame
from flipjax.results.pairs import counterfactual_flip
from flipjax.results.quantities import PAIR_QUANTITIES, REGION_QUANTITIES
from flipjax.results.region_shares import region_quantities
from flipjax.results.rows import member_rows

if TYPE_CHECKING:
    from flipjax.data.arrays import Benchmark


def score(
    predictions: Any,
    benchmark: Benchmark,
    *,
    part: str = "test",
    kind: str = "logits",
    channels: str = "last",
    **columns: Any,
) -> pd.DataFrame:
    """Returns the rows of results.csv for a model's predictions: one for each group, `all`, `common` and `rare`.

    The numbers are those that a sweep gives the same predictions. What takes further passes of a model, on other
    scenes, is not among them. The rows can stand below those of a run: `pd.concat([load(run).members, rows])`. The
    example of `flipjax.data.benchmark` has a call.

    Args:
        predictions: of `benchmark.test.images` in order, as `flipjax.metrics.decompose` takes them: logits
            (n, H, W, C) of NumPy, JAX or PyTorch.
        benchmark: of `flipjax.data.benchmark`.
        part: whose images they are, `val` or `test`.
        kind: `logits`, `probabilities`, or `masks`, whose rows have no flip-risk.
        channels: `last`, or `first` for (n, C, H, W).
        **columns: `member` ("own" unless told) and axes, such as `method="mine"`; rho and seed are the benchmark's.

    Raises:
        ValueError: predictions of other images or classes.
    """
    images = getattr(benchmark, part)
    options: dict[str, Any] = {"kind": kind, "channels": channels}
    C = len(benchmark.class_names)
    counts = metrics.decompose(predictions, images.masks, num_classes=C if kind == "masks" else None, **options)
    if counts.confusion.shape[-1] != C:
        names = ", ".join(benchmark.class_names)
        raise ValueError(f"predictions: expected {C} classes ({names}), found {counts.confusion.shape[-1]}.")
    more = {"counterfactual_flip": counterfactual_flip(counts, images.pairs)}
    if kind != "masks":
        sums = metrics.region_sums(predictions, images.masks, **options)
        more |= region_quantities(sums, images.groups, all_groups=benchmark.all_groups)
    member = {"member": "own", "rho": benchmark.rho, "seed": benchmark.seed, "status": "finished"} | columns
    further = [*(PAIR_QUANTITIES if (images.pairs >= 0).any() else ()), *REGION_QUANTITIES]
    names = {"class_names": benchmark.class_names, "all_groups": benchmark.all_groups}
    return to_frame(member_rows(member, counts, images.groups, part=part, more=more, further=further, **names))
