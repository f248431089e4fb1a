"""Sweeps from Python: `run` trains a folder's missing members as the command line does; `open_run` reads one."""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flipjax.backend.random import random_bits
from flipjax.config import AXES, Config, ConfigError
from flipjax.config.identity import digest_of
from flipjax.config.plan import of_one_program, plan, plan_images
from flipjax.config.program import Program, Value
from flipjax.config.reading import configure, run_name
from flipjax.config.values import points_of
from flipjax.data.member_images import Benchmark, benchmark
from flipjax.data.sources.arrays import ArrayData, keys_of
from flipjax.metrics import Decomposition
from flipjax.metrics.summary.names import column, key_of, title_of
from flipjax.report.page import build_report
from flipjax.results.cells import Cell
from flipjax.results.record import recorded_config
from flipjax.results.rows import COMPARED
from flipjax.results.run import StoredRun
from flipjax.results.scores import unpack_classes
from flipjax.results.text import varying_axes
from flipjax.results.tracking.follow import CallbackError, Epoch
from flipjax.results.unfinished import STATUS
from flipjax.support.files import DamagedError
from flipjax.support.terminal import Interrupts, listed
from flipjax.sweep.folder.workdir import Workdir
from flipjax.sweep.run import run_sweep
from flipjax.training.assess import MASK_SIDE
from flipjax.training.model import Model, load_model
from flipjax.training.network.own import check_functions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


IMAGE_AXES = ("rho", "seed", "cue_strength", "rare_kept")
"""Axes that choose a member's images, arguments of `flipjax.data.benchmark`.

Example:
    >>> [name for name in IMAGE_AXES if name not in AXES]
    []
"""


