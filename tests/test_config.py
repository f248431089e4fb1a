"""What a configuration may say, what is said of one that cannot run, and the files in configs/."""

import importlib.util
import pathlib
import re

import pytest

from flipjax.config import KEYS, MODEL_NAMES, POOL_NAMES, ConfigError, Experiment, check, check_value, default_config
from flipjax.data import POOLS
from flipjax.methods import METHODS, STRENGTHS, Knobs
from flipjax.models import MODELS
from flipjax.plan import experiment, plan

CONFIGS = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))
NAN = float("nan")
BAD = {
    "pool.name": "birds",
    "pool.size": 20,
    "pool.seed": -1,
    "pool.objects": 3,
    "pool.scenes": 2,
    "pool.identity_strength": 1.5,
    "pool.scene_strength": -0.1,
    "pool.features": ("image", "mask"),
    "pool.max_pixels": 0,
    "split.n_train": 5,
    "split.n_val": 0,
    "split.n_test": 6,
    "split.seed": -1,
    "model.name": "vgg",
    "model.width": 0,
    "model.depth": 7,
    "model.norm": "layer",
    "model.dtype": "float16",
    "train.epochs": 0,
    "train.batch_size": 0,
    "train.patience": 0,
    "train.hflip": NAN,
    "train.crop": 1.5,
    "train.jitter": -0.1,
    "train.crop_scale": 0.0,
    "train.jitter_strength": 2.0,
    "train.patience_rule": "best",
    "train.selection": ("val_loss", "val_loss"),
    "population.map": "lop",
    "population.width": -1,
    "population.devices": -1,
    "population.batch_devices": -1,
    "population.memory_gb": NAN,
    "axes.rho": 0.4,
    "axes.seed": -1,
    "axes.method": "sgd",
    "axes.learning_rate": float("inf"),
    "axes.weight_decay": -1.0,
    "axes.warmup": 1.5,
    "axes.schedule": "linear",
    "axes.clip_norm": -1.0,
    "knobs.dice": -1.0,
    "knobs.dro_step": NAN,
    "knobs.cutmix": 1.5,
    "knobs.swap": -0.5,
    "knobs.ema": 1.0,
    "knobs.swa": 1.0,
    "knobs.jtt_epochs": 0,
    "knobs.jtt_weight": 0.5,
    "gallery.images": -1,
    "intervene.scenes": "all",
    "intervene.count": 17,
    "intervene.views": 3,
    "intervene.center": "mean",
    "intervene.scores": "some",
}


def place(config, field, value):
    *sections, name = field.split(".")
    for section in sections:
        config = config[section]
    config[name] = value


def test_default_is_whole_and_is_a_copy():
    config = default_config()
    check(config)
    assert experiment(config, {}) == Experiment()
    config.model.width = 99
    assert default_config().model.width != 99
    assert {name for name, key in KEYS.items() if key.values.text} == BAD.keys()


def test_an_unknown_key_is_refused_with_the_nearest():
    config = default_config()
    for section, name, near in (
        (config, "modle", "model"),
        (config.model, "widht", "width"),
    ):
        with pytest.raises(AttributeError, match=f'Did you mean "{near}"'):
            setattr(section, name, 1)


def test_names_are_those_of_the_registries():
    assert set(POOL_NAMES) == set(POOLS)
    assert set(MODEL_NAMES) == set(MODELS)
    assert {knob for method in METHODS.values() for knob in method.knobs} == set(Knobs._fields)
    assert STRENGTHS.keys() <= set(Knobs._fields)


@pytest.mark.parametrize("field", BAD)
def test_a_bad_value_is_named_with_what_was_expected(field):
    config, axis = default_config(), field.startswith("axes.")
    place(config, field, (BAD[field],) if axis else BAD[field])
    message = f"config.{field}: expected {KEYS[field].values.text}; found {BAD[field]!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.width", 8.5),
        ("model.width", "8"),
        ("train.batch_size", True),
        ("split.n_train", 64.0),
        ("axes.seed", 0.5),
    ],
)
def test_counts_and_seeds_are_integers(field, value):
    with pytest.raises(ConfigError, match=re.escape(f"config.{field}: expected ")):
        check_value(field, value)


@pytest.mark.parametrize("section", ["axes", "grid"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), "a tuple with at least one value; found ()"),
        ("ab", "a tuple with at least one value; found 'ab'"),
        ((8, 4, 8), "distinct values; found (8, 4, 8)"),
    ],
)
def test_an_axis_is_a_tuple_of_distinct_values(section, values, expected):
    config = default_config()
    if section == "grid":
        config.grid.model = {"width": values}
    else:
        with config.axes.ignore_type():
            config.axes.seed = values
    name = "axes.seed" if section == "axes" else "grid.model.width"
    with pytest.raises(ConfigError, match=re.escape(f"config.{name}: expected {expected}")):
        check(config)


