"""Configurations by their former names, as config.json of earlier runs has them: read as today's."""

import json
import pathlib

import pytest

from flipjax import configure
from flipjax.config import ConfigError, default_config
from flipjax.config.names.former import is_former, renamed, with_new_names
from flipjax.config.plan import plan
from flipjax.config.values import leaves
from flipjax.sweep.folder.claim import claim
from flipjax.sweep.lock import Lock

RECORDED = pathlib.Path(__file__).parents[1] / "recorded/run/config.json"
AXES = {"rho": [0.5, 0.9], "seed": [0], "method": ["ce", "group_dro"], "learning_rate": [1e-3], "warmup": [0.0]}
BELONG = [{"model.width": 4, "train.epochs": 2}, {"model.width": 8}]
FORMER = {
    "a product": (
        {"axes": {**AXES, "crop": [0.0, 0.5]}, "grid": {"model": {"width": [4, 8]}}, "members": []},
        {"axes.model.width": (4, 8), "axes.train.crop": (0.0, 0.5), "train.learning_rate": 1e-3},
    ),
    "a list": (
        {"axes": {**AXES, "learning_rate": [1e-3, 1e-2]}, "grid": BELONG, "members": []},
        {"members": BELONG, "axes.train.learning_rate": (1e-3, 1e-2)},
    ),
    "a list and members": (
        {"axes": {**AXES, "rho": [0.5]}, "grid": BELONG, "members": [{"rho": 0.6}, {"dro_step": 0.1, "rho": 0.7}]},
        {
            "axes.rho": 0.5,
            "train.learning_rate": 1e-3,
            "members": [
                {**point, **entry} for point in BELONG for entry in ({"rho": 0.6}, {"knobs.dro_step": 0.1, "rho": 0.7})
            ],
        },
    ),
}


@pytest.mark.parametrize(("former", "today"), FORMER.values(), ids=FORMER)
def test_a_former_configuration_makes_the_programs_and_members_of_todays(former, today):
    recorded = {**former, "train": {"epochs": 3}}
    read = plan(configure(default_config(), leaves(with_new_names(recorded))))
    axes = {"axes.rho": (0.5, 0.9), "axes.seed": (0,), "axes.method": ("ce", "group_dro"), "train.epochs": 3}
    wanted = plan(configure(default_config(), {**axes, **today}))
    assert [program.experiment for program in read.programs] == [program.experiment for program in wanted.programs]
    assert [program.settings for program in read.programs] == [program.settings for program in wanted.programs]


def test_a_configuration_of_today_is_read_as_it_is():
    recorded = plan(configure("smoke")).config_json
    assert not is_former(recorded) and with_new_names(recorded) == recorded


def test_the_names_that_a_former_configuration_set_are_named():
    clauses = ["config.axes.learning_rate is config.train.learning_rate", "config.grid is config.members"]
    assert renamed(FORMER["a list and members"][0]) == clauses


def test_a_former_run_is_not_continued(tmp_path):
    (tmp_path / "config.json").write_text(RECORDED.read_text())
    (tmp_path / "results.csv").touch()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert is_former(json.loads(RECORDED.read_text())["config"])
    problem = r"^--workdir: expected a run of this version of flipjax; found one of an earlier"
    with pytest.raises(ConfigError, match=problem):
        claim(Lock(tmp_path), plan(configure("smoke")).config_json, fresh=False)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert after == before