@random_bits()
def run(
    config: Config | str | Path,
    changes: Mapping[str, object] | None = None,
    *,
    data: ArrayData | None = None,
    workdir: str | Path | None = None,
    fresh: bool = False,
    fail_fast: bool = False,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> "Run":
    """Trains the missing members of a run folder, writes its tables and page, and returns the run.

    Repeating an interrupted call continues it. A finished run trains nothing. Ctrl-C ends the call after the
    epoch, and once more at once.

    The process is left as it was: JAX's settings and its compilation cache, the environment, logging, filters of
    warnings, Matplotlib's settings, and the random generators of Python and NumPy. Only JAX stays started, with the
    devices that it had. `flipjax.setup()`, called before JAX starts, makes the call as fast as the command: a CPU
    device per core (else one in all), programs that the next process need not compile, and memory that glibc keeps,
    with which an epoch takes 0.94 of the time.

    Args:
        config: as in `flipjax.configure`.
        changes: values of other keys, by dotted name.
        data: images in memory, from `flipjax.data.from_arrays`.
        workdir: the run folder; by default runs/NAME, as on the command line, and runs/NAME-DIGEST if changes or
            data make a different run.
        fresh: whether to start over; an earlier run is renamed.
        fail_fast: whether to stop at the first program that fails.
        on_epoch: called after each epoch, once it is stored, with a `flipjax.results.tracking.follow.Epoch`: the
            `program`, the `number` of the epoch, and `curves`, the rows of history.csv of the members that trained in
            it. An error that it raises ends the run as an interrupt does.

    Raises:
        ConfigError: the configuration, the folder or the data cannot be used.
        KeyboardInterrupt: Ctrl-C was pressed; the same call continues.
        RuntimeError: every program failed.

    Example:
        >>> import tempfile
        >>> from flipjax.data import from_arrays
        >>> from flipjax.results import load
        >>> photos = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
        >>> masks = np.zeros((40, 16, 16), bool)
        >>> masks[:, 4:12, 4:12] = True
        >>> names = {"class_names": ("cat", "dog"), "scene_names": ("indoor", "outdoor")}
        >>> images = from_arrays(photos, masks, [0, 1] * 20, [0] * 20 + [1] * 20, **names)
        >>> sizes = {"split.n_train": 8, "split.n_val": 8, "split.n_test": 8, "model.width": 4, "model.depth": 1}
        >>> brief = {"train.epochs": 1, "train.batch_size": 8, "axes.rho": (0.5, 1.0), "axes.seed": (0,)}
        >>> plain = {"intervene.scenes": "none", "intervene.scores": "none"}  # Scenes are not swapped.
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = run("smoke", {**sizes, **brief, **plain}, data=images, workdir=folder)  # A Run of two members.
        ...     again = open_run(folder)
        ...     test = load(folder).results.query("split == 'test' and group == 'rare'")  # Of a StoredRun.
        ...     counts = again.member("m001").decomposition()  # Of a RunMember.
        ...     text = made.report()  # As build_report: nothing has changed, so that it is read back.
        ...     print(made.members.index.tolist(), again.config.train.epochs)
        ['m000', 'm001'] 1
        >>> test[["member", "rho", "n_images"]].values.tolist(), counts.confusion.shape
        ([['m000', 0.5, 4], ['m001', 1.0, 4]], (8, 3, 3))
    """
    configuration = configure(configure(config, changes), keys_of(data))
    planned = plan(configuration)
    check_functions(planned)
    name = "run"
    if isinstance(config, str | Path):
        name = run_name(config)
    if workdir is None:
        folder = _default_folder(config, name, planned.identity)
    else:
        folder = Path(workdir)
    line = f"flipjax.run({name!r}, {dict(changes or {})!r})"
    try:
        with Interrupts() as signals:
            text, _ = run_sweep(
                planned,
                folder,
                name=name,
                line=line,
                data=data,
                fresh=fresh,
                fail_fast=fail_fast,
                signals=signals,
                on_epoch=on_epoch,
            )
    except CallbackError as wrapped:
        raise wrapped.error from None
    if signals.stop:
        raise KeyboardInterrupt(f"interrupted; the same call continues in {folder}")
    if not (folder / "results.csv").is_file():
        raise RuntimeError(f"{folder}: {text}")
    return Run(folder, configuration, data)


def _default_folder(config: Config | str | Path, name: str, identity: str) -> Path:
    """Returns runs/NAME if the run is that of a named configuration without changes or data, else runs/NAME-DIGEST."""
    if isinstance(config, str | Path) and identity == digest_of(configure(config)):
        return Path("runs") / name
    return Path("runs") / f"{name}-{identity[:8]}"


def open_run(folder: str | Path, *, data: ArrayData | None = None) -> "Run":
    """Reads a run folder. `flipjax.results.load` lists its errors.

    See `flipjax.run` for an example.

    Args:
        folder: the run folder.
        data: the images in memory that the run was made of, which `member(name).images()` then returns.

    Raises:
        ConfigError: `data` are other images than those of the run.
    """
    opened = Run(Path(folder), data=data)
    if data is not None:
        # Images in memory are named by their digest.
        made_of = opened.config_record.get("config", {}).get("pool", {}).get("root")
        given = keys_of(data)["pool.root"]
        if given != made_of:
            raise ConfigError(
                "data", f"the images that {folder} was made of ({made_of or 'a pool'})", f"others ({given})"
            )
    return opened


class Run(StoredRun):
    """A run folder: its tables are data frames, its members have networks and images.

    The tables are those of `flipjax.results.load`: `results`, `history`, `images`, `summary` and `differences`.
    See `flipjax.run` for an example.
    """

    def __init__(self, folder: Path, config: Config | None = None, data: ArrayData | None = None):
        """Reads the results; `config` and `data` come from the call that made the run."""
        super().__init__(folder)
        self.data = data
        self._config = config

    def _repr_html_(self) -> str:
        if not self.cells:
            return self.members.to_html()
        rows = self.results[self.results["split"] == "test"].drop_duplicates(["member", "group"])
        flips = rows.pivot(index="member", columns="group", values="fg_flip")[["all", "common", "rare"]]
        return self.members.join(flips.add_prefix("Flip, ")).to_html(na_rep="", float_format="{:.3g}".format)

    @cached_property
    def config(self) -> Config:
        """The configuration. An opened run has defaults in place of the user's functions."""
        if self._config is not None:
            return self._config
        return recorded_config(self.folder)

    def member(self, name: str) -> "RunMember":
        """Returns a member by its name, such as m003."""
        names = self.members.index.tolist()
        if self.unfinished is not None:
            names += [other for other in self.unfinished.members["member"] if other not in names]
        if name not in names:
            raise ConfigError("member", f"one of {listed(names)}", name)
        return RunMember(self, name)

    def plot(
        self,
        quantity: str | None = None,
        *,
        by: str | None = None,
        group: str = "all",
        repaired: bool = False,
        ax: "Axes | Sequence[Axes] | np.ndarray | None" = None,
    ) -> "Figure":
        """Returns a figure over rho whose panels are as wide as a column of a paper, to save as a PDF.

        Without arguments it shows Flip of the common and the rare groups, a panel a setting of the other axes.
        `run.plot(quantity="fg_flip", by="method", group="rare")` overlays the methods, with intervals over seeds.

        Args:
            quantity: a column of `results`, such as `fg_flip` or `iou_foreground`.
            by: an axis of which each value is a line. With one level of rho the settings stand beside each other.
            group: `all`, `common` or `rare`.
            repaired: whether the figure without arguments also shows Flip after repair, where it was measured.
            ax: Matplotlib's axes to draw on, in their own style and without the note on seeds, in place of a new
                figure: as many as there are panels.

        Raises:
            ConfigError: another number of axes than of panels; another quantity, axis or group; or the run has one
                level of rho and one setting, or no member that has learnt the classes, so that there is nothing to
                draw.
        """
        # Imported here because matplotlib is slow to import.
        from flipjax.page.charts import draw_on, make_figure
        from flipjax.report.over_rho import overlay_chart
        from flipjax.report.page_charts import flip_chart

        tables = self.first_rule
        if quantity is None and by is None and group == "all":
            chart = flip_chart(tables.means, tables.kept, note=tables.note_on_dots(), repaired=repaired)
        else:
            key = self._key_of(quantity or "fg_flip", group)
            axes = []
            if by is not None:
                varying = varying_axes(tables.means)
                if by not in varying:
                    raise ConfigError("by", f"an axis that varies beside rho ({listed(varying)})", by)
                axes.append(by)
            chart = overlay_chart(tables, key, axes, name=column(key), title=title_of(key))
        if tables.kept.empty:
            raise ConfigError("plot", "a run with members that have learnt the classes", "none; see .members")
        if not chart.panels:
            raise ConfigError("plot", "a run of two levels of rho or two settings", "one; its Flip is in .summary")
        if ax is None:
            return make_figure(chart)
        return draw_on(chart, list(np.ravel(np.array(ax, object))))

    def _key_of(self, quantity: str, group: str) -> str:
        """Returns the key of a quantity of a group in `summary`."""
        if group not in COMPARED:
            raise ConfigError("group", f"one of {', '.join(COMPARED)}", group)
        keys = {*self.first_rule.means["quantity"]}
        key = key_of(quantity, group)
        if key not in keys:
            names = [column(name) for name in keys if not name.startswith("group/")]
            near = difflib.get_close_matches(quantity, names, n=3) or sorted(names)
            kind = "a column of results.csv"
            if group != "all":
                kind += f" of the {group} groups"
            raise ConfigError("quantity", f"{kind}, such as {listed(near, most=3)}", quantity)
        return key

    def report(self) -> str:
        """Redraws the page if something changed, and returns its tables as text."""
        return build_report(self)


@dataclasses.dataclass(frozen=True)
class RunMember:
    """A member of a run.

    See `flipjax.run` for an example.
    """

    run: Run
    """The run."""
    name: str
    """Such as m003."""

    @cached_property
    def results(self) -> pd.DataFrame:
        """The member's rows of results.csv; FileNotFoundError if no member has results yet."""
        return self.run.results[self.run.results["member"] == self.name]

    @property
    def axes(self) -> dict[str, Value]:
        """The member's values of traced keys, Python's, as `make_train(config).member(**axes)` takes them.

        Axes that the member's method does not use are left out.
        """
        setting = self.run.setting_of(self.name)
        return {name: value for name, value in setting.items() if name in AXES and value != ""}

    @property
    def static(self) -> dict[str, Any]:
        """The member's values of the static keys that vary, by dotted name."""
        return dict(points_of(self.run.config)[int(self._program)].values)

    @property
    def _planned_program(self) -> Program | None:
        """The program of a member without results yet, if it is known."""
        if self.run.unfinished is None:
            return None
        return self.run.unfinished.program_of(self.name)

    @cached_property
    def _cell_name(self) -> str:
        """The name of the result file that holds the member, such as 000."""
        for name, cell in self.run.cells.items():
            if self.name in cell.members:
                return name
        raise DamagedError(f"{self.run.folder}: expected the results of {self.name}; found none")

    @property
    def _program(self) -> str:
        """The name of the member's program, which is its number in the run; a part of one has a longer name."""
        if self._planned_program is not None:
            return self._planned_program.name
        return self._cell_name.partition("/")[0]

    @property
    def _cell(self) -> Cell:
        return self.run.cells[self._cell_name]

    @property
    def status(self) -> str:
        """Such as `finished` or `diverged`, under the first selection rule; `unfinished` without results yet."""
        if self.run.unfinished is not None and self.name in self.run.unfinished:
            return STATUS
        return str(self.run.members.loc[self.name, "status"])

    def decomposition(self, part: str = "test", rule: str | None = None) -> Decomposition:
        """Returns the stored decomposition of `val` or `test` for a selection rule, the first by default.

        Where the rule kept no epoch, as of a member that diverged at once, it holds no pixels, and its shares are NaN.

        Raises:
            ConfigError: another part or rule.
        """
        return self._cell.decomposition(self.name, part, self._rule(rule))

    def predictions(self, part: str = "test") -> np.ndarray:
        """Returns the stored predicted classes of `val` or `test` images, by the first selection rule.

        Returns:
            uint8 (n, h, w), in the order of `images()`. Images of more than 64 pixels a side are subsampled evenly.

        Raises:
            ConfigError: another part, or the member has none because it kept no epoch.
            ValueError: the run stored none: without `config.intervene.scores`, of one seed, or of too many images.
        """
        images = self._cell.images
        if images.masks is None:
            expected = "a run of two seeds or more with config.intervene.scores, and few enough images"
            raise ValueError(f"predictions: expected {expected}; {self.run.folder} stored none")
        index = self._cell.results.index_of_member[self.name]
        inside = images.inside(part)
        if not self._cell.results.best_epoch[0, index]:
            raise ConfigError("member", "one that kept an epoch, which has predictions", f"{self.name}, {self.status}")
        classes = unpack_classes(images.masks[index, inside])
        size = self.static.get("pool.size", self.run.config.pool.size)
        # Of larger images every step-th pixel was stored, from the middle of the first step on.
        step = math.ceil(size / MASK_SIDE)
        side = len(range(step // 2, size, step))
        # Bits are packed into whole bytes, so that zeros may follow the pixels.
        return classes[:, : side * side].reshape(-1, side, side)

    def images(self) -> Benchmark:
        """Returns the member's training, validation and test images, as `flipjax.data.benchmark` does.

        Raises:
            ConfigError: the run is of images in memory, and `flipjax.open_run` was not given them as `data`.
        """
        if self.run.data is None and self.run.config.pool.name == "arrays":
            folder_alone = (
                f"a folder that does not hold them; flipjax.open_run({str(self.run.folder)!r}, data=...) takes them"
            )
            raise ConfigError("data", "the images in memory that the run was made of", folder_alone)
        static = {name: value for name, value in self.static.items() if name.startswith(("pool.", "split."))}
        config = of_one_program(self.run.config, static)
        # Photos as they are found have no rho, and any value of the configuration gives their images.
        axes: dict[str, Any] = {"rho": plan_images(config).rhos[0]}
        axes.update({name: value for name, value in self.axes.items() if name in IMAGE_AXES})
        return benchmark(config, **axes, data=self.run.data)

    def _rule(self, rule: str | None) -> str:
        """Returns a selection rule of the run, by default the first."""
        rules = self._cell.rules
        if rule is None:
            return rules[0]
        if rule not in rules:
            raise ConfigError("rule", f"one of {', '.join(rules)}", rule)
        return rule

    def model(self, rule: str | None = None, *, build: Callable | None = None) -> Model:
        """Returns the network with the weights kept by a selection rule, the first by default.

        Args:
            rule: of `config.train.selection`; `config.population.keep` sets which have weights.
            build: the function that builds a user's own network, needed for an opened run.

        Of a member without results yet, these are the weights that the rule has kept up to the last checkpoint.

        Raises:
            ConfigError: another rule, or a member without results in a run of the user's own functions.
            FileNotFoundError: the run did not keep these weights, or has no checkpoint of the member.
            WeightsError: the file is damaged, or needs `build`.
        """
        unfinished = self.run.unfinished
        if unfinished is not None and self.name in unfinished:
            program = self._planned_program
            if program is None:
                own = "a run of functions of your own; the same command makes its weights at its end"
                raise ConfigError("member", "one with results, or of a configuration that config.json holds", own)
            # Imported here because Orbax is slow to import.
            from flipjax.sweep.folder.kept import kept_model

            return kept_model(Workdir(self.run.folder), program, self.name, rule=rule, data=self.run.data)
        rule = self._rule(rule)
        file = self.run.folder / "cells" / self._program / "weights" / f"{self.name}.{rule}.safetensors"
        if not file.is_file():
            kept = sorted(other.name.split(".")[1] for other in file.parent.glob(f"{self.name}.*"))
            kept_rules = f"config.population.keep kept {', '.join(kept) or 'none'}"
            raise FileNotFoundError(f"{file}: expected the weights of the rule {rule}; {kept_rules}")
        network = build or self.static.get("model.build", self.run.config.model.build)
        return load_model(file, build=network)
