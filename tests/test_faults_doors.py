"""A few of the strange inputs of `faults_doors.py`, each of which must end as it says there."""

import faults_doors
import pytest

FEW = {
    "audit: predictions": ("Fortran order", "beyond float32", "truth as shape", "exabytes"),
    "audit: masks": ("palette and transparency", "class of 16 bits", "turned by EXIF", "a WEBP"),
    "audit: groups": ("BOM", "column twice", "field too many", "underscore"),
    "check: composite": ("upper-case suffix", "4 GB", "file name of two lines", "class of blanks", "--seed negative"),
    "check: photo": ("5,000 letters", "mask FIFO"),
    "prepare waterbirds_seg": ("list with a name twice", "list of 4 GB", "scene name of bytes", "tall scene"),
    "prepare coco_cd": ("image_id a list", "a gigapixel", "image in both years", "areas negative"),
}


@pytest.mark.parametrize("door", faults_doors.DOORS)
def test_strange_inputs_end_as_they_must(door):
    names = FEW.get(door)
    right, wrong = faults_doors.trials(door, names=names)
    assert not wrong and right == len(names or faults_doors.DOORS[door][1])
