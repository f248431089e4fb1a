"""Assays whose answer is known, each a row of a table beside this file.

    python sweeps/studies/assay/study.py answers [CASE ...] [--photos DIR]      answers.csv
    python sweeps/studies/assay/study.py random [NUMBER ...]                    random.csv
    python sweeps/studies/assay/study.py collected [CASE ...]                   collected.csv

`answers` assays images whose answer is known. `random` assays twenty
attributes that are coins, each of images of its own. `collected` draws the counter-examples that an assay asks for, and
trains anew. Without names all are run; a finished one is read back from --runs. --photos holds cut-outs of cats and
dogs on land and water.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pools
from drawings import Drawing, drawn_data

import flipjax
from flipjax.assays import remedy
from flipjax.assays.inputs import AssayImages, read_images
from flipjax.assays.journal import stored_state
from flipjax.assays.network import first_network
from flipjax.assays.options import Options
from flipjax.assays.population import EVERYTHING, NetworkSetting, make_seed_batch, outcomes_of, train_stage
from flipjax.assays.results import Assay
from flipjax.assays.sentences import findings
from flipjax.assays.statistics.association import usual_mask
from flipjax.data.sources.arrays import ArrayData
from flipjax.results.statistics.verdicts import FEWEST_SEEDS
from flipjax.support.threads import cores

HERE = Path(__file__).parent
Source = Callable[[Path], ArrayData | Path]
"""Makes the images of a case; takes the folder of photos."""

# Known answers


@dataclasses.dataclass(frozen=True)
class Case:
    """Images whose answer is known.

    Attributes:
        expected: the verdicts that it may have, fixed before it was run.
        source: makes the images.
        options: of `flipjax.assay`.
        photos: whether the images are made of photos.
    """

    expected: tuple[str, ...]
    source: Source
    options: dict[str, Any]
    photos: bool = False


def drawn(drawing: Drawing, *, key: int = 0) -> Source:
    """Returns a source of drawn shapes."""
    return lambda photos: drawn_data(drawing, key=key)


def animals(*, coin: bool = False, rho: float = 0.9, **changes: Any) -> Source:
    """Returns a source of the built-in animals; `coin`: the attribute is a coin, in place of the scene."""
    return lambda photos: pools.pool_of(pools.animals(rho=rho, **changes), pools.ANIMALS, coin=coin)


def photographed(*, coin: bool = False, rho: float = 0.9) -> Source:
    """Returns a source of photos of cats and dogs, as `animals`."""
    return lambda photos: pools.pool_of(pools.photos(photos, rho=rho), pools.PHOTOS, coin=coin)


def animals_folder(photos: Path) -> Path:
    """Writes the built-in animals as a folder."""
    data = pools.pool_of(pools.animals(), pools.ANIMALS)
    return pools.write_folder(data, Path("runs/assays_animals"), attribute="scene_folder")


DRAWN = {"size": 32, "budget": 300.0}
TWO_FOLDS = {**DRAWN, "folds": 2}
PHOTOS = {"budget": 300.0}
"""Read at 48 pixels for the small U-Net, and at 96 for frozen features."""
COIN = ("not used", "cannot be told")
CASES = {
    "tint": Case(("used",), drawn(Drawing(("disc", "oval"))), DRAWN),
    "tint_hard": Case(("used", "cannot be told"), drawn(Drawing(("disc", "oval"), ratio=1.3)), TWO_FOLDS),
    "coin": Case(COIN, drawn(Drawing(("disc", "oval"), rho=0.5, strength=0)), DRAWN),
    "alike": Case(("cannot be told",), drawn(Drawing(("disc", "oval"), ratio=1.2, rho=0.5, strength=0)), DRAWN),
    "same": Case(("cannot be told",), drawn(Drawing(("disc", "disc"), rho=0.5, strength=0)), DRAWN),
    "easy": Case(("not used",), drawn(Drawing(("kite", "ring"))), DRAWN),
    "scene": Case(("used",), animals(), DRAWN),
    "scene_folder": Case(("used",), animals_folder, TWO_FOLDS),
    "scene_random": Case(COIN, animals(coin=True), DRAWN),
    "marker": Case(COIN, animals(**{"pool.cue": "marker", "pool.cue_strength": 0.1}), DRAWN),
    "photos": Case(("used", "cannot be told"), photographed(), PHOTOS, photos=True),
    "photos_random": Case(COIN, photographed(coin=True), PHOTOS, photos=True),
    "photos_even": Case(COIN, photographed(rho=0.5), PHOTOS, photos=True),
}
"""`photos_even` has the scene at rho 0.5, so that only networks which recognise cats and dogs learn the classes."""


def answer(name: str, case: Case, *, photos: Path, runs: Path) -> dict[str, Any]:
    """Assays a case, prints the findings, and returns its row."""
    begun = time.monotonic()
    result = flipjax.assay(case.source(photos), attribute=name, out=runs / name, **case.options)
    seconds = time.monotonic() - begun
    print(f"\n{name} ({seconds:.0f} s)")
    for line in findings(result):
        print(f"  {line}")
    return {
        "case": name,
        "expected": " or ".join(case.expected),
        "verdict": result.verdict.word,
        "as expected": result.verdict.word in case.expected,
        **verdict_row(result),
        "network": result.training.network,
        "folds": result.training.folds,
        "seeds": result.training.seeds,
        "epochs": result.training.epochs,
        "seconds to the verdict": round(seconds_to_verdict(runs / name)),
    }


def seconds_to_verdict(folder: Path) -> float:
    """Returns the seconds of training that the verdict of an assay took, trials of other networks among them."""
    state = stored_state(folder)
    assert state is not None
    return sum(seconds for stage, seconds in state.seconds.items() if f"/{EVERYTHING.folder}/" in stage)


def verdict_row(result: Assay) -> dict[str, Any]:
    """Returns what the verdict of a trained assay rests on."""
    assert result.contrast is not None and result.learnt is not None
    estimate = result.contrast.estimate
    needed = result.counter_examples
    row = {
        "contrast": round(estimate.value, 3),
        "low": round(estimate.low, 3),
        "high": round(estimate.high, 3),
        "p permuted": round(result.contrast.p, 4),
        "accuracy": round(result.learnt.accuracy, 3),
        "flip rare": round(result.levels[-1].flip_rare.value, 3),
        "flip common": round(result.levels[-1].flip_common.value, 3),
        "counter-examples": "",
        "factor": "",
    }
    if needed is not None:
        row["counter-examples"] = needed.kind
        if needed.kind == "extrapolated":
            row["factor"] = round(needed.factor, 2)
    return row


# Attributes that are coins

RANDOM = 20
SMALL = {"size": 24, "budget": 600.0, "folds": 2, "epochs": 24}
"""Options of `flipjax.assay` for a random attribute."""


def random_drawing(number: int) -> Drawing:
    """Returns the images of a random attribute, which networks see, as a tint, if the number is odd."""
    return Drawing(("disc", "oval"), ratio=2.2, rho=0.5, strength=float(number % 2), count=300, size=24)


def random_attribute(number: int, *, runs: Path) -> dict[str, Any]:
    """Assays an attribute that is a coin, on images of its own, and returns its row."""
    data = drawn_data(random_drawing(number), key=100 + number)
    result = flipjax.assay(data, attribute=f"coin {number}", out=runs / f"random_{number}", **SMALL)
    row = verdict_row(result)
    return {
        "attribute": number,
        "seen": bool(number % 2),
        "verdict": result.verdict.word,
        "V": round(result.association.cramers_v, 3),
        **{name: row[name] for name in ("contrast", "low", "high", "p permuted", "accuracy", "flip rare")},
        "seconds": round(result.seconds),
    }


# Counter-examples collected

TOLERANCE = 0.05
"""By how much Flip in the rare groups may exceed the target, with the counter-examples that were asked for."""
TARGET = 0.2
"""Wanted Flip in the rare groups."""
LEVELS = (NetworkSetting(0.25, "ce"), NetworkSetting(0.5, "ce"), EVERYTHING)
"""The fractions of the counter-examples that tell how many are needed, as in an assay."""
FOLDS, EPOCHS = 2, 20
"""Of the networks of a level, FEWEST_SEEDS seeds, before and after more are collected."""


def more_shapes(drawing: Drawing) -> Callable[[int], ArrayData]:
    """Returns a source of drawn shapes with counter-examples in addition."""
    return lambda more: drawn_data(drawing, collected=more)


def more_animals(*, rho: float = 0.9, **changes: Any) -> Callable[[int], ArrayData]:
    """Returns a source of the built-in animals at a rho, with counter-examples in addition."""

    def make(more: int) -> ArrayData:
        common = round(rho * pools.COUNT)
        whole = pools.COUNT + 2 * more
        config = pools.animals(rho=common / whole, count=whole, **{"pool.objects": 1000, **changes})
        return pools.pool_of(config, pools.ANIMALS)

    return make


COLLECTIONS = {
    "scene": more_animals(),
    "tint": more_animals(**{"pool.cue": "tint"}),
    "scene_80": more_animals(rho=0.8),
    "tint_80": more_animals(rho=0.8, **{"pool.cue": "tint"}),
    "texture_80": more_animals(rho=0.8, **{"pool.cue": "texture"}),
    "shapes_80": more_shapes(Drawing(("disc", "oval"), ratio=2.0, rho=0.8)),
    "shapes_95": more_shapes(Drawing(("disc", "oval"), ratio=2.0, rho=0.95)),
    "scene_70": more_animals(rho=0.7),
}
"""Images with a number of counter-examples of each class in addition, by case."""


def measure_levels(
    name: str, data: ArrayData, settings: Sequence[NetworkSetting], folder: Path
) -> tuple[AssayImages, list[remedy.Level]]:
    """Trains networks in some settings, and returns the images and what each setting made of them."""
    options = Options(attribute=name, size=data.pool.images.shape[1], folds=FOLDS, epochs=EPOCHS)
    images = read_images(data, options)
    network = first_network(data, images, options, folder)
    rare = ~usual_mask(images.catalog.groups.usual, images.units.values)
    levels = []
    for setting in settings:
        stage = make_seed_batch(setting, 0, size=FEWEST_SEEDS, folds=FOLDS)
        trained = train_stage(network, stage, folder, until=float("inf"))
        tested = outcomes_of([trained], images=images.count)
        levels.append(remedy.measure_level(setting.name, setting.rare_kept, images.units, rare, tested))
    return images, levels


def collect(name: str, make: Callable[[int], ArrayData], *, runs: Path) -> dict[str, Any]:
    """Draws the counter-examples that are asked for, trains the networks on all, and returns the row."""
    images, levels = measure_levels(name, make(0), LEVELS, runs / f"collect_{name}")
    rare = ~usual_mask(images.catalog.groups.usual, images.units.values)
    needed = remedy.count_counter_examples(levels, images.units.counts, rare, target=TARGET)
    row: dict[str, Any] = {
        "case": name,
        **{f"flip rare at {level.name}": round(level.flip_rare.value, 3) for level in levels},
        "flip common": round(levels[-1].flip_common.value, 3),
        "target": TARGET,
        "counter-examples": needed.kind,
    }
    if needed.kind != "extrapolated":
        return row
    more = int(needed.to_collect.max())
    _, (after,) = measure_levels(name, make(more), [EVERYTHING], runs / f"collected_{name}")
    return {
        **row,
        "factor": round(needed.factor, 2),
        "collected of each class": more,
        "flip rare after": round(after.flip_rare.value, 3),
        "low after": round(after.flip_rare.low, 3),
        "high after": round(after.flip_rare.high, 3),
        "reached": after.flip_rare.value <= TARGET + TOLERANCE,
    }


# Tables


def store_row(name: str, row: dict[str, Any], *, order: list[Any]) -> None:
    """Puts a row into a table beside this file, in place of an earlier one of the same case."""
    path = HERE / f"{name}.csv"
    key = next(iter(row))
    rows = []
    if path.is_file():
        rows = pd.read_csv(path, keep_default_na=False).to_dict("records")
    kept = {str(stored[key]): stored for stored in rows}
    kept[str(row[key])] = row
    ordered = [kept[str(case)] for case in order if str(case) in kept]
    pd.DataFrame(ordered).to_csv(path, index=False)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("answers", "random", "collected"))
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--runs", type=Path, default=Path("runs/assays"))
    parser.add_argument("--photos", type=Path, help="cut-outs of cats and dogs on land and water")
    options = parser.parse_args()
    # Before images are drawn: the number of devices cannot change later.
    flipjax.setup(min(cores(), FEWEST_SEEDS))
    begun = time.monotonic()
    if options.table == "answers":
        for name in options.cases or CASES:
            case = CASES[name]
            if case.photos and options.photos is None:
                continue
            store_row("answers", answer(name, case, photos=options.photos, runs=options.runs), order=list(CASES))
    elif options.table == "random":
        for number in map(int, options.cases or range(RANDOM)):
            store_row("random", random_attribute(number, runs=options.runs), order=list(range(RANDOM)))
    else:
        for name in options.cases or COLLECTIONS:
            store_row("collected", collect(name, COLLECTIONS[name], runs=options.runs), order=list(COLLECTIONS))
    print(pd.read_csv(HERE / f"{options.table}.csv").to_string(index=False))
    print(f"{(time.monotonic() - begun) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
