"""The stored results of a run: read for each program, and merged once all of its members are stored."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping

import numpy as np

from flipjax.config.groups import Groups
from flipjax.config.program import Program, gallery_member
from flipjax.page import gallery
from flipjax.results.arrays import MemberResults
from flipjax.results.cells import Cell
from flipjax.results.store import GALLERY, STORED, concatenate
from flipjax.support.files import DamagedError
from flipjax.support.npz import read_arrays, write_arrays
from flipjax.sweep.folder.workdir import Workdir

IMAGES_OF_A_KIND = 6
"""Images of each kind in a gallery, besides counterfactual sets."""


def read_program(workdir: Workdir, program: Program, *, say: Callable[[str], object]) -> dict[str, Cell]:
    """Returns the intact stored results of a program, by member; their images are read, checked and let go.

    A damaged file is reported through `say`, and its members count as missing.
    """
    folder = workdir.results_of(program)
    shown_member = gallery_member(program)
    cells: dict[str, Cell] = {}
    for path in (*folder.glob(STORED), *sorted((folder / "parts").glob("*.npz"))):
        try:
            cell = Cell(read_arrays(path, MemberResults), path)
            if str(cell.results.program) != program.identity or not set(cell.members) <= set(program.names):
                raise DamagedError(f"{path}: expected members of this run's program {program.name}; found others")
            checked = dataclasses.replace(cell, stored_images=cell.read_images())
            if shown_member in cell.members and len(shown_images(checked, shown_member)[0]):
                gallery.load_gallery(folder / GALLERY, program=program.identity)
            # A whole program's file comes before its parts'.
            for member in cell.members:
                cells.setdefault(member, cell)
        except (DamagedError, FileNotFoundError) as error:
            say(f"{error}; its members are done again")
    return cells


def shown_images(cell: Cell, member: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a member's test images for the gallery, and the reasons; see `flipjax.page.gallery.choose_images`."""
    images = cell.images_of(member, "test")
    return gallery.choose_images(
        images.decomposition,
        images.group,
        images.pair,
        riskiest=IMAGES_OF_A_KIND,
        typical=IMAGES_OF_A_KIND,
        paired=gallery.PAIRS,
    )


def gallery_size(groups: Groups) -> int:
    """Returns the largest number of a member's images in the gallery."""
    return 2 * IMAGES_OF_A_KIND + gallery.PAIRS * groups.scenes


def results_of_members(program: Program, cells: Mapping[str, Cell]) -> MemberResults | None:
    """Returns the results of the stored members, from their result files, in the program's order; None without any."""
    parts = [cell.results.take(members) for cell, members in _with_members(cells)]
    if not parts:
        return None
    return concatenate(parts).take([name for name in program.names if name in cells])


def _with_members(cells: Mapping[str, Cell]) -> list[tuple[Cell, list[str]]]:
    """Returns each result file once, with those of its members whose file it is in `cells`."""
    members_of = []
    for cell in {id(cell): cell for cell in cells.values()}.values():
        members_of.append((cell, [name for name in cell.members if cells.get(name) is cell]))
    return members_of


def merge_parts(workdir: Workdir, program: Program, cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """Writes one result file for a program with all members stored, and removes its parts; returns it by member."""
    folder = workdir.results_of(program) / "parts"
    results = results_of_members(program, cells)
    if results is None or len(cells) < len(program.names) or not folder.is_dir():
        return dict(cells)
    path = workdir.stored_results_of(program)
    images = [cell.read_images().take(members) for cell, members in _with_members(cells)]
    write_arrays(path, results, concatenate(images).take(program.names))
    shutil.rmtree(folder, ignore_errors=True)
    return dict.fromkeys(program.names, Cell(results, path))
