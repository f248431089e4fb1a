"""A few of the strange inputs of `faults_doors.py`, each of which must end as it says there."""

import faults_doors
import pytest

FEW = {
    "audit: predictions": ("Fortran order", "beyond float32", "truth as shape", "exabytes"),
    "audit: masks": ("palette and transparency", "class of 16 bits", "turned by EXIF", "a WEBP"),
    "audit: groups": ("BOM", "column twice", "field too many", "underscore"),
}


@pytest.mark.parametrize("door", faults_doors.DOORS)
def test_strange_inputs_end_as_they_must(door):
    names = FEW.get(door)
    right, wrong = faults_doors.trials(door, names=names)
    assert not wrong and right == len(names or faults_doors.DOORS[door][1])
