"""Which form of training members is fastest here: what is timed, what is not, and what is taken."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from networks import Net

import flipjax
from flipjax.config import ModelSpec, PopulationSpec
from flipjax.config.methods import Knobs
from flipjax.training.population import devices, fastest
from flipjax.training.population.memory import USED

pytestmark = pytest.mark.usefixtures("drawn_once")
MEASURED = PopulationSpec(map="measured", devices=1)
TIME = r"[\d.e+]+ ms"
TIMES = rf"time of a step of a member: loop {TIME}, vmap {TIME}, packed {TIME}; taken: "
FULL = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.\nMore.")


@pytest.fixture
def members(make_member):
    return [make_member(seed) for seed in range(2)]


@pytest.fixture
def compiled(monkeypatch):
    """The widths of the forms that are compiled, and whether they are packed."""
    layouts = []
    compile_form = fastest._compile

    def note(current, *shared):
        layouts.append((current.layout.width, current.layout.packed))
        return compile_form(current, *shared)

    monkeypatch.setattr(fastest, "_compile", note)
    return layouts


def test_three_forms_are_timed_and_the_fastest_is_taken(tiny, members, pool, validation, compiled):
    choice = fastest.fastest_form(tiny, members, MEASURED, pool=pool, table=validation)
    assert compiled == [(1, False), (2, False), (2, True)]
    assert re.fullmatch(TIMES + choice.form, choice.line), choice.line
    times = dict(re.findall(r"(loop|vmap|packed) ([\d.e+]+) ms", choice.line))
    assert float(times[choice.form]) == min(map(float, times.values())) > 0


def test_a_network_that_has_no_packed_form_is_timed_in_two(tiny, members, pool, validation, compiled):
    experiment = dataclasses.replace(tiny, model=ModelSpec(build=Net))
    choice = fastest.fastest_form(experiment, members, MEASURED, pool=pool, table=validation)
    assert compiled == [(1, False), (2, False)] and "packed" not in choice.line


def test_forms_that_do_not_fit_into_memory_are_not_compiled(tiny, members, pool, validation, compiled):
    sample = fastest.take_sample(tiny, members, MEASURED, pool=pool, table=validation)
    loop = fastest.try_form(sample, "loop", limit=10**12)
    most = loop.memory.held + 1.5 * loop.memory.working
    spec = dataclasses.replace(MEASURED, memory_gb=most / USED / 1e9)
    compiled.clear()
    choice = fastest.fastest_form(tiny, members, spec, pool=pool, table=validation)
    assert compiled == [(1, False)] and choice.form == "loop"
    reason = r"not compiled \(about [\d.]+ of [\d.]+ MB\)"
    assert re.search(rf": loop {TIME}, vmap {reason}, packed {reason}; taken: loop$", choice.line), choice.line


def test_a_form_that_takes_more_memory_than_was_estimated_is_not_run(tiny, members, pool, validation):
    sample = fastest.take_sample(tiny, members, MEASURED, pool=pool, table=validation)
    trial = fastest.try_form(sample, "vmap", limit=0)
    assert trial.seconds == np.inf and trial.memory.total > 0
    assert re.fullmatch(r"vmap not run \([\d.]+ of 0.0 MB\)", trial.outcome), trial.outcome


def test_a_form_that_fails_is_named_and_another_is_taken(tiny, members, pool, validation, monkeypatch):
    compile_form = fastest._compile

    def fail(current, *shared):
        if current.layout.width > 1:
            raise FULL
        return compile_form(current, *shared)

    monkeypatch.setattr(fastest, "_compile", fail)
    choice = fastest.fastest_form(tiny, members, MEASURED, pool=pool, table=validation)
    assert choice.form == "loop"
    assert f"vmap failed ({str(FULL).splitlines()[0]}), packed failed (" in choice.line


def test_a_run_shorter_than_three_compilations_takes_vmap(tiny, members, pool, validation, compiled):
    # Two epochs of three steps take less time than any compilation.
    experiment = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, epochs=2, batch_size=6))
    choice = fastest.fastest_form(experiment, members, PopulationSpec(devices=1), pool=pool, table=validation)
    assert choice.form == "vmap" and compiled == [(1, False)]
    line = r"a run of about \S+ s, less than 3 compilations take \(\S+ s\); taken: vmap"
    assert re.fullmatch(line, choice.line), choice.line


def test_members_that_train_alone_on_each_device_are_not_timed(tiny, members, pool, validation, compiled):
    choice = fastest.fastest_form(tiny, members[:1], MEASURED, pool=pool, table=validation)
    assert choice.form == "loop" and compiled == []


def test_a_trial_draws_images_unevenly_as_the_run_does(tiny, make_member, pool, validation):
    experiment = dataclasses.replace(tiny, active_knobs=("jtt_epochs", "jtt_weight"))
    members = [make_member(seed, knobs=Knobs(jtt_epochs=2)) for seed in range(2)]
    train = dataclasses.replace(experiment.train, batch_size=4)
    sample = fastest.take_sample(
        dataclasses.replace(experiment, train=train), members, MEASURED, pool=pool, table=validation
    )
    assert sample.steps == 4 and len(sample.rows) == 16 and len(sample.table.rows) == 16
    assert np.isfinite(fastest.try_form(sample, "loop", limit=10**12).seconds)
    # Each of two members runs six epochs and two before them, of three steps.
    assert fastest.steps_of(experiment, members) == 48


@pytest.mark.parametrize(
    ("backend", "asked", "form"),
    [
        ("cpu", "auto", "loop"),
        ("cpu", "measured", None),
        ("gpu", "auto", None),
        ("gpu", "packed", "packed"),
    ],
)
def test_what_is_to_be_measured(monkeypatch, backend, asked, form):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert devices.known_form(PopulationSpec(map=asked), model="unet") == form


TINY = {"pool.size": 16, "pool.objects": 40, "pool.scenes": 24, "model.width": 4, "model.depth": 1}
TINY |= {"split.n_train": 32, "split.n_val": 16, "split.n_test": 16, "train.epochs": 1}


@pytest.fixture(scope="module")
def trained_one_by_one():
    train = flipjax.make_train("smoke", TINY)
    return train.map(train.members(rho=(0.5, 0.9)))


def assert_close(trained, wanted):
    assert trained.status.tolist() == wanted.status.tolist()
    np.testing.assert_allclose(trained.history["train_loss"], wanted.history["train_loss"], rtol=1e-3)


def test_train_map_measures_once_and_trains_in_the_fastest_form(trained_one_by_one, capsys):
    train = flipjax.make_train("smoke", {**TINY, "population.map": "measured"})
    members = train.members(rho=(0.5, 0.9))
    capsys.readouterr()
    trained = train.map(members)
    said = capsys.readouterr().err
    assert re.search(rf"train.map of 2 members: {TIMES}(loop|vmap|packed)\n", said), said
    assert_close(trained, trained_one_by_one)
    train.map(members)
    assert "time of a step" not in capsys.readouterr().err


def test_nothing_is_measured_while_a_program_is_traced():
    train = flipjax.make_train("smoke", {**TINY, "population.map": "measured"})
    forms = []

    def choose(members):
        forms.append(train._form_for(members))
        return members.rows

    jax.eval_shape(choose, train.members(rho=(0.5, 0.9)))
    assert forms == ["vmap"]


def test_train_map_trains_in_the_form_that_is_asked_for(trained_one_by_one):
    train = flipjax.make_train("smoke", {**TINY, "population.map": "packed"})
    assert_close(train.map(train.members(rho=(0.5, 0.9))), trained_one_by_one)
