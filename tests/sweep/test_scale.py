"""Members that one device does not hold, and devices that share a batch."""

import re
import shutil

import faults
import jax
import numpy as np
import pandas as pd
import pytest

from flipjax.config import ConfigError, PoolSpec, PopulationSpec
from flipjax.config.plan import plan
from flipjax.config.program import restrict
from flipjax.data import POOLS
from flipjax.support.frames import read_csv
from flipjax.sweep import memory
from flipjax.sweep.programs import layout_of
from flipjax.training.population import devices
from flipjax.training.population import epochs as population_run
from flipjax.training.task import make_task

pytestmark = pytest.mark.usefixtures("without_page")
FULL = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")


def stub_compiler(monkeypatch):
    """A member of width 4 takes 4 MB of states, and work 2 MB; returns the numbers of members that are asked for."""
    asked = []

    def taken(program, spec, task, *, members):
        asked.append(members)
        devices = layout_of(program, spec, members=members).mesh.size
        held = members * 1_000_000 * program.experiment.model.width
        return memory.MemoryUse(members, devices, held=held, working=2_000_000)

    monkeypatch.setattr(memory, "compiled_memory", taken)
    return asked


def test_members_are_halved_until_a_device_holds_them(two_devices, monkeypatch):
    (program,) = plan(faults.read_config({"axes.seed": "(0,1,2,3,4,5)"})).programs
    asked = stub_compiler(monkeypatch)
    assert memory.fit(program, PopulationSpec(memory_gb=0.06), None).members == 12
    small = PopulationSpec(memory_gb=0.02)
    use = memory.fit(program, small, None)
    assert use.members == 3
    note = memory.describe_use(program, small, use)
    assert re.findall(r"[\d.]+", note) == ["000", "3", "12", "12.0", "2.0", "2", "20.0"], note
    assert asked == [12, 12, 6, 3]


@pytest.fixture
def twelve(monkeypatch):
    """A program of twelve members, of which nothing is compiled."""
    stub_compiler(monkeypatch)
    (program,) = plan(faults.read_config({"axes.seed": "(0,1,2,3,4,5)"})).programs
    return program


@pytest.mark.parametrize(("count", "half"), [(12, 6), (3, 2), (2, 1)])
def test_members_without_memory_are_halved(twelve, count, half):
    assert memory.halve(FULL, restrict(twelve, twelve.names[:count]), PopulationSpec(), None) == half


def test_one_member_is_not_halved(twelve):
    with pytest.raises(memory.TooLargeError, match="m000"):
        memory.halve(FULL, restrict(twelve, twelve.names[:1]), PopulationSpec(), None)


def test_another_error_halves_nothing(twelve):
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        memory.halve(jax.errors.JaxRuntimeError("INTERNAL"), twelve, PopulationSpec(), None)


def test_a_dry_run_compiles_for_the_memory_and_times_one_epoch_for_all(two_devices, tmp_path):
    (program,) = plan(faults.read_config({"axes.seed": "(0, 1)"})).programs
    (program, task), spec = make_task(program), PopulationSpec()
    two, four = (memory.compiled_memory(program, spec, task, members=members).total for members in (2, 4))
    assert two < four
    between = f"--config.population.memory_gb={(two + four) / 2 / memory.USED / 1e9}"
    code, text = faults.run(tmp_path / "dry", "--dry_run=compiled", "--time", "--config.axes.seed=(0, 1)", between)
    assert code == 0 and "program 000: 2 of 4 members at a time take " in text, text
    seconds, whole = re.search(r"program 000: (\S+) s for an epoch of a member, 00:(\d\d) for all", text).groups()
    assert 0 < float(seconds) * sum(program.epochs) < int(whole) + 1, text
    assert not (tmp_path / "dry").exists()
    # How much memory there is makes no other run.
    shutil.copytree(faults.whole_run()[0], tmp_path / "run")
    assert faults.run(tmp_path / "run", between)[0] == 0


def test_a_member_that_no_device_holds_is_refused_by_name_and_the_others_are_trained_one_by_one(tmp_path, monkeypatch):
    stub_compiler(monkeypatch)
    options = ("--config.axes.model.width=(4, 8)", "--config.population.memory_gb=0.009")
    said = (
        "no memory for one member alone, m002: it takes 10.0 MB (8.0 MB of states and data, 2.0 MB of work) of the 9.0"
    )
    code, text = faults.run(tmp_path / "dry", "--dry_run=compiled", *options)
    assert code == 2 and text.splitlines()[-1].startswith(f"flipjax sweep: program 001: {said}"), text
    code, text = faults.run(tmp_path / "run", *options)
    assert code == 1 and f"program 001 failed: {said}" in text and "program 000: 1 of 2 members at a time" in text, text
    rows, whole = (read_csv(folder / "results.csv") for folder in (tmp_path / "run", faults.whole_run()[0]))
    assert set(rows[rows.status == "failed"].member) == {"m002", "m003"}
    trained = rows[rows.status != "failed"].drop(columns="model.width").reset_index(drop=True)
    pd.testing.assert_frame_equal(trained, whole, check_dtype=False)


def test_an_error_for_want_of_memory_halves_the_members(tmp_path, monkeypatch):
    faults.whole_run()  # Made before epochs fail.
    function, calls = population_run.run_next_epoch, []

    def full(current, *given):
        calls.append(len(current.slots))
        if len(current.slots) > 1 and calls.count(2) == 2:
            raise FULL
        return function(current, *given)

    monkeypatch.setattr(population_run, "run_next_epoch", full)
    code, text = faults.run(tmp_path / "run")
    assert code == 0, text
    assert "no memory for 2 members at once; on with 1" in text
    assert faults.same(tmp_path / "run", "results.csv", "history.csv")


def test_devices_that_share_batches_agree_with_one(two_devices, tmp_path):
    # Less to compile.
    options = ["population.batch_devices=2", "intervene.scenes=none", "intervene.scores=none"]
    whole = faults.whole_run()[0]
    assert faults.run(tmp_path / "run", *(f"--config.{option}" for option in options))[0] == 0
    compared = ("results.csv", ["n_images", "epochs", "status"], 2e-3), ("history.csv", ["epoch"], 0)
    for name, exact, atol in compared:
        ours, theirs = (read_csv(folder / name) for folder in (tmp_path / "run", whole))
        pd.testing.assert_frame_equal(ours[exact], theirs[exact])
        close = ours.columns.intersection(["fg_flip", "fg_correct", "train_loss", "valid_loss"])
        np.testing.assert_allclose(ours[close], theirs[close], rtol=1e-4, atol=atol)


def test_a_pool_that_memory_has_no_room_for_is_refused_before_it_is_made():
    with pytest.raises(ConfigError, match=r"config\.pool\.size: the pool at size 16384 has"):
        POOLS["synthetic"](PoolSpec(size=2**14, objects=10**3))


def test_devices_that_cannot_share_a_batch_evenly_are_refused():
    with pytest.raises(ConfigError, match=r"batch_devices: expected a divisor of train\.batch_size \(8\)"):
        devices.make_layout(PopulationSpec(batch_devices=3), members=2, batch_size=8)
