"""How far above chance recorded members know the classes: python sweeps/studies/coverage/learnt.py

Prints, for each recorded study, the least and the largest accuracy of the class among found object pixels of common
groups, at the lowest rho and at the others: of validation images where the study keeps them, otherwise of test images.
"""

import pathlib

import pandas as pd

from flipjax.results.learning import MARGIN

STUDIES = pathlib.Path(__file__).parents[1]
CLASSES = {
    "correlation_grid/results.csv": 2,
    "scene_swap/results.csv": 2,
    "scene_swap/fresh.csv": 2,
    "photos_grid/results.csv": 2,
    "photos_grid/pretrained.csv": 2,
    "methods_grid/results.csv": 2,
    "classes/results.csv": 4,
    "classes/many.csv": 4,
    "classes/methods.csv": 4,
}
"""Recorded members, and their number of classes."""


def accuracies(path):
    """Returns rho and accuracy of each member of a file, and the part of its images."""
    rows = pd.read_csv(STUDIES / path)
    part = "test"
    if (rows.split == "val").any():
        part = "val"
    chosen = (rows.split == part) & (rows.group == "common") & (rows.selection == rows.selection[0])
    rows = rows[chosen & (rows.status != "diverged")]
    return rows.assign(accuracy=rows.fg_correct / (rows.fg_correct + rows.fg_flip))[["rho", "accuracy"]], part


def main():
    table = []
    for path, classes in CLASSES.items():
        members, part = accuracies(path)
        needed = 1 / classes + MARGIN
        lowest = members.rho == members.rho.min()
        for name, chosen in {"lowest": members[lowest], "others": members[~lowest]}.items():
            if len(chosen):
                table.append(
                    {
                        "study": path,
                        "images": part,
                        "rho": name,
                        "members": len(chosen),
                        "needed above": needed,
                        "least": chosen.accuracy.min(),
                        "most": chosen.accuracy.max(),
                        "not learnt": int((chosen.accuracy <= needed).sum()),
                    }
                )
    print(pd.DataFrame(table).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
