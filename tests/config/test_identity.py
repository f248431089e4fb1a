"""The identity of a configuration: two functions that compute different things have different digests, equal functions
one, in every process; what has no content is refused in a sentence."""

import functools
import importlib
import io
import json
import re
import sys
import tracemalloc

import numpy as np
import pytest
from conftest import python
from identities import HEAD, LOSS_TAIL, SOURCES, write

import flipjax
from flipjax.config import ConfigError, default_config
from flipjax.config.identity import digest_of, first_difference, json_of, sources_of
from flipjax.config.reading import configure, read_config
from flipjax.support import fingerprint


@pytest.fixture(autouse=True, scope="module")
def helpers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("helpers")
    (folder / "own_helpers.py").write_text("W = 3\n\ndef f(x):\n    return W * x\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    sys.modules.pop("own_helpers", None)


@pytest.mark.parametrize("name", SOURCES)
def test_what_computes_something_else_is_another_run_and_what_does_not_is_the_same(tmp_path, name):
    first, other, again = (digest_of(read_config(write(tmp_path, name, value))) for value in (0, 1, 0))
    assert first == again != other


IN_A_PROCESS = """
import pathlib, sys
import identities
from flipjax.config.reading import read_config
from flipjax.config.identity import digest_of

for name in identities.SOURCES:
    print(digest_of(read_config(identities.write(pathlib.Path(sys.argv[1]), name, 1))))
"""


def test_a_digest_is_equal_in_every_process(tmp_path, helpers):
    here = [digest_of(read_config(write(tmp_path, name, 1))) for name in SOURCES]
    code = IN_A_PROCESS.replace("sys.argv[1]", repr(str(tmp_path)))
    path = ":".join([*sys.path, str(helpers)])
    # The order of sets here is of a random seed.
    assert python(code, PYTHONHASHSEED="1", PYTHONPATH=path).stdout.split() == here


USED = """
import enum, functools

class Kinds(enum.Flag):
    FINE = 1
    COARSE = 2

class Rule(enum.Enum):
    MEAN = 1
    LIST = [2]
    @functools.cached_property
    def weight(self):
        return 2 * self.value

class Table:
    @functools.cached_property
    def weight(self):
        return 2.0

TABLE = Table()

def loss(logits, labels, groups):
    return Kinds.FINE.value * Rule.MEAN.weight * TABLE.weight * logits.mean((1, 2, 3))
"""
# What Python or an object then remembers.
USES = {
    "a combination": ("Kinds(3)", "FINE|COARSE"),
    "an inverse": ("~Kinds.FINE", "COARSE"),
    "a value": ("Rule([2])", "LIST"),
    "a member's attribute": ("Rule.MEAN.weight", "2"),
    "an object's attribute": ("TABLE.weight", "2.0"),
}


@pytest.mark.parametrize(("use", "result"), USES.values(), ids=USES)
def test_what_was_used_meanwhile_has_the_digest_of_before(use, result):
    names = {"__name__": "__main__"}
    exec(USED, names)
    before = fingerprint.fingerprint(names["loss"], "loss")
    used = eval(use, names)
    assert getattr(used, "name", str(used)) == result
    assert fingerprint.fingerprint(names["loss"], "loss") == before


def test_an_edited_attribute_that_is_computed_once_is_another_run():
    digests = []
    for source in (USED, USED.replace("return 2.0", "return 3.0")):
        names = {"__name__": "__main__"}
        exec(source, names)
        digests.append(fingerprint.fingerprint(names["loss"], "loss"))
    assert digests[0] != digests[1]


def test_an_edited_file_of_helpers_is_another_run(tmp_path, helpers):
    path = write(tmp_path, "a file of helpers", 1)
    before = digest_of(read_config(path))
    source = (helpers / "own_helpers.py").read_text()
    (helpers / "own_helpers.py").write_text(source.replace("W = 3", "W = 4.5"))
    importlib.invalidate_caches()
    importlib.reload(sys.modules["own_helpers"])
    assert digest_of(read_config(path)) != before


MAKE = """
def make(k):
    def loss(logits, labels, groups):
        return k
    return loss
TRACERS = []
jax.jit(TRACERS.append)(1.0)
loss = make({})
"""
SAME = [
    ("import collections", "# A comment.\nimport collections"),
    ("return config", "config.population.memory_gb = 3\n    return config"),
]


@pytest.mark.parametrize("change", SAME, ids=["a comment", "memory"])
def test_a_file_that_computes_the_same_is_the_same_run(tmp_path, change):
    path = write(tmp_path, "a number", 1)
    before = digest_of(read_config(path))
    path.write_text(path.read_text().replace(*change))
    assert digest_of(read_config(path)) == before


REFUSED = {
    "a lock": ("threading.Lock()", "loss.k, an object of _thread.lock"),
    "a lock in a list": ("[threading.Lock()]", r"loss.k\[0\], an object of _thread"),
    "a generator": ("(x for x in [1])", "loss.k, an object of builtins.generator"),
    "an open file": ("open(__file__)", "loss.k, an object of _io.TextIO"),
    "a data frame": ("pd.DataFrame({'n': ['a']})", r"loss.k\._\w+"),
    "a masked array": ("np.ma.masked_array([1.0], [True])", "loss.k, a masked array"),
    "a tracer": ("TRACERS", r"loss.k\[0\], an object of jax.*Tracer"),
}


@pytest.mark.parametrize(("source", "found"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_content_is_refused_in_a_sentence_before_training(tmp_path, source, found):
    path = tmp_path / "own.py"
    path.write_text(HEAD + MAKE.format(source) + LOSS_TAIL)
    (tmp_path / "value.txt").write_text("1")
    expected = "config.train.loss: expected a function that holds values, .* or in a module of yours .*; found "
    config = read_config(path)
    held = config.train.loss.__closure__[0].cell_contents
    with pytest.raises(ConfigError, match=f"^{expected}{found}") as refused:
        digest_of(config)
    assert "\n" not in str(refused.value)
    if isinstance(held, io.IOBase):
        held.close()


NOTEBOOK = """
def helper(x):
    return GAIN * x

class Table:
    def __call__(self, x):
        return helper(x)

TABLE = Table()

def loss(logits, labels, groups):
    return TABLE(logits).mean((1, 2, 3))
"""


@pytest.mark.parametrize("edit", [("GAIN * x", "GAIN + x"), ("GAIN = 1", "GAIN = 2")], ids=["a helper", "a number"])
def test_an_edited_cell_of_a_notebook_is_another_run(edit):
    digests = []
    for source in ("GAIN = 1" + NOTEBOOK, "GAIN = 1" + NOTEBOOK, ("GAIN = 1" + NOTEBOOK).replace(*edit)):
        names = {"__name__": "__main__"}
        exec(source, names)
        digests.append(digest_of(configure("smoke", {"train.loss": names["loss"]})))
    assert digests[0] == digests[1] != digests[2]


def test_functions_of_one_line_are_told_apart():
    first, other = (lambda x, y, g: x.sum((1, 2, 3)), lambda x, y, g: -x.sum((1, 2, 3)))
    assert fingerprint.fingerprint(first, "loss") != fingerprint.fingerprint(other, "loss")


def scaled(table):
    def loss(logits, labels, groups):
        return table.mean() * logits.mean((1, 2, 3))

    return loss


def test_the_text_of_functions_is_kept_for_readers():
    config = default_config()
    config.train.loss = functools.partial(scaled(np.ones(2)), groups=3)
    texts = sources_of(config)
    assert texts.keys() == {"loss"}
    assert "return table.mean()" in texts["loss"] and "loss.partial.groups = 3" in texts["loss"]


def test_a_configuration_read_back_is_the_same_run_and_a_difference_is_named():
    first, other = (configure("smoke", {"train.loss": scaled(np.full(3, value))}) for value in (1.0, 2.0))
    stored = json.loads(json.dumps(json_of(first)))
    assert digest_of(stored) == digest_of(first) and first_difference(stored, json_of(first)) is None
    difference = first_difference(stored, json_of(other))
    assert re.fullmatch(r"config\.train\.loss: 'loss \w{12}' there, 'loss \w{12}' now", difference)


def test_an_array_is_hashed_in_place():
    table = np.zeros(2**21, np.float32)
    tracemalloc.start()
    try:
        in_place = fingerprint.fingerprint(scaled(table), "loss")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < table.nbytes / 4
    # The order in memory is none of its values.
    assert fingerprint.fingerprint(scaled(np.zeros((2, 2**20), np.float32).T), "loss") != in_place
    one, other = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3).T.copy().T
    assert fingerprint.fingerprint(scaled(one), "loss") == fingerprint.fingerprint(scaled(other), "loss")


EDITED = """
import numpy as np, optax
from flipjax import configure

TABLE = {"weights": np.ones(2000)}
TABLE["weights"][1000] = VALUE
KINDS = {"alpha", "beta", "gamma"}

def mine(logits, labels, groups):
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean((1, 2))
    return TABLE["weights"][1000] * len(KINDS) * losses

def get_config():
    sizes = {"pool.size": 16, "pool.objects": 12, "pool.scenes": 6, "model.width": 4, "model.depth": 1}
    sizes.update({"split.n_train": 16, "split.n_val": 8, "split.n_test": 8, "train.epochs": 1, "train.batch_size": 8})
    sizes.update({"axes.rho": (0.5,), "axes.seed": (0,), "axes.method": ("mine",), "train.loss": mine})
    sizes.update({"intervene.scenes": "none", "intervene.scores": "none"})
    return configure("smoke", sizes)
"""


def test_an_edited_loss_trains_anew_and_the_same_one_does_not(tmp_path, without_page):
    path = tmp_path / "own.py"
    path.write_text(EDITED.replace("VALUE", "1.0"))
    first = flipjax.run(path, workdir=tmp_path / "run").history["train_loss"].tolist()
    assert flipjax.run(path, workdir=tmp_path / "run").history["train_loss"].tolist() == first
    path.write_text(EDITED.replace("VALUE", "9.0"))
    with pytest.raises(ConfigError, match=r"config\.train\.loss: 'mine \w+' there, 'mine \w+' now\); pass another"):
        flipjax.run(path, workdir=tmp_path / "run")
    edited = flipjax.run(path, workdir=tmp_path / "run", fresh=True).history["train_loss"].tolist()
    assert edited == pytest.approx([9 * loss for loss in first], rel=0.5) and edited != first
