"""The package as people meet it: lazy submodules, one command for all, configurations by name."""

import importlib
import pkgutil
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import python

import flipjax
from flipjax import command
from flipjax.__main__ import COMMANDS, main
from flipjax.config import KEYS, ConfigError, reading
from flipjax.config.methods import METHODS
from flipjax.config.values import leaves
from flipjax.support import extras

MODULES = ("flipjax", *(module.name for module in pkgutil.walk_packages(flipjax.__path__, "flipjax.") if module.ispkg))
PACKAGES = [name for name in MODULES if hasattr(importlib.import_module(name), "__all__")]
"""Packages with public names; those of the others are in their modules."""


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_lists_its_public_names_and_nothing_else(name):
    package = importlib.import_module(name)
    listed = dir(package)
    assert listed == sorted(package.__all__) and not [
        name for name in listed if name.startswith("_") and name != "__version__"
    ]
    assert [name for name in listed if not hasattr(package, name)] == []
    with pytest.raises(AttributeError, match=r"attribute '?nothing"):
        _ = package.nothing


def test_the_data_package_shows_how_to_bring_images():
    assert {"POOLS", "benchmark", "check", "from_arrays", "from_cut_outs"} <= set(dir(flipjax.data))
    assert not {"Any", "Callable", "functools", "lazy"} & set(dir(flipjax.data))


# What pyproject.toml asks for beside JAX and what JAX brings.
JAX_ALONE = """
import sys, flipjax
print(sys.modules.keys() & {"jax", "numpy"})
absent = "absl flax importlib_resources jinja2 matplotlib ml_collections optax orbax PIL safetensors"
sys.modules.update(dict.fromkeys(f"{absent} tensorflow_datasets".split()))
import numpy as np
from flipjax.__main__ import main
labels, logits = np.array([[[0, 1], [2, 2]]]), 9.0 * np.eye(3)[[[[0, 1], [1, 0]]]]
parts, flips = flipjax.metrics.decompose(logits, labels), flipjax.metrics.FlipMetric()
public = [getattr(flipjax.metrics, name) for name in flipjax.metrics.__all__]
flips.update(logits, labels)
print(*map(float, (parts.correct[0], parts.flip[0], parts.miss[0])), flips.compute()["fg_flip"])
lines = ["sweep --config=smoke", "report x", "evaluate --config=smoke --model=smp_resnet50 --weights=x"]
print([main(line.split()) for line in [*lines, "convert --from=x --out=y", "data check x", AUDIT + "alone"]])
"""