def test_a_value_of_another_kind_in_an_axis_is_named():
    config = default_config()
    config.axes.rho = (0.5, [0.9])
    with pytest.raises(ConfigError, match=re.escape("config.axes.rho: expected a number in [0.5, 1]; found")):
        check(config)


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("grid.model.widht", "the nearest is config.grid.model.width"),
        ("grid.axes.rho", "valid are "),
        ("grid.train.crop", ""),
        ("grid.train.selection", ""),
        ("grid.population.width", ""),
        ("axes.lr", "the nearest is config.axes.learning_rate"),
        ("axes.width", "the nearest is "),
    ],
)
def test_an_axis_is_of_a_key_that_its_section_may_vary(field, hint):
    config = default_config()
    section, *names = field.split(".")
    config[section].update({names[0]: (1, 2)} if len(names) == 1 else {names[0]: {names[1]: (1, 2)}})
    with pytest.raises(ConfigError, match=re.escape(f"config.{field}: expected a field of default_config(); {hint}")):
        check(config)


def test_a_value_in_a_grid_is_checked():
    config = default_config()
    config.grid.model = {"width": (8, 0)}
    with pytest.raises(ConfigError, match=re.escape("config.model.width: expected ")):
        check(config)


def test_experiments_take_the_values_of_the_grid():
    config = default_config()
    config.grid.model = {"width": (4, 12), "norm": ("group",)}
    config.grid.pool = {"size": (32, 64)}
    programs = plan(config)
    result = [(program.experiment.model.width, program.experiment.pool.size) for program in programs]
    assert sorted(result) == [(4, 32), (4, 64), (12, 32), (12, 64)]
    assert all(program.experiment.model.norm == "group" for program in programs)
    assert len({hash(program.experiment) for program in programs}) == 4
    assert experiment(config, {"pool.classes": ("cat", "dog")}).pool.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"model.depth": 5, "pool.size": 24},
            "config.pool.size: expected a multiple of 16 for model.depth 5; found 24",
        ),
        ({"split.n_train": 8}, "config.split.n_train: expected at least train.batch_size (16), or 0; found 8"),
    ],
)
def test_fields_that_do_not_go_together(overrides, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        experiment(default_config(), overrides)


def test_a_method_is_its_knobs_and_the_program_holds_what_any_needs():
    config = default_config()
    config.axes.method = ("ce", "balanced+group_dro", "jtt")
    config.knobs.dro_step = 0.1
    (program,) = plan(config)
    result = {setting.axes["method"]: setting.knobs for setting in program.settings}
    assert result["ce"] == Knobs()
    assert result["balanced+group_dro"] == Knobs(balanced=1, dro=1, dro_step=0.1)
    assert program.experiment.active_knobs == ("balanced", "dro", "dro_step", "jtt_epochs", "jtt_weight")
    assert program.epochs == (15, 15, 19, 15, 15, 19)
    for method in ("ce+", "balanced+balanced", "group_dro+group_dro_reference", "ema+swa", "vgg"):
        config.axes.method = (method,)
        with pytest.raises(ConfigError, match=re.escape(f"found {method!r}")):
            check(config)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_files_in_configs_can_run(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert f"flipjax sweep --config {path.stem}" in module.__doc__
    assert plan(module.get_config())


def test_knobs_and_augmentation_are_axes_of_one_program():
    config = default_config()
    config.axes.rho, config.axes.method = (0.9,), ("group_dro", "bg_cutmix")
    config.axes.dro_step, config.axes.crop, config.knobs.cutmix = (0.1, 1.0), (0.0, 0.75), 0.25
    (program,) = plan(config)
    assert program.experiment.train.strongest.crop == 0.75
    knobs = [(s.axes["method"], s.axes["dro_step"], s.knobs.dro_step, s.knobs.cutmix) for s in program.settings[::2]]
    assert knobs == [
        ("group_dro", 0.1, 0.1, 0.0),
        ("group_dro", 1.0, 1.0, 0.0),
        ("bg_cutmix", 0.1, 0.0, 0.25),
        ("bg_cutmix", 1.0, 0.0, 0.25),
    ]
    assert [s.augmentation.crop for s in program.settings] == [0.0, 0.75] * 4
    assert {s.augmentation.hflip for s in program.settings} == {0.5} and "hflip" not in program.settings[0].axes
    config.axes.swap = (0.5, 1.0)
    with pytest.raises(ConfigError, match=r"config\.axes\.swap: expected a method with the knob swap"):
        plan(config)
