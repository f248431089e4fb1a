"""The form in which members train: measured by a run's first start, kept in its folder, and said by a dry run."""

import json
import re
import shutil

import faults
import pytest

from flipjax.config.plan import plan
from flipjax.sweep.folder.record import RunRecord
from flipjax.training.population import devices, fastest

pytestmark = pytest.mark.usefixtures("without_page")
# Two members at once on one device.
MEASURED = ("--config.population.map=measured", "--config.population.devices=1")
TIME = r"[\d.e+]+ ms"
TIMES = (
    rf"program 000: time of a step of a member: loop {TIME}, vmap {TIME}, packed {TIME}; taken: (loop|vmap|packed)\n"
)


def recorded_form(folder):
    return json.loads((folder / "config.json").read_text())["map"]


@pytest.fixture(scope="module")
def measured_run():
    """A finished run that measured: its folder, and all that it printed."""
    folder = faults.whole_run(*MEASURED)[0]
    return folder, (folder.parent / "said").read_text()


def test_the_first_start_prints_three_times_in_one_line_and_keeps_the_fastest(measured_run):
    folder, said = measured_run
    line = re.search(TIMES, said)
    assert line, said
    assert recorded_form(folder) == {"000": line[1]}


def test_on_a_cpu_auto_is_the_loop_without_a_measurement():
    folder = faults.whole_run()[0]
    assert recorded_form(folder) == {"000": "loop"}
    assert "time of a step" not in (folder.parent / "said").read_text()


@pytest.fixture
def widths(monkeypatch):
    """The members at once, and whether they are packed, of each layout that is made."""
    made = []
    make_layout = devices.make_layout

    def note(spec, **given):
        layout = make_layout(spec, **given)
        made.append((layout.width, layout.packed))
        return layout

    monkeypatch.setattr(devices, "make_layout", note)
    return made


@pytest.fixture
def begun(measured_run, tmp_path):
    """A run whose first start chose vmap, and which ended before its members were evaluated."""
    folder = tmp_path / "run"
    shutil.copytree(measured_run[0], folder)
    record = json.loads((folder / "config.json").read_text())
    record["map"] = {"000": "vmap"}
    (folder / "config.json").write_text(json.dumps(record))
    for stored in (folder / "cells").rglob("results.npz"):
        stored.unlink()
    return folder


def test_a_continued_run_trains_in_the_form_of_its_first_start(begun, widths):
    code, text = faults.run(begun, *MEASURED)
    assert code == 0 and "time of a step" not in text, text
    assert set(widths) == {(2, False)}
    assert recorded_form(begun) == {"000": "vmap"}


def test_a_shard_trains_in_the_form_of_the_first_start(begun, monkeypatch):
    monkeypatch.setattr(fastest, "fastest_form", None)
    for number in (1, 2):
        code, text = faults.run(begun, *MEASURED, "--shard", f"{number}/2")
        assert code == 0, text
    assert recorded_form(begun) == {"000": "vmap"}


def test_a_shard_that_measured_takes_the_form_of_the_shard_that_was_first(begun, monkeypatch):
    (program,) = plan(faults.read_config()).programs
    record = json.loads((begun / "config.json").read_text())
    del record["map"]
    (begun / "config.json").write_text(json.dumps(record))

    def second(experiment, *given, **named):
        # Another shard ends its measurement first.
        RunRecord(begun / "config.json").settle_form(program, "packed")
        return fastest.Choice("loop", "measured; taken: loop")

    monkeypatch.setattr(fastest, "fastest_form", second)
    code, text = faults.run(begun, *MEASURED)
    assert code == 0 and "program 000: measured; taken: loop" in text, text
    assert "program 000: takes the form that the first shard chose: packed" in text
    assert recorded_form(begun) == {"000": "packed"}


def test_a_dry_run_with_the_time_says_the_same(tmp_path):
    code, text = faults.run(tmp_path / "dry", "--dry_run", "--time", *MEASURED)
    assert code == 0 and re.search(TIMES + r"program 000: \S+ s for an epoch of a member", text), text
    assert not (tmp_path / "dry").exists()
