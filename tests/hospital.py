"""Inputs of a hospital's audit, whose truth is known: volumes of patients from three sites, and slices of patients.

    python tests/hospital.py FOLDER [--volumes 60] [--side 64] [--slices 400]

writes below FOLDER
- volumes/: labels, masks of an old and a new model and probabilities of the old one (NIfTI), patients.csv
  (name, site, patient) and truth.json, which names the planted faults by patient;
- slices/: labels and masks of a model as PNG in a folder for each patient, slices.csv (name, scanner, patient) and
  truth.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

ORGANS = ("background", "liver", "spleen", "kidney_left", "kidney_right", "lesion")
BACKGROUND, LIVER, SPLEEN, LEFT, RIGHT, LESION = range(len(ORGANS))
SITES = {"north": (1.0, 1.0, 1.0), "south": (0.8, 0.8, 2.5), "west": (0.7, 0.7, 5.0)}
"""Spacing in mm of the volumes of each site."""
BODIES = {
    LIVER: ((0.32, 0.5, 0.6), (0.2, 0.28, 0.25)),
    SPLEEN: ((0.72, 0.6, 0.65), (0.1, 0.12, 0.15)),
    LEFT: ((0.68, 0.35, 0.35), (0.07, 0.08, 0.16)),
    RIGHT: ((0.3, 0.3, 0.22), (0.07, 0.08, 0.13)),
}
"""Centre and radii of each organ, as fractions of the volume's sides."""
MIRRORED = 7
"""Patients of `west` whose kidneys the old model mirrors."""
MISTAKEN = 0.6
"""Share of the patients of `south` whose lesion the old model takes for liver."""
SURE = 6.0
"""Logit of the class that a model predicts."""

SLICE = ("background", "kidney", "cyst")
KIDNEY, CYST = 1, 2
SCANNERS = 4
SLICES = 5
"""Slices of a patient."""
FLIPPED = 7
"""Patients of the last scanner whose cysts the model takes for kidney."""


