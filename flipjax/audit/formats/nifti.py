"""Reads NIfTI volumes for an audit: shape, voxel size and place from the header, and the values. Needs nibabel."""

import contextlib
import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flipjax.audit.formats.arrays import INTENSITIES, SCORES, Header, class_indices
from flipjax.audit.formats.problems import BrokenFileError

if TYPE_CHECKING:
    import nibabel  # pyright: ignore[reportMissingImports]

MILLIMETRES = {"mm": 1.0, "meter": 1e3, "micron": 1e-3, "unknown": 1.0}
"""Millimetres of a NIfTI header's units of length; most programs leave them unknown and mean millimetres."""


def read_volume_header(path: Path, kind: str) -> Header:
    """Reads shape, spacing and place of a volume; one of any kind has them."""
    from nibabel.nifti1 import Nifti1Header  # pyright: ignore[reportMissingImports]
    from nibabel.openers import ImageOpener  # pyright: ignore[reportMissingImports]

    # The header is read as it is stored, because nibabel's images replace a voxel size of 0 by 1.
    with ImageOpener(str(path)) as file:
        header = Nifti1Header.from_fileobj(file, check=False)
    unit = MILLIMETRES.get(str(header.get_xyzt_units()[0]), 1.0)
    spacing = tuple(abs(float(size)) * unit for size in header["pixdim"][1:4])
    if not all(0 < size < math.inf for size in spacing):
        raise BrokenFileError(f"{path}: expected voxel sizes above 0 mm in its header, found {spacing}")
    with _opened_volume(path) as volume:
        return Header(volume.shape, spacing, np.asarray(volume.affine))


def read_volume(path: Path, kind: str) -> np.ndarray:
    """Reads the values of a volume: intensities and scores as float32, class indices as int32."""
    from nibabel.arrayproxy import ArrayProxy  # pyright: ignore[reportMissingImports]

    with _opened_volume(path) as volume:
        voxels = volume.dataobj
        if kind == INTENSITIES:
            return np.asarray(voxels, np.float32)
        if kind not in SCORES:
            return class_indices(path, np.asarray(voxels))
        assert isinstance(voxels, ArrayProxy)
        if not np.issubdtype(voxels.dtype, np.floating) and voxels.slope == 1:
            raise BrokenFileError(f"{path}: expected {kind} in floating point, found {voxels.dtype}")
        return np.asarray(voxels, np.float32)


@contextlib.contextmanager
def _opened_volume(path: Path) -> "Iterator[nibabel.Nifti1Image]":
    """Opens a volume without reading its values."""
    import nibabel  # pyright: ignore[reportMissingImports]

    if path.suffix.lower() == ".gz" and importlib.util.find_spec("isal") is not None:
        # Inflates in 0.6 of the time that Python's gzip takes.
        from isal import igzip  # pyright: ignore[reportMissingImports]

        with igzip.open(path) as file:
            yield nibabel.Nifti1Image.from_stream(file)
    else:
        yield nibabel.Nifti1Image.from_filename(path)
