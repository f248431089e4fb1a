"""The identity of a configuration: two functions that compute different things have different digests, equal functions
one, in every process; what has no content is refused in a sentence."""

import functools
import importlib
import json
import re
import sys
import tracemalloc

import numpy as np
import pytest
from conftest import compiling, python
from identities import HEAD, LOSS, LOSS_TAIL, SOURCES, write

import flipjax
from flipjax.config import ConfigError, default_config
from flipjax.configurations import configure, read_config
from flipjax.identity import digest_of, first_difference, settings_of, sources_of
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
from flipjax.configurations import read_config
from flipjax.identity import digest_of

for name in identities.SOURCES:
    print(digest_of(read_config(identities.write(pathlib.Path(sys.argv[1]), name, 1))))
"""


def test_a_digest_is_equal_in_every_process(tmp_path, helpers):
    here = [digest_of(read_config(write(tmp_path, name, 1))) for name in SOURCES]
    code = IN_A_PROCESS.replace("sys.argv[1]", repr(str(tmp_path)))
    path = ":".join([*sys.path, str(helpers)])
    for seed in ("1", "2"):
        assert python(code, PYTHONHASHSEED=seed, PYTHONPATH=path).stdout.split() == here, seed


def test_an_edited_file_of_helpers_is_another_run(tmp_path, helpers):
    path = write(tmp_path, "a file of helpers", 1)
    before = digest_of(read_config(path))
    source = (helpers / "own_helpers.py").read_text()
    (helpers / "own_helpers.py").write_text(source.replace("W = 3", "W = 4.5"))
    importlib.invalidate_caches()
    importlib.reload(sys.modules["own_helpers"])
    assert digest_of(read_config(path)) != before


REFUSED = {
    "a lock": ("K = threading.Lock()\n" + LOSS.format("K is None"), "loss.K, an object of _thread.lock"),
    "a lock in a list": ("K = [threading.Lock()]\n" + LOSS.format("K is None"), r"loss.K\[0\], an object of _thread"),
    "a generator": ("K = (x for x in [1])\n" + LOSS.format("K is None"), "loss.K, an object of builtins.generator"),
    "a counter": ("import itertools\nK = itertools.count()\n" + LOSS.format("next(K)"), "loss.K, an object of itert"),
    "an open file": ("K = open(__file__)\nK.close()\n" + LOSS.format("K is None"), "loss.K, an object of _io.TextIO"),
    "globals()": ("G = 1.0\n" + LOSS.format("globals()['G']"), r"loss, globals\(\), which hides the names"),
    "a tracer": (
        "K = []\njax.jit(lambda x: K.append(x))(1.0)\n" + LOSS.format("K"),
        r"loss.K\[0\], an object of jax.*Tracer",
    ),
    "depth": ("K = []\nfor _ in range(3000):\n    K = [K]\n" + LOSS.format("K"), "loss, data nested more deeply"),
}


@pytest.mark.parametrize(("source", "found"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_content_is_refused_in_a_sentence_before_training(tmp_path, source, found):
    path = tmp_path / "own.py"
    path.write_text(HEAD + source + LOSS_TAIL)
    expected = "config.train.loss: expected a function that reaches only what can be hashed, .*; found "
    with pytest.raises(ConfigError, match=f"^{expected}{found}") as refused:
        digest_of(read_config(path))
    assert "\n" not in str(refused.value)


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
    stored = json.loads(json.dumps(settings_of(first)))
    assert digest_of(stored) == digest_of(first) and first_difference(stored, settings_of(first)) is None
    difference = first_difference(stored, settings_of(other))
    assert re.fullmatch(r"config\.train\.loss: 'loss \w{12}' there, 'loss \w{12}' now", difference)


def test_an_array_is_hashed_in_place():
    table = np.zeros(2**21, np.float32)
    tracemalloc.start()
    try:
        in_place = fingerprint.fingerprint(scaled(table), "loss")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < table.nbytes / 8
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
    with compiling(quick=True):
        first = flipjax.run(path, workdir=tmp_path / "run").history["train_loss"].tolist()
        assert flipjax.run(path, workdir=tmp_path / "run").history["train_loss"].tolist() == first
        path.write_text(EDITED.replace("VALUE", "9.0"))
        with pytest.raises(ConfigError, match=r"config\.train\.loss: 'mine \w+' there, 'mine \w+' now\); pass another"):
            flipjax.run(path, workdir=tmp_path / "run")
        edited = flipjax.run(path, workdir=tmp_path / "run", fresh=True).history["train_loss"].tolist()
    assert edited == pytest.approx([9 * loss for loss in first], rel=0.5) and edited != first
