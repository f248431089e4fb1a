"""The studies: the sweeps that each needs, what is made of them, and what it costs. `make.py` makes them."""

import dataclasses
import pathlib

HERE = pathlib.Path(__file__).parent
PHOTOS = "--photos"
DATA = "--data"
CHECKPOINTS = "--checkpoints"
PRETRAINED = "flipjax[pretrained]"
ELSEWHERE = {"flips-1": "../benchmarks/flips-1"}
"""Folders of pages, seen from here, that do not have their study's name: flips-1 is a benchmark."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A run folder that `flipjax sweep` fills."""

    config: str
    """The configuration: a name or a file."""
    changes: tuple[str, ...] = ()
    """Options of the command line, without `--config.`."""


@dataclasses.dataclass(frozen=True)
class Study:
    """A page of a folder beside this file, and what makes its csv files and figures."""

    minutes: int
    """Minutes of processor time: measured, or of a pilot where the study has not been made in this form."""
    runs: tuple[str, ...] = ()
    """Names in SWEEPS; files are copied from the first."""
    commands: tuple[str, ...] = ()
    """Scripts that are run afterwards, with {runs}, {photos}, {data} and {checkpoints} for folders."""
    files: tuple[str, ...] = ()
    """Files of the first run that the page keeps as they are."""
    tables: tuple[str, ...] = ()
    """Tables of the first run's report, of which the page keeps the judged quantities."""
    rows: dict[str, str] = dataclasses.field(default_factory=dict)
    """Files for the rows of a run's results.csv that the page needs, by run: the test, by the first selection rule."""
    needs: tuple[str, ...] = ()
    """Options of make.py, and packages that `pip install flipjax` does not bring."""