def test_beside_jax_alone_metrics_have_their_numbers_and_commands_say_what_they_lack(tmp_path, without_pictures):
    generator = np.random.default_rng(0)
    np.save(tmp_path / "logits.npy", generator.normal(size=(6, 8, 8, 3)).astype(np.float32))
    np.save(tmp_path / "labels.npy", generator.integers(0, 3, (6, 8, 8)))
    line = f"audit --logits={tmp_path}/logits.npy --labels={tmp_path}/labels.npy --out={tmp_path}/"
    done = python(JAX_ALONE.replace("AUDIT", repr(line)))
    loaded, shares, *_, codes = done.stdout.splitlines()
    assert loaded == "set()" and np.allclose([float(share) for share in shares.split()], 1 / 3)
    assert codes == "[2, 2, 2, 2, 2, 0]" and done.stderr.count("; without, flipjax.metrics") == 5, done.stderr
    assert "no page: it needs jinja2, matplotlib, pillow" in done.stderr
    assert main(f"{line}whole".split()) == 0
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names - {path.name for path in (tmp_path / "alone").iterdir()} == {"index.html", "figures"}
    for name in ("images.csv", "summary.json", "flip_matrix.csv", "decomposition.npz"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_command_says_its_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"flipjax {flipjax.__version__}\n"


@pytest.mark.parametrize("line", [[], ["swep"]], ids=["none", "unknown"])
def test_what_is_no_command_ends_with_2(capsys, line):
    assert main(line) == 2
    assert all(word in capsys.readouterr().err for word in line)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_of_its_own(capsys, name):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: flipjax {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_of_a_command_is_one_line(capsys, name):
    assert main([name, "--no-such-option"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"flipjax {name}: ") and error.count("\n") == 1


def test_configurations_are_those_in_configs():
    files = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
    assert list(reading.shipped_configs().values()) == files
    listed = reading.describe_configs().splitlines()
    assert {path.stem for path in files} < {*listed}


@pytest.mark.parametrize("name", ["smoke", "smoke.py", "configs/smoke.py"])
def test_configurations_are_found_by_name_from_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert reading.find_config(name).name == "smoke.py"


def test_a_file_of_this_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("smoke.py").write_text("mine = 1\n")
    assert reading.find_config("smoke.py") == Path("smoke.py")


@pytest.mark.parametrize(
    ("name", "message"),
    [("corelation_grid", "the nearest is correlation_grid"), ("elsewhere/smoke.py", "elsewhere/smoke")],
    ids=["misspelt", "another folder"],
)
def test_a_configuration_that_is_not_there_is_refused(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        reading.find_config(name)


BROKEN = {
    "no Python": ("def get_config(:\n", "line 1\n.*SyntaxError"),
    "an unknown import": ("import nothing_of_that_name\n", "line 1, in <module>\n.*ModuleNotFoundError"),
    "an error": (
        "def get_config():\n    return 1 / 0\n",
        "line 2, in get_config\n    return 1 / 0\n.*ZeroDivisionError",
    ),
    "a number": ("def get_config():\n    return 1\n", "get_config.*ConfigDict"),
    "no get_config": ("x = 1\n", "AttributeError: .*'get_config'"),
    "an exit": ("import sys\nsys.exit(0)\n", "line 2, in <module>\n.*SystemExit: 0"),
    "an exit in get_config": ("def get_config():\n    exit()\n", "line 2, in get_config\n.*SystemExit"),
    "another end": ("raise GeneratorExit\n", "line 1, in <module>\n.*GeneratorExit"),
}


@pytest.mark.parametrize(("text", "says"), BROKEN.values(), ids=BROKEN)
def test_an_error_of_the_users_file_is_shown_with_its_traceback(tmp_path, capsys, text, says):
    path = tmp_path / "broken.py"
    path.write_text(text)
    assert main(["sweep", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"flipjax sweep: {path}: ") and re.search(says, error, re.S), error
    assert "flipjax/config/reading.py" not in error


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("train.epochs", "3", 3),
        ("train.epochs", "__import__('os')", "__import__('os')"),
        ("pool.root", "~/a b,c", "~/a b,c"),
        ("pool.root", "7", "7"),
        ("pool.root", "'7'", "7"),
        ("pool.classes", "cat,dog", ("cat", "dog")),
        ("pool.classes", "cat", ("cat",)),
        ("axes.rho", "0.9,0.95", (0.9, 0.95)),
        ("axes.rho", "[0.9]", (0.9,)),
        ("axes.rho", "0.9", (0.9,)),
        ("axes.method", "ce,balanced+group_dro", ("ce", "balanced+group_dro")),
        ("axes.model.norm", "batch,none", ("batch", "none")),
    ],
)
def test_a_value_on_the_command_line_is_a_literal_or_bare_strings(key, text, value):
    found = leaves(reading.read_config(None, {key: text}))[key]
    assert found == value and type(found) is type(value)


OVERRIDDEN = {
    "after a flag that may take a value": ["--dry_run", "--config.axes.rho=(0.5, 0.9)"],
    "after its key": ["--dry_run", "--config.axes.rho", "(0.5, 0.9)"],
    "before the flag": ["--config.axes.rho=(0.5, 0.9)", "--dry_run"],
    "with dashes": ["--config.train.learning-rate", "1e-3", "--config.axes.rho=(0.5, 0.9)", "--dry-run"],
}


@pytest.mark.parametrize("line", OVERRIDDEN.values(), ids=OVERRIDDEN)
def test_a_value_with_a_blank_is_that_of_its_key(line):
    parser = command.ConfigParser("sweep", "")
    parser.add_argument("--dry_run", nargs="?", const="shapes", choices=("shapes", "compiled"))
    options = parser.parse(["--config=smoke", *line])
    assert options.config.axes.rho == (0.5, 0.9) and options.dry_run == "shapes"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--config.axes.rho", "--dry_run"], "--config.axes.rho: expected a value; found none"),
        (["--dry_runs"], "--dry_runs: expected an option; the nearest is --dry_run; see flipjax sweep --help"),
        (["smoke"], "arguments: expected options, such as --config correlation_grid; found 'smoke'"),
    ],
    ids=["a key without a value", "an unknown option", "a word"],
)
def test_what_is_no_option_is_refused(line, message):
    parser = command.ConfigParser("sweep", "")
    parser.add_argument("--dry_run", action="store_true")
    with pytest.raises(ConfigError) as refused:
        parser.parse(["--config=smoke", *line])
    assert str(refused.value) == message


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_the_table_of_extras_is_that_of_the_package(extra):
    pyproject = Path(__file__).parents[1] / "pyproject.toml"
    if not pyproject.is_file():
        pytest.skip("installed from a wheel, without pyproject.toml")
    asked = tomllib.loads(pyproject.read_text())["project"]["optional-dependencies"]
    names = {re.split("[><=]", requirement)[0].replace("-skinny", "") for requirement in asked[extra]}
    assert names >= set(extras.EXTRAS[extra])


@pytest.fixture
def listed_keys(capsys):
    """Returns what the command prints of keys."""

    def run(*line):
        with pytest.raises(SystemExit) as ended:
            command.ConfigParser("sweep", "").parse(line)
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


def test_all_keys_are_listed(listed_keys):
    _, printed = listed_keys("--list_keys").split("\n\n", 1)
    assert re.findall(r"^--config\.(\S+?)=", printed, re.M) == list(KEYS)


def test_keys_are_listed_with_the_values_of_the_configuration(listed_keys):
    printed = listed_keys("--config=methods_grid", "--config.axes.train.crop", "(0.0, 0.5)", "--list-keys")
    assert "\n--config.pool.size=40\n" in printed and "\n--config.axes.train.crop=(0.0, 0.5)\n" in printed
    assert all(f"\n  {name} " in printed for name in METHODS)
