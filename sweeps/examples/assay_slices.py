"""Asks whether networks use the scanner of drawn slices: python sweeps/examples/assay_slices.py [OPTION=VALUE ...]

60 patients with five grey slices each. A lesion is round (a cyst) or lobed (a tumour); most tumours come from the
second scanner, which is brighter and noisier. Patients are clusters: no patient is on both sides of a split. Options
are those of `flipjax.assay`; `epochs=2 seeds=2 folds=2` is the shortest run, too short for a verdict. Where the answer
advises `--seeds 14 --budget 8m`, `seeds=14 budget=480` goes on in the same folder.
"""

import ast
import sys

import numpy as np

import flipjax

PATIENTS, SLICES, SIZE = 60, 5, 32
generator = np.random.default_rng(0)
tumour = np.arange(PATIENTS) % 2
scanner = np.where(generator.random(PATIENTS) < 0.85, tumour, 1 - tumour)
patients = np.repeat(np.arange(PATIENTS), SLICES)

rows, columns = np.mgrid[:SIZE, :SIZE]
slices = np.empty((len(patients), SIZE, SIZE))
masks = np.empty((len(patients), SIZE, SIZE), bool)
for index, patient in enumerate(patients):
    top, left = generator.uniform(12, 20, 2)
    angle = np.arctan2(rows - top, columns - left)
    lobes = 1 + 0.35 * np.cos(5 * angle + generator.uniform(0, 6)) * tumour[patient]
    masks[index] = np.hypot(rows - top, columns - left) <= generator.uniform(5, 7) * lobes
    body = np.hypot(rows - 16, columns - 16) < 15
    image = 0.15 + 0.3 * body + 0.2 * masks[index] + 0.12 * scanner[patient]
    slices[index] = image + generator.normal(0, 0.03 + 0.04 * scanner[patient], (SIZE, SIZE))

data = flipjax.data.from_arrays(
    slices.clip(0, 1),
    masks,
    tumour[patients],
    scanner[patients],
    class_names=("cyst", "tumour"),
    scene_names=("scanner A", "scanner B"),
    clusters=patients,
)
options = {name: ast.literal_eval(value) for name, value in (option.split("=") for option in sys.argv[1:])}
flipjax.setup()  # A device per core.
result = flipjax.assay(data, attribute="scanner", out="runs/assay_slices", **options)
print(f"{result.attribute}: {result.verdict.word}. {result.verdict.reason} {result.verdict.help}")
print(f"{result.clusters} patients; {result.folder}/index.html")
