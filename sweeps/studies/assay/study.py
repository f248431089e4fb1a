"""Assays whose answer is known: python sweeps/studies/assay/study.py [CASE ...] [--runs runs/assays] [--photos DIR]

Without CASE all are run, each in a folder of its own; a finished one is read back. Writes answers.csv (a row a case)
and random.csv (contrasts of random attributes) beside this file, and prints the findings of each case.
"""

import argparse
import dataclasses
import pathlib
import time

import numpy as np
import pandas as pd

import flipjax
from flipjax.assays import population, remedy
from flipjax.assays.association import associate, usual_mask
from flipjax.assays.contrast import measure_contrast
from flipjax.assays.inputs import read_images
from flipjax.assays.options import Options
from flipjax.assays.population import EVERYTHING
from flipjax.assays.sentences import findings, with_ends
from flipjax.assays.verdict import judge_contrast, measure_learning

HERE = pathlib.Path(__file__).parent
SIZE = 32
COUNT = 600
BUDGET, LONGER = 120.0, 300.0
"""Seconds that training may take on drawn shapes, and on the built-in animals and photos."""
RANDOM = 20
"""Random attributes."""
RHO = 0.9


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Drawn images: a shape each, and a tint that goes with it.

    Attributes:
        shapes: of the two classes: disc, oval, kite or ring.
        ratio: of the axes of an oval.
        rho: fraction of a class with its usual tint.
        tinted: whether the tint is seen.
    """

    shapes: tuple[str, str]
    ratio: float = 1.6
    rho: float = RHO
    tinted: bool = True


CASES = {
    "tint": Drawing(("disc", "oval")),
    "coin": Drawing(("disc", "oval"), rho=0.5, tinted=False),
    "alike": Drawing(("disc", "oval"), ratio=1.2, rho=0.5, tinted=False),
    "same": Drawing(("disc", "disc"), rho=0.5, tinted=False),
    "easy": Drawing(("kite", "ring")),
}
"""Drawn cases; the others are the built-in animals, photos and slices."""
EXPECTED = {
    "tint": ("used",),
    "coin": ("not used", "cannot be told"),
    "alike": ("cannot be told",),
    "same": ("cannot be told",),
    "easy": ("not used",),
    "scene": ("used",),
    "scene_random": ("not used", "cannot be told"),
    "marker": ("not used", "cannot be told"),
    "photos": ("used", "cannot be told"),
    "photos_random": ("not used", "cannot be told"),
}
"""The verdicts that each case may have, fixed before it was run."""


def inside(shape, ratio, top, left, angle, radius):
    """Returns the pixels of a shape of about equal area."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    along = (columns - left) * np.cos(angle) + (rows - top) * np.sin(angle)
    across = (rows - top) * np.cos(angle) - (columns - left) * np.sin(angle)
    if shape == "kite":
        return np.abs(along) / 1.6 + np.abs(across) <= 1.1 * radius
    distance = np.hypot(along, across)
    if shape == "ring":
        return (distance <= 1.2 * radius) & (distance >= 0.7 * radius)
    longer = np.sqrt(ratio) if shape == "oval" else 1.0
    return (along / longer) ** 2 + (across * longer) ** 2 <= radius**2


def draw(drawing, *, count=COUNT, rare=None, key=0):
    """Returns images, masks, classes and values; `rare` is the number of counter-examples of each class, or None."""
    random = np.random.default_rng(key)
    y = np.arange(count) % 2
    value = np.where(random.random(count) < drawing.rho, y, 1 - y)
    if rare is not None:
        value = y.copy()
        for number, images in enumerate(rare):
            value[np.flatnonzero(y == number)[:images]] = 1 - number
    images = np.empty((count, SIZE, SIZE, 3))
    masks = np.empty((count, SIZE, SIZE), bool)
    for index in range(count):
        top, left = random.uniform(0.4 * SIZE, 0.6 * SIZE, 2)
        radius = random.uniform(0.17, 0.22) * SIZE
        angle = random.uniform(0, np.pi)
        masks[index] = inside(drawing.shapes[y[index]], drawing.ratio, top, left, angle, radius)
        image = random.normal(110, 22, (SIZE, SIZE, 3))
        image[masks[index]] += 50
        if drawing.tinted:
            image += np.array([25, 0, -25]) * (1 if value[index] else -1)
        images[index] = image
    return images.clip(0, 255).astype(np.uint8), masks, y, value


def drawn_data(drawing, **options):
    """Returns drawn images as a pool."""
    images, masks, y, value = draw(drawing, **options)
    names = {"class_names": ("first", "second"), "scene_names": ("cold", "warm")}
    return flipjax.data.from_arrays(images, masks, y, value, **names)


def built_in(*, random=False, **changes):
    """Returns 600 images of the built-in animals at rho .9 as a photo pool; `random`: with a random attribute."""
    config = flipjax.configure(
        "correlation_grid", {"pool.size": SIZE, "pool.objects": COUNT, "split.n_train": COUNT, **changes}
    )
    images = flipjax.data.benchmark(config, rho=RHO, seed=0).train
    scenes = images.scenes
    if random:
        scenes = np.random.default_rng(1).integers(0, 2, len(scenes))
    pixels = np.rint(images.images * 255).astype(np.uint8)
    names = {"class_names": ("mossling", "ripplet"), "scene_names": ("one", "two")}
    return flipjax.data.from_arrays(pixels, images.masks, images.classes, scenes, **names)


