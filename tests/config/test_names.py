"""Names of a configuration that are no keys: each is answered with the one that was meant."""

import re

import pytest

from flipjax import configure
from flipjax.config import ConfigError, default_config
from flipjax.config.names.synonyms import IN_PYTHON
from flipjax.config.plan import plan

NAMES_INSTEAD = {
    "a section": ({"train": {"epochs": 3}}, "config.train: expected dotted names of its keys, such as 'train."),
    "a section as an axis": (
        {"axes.model": {"width": (4, 8)}},
        "config.axes.model: expected dotted names of its keys",
    ),
    "values of a static key": (
        {"model.width": (8, 16)},
        "config.model.width: .*; several go to config.axes.model.width",
    ),
    "values of a traced key": (
        {"train.crop": (0.0, 0.5)},
        "config.train.crop: .*; several go to config.axes.train.crop",
    ),
    "values out of range": ({"model.width": (8, 0)}, r"config.model.width: expected a number in \[1, 16384\]; found"),
}


@pytest.mark.parametrize(("changes", "message"), NAMES_INSTEAD.values(), ids=NAMES_INSTEAD)
def test_what_was_meant_is_named(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        plan(configure(default_config(), changes))


MEANT = {
    "grid.model.width": "config.axes.model.width, as it is called now",
    "grid.train.crop": "config.axes.train.crop, as it is called now",
    "grid": "config.axes or config.members, as it is called now",
    "grid.x": "a key of the configuration; config.grid is config.axes or config.members now",
    "axes.learning_rate": "config.axes.train.learning_rate or config.train.learning_rate, as it is called now",
    "axes.dro_step": "config.axes.knobs.dro_step or config.knobs.dro_step, as it is called now",
    "axes.population.width": "a key that varies; config.population.width is one value for all members",
    "axes.intervene.scores": "a key that varies; config.intervene.scores is one value for all members",
    "axes.population": "a key that varies; each key of config.population is one value for all members; found a section",
    "axes.population.chunk": "a key of the configuration; valid are population.map, population.width",
    "axes.qqq": "a key of the configuration; valid are axes.rho, axes.seed, axes.method, axes.train.KEY",
    "axes.width": "a key of the configuration; the nearest is config.axes.model.width",
    "axes.model.widht": "a key of the configuration; the nearest is config.axes.model.width",
    "axes.lr": "a key of the configuration; the nearest is config.axes.train.learning_rate",
    "train.early_stopping": "a key of the configuration; the nearest is config.train.patience",
    "train.best_checkpoint": "a key of the configuration; the nearest is config.train.selection",
    "model.image-size": "a key of the configuration; the nearest is config.pool.size",
    "train.fine_tuning": "a key of the configuration; in Python it is flipjax.make_train(start=...)",
    "model.qqq": "a key of the configuration; valid are model.name, model.width",
}


@pytest.mark.parametrize("name", MEANT)
def test_a_name_that_is_no_key_is_answered_with_the_one_that_was_meant(name):
    with pytest.raises(ConfigError, match=f"^{re.escape(f'config.{name}: expected {MEANT[name]}')}"):
        configure("smoke", {name: (1,)})


IN_FILES = {
    "grid.model.width = (4, 8)": "config.axes.model.width, as it is called now",
    "grid.x = 1": "a key of the configuration; config.grid is config.axes or config.members now",
    "grid = [{'model.width': 4}]": "config.axes or config.members, as it is called now",
    "train.lr = float(math.pi)": "a key of the configuration; the nearest is config.train.learning_rate",
    "train.early_stopping = 3": "a key of the configuration; the nearest is config.train.patience",
    "trian.epochs = 3": "a key of the configuration; the nearest is config.train.epochs",
    "axes.population.map = ('loop',)": "a key that varies; config.population.map is one value for all members",
}
"""What a line of a file may set, and what is expected instead."""


def file_with(line, folder):
    """A configuration file with a line."""
    lines = ["import math", "from flipjax.config import default_config", "def get_config():"]
    lines += ["    config = default_config()", f"    {line}", "    return config"]
    (folder / "mine.py").write_text("\n".join(lines))
    return folder / "mine.py"


@pytest.mark.parametrize("line", IN_FILES)
def test_a_name_in_a_file_that_is_no_key_is_answered_with_the_one_that_was_meant(line, tmp_path):
    message = f"config.{line.partition(' ')[0]}: expected {IN_FILES[line]}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        plan(configure(file_with(f"config.{line}", tmp_path)))


@pytest.mark.parametrize("line", ["config.train.update(epoch=1)", "math.seed", "config.train['epoch']"])
def test_another_error_in_a_file_has_its_traceback(line, tmp_path):
    with pytest.raises(ConfigError, match=rf"(?s)mine.py: raised\nTraceback .*{re.escape(line)}"):
        configure(file_with(line, tmp_path))


MEMBERS_MEANT = {
    "learning_rate": "train.learning_rate, as it is called now",
    "lr": "the name of an axis; the nearest is train.learning_rate",
    "early_stopping": "the name of an axis; the nearest is train.patience",
    "population.width": "a key that varies; config.population.width is one value for all members",
    "config.rho": "the name of an axis; the nearest is rho",
    "axes.rho": "the name of an axis; the nearest is rho",
    "axes.train.crop": "the name of an axis; the nearest is train.crop",
    "roh": "the name of an axis; the nearest is rho",
    "population.chunk": "a key that varies; each key of config.population is one value for all members",
    "fine_tune": f"the name of an axis; in Python it is {IN_PYTHON['fine_tune']}",
    "qqq": "the name of an axis; valid are rho, seed, method, train.KEY, knobs.KEY, pool.KEY, split.KEY, model.KEY",
}


@pytest.mark.parametrize("name", MEMBERS_MEANT)
def test_a_name_that_members_cannot_set_is_answered_with_the_one_that_was_meant(name):
    message = f"config.members[0].{name}: expected {MEMBERS_MEANT[name]}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        plan(configure("smoke", {"members": [{name: 1}]}))
