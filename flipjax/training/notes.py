"""What is said of a program before it trains: groups without images, and labels that mirrored images exchange."""

from collections.abc import Sequence

import numpy as np

from flipjax.config.program import Program
from flipjax.data.pool import Catalog
from flipjax.training.member import Member

WITHOUT_A_GROUP = {
    "cutmix": "its images take a random colour instead of a partner's background",
    "balanced": "batches are drawn evenly over the groups that exist",
    "dro": "its weight stays as it is",
}
"""What happens under each knob where the training set lacks a group."""


def missing_group_notes(program: Program, members: Sequence[Member]) -> list[str]:
    """Returns a line for each method whose members at some rho lack a group that the method needs."""
    group_count = program.experiment.groups.count
    rhos_without: dict[tuple[str, str], set[float]] = {}
    for setting, member in zip(program.settings, members, strict=True):
        images_of_groups = np.bincount(member.groups, minlength=group_count)
        if images_of_groups.min() > 0:
            continue
        method = setting.condition.method
        for knob in WITHOUT_A_GROUP:
            if getattr(setting.knobs, knob) > 0:
                rhos_without.setdefault((method, knob), set()).add(float(setting.condition.rho))
    notes = []
    for (method, knob), rhos in rhos_without.items():
        where = method
        if "rho" in program.settings[0].axes:
            where += f" at rho {', '.join(str(rho) for rho in sorted(rhos))}"
        notes.append(f"{where}: a group has no training image; {WITHOUT_A_GROUP[knob]}")
    return notes


def mirror_notes(program: Program, catalog: Catalog) -> list[str]:
    """Returns a line that says which labels mirrored images exchange, if any member mirrors images.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config.plan import plan
        >>> from flipjax.data.loaders import list_pool
        >>> [program] = plan(configure("smoke")).programs
        >>> mirror_notes(program, list_pool(program.experiment.pool))  # No class is the left or right of another.
        []
    """
    if not any(setting.augmentation.hflip > 0 for setting in program.settings):
        return []
    names = ("background", *catalog.class_names)
    pairs = [f"{names[left]} and {names[right]}" for left, right in program.experiment.mirror]
    if not pairs:
        return []
    follows = "a mirrored image of one is an image of the other in the same scene"
    return [f"mirrored images exchange the labels of {'; '.join(pairs)}: {follows} (config.train.mirror_labels)"]