def photo_data(folder, *, random=False):
    """Returns 600 photos of cut-outs on scenes at rho .9 as a photo pool; `random`: with a random attribute."""
    config = flipjax.configure("photos_grid", {"pool.root": str(folder), "pool.size": 64, "split.n_train": COUNT})
    images = flipjax.data.benchmark(config, rho=RHO, seed=0).train
    scenes = images.scenes
    if random:
        scenes = np.random.default_rng(1).integers(0, 2, len(scenes))
    pixels = np.rint(images.images * 255).astype(np.uint8)
    names = {"class_names": ("cat", "dog"), "scene_names": ("land", "water")}
    return flipjax.data.from_arrays(pixels, images.masks, images.classes, scenes, **names)


def data_of(case, photos):
    """Returns the images of a case, or None where photos are needed and none are given."""
    if case in CASES:
        return drawn_data(CASES[case])
    if case.startswith("photos"):
        return photo_data(photos, random=case.endswith("random")) if photos else None
    if case == "marker":
        # At this strength the marker is ignored in phase_diagram.
        return built_in(**{"pool.cue": "marker", "axes.cue_strength": (0.1,)})
    return built_in(random=case.endswith("random"))


def answer(case, data, runs):
    """Returns the row of a case."""
    begun = time.monotonic()
    options = {"size": 64} if case.startswith("photos") else {"size": SIZE}
    budget = BUDGET if case in CASES else LONGER
    result = flipjax.assay(data, attribute=case, out=runs / case, budget=budget, **options)
    print(f"\n{case}")
    for line in findings(result):
        print(f"  {line}")
    estimate = result.contrast.estimate
    whole = result.levels[-1]
    needed = result.counter_examples
    return {
        "case": case,
        "expected": " or ".join(EXPECTED[case]),
        "verdict": result.verdict.word,
        "as expected": result.verdict.word in EXPECTED[case],
        "contrast": round(estimate.value, 3),
        "low": round(estimate.low, 3),
        "high": round(estimate.high, 3),
        "p permuted": round(result.contrast.p, 4),
        "accuracy": round(result.learnt.accuracy, 3),
        "flip rare": round(whole.flip_rare.value, 3),
        "flip common": round(whole.flip_common.value, 3),
        "counter-examples": "" if needed is None else needed.kind,
        "factor": "" if needed is None or needed.kind != "extrapolated" else round(needed.factor, 2),
        "epochs": result.schedule.design.epochs,
        "seconds": round(result.seconds or time.monotonic() - begun),
    }


def random_attributes(runs):
    """Returns the verdicts on random attributes of the images of `coin`, from its networks, which saw none of them."""
    data = drawn_data(CASES["coin"])
    stored = flipjax.assays.read_assay(runs / "coin")
    images = read_images(data, Options(attribute="coin", size=SIZE, folds=stored.schedule.design.folds))
    trained = population.train_population(images.data, stored.schedule.design, [EVERYTHING], runs / "coin/population")
    tested = population.outcomes_of(trained, EVERYTHING, images=images.count)
    rows = []
    for number in range(RANDOM):
        value = np.random.default_rng(100 + number).integers(0, 2, images.count)
        units = dataclasses.replace(images.units, value=value)
        usual = associate(units, permutations=1).usual
        contrast = measure_contrast(units, usual, tested, seed=number)
        rare = np.ones((2, 2), bool)
        for y, chosen in enumerate(usual):
            rare[y, list(chosen)] = False
        verdict = judge_contrast(
            contrast, measure_learning(units, rare, tested), margin=0.05, attribute=f"random {number}"
        )
        rows.append(
            {
                "attribute": number,
                "verdict": verdict.word,
                "contrast": round(contrast.estimate.value, 3),
                "low": round(contrast.estimate.low, 3),
                "high": round(contrast.estimate.high, 3),
                "p permuted": round(contrast.p, 4),
            }
        )
    return pd.DataFrame(rows)


def collect(runs):
    """Collects the counter-examples that `scene` asks for, trains its population on all, and prints Flip."""
    stored = flipjax.assays.read_assay(runs / "scene")
    counts = stored.association.counts
    common = int(counts.max())
    rare = int(counts.min() + stored.counter_examples.to_collect.max())
    config = {"pool.size": SIZE, "pool.objects": 700, "split.n_train": 2 * (common + rare)}
    images = flipjax.data.benchmark(
        flipjax.configure("correlation_grid", config), rho=common / (common + rare), seed=0
    ).train
    pixels = np.rint(images.images * 255).astype(np.uint8)
    names = {"class_names": stored.class_names, "scene_names": stored.value_names}
    data = flipjax.data.from_arrays(pixels, images.masks, images.classes, images.scenes, **names)
    read = read_images(data, Options(attribute="scene", size=SIZE))
    design = dataclasses.replace(stored.schedule.design, rho=round(common / (common + rare), 2))
    trained = population.train_population(read.data, design, [EVERYTHING], runs / "collected")
    tested = population.outcomes_of(trained, EVERYTHING, images=read.count)
    mask = ~usual_mask(stored.association.usual, 2)
    level = remedy.measure_level("collected", 1.0, read.units, mask, tested)
    print(f"\n{read.units.counts.tolist()}: Flip (rare) {with_ends(level.flip_rare)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(EXPECTED))
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/assays"))
    parser.add_argument("--photos", type=pathlib.Path, help="cut-outs of cats and dogs on land and water")
    parser.add_argument("--collected", action="store_true", help="collect what scene asks for, and train on it")
    options = parser.parse_args()
    if options.collected:
        collect(options.runs)
        return
    rows = []
    for case in options.cases or EXPECTED:
        data = data_of(case, options.photos)
        if data is not None:
            rows.append(answer(case, data, options.runs))
        table = pd.DataFrame(rows)
        if not options.cases:
            table.to_csv(HERE / "answers.csv", index=False)
    if not options.cases:
        random = random_attributes(options.runs)
        random.to_csv(HERE / "random.csv", index=False)
        print(f"\n{RANDOM} random attributes: {random['verdict'].value_counts().to_dict()}")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