def ellipsoid(grid, centre, radii):
    """Returns the voxels of a body: bool, of the grid's shape."""
    parts = [((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True)]
    return parts[0] + parts[1] + parts[2] <= 1


def draw_patient(generator, side):
    """Returns the labels of one patient, uint8 (side, side, side)."""
    grid = np.meshgrid(*[np.linspace(0, 1, side)] * 3, indexing="ij", sparse=True)
    labels = np.zeros((side, side, side), np.uint8)
    for c, (centre, radii) in BODIES.items():
        moved = np.array(centre) + generator.normal(0, 0.015, 3)
        labels[ellipsoid(grid, moved, np.array(radii) * generator.uniform(0.85, 1.15))] = c
    if generator.random() < 0.8:
        # Lesions of the liver, from a few voxels on.
        centre = np.array(BODIES[LIVER][0]) + generator.uniform(-0.08, 0.08, 3)
        lesion = ellipsoid(grid, centre, np.full(3, generator.uniform(0.02, 0.06)))
        labels[lesion & (labels == LIVER)] = LESION
    return labels


def roughen(generator, labels):
    """Returns labels with mistakes at borders: at one voxel in ten the label of a neighbour."""
    axis = int(generator.integers(labels.ndim))
    moved = np.roll(labels, int(generator.choice([-1, 1])), axis)
    return np.where(generator.random(labels.shape) < 0.1, moved, labels).astype(np.uint8)


def mirrored(labels):
    """Returns labels with left and right kidney swapped."""
    swapped = np.arange(len(ORGANS), dtype=np.uint8)
    swapped[[LEFT, RIGHT]] = RIGHT, LEFT
    return swapped[labels]


def soften(generator, mask, classes):
    """Returns probabilities float32 (..., C) whose largest is the mask's class."""
    scores = generator.normal(0, 1, (*mask.shape, classes)).astype(np.float32).clip(-2.5, 2.5)
    np.put_along_axis(scores, mask[..., None].astype(np.int64), np.float32(SURE), -1)
    scores = np.exp(scores)
    return scores / scores.sum(-1, keepdims=True)


def make_volumes(folder, *, volumes=60, side=64, probabilities=True, seed=0):
    """Writes the volumes, a third of each site, and returns the planted faults: patients by fault."""
    import nibabel

    generator = np.random.default_rng(seed)
    names = [f"patient_{i:03d}" for i in range(volumes)]
    sites = [list(SITES)[i % len(SITES)] for i in range(volumes)]
    west = [name for name, site in zip(names, sites, strict=True) if site == "west"]
    faults = {"mirrored": west[: max(1, round(MIRRORED * len(west) / 20))], "lesion as liver": [], "no lesion": []}
    for name in ("labels", "old", "new", "probabilities"):
        (folder / name).mkdir(parents=True, exist_ok=True)

    def save(kind, name, values, site):
        image = nibabel.Nifti1Image(values, np.diag([*SITES[site], 1.0]))
        nibabel.save(image, folder / kind / f"{name}.nii.gz")

    for name, site in zip(names, sites, strict=True):
        labels = draw_patient(generator, side)
        new = roughen(generator, labels)
        old = new.copy()
        if not (labels == LESION).any():
            faults["no lesion"].append(name)
        elif site == "south" and generator.random() < MISTAKEN:
            old[old == LESION] = LIVER
            faults["lesion as liver"].append(name)
        if name in faults["mirrored"]:
            old = mirrored(old)
        save("labels", name, labels, site)
        save("old", name, old, site)
        save("new", name, new, site)
        if probabilities:
            save("probabilities", name, soften(generator, old, len(ORGANS)), site)
    rows = [f"{name},{site},{name}" for name, site in zip(names, sites, strict=True)]
    (folder / "patients.csv").write_text("\n".join(["name,site,patient", *rows]) + "\n")
    (folder / "truth.json").write_text(json.dumps({"class_names": ORGANS, "spacing": SITES, **faults}, indent=2) + "\n")
    return faults


def make_slices(folder, *, slices=400, side=96, seed=1, flips=True):
    """Writes the slices, five of each patient, and returns the names of the patients whose cysts flip."""
    generator = np.random.default_rng(seed)
    patients = slices // SLICES
    rows = ["name,scanner,patient"]
    last = [p for p in range(patients) if p % SCANNERS == SCANNERS - 1]
    flipped = last[: round(FLIPPED * len(last) / 20)] if flips else []
    y, x = np.mgrid[:side, :side]
    for patient in range(patients):
        name = f"patient_{patient:03d}"
        for kind in ("labels", "model"):
            (folder / kind / name).mkdir(parents=True, exist_ok=True)
        middle, radius = generator.uniform(0.4, 0.6, 2) * side, generator.uniform(0.2, 0.3) * side
        for k in range(SLICES):
            labels = np.zeros((side, side), np.uint8)
            labels[(y - middle[0]) ** 2 + (x - middle[1]) ** 2 <= (radius - k) ** 2] = KIDNEY
            top, left = (int(value) for value in middle - generator.uniform(0, 0.1, 2) * side)
            labels[top : top + 6, left : left + 6] = CYST
            model = roughen(generator, labels)
            if patient in flipped:
                model[labels == CYST] = KIDNEY
            for kind, mask in (("labels", labels), ("model", model)):
                Image.fromarray(mask).save(folder / kind / name / f"slice_{k}.png")
            rows.append(f"{name}/slice_{k},scanner_{patient % SCANNERS},{name}")
    (folder / "slices.csv").write_text("\n".join(rows) + "\n")
    found = [f"patient_{patient:03d}" for patient in flipped]
    (folder / "truth.json").write_text(json.dumps({"class_names": SLICE, "flipped": found}, indent=2) + "\n")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--volumes", type=int, default=60)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--slices", type=int, default=400)
    options = parser.parse_args()
    faults = make_volumes(options.folder / "volumes", volumes=options.volumes, side=options.side)
    print({fault: len(patients) for fault, patients in faults.items()})
    print({"flipped": len(make_slices(options.folder / "slices", slices=options.slices))})


if __name__ == "__main__":
    main()
