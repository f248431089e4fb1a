"""Volumes as nnU-Net, TotalSegmentator, SimpleITK, MONAI and hospitals write them."""

import functools

import numpy as np

from layouts.audits import Layout, matrix

GENERATOR = np.random.default_rng(3)
CASES = ("case_00", "case_01")
ORGANS = ("kidney", "liver", "spleen")
CLASSES = ["--class_names=background,kidney,liver,spleen"]


def volumes(shape):
    """Returns labels and predictions (2, X, Y, Z) of three organs that fill blocks."""
    coarse = GENERATOR.integers(0, 4, (2, *(-(-length // 3) for length in shape)))
    labels = np.kron(coarse, np.ones((1, 3, 3, 3), int))[:, : shape[0], : shape[1], : shape[2]].astype(np.uint8)
    wrong = GENERATOR.random(labels.shape) < 0.15
    return labels, np.where(wrong, (labels + 1) % 4, labels).astype(np.uint8)


CUBE = volumes((7, 7, 7))
LONG = volumes((8, 7, 6))
SLAB = volumes((6, 6, 4))
AFFINE = np.diag([0.7, 0.7, 5.0, 1.0])


def save_nifti(path, values):
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)


def nifti(folder, stack):
    for case, values in zip(CASES, stack, strict=True):
        save_nifti(folder / f"{case}.nii.gz", values)
    return folder


def sides(folder, labels):
    """Writes labels as NIfTI, and returns the options that name both sides."""
    return [f"--predictions={folder / 'p'}", f"--labels={nifti(folder / 'l', labels)}"]


def softmax(masks):
    """Returns probabilities (C, X, Y, Z) of one volume of class indices."""
    return np.moveaxis(0.94 * np.eye(4, dtype=np.float32)[masks] + np.float32(0.015), -1, 0)


def nnunet(folder, *, stacks, name="probabilities", more=()):
    """Probabilities as nnU-Net writes them, (C, Z, Y, X), beside NIfTI."""
    labels, predicted = stacks
    (folder / "p").mkdir()
    for case, values in zip(CASES, predicted, strict=True):
        np.savez_compressed(folder / "p" / f"{case}.npz", **{name: softmax(values).transpose(0, 3, 2, 1)})
    return [
        *sides(folder, labels),
        "--kind=probabilities",
        *CLASSES,
        *more,
    ]


def nnunet_2d(folder):
    """nnU-Net's probabilities of photos, (C, 1, H, W), beside PNG."""
    from PIL import Image

    (folder / "p").mkdir()
    (folder / "l").mkdir()
    for case, label, values in zip(CASES, *(stack[:, :, :, 0] for stack in LONG), strict=True):
        np.savez_compressed(folder / "p" / f"{case}.npz", probabilities=softmax(values)[:, None])
        Image.fromarray(label).save(folder / "l" / f"{case}.png")
    return [f"--predictions={folder / 'p'}", f"--labels={folder / 'l'}", "--kind=probabilities", *CLASSES]


def arrays(folder, *, stacks, axes=(0, 1, 2), more=()):
    """npy masks whose axes are those of NIfTI in this order."""
    labels, predicted = stacks
    (folder / "p").mkdir()
    for case, values in zip(CASES, predicted, strict=True):
        np.save(folder / "p" / f"{case}.npy", values.transpose(axes))
    return [*sides(folder, labels), "--kind=masks", *CLASSES, *more]


def organs(folder, stack, *, inside="", overlap=0, lacking=()):
    """A mask an organ, as TotalSegmentator writes; `overlap` voxels of the first case are two organs."""
    for case, values in zip(CASES, stack, strict=True):
        for number, organ in enumerate(ORGANS, 1):
            mask = (values == number).astype(np.uint8)
            if case == CASES[0] and organ == "liver":
                mask.reshape(-1)[np.flatnonzero(values == 1)[:overlap]] = 1
            if (case, organ) not in lacking:
                save_nifti(folder / case / inside / f"{organ}.nii.gz", mask)
    return folder


def segmentator(folder, *, stacks=LONG, predicted=organs, inside="", more=(), **options):
    labels, values = stacks
    if inside:
        save_nifti(folder / "l" / CASES[0] / "ct.nii.gz", labels[0].astype(np.int16))
    truth = organs(folder / "l", labels, inside=inside)
    return [f"--predictions={predicted(folder / 'p', values, **options)}", f"--labels={truth}", "--kind=masks", *more]


def visits(folder):
    """Two volumes a patient, whose files have the same names."""
    labels, predicted = LONG
    for side, stack in (("l", labels), ("p", predicted)):
        for patient in ("a", "b"):
            for number, values in enumerate(stack):
                save_nifti(folder / side / patient / f"visit_{number}.nii.gz", values)
    return [f"--predictions={folder / 'p'}", f"--labels={folder / 'l'}", "--kind=masks", *CLASSES]


def regions(folder):
    """Sigmoid scores of regions that overlap, as for BraTS."""
    labels, predicted = LONG
    (folder / "p").mkdir()
    for case, values in zip(CASES, predicted, strict=True):
        whole, core, enhancing = (np.where(values >= number, 0.95, 0.02) for number in (1, 2, 3))
        stored = np.stack([1 - whole, whole, core, enhancing]).astype(np.float32)
        np.savez_compressed(folder / "p" / f"{case}.npz", probabilities=stored.transpose(0, 3, 2, 1))
    return [
        *sides(folder, labels),
        "--kind=probabilities",
        *CLASSES,
    ]


def batches(folder, *, more=()):
    """Labels (1, Z, Y, X) beside logits (1, C, Z, Y, X), as a batch of one."""
    labels, predicted = LONG
    for side in ("p", "l"):
        (folder / side).mkdir()
    for case, label, values in zip(CASES, labels, predicted, strict=True):
        np.save(folder / "l" / f"{case}.npy", label[None])
        np.save(folder / "p" / f"{case}.npy", 8 * softmax(values)[None])
    return [f"--predictions={folder / 'p'}", f"--labels={folder / 'l'}", *CLASSES, *more]


def first_axis_of_one(folder):
    """NIfTI labels that a framework saved with a batch axis."""
    labels, predicted = LONG
    return [
        f"--predictions={nifti(folder / 'p', predicted)}",
        f"--labels={nifti(folder / 'l', labels[:, None])}",
        "--kind=masks",
        *CLASSES,
    ]


def as_floats(folder):
    labels, predicted = LONG
    return [
        f"--predictions={nifti(folder / 'p', predicted.astype(np.int16))}",
        f"--labels={nifti(folder / 'l', labels.astype(np.float64)[..., None])}",
        "--kind=masks",
        *CLASSES,
    ]


def of(stacks):
    labels, predicted = stacks
    return matrix(predicted, labels, classes=4)


def with_overlap(count):
    """Returns the matrix where the first voxels of the first case are predicted as liver, the last by name."""
    labels, predicted = (stack.copy() for stack in LONG)
    predicted[0].reshape(-1)[np.flatnonzero(predicted[0] == 1)[:count]] = 2
    return of((labels, predicted))


def layout(title, write, expected, *, says="", **options):
    return Layout(title, functools.partial(write, **options), expected, says=says)


TWICE = tuple(np.concatenate([stack, stack]) for stack in LONG)

LAYOUTS = [
    layout("nnU-Net's probabilities, a cube", nnunet, of(CUBE), stacks=CUBE, says="as nnU-Net writes them"),
    layout("nnU-Net's probabilities", nnunet, of(LONG), stacks=LONG),
    layout("nnU-Net's probabilities, its first version", nnunet, of(CUBE), stacks=CUBE, name="softmax"),
    layout("nnU-Net's probabilities of photos", nnunet_2d, matrix(*(stack[..., 0] for stack in LONG[::-1]), classes=4)),
    layout("SimpleITK's arrays, a cube", arrays, "pass --axes xyz or --axes zyx", stacks=CUBE, axes=(2, 1, 0)),
    layout("SimpleITK's arrays, a cube, --axes", arrays, of(CUBE), stacks=CUBE, axes=(2, 1, 0), more=["--axes=zyx"]),
    layout("NumPy's arrays, a cube, --axes", arrays, of(CUBE), stacks=CUBE, more=["--axes=xyz"]),
    layout("SimpleITK's arrays, no cube", arrays, "pass --axes zyx", stacks=LONG, axes=(2, 1, 0)),
    layout("SimpleITK's arrays, no cube, --axes", arrays, of(LONG), stacks=LONG, axes=(2, 1, 0), more=["--axes=zyx"]),
    layout("NumPy's arrays, no cube", arrays, of(LONG), stacks=LONG),
    layout("slices first", arrays, "--axes zxy", stacks=LONG, axes=(2, 0, 1)),
    layout("slices first, squares", arrays, "pass --axes zyx or --axes zxy", stacks=SLAB, axes=(2, 0, 1)),
    layout(
        "--axes beside arrays alone",
        batches,
        "--axes: expected npy or npz files of volumes",
        more=["--axes=zyx"],
    ),
    layout("a mask an organ", segmentator, of(LONG)),
    layout("a mask an organ, in segmentations/ beside the image", segmentator, of(LONG), inside="segmentations"),
    layout("a mask an organ beside label maps", segmentator, of(LONG), predicted=nifti, more=CLASSES),
    layout("a mask an organ beside label maps without names", segmentator, "expected --class_names", predicted=nifti),
    layout("a few voxels in two organs", segmentator, with_overlap(1), overlap=1, says="lie in several organs"),
    layout("many voxels in two organs", segmentator, "overlapping, multi-label", overlap=9),
    layout("an organ without a file", segmentator, "case_01 lacks spleen", lacking=[("case_01", "spleen")]),
    layout("two visits a patient", visits, of(TWICE)),
    layout("scores of regions that overlap", regions, "overlap (multi-label) need one label map"),
    layout("labels of a batch of one", batches, of(LONG)),
    layout("labels of NIfTI with a first axis of one", first_axis_of_one, of(LONG)),
    layout("labels of NIfTI as floats, with a last axis of one", as_floats, of(LONG)),
]
