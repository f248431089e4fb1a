"""The folder of an assay, opened again."""

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from flipjax.assays.inputs import read_images
from flipjax.assays.journal import stored_state
from flipjax.assays.options import Options
from flipjax.assays.results import RECORD
from flipjax.data.sources.arrays import ArrayData
from flipjax.runs import Run, RunMember, open_run
from flipjax.support.files import naming_malformed, read_json


def open_assay(folder: str | Path, data: ArrayData | None = None) -> "OpenedAssay":
    """Opens the folder of an assay again: its findings, images and networks.

    Args:
        folder: of the page.
        data: the images of an assay of arrays, for `RunMember.images`; those of a folder are read again.

    Raises:
        FileNotFoundError: there is no record of an assay.
        DamagedError: its record cannot be read.

    See `flipjax.assay` for an example.
    """
    path = Path(folder) / RECORD
    with naming_malformed(path, "no record of an assay; the command of the assay makes it anew"):
        record = read_json(path)
        return OpenedAssay(Path(folder), record, record["verdict"]["word"], tuple(record["findings"]), data)


@dataclasses.dataclass(frozen=True, eq=False)
class OpenedAssay:
    """A stored assay.

    See `flipjax.assay` for an example.

    Attributes:
        folder: of the page.
        record: of assay.json: the fields of `Assay`, as JSON's types.
        verdict: `used`, `not used` or `cannot be told`.
        findings: the sentences.
        data: the images as they were given to `open_assay`.
    """

    folder: Path
    record: dict[str, Any]
    verdict: str
    findings: tuple[str, ...]
    data: ArrayData | None = None

    def __repr__(self) -> str:
        """Shows the folder and the verdict."""
        return f"<OpenedAssay {self.folder}: {self.verdict}; .images .members .member(name) .runs>"

    @cached_property
    def images(self) -> pd.DataFrame:
        """The rows of images.parquet: one for each setting, seed and image, with its correct, flip and miss shares."""
        parquet = self.folder / "images.parquet"
        if parquet.is_file():
            return pd.read_parquet(parquet)
        return pd.read_csv(self.folder / "images.csv", keep_default_na=False)

    @cached_property
    def runs(self) -> dict[str, Run]:
        """The finished runs by network, setting and batch of seeds, such as `small/kept_100/wave_2`."""
        runs = {}
        for path in sorted(self.folder.glob("*/*/*/results.csv")):
            runs[path.parent.relative_to(self.folder).as_posix()] = open_run(path.parent)
        return runs

    @cached_property
    def members(self) -> pd.DataFrame:
        """One row for each trained network, by the name that `member` takes: network, setting, fold, seed, status."""
        rows = []
        for run_name, run in self.runs.items():
            network, setting, _ = run_name.split("/")
            for member, row in run.results.drop_duplicates("member").set_index("member").iterrows():
                fold = run.member(str(member)).static["split.fold"]
                rows.append([f"{run_name}/{member}", network, setting, fold, row["seed"], row["status"]])
        columns = ["member", "network", "setting", "fold", "seed", "status"]
        return pd.DataFrame(rows, columns=columns).set_index("member")

    def member(self, name: str) -> RunMember:
        """Returns a trained network by its name in `members`, with `model()`, `decomposition()` and `images()`.

        Raises:
            KeyError: there is no such network.
            ConfigError: the images of the assay's folder cannot be read.
        """
        run_name, _, member = name.rpartition("/")
        if run_name not in self.runs:
            raise KeyError(f"member: expected a name of .members, such as {self.members.index[0]}; found {name!r}")
        run = self.runs[run_name]
        return Run(run.folder, data=self._data_of_size(run.config.pool.size)).member(member)

    def _data_of_size(self, size: int) -> ArrayData | None:
        """Returns the images as networks of a size train on them; None of arrays that are not at hand."""
        source = self.data
        if source is None and Path(self.record["source"]).is_dir():
            source = Path(self.record["source"])
        state = stored_state(self.folder)
        if source is None or state is None:
            return None
        options: dict[str, Any] = {**state.asked, "size": size}
        # A digest, and no option.
        del options["images"]
        for name, value in options.items():
            # JSON's lists are tuples of an option.
            if isinstance(value, list):
                options[name] = tuple(value)
        return read_images(source, Options(**options)).data
