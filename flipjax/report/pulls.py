"""To which wrong class a scene pulls: the share over rho, and where the flips in each scene go."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.pull import flip_cube, pull_chance, usual_table
from flipjax.report.chart import Chart, Panel
from flipjax.report.lines import Line, line_chart
from flipjax.report.panels import cell_drawing
from flipjax.report.run import Run, images_by_setting
from flipjax.report.style import DARK, FLIP
from flipjax.results.cells import StoredCell
from flipjax.results.frames import records_of
from flipjax.results.text import TextTable, number, probability, varying_axes

PULL = Line("scene_pull/all", "pull of the scene", FLIP)
SCENES = (
    "Share of the test objects of a class whose label is right in most of the seeds, in each scene; Cochran's Q, p "
    "adjusted by Holm for all rows"
)
OUTLINE: dict[str, Any] = {"fill": False, "edgecolor": DARK, "linewidth": 2.5, "clip_on": False, "zorder": 3}


def pull_charts(run: Run) -> list[Chart]:
    """Returns the pull over rho and the matrices of scenes and predicted classes; none for two classes."""
    if PULL.quantity not in set(run.summary["quantity"]) or not run.cells:
        return []
    chance = pull_chance(next(iter(run.cells.values())).groups)
    options = {"y": "share of the flips in rare groups", "reference": (chance, f"chance, {chance:.2f}")}
    caption = "Of the flips in rare groups, the share that goes to a class whose usual scene the image shows."
    matrices = [pull_panel(members, title=title) for title, _, members in images_by_setting(run)]
    where = "Of the flips of objects in a scene that is not theirs, the class that they go to. Framed: the class whose "
    where += f"usual scene it is; flips that choose evenly put {chance:.0%} of all into the frames."
    return [
        line_chart(run, "pull", "Pull of the scene", caption, [PULL], **options),
        Chart("pull_matrix", "Where a scene's flips go", where, run.note(interval=False), matrices),
    ]


def pull_panel(members: Sequence[tuple[StoredCell, Decomposition]], *, title: str) -> Panel:
    """Returns a panel of the flips in each scene by predicted class, of members of one setting."""
    cell, _ = members[0]
    usual = usual_table(cell.groups)
    cubes = [flip_cube(images.confusion, own.parts["test"].groups, all_groups=cell.groups) for own, images in members]
    flips = (np.sum(cubes, axis=0) * ~usual[..., None]).sum(0)
    shares = flips / np.maximum(flips.sum(1, keepdims=True), 1)
    names = cell.scene_names, cell.class_names[1:]
    pull = (flips * usual.T).sum() / max(flips.sum(), 1)
    head = f"{title}: {pull:.0%} in the frames"
    draw, size = cell_drawing(shares, [[FLIP] * len(names[1])] * len(names[0]), *names, title=head, y="flips on")

    def framed(axes: Axes) -> None:
        draw(axes)
        for scene, y in np.argwhere(usual.T):
            axes.add_patch(Rectangle((y - 0.47, scene - 0.47), 0.94, 0.94, **OUTLINE))

    return Panel(framed, f"{head}.", size)


def scene_table(tests: pd.DataFrame) -> TextTable:
    """Returns a row per test of `scene_tests`: shares that are right in each scene, and Cochran's Q."""
    axes = [*({"rho"} & {*tests}), *varying_axes(tests, until="class")]
    scenes = [name for name in map(str, tests) if name.startswith("right_")]
    rows = []
    for row in records_of(tests):
        shares = [number(row[name], ".2f") for name in scenes]
        numbers = [*shares, f"{row['q']:.1f}", probability(row["p_holm"])]
        rows.append([*(str(row[name]) for name in (*axes, "class", "n")), *numbers])
    titles = [f"on {name.removeprefix('right_')}" for name in scenes]
    return TextTable([*axes, "class", "objects", *titles, "Q", "p (Holm)"], rows, len(axes) + 1)