EVERY_METHOD = (
    "('ce','dice_ce','group_dro','group_dro_reference','balanced','balanced+group_dro','bg_cutmix','bg_swap','ema',"
    "'swa','dfr','jtt')"
)
TEN_SEEDS = "axes.seed=(0,1,2,3,4,5,6,7,8,9)"
FLIPS_TABLE = f"{ELSEWHERE['flips-1']}/table.py --by 'python sweeps/studies/make.py flips-1' U-Net"
SWEEPS = {
    # The default grid has four seeds, so that its two commands take minutes.
    "correlation_grid": Sweep("correlation_grid", ("axes.seed=(0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15)",)),
    "classes": Sweep("classes_grid"),
    "classes_many": Sweep("classes_grid:many"),
    "classes_methods": Sweep(
        "classes_grid",
        (
            "axes.rho=(0.95,)",
            "axes.seed=(0,1,2)",
            "axes.method=('ce','balanced','group_dro','bg_swap','bg_cutmix','jtt','dfr')",
        ),
    ),
    "methods_grid": Sweep("methods_grid"),
    # The optimiser of the papers on GroupDRO and JTT.
    "methods_sgd": Sweep(
        "methods_grid",
        (
            "axes.method=('ce','group_dro')",
            "train.optimizer=sgd",
            "train.momentum=0.9",
            "train.learning_rate=0.1",
        ),
    ),
    "photos_grid": Sweep("photos_grid"),
    "photos_pretrained": Sweep("photos_grid:pretrained"),
    "photos_frozen": Sweep("photos_grid:frozen"),
    "scene_swap": Sweep("correlation_grid", ("axes.rho=(0.5,0.8,0.9,0.95,0.99)", "axes.seed=(10,11,12,13)")),
    "fresh": Sweep("correlation_grid", ("axes.rho=(0.5,0.8,0.9,0.95,0.99,1.)", "axes.seed=(20,21,22,23)")),
    "one_scale": Sweep("correlation_grid", ("axes.rho=(0.5,0.8,0.9,0.95,0.99)", "axes.seed=(40,41,42,43)")),
    "one_scale_methods": Sweep(
        "correlation_grid",
        ("axes.rho=(0.8,0.95)", "axes.seed=(40,41)", "axes.method=('balanced','bg_swap','group_dro','jtt')"),
    ),
    "one_scale_size": Sweep(
        "correlation_grid", ("axes.rho=(0.8,0.9,0.95)", "axes.seed=(40,41)", "axes.split.n_train=(128,256)")
    ),
    "one_scale_width": Sweep(
        "correlation_grid", ("axes.rho=(0.8,0.9,0.95)", "axes.seed=(40,41)", "axes.model.width=(4,16)")
    ),
    "one_scale_photos": Sweep("photos_grid", ("axes.rho=(0.5,0.8,0.95)", "axes.seed=(40,41)")),
    "one_scale_4x4": Sweep(
        "correlation_grid",
        (
            "pool.classes=('mossling','ripplet','duneling','frostlet')",
            "pool.scene_kinds=('land','water','desert','snow')",
            "pool.objects=200",
            "pool.scenes=120",
            "axes.rho=(0.8,0.95)",
            "axes.seed=(40,41)",
        ),
    ),
    "phase_diagram": Sweep(
        "correlation_grid",
        (
            "pool.size=32",
            "train.epochs=24",
            "axes.pool.cue=('scene','texture','marker','tint')",
            "axes.pool.cue_strength=(0.1,0.2,0.4,0.7,1.)",
            "axes.seed=(0,1,2)",
            "intervene.scores=none",
            "population.keep=none",
        ),
    ),
    "dose": Sweep(str(HERE / "dose/config.py")),
    "flips_two": Sweep("flips-1", ("axes.rho=(0.5,0.95)", TEN_SEEDS, f"axes.method={EVERY_METHOD}")),
    "flips_four": Sweep(
        "flips-1:four", ("axes.rho=(0.25,0.95)", TEN_SEEDS, "axes.method=('ce','balanced','group_dro','bg_swap')")
    ),
}
"""The sweep behind each run folder."""
STUDIES = {
    "correlation_grid": Study(
        minutes=17,
        runs=("correlation_grid",),
        files=("results.csv", "report/figures/flip.png", "report/figures/gallery.png"),
    ),
    "classes": Study(
        minutes=29,
        runs=("classes", "classes_many", "classes_methods"),
        files=("report/figures/pull_matrix.png",),
        rows={"classes": "results.csv", "classes_many": "many.csv", "classes_methods": "methods.csv"},
    ),
    "methods_grid": Study(
        minutes=134,
        runs=("methods_grid", "methods_sgd"),
        commands=("methods_grid/choices.py {runs}/methods_grid",),
        files=("report/figures/methods.png",),
        tables=("comparison.csv", "selection.csv"),
        rows={"methods_grid": "results.csv", "methods_sgd": "sgd.csv"},
    ),
    "photos_grid": Study(
        minutes=118,
        runs=("photos_grid", "photos_pretrained", "photos_frozen"),
        files=("results.csv", "report/figures/flip.png"),
        rows={"photos_pretrained": "pretrained.csv", "photos_frozen": "frozen.csv"},
        needs=(PHOTOS, PRETRAINED),
    ),
    "scene_swap": Study(
        minutes=14,
        runs=("scene_swap", "fresh"),
        commands=("scene_swap/study.py {runs}/scene_swap", "scene_swap/study.py {runs}/fresh"),
        files=("results.csv",),
        rows={"fresh": "fresh.csv"},
    ),
    "monitor": Study(
        minutes=2,
        runs=("fresh", "photos_grid"),
        commands=("monitor/study.py {runs}/fresh {runs}/photos_grid", "monitor/clusters.py"),
        needs=(PHOTOS,),
    ),
    "published_models": Study(
        minutes=18,
        commands=(
            "published_models/ask.py {data} {runs}/published_models --photos {photos}",
            "published_models/study.py {data} {runs}/published_models",
        ),
        needs=(PHOTOS, DATA, "torch"),
    ),
    "coverage": Study(
        minutes=60, commands=("coverage/study.py", "coverage/verdicts.py", "coverage/audits.py", "coverage/learnt.py")
    ),
    "one_scale": Study(
        minutes=28,
        runs=tuple(name for name in SWEEPS if name.startswith("one_scale")),
        commands=("one_scale/study.py {runs}",),
        needs=(PHOTOS,),
    ),
    "phase_diagram": Study(
        minutes=75, runs=("phase_diagram",), commands=("phase_diagram/study.py {runs}/phase_diagram",)
    ),
    "dose": Study(minutes=34, runs=("dose",), commands=("dose/study.py {runs}/dose",)),
    "assay": Study(
        minutes=90,
        commands=(
            "assay/study.py answers --photos {photos}",
            "assay/study.py random",
            "assay/study.py collected",
            "assay/looks.py",
        ),
        needs=(PHOTOS, PRETRAINED),
    ),
    "mirror": Study(minutes=10, commands=("mirror/study.py --runs {runs}",)),
    "tuned_methods": Study(minutes=120, commands=("tuned_methods/study.py {runs}/tuned_methods",)),
    "flips-1": Study(
        minutes=131,
        runs=("flips_two", "flips_four"),
        commands=(
            f"{FLIPS_TABLE} {{runs}}/flips_two",
            f"{FLIPS_TABLE} {{runs}}/flips_four",
        ),
    ),
    "paper": Study(
        minutes=60,
        commands=("paper/compare.py {checkpoints} --out {runs}/paper",),
        needs=(CHECKPOINTS, "flipjax[coco]"),
    ),
}
"""The studies by name, which is that of their folder, or in ELSEWHERE."""
