"""Configuration keys, errors for invalid values, and the files in configs/."""

import ast
import dataclasses
import fractions
import functools
import pathlib
import re
import runpy

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import FrozenConfigDict

import flipjax
from flipjax import configure
from flipjax.config import KEYS, MODEL_NAMES, PLACES, POOL_NAMES, ConfigError, Experiment, ModelSpec, default_config
from flipjax.config.checks import check, check_value
from flipjax.config.identity import digest_of
from flipjax.config.keys import keys_in, static, traced
from flipjax.config.methods import KNOB_DEFAULTS, Knobs, methods_of
from flipjax.config.naming import CREATURES, LANDSCAPES
from flipjax.config.plan import experiment_of, plan, with_model
from flipjax.config.ranges import within
from flipjax.config.reading import assign, describe_keys, parse_value
from flipjax.config.values import leaves
from flipjax.data import POOLS
from flipjax.models import MODELS

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("*.py"))
NAN = float("nan")


def section(name, /, **values):
    return {f"{name}.{key}": value for key, value in values.items()}


BAD = {
    **section("pool", name="birds", size=20, seed=-1, objects=3, scenes=2, features=("image", "mask")),
    **section("pool", classes=("cat",), scene_kinds=("land", "land"), usual=("land", ()), cue="colour"),
    **section("pool", cue_strength=1.5),
    **section("pool", scene_column=""),
    **section("split", n_train=-1, n_val=0, n_test=3, seed=-1, folds=1, fold=-1, rare_kept=1.5),
    **section("model", name="vgg", width=0, depth=7, norm="layer", dtype="float16", build="vgg"),
    **section("train", learning_rate=float("inf"), weight_decay=-1.0, warmup=1.5, schedule="linear", clip_norm=-1.0),
    **section("train", epochs=0, batch_size=0, patience=0, optimizer="adamw", momentum=1.5),
    **section("train", hflip=NAN, crop=1.5, jitter=-0.1),
    **section(
        "train", selection=("val_loss", "val_loss"), loss="focal", augment=(), crop_in="pool", mirror_labels="swap"
    ),
    **section(
        "population",
        map="lop",
        width=-1,
        devices=-1,
        batch_devices=-1,
        memory_gb=NAN,
        keep="best",
        convolutions="eigen",
    ),
    **section("axes", rho=0.0, seed=-1, method=""),
    **section("knobs", dice=-1.0, dro_step=NAN, cutmix=1.5, swap=-0.5, ema=1.0, swa=1.0, jtt_epochs=0, jtt_weight=0.5),
    **section("intervene", scenes="all", scores="some"),
}


def test_default_is_whole_and_is_a_copy():
    config = default_config()
    check(config)
    assert experiment_of(config, {}) == Experiment()
    config.model.width = 99
    assert default_config().model.width != 99
    with pytest.raises(AttributeError, match='Did you mean "width"'):
        config.model.widht = 1


def test_every_key_with_a_range_has_a_bad_value_here():
    assert {name for name, key in KEYS.items() if key.values.text} == BAD.keys()


def test_equal_values_of_other_types_have_one_digest():
    assert digest_of({"a": (1, "x")}) == digest_of({"a": [1.0, "x"]}) != digest_of({"a": [1, "y"]})


def test_names_are_those_of_the_registries():
    assert set(POOL_NAMES) == {*POOLS, "arrays"}
    assert set(MODEL_NAMES) == set(MODELS)
    config = default_config()
    config.train.update(loss=print, augment=max)
    methods = methods_of(config)
    fields = {field.name for field in dataclasses.fields(Knobs)}
    assert {knob for method in methods.values() for knob in method} == fields
    assert KNOB_DEFAULTS.keys() <= fields


def test_every_key_is_read():
    modules = pathlib.Path(flipjax.__file__).parent.rglob("*.py")
    nodes = [node for path in modules for node in ast.walk(ast.parse(path.read_text()))]
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert [name for name in KEYS if name.rpartition(".")[2] not in attributes] == []


@pytest.mark.parametrize("field", BAD)
def test_a_bad_value_is_named_with_what_was_expected(field):
    config, axis = default_config(), field.startswith("axes.")
    assign(config, field, (BAD[field],) if axis else BAD[field])
    message = f"config.{field}: expected {KEYS[field].values.text}; found {BAD[field]!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check(config)


TAKEN = {
    "a range": ("axes.seed", range(3), (0, 1, 2)),
    "NumPy's range": ("axes.seed", np.arange(3), (0, 1, 2)),
    "an array": ("axes.rho", np.linspace(0.5, 1, 3), (0.5, 0.75, 1.0)),
    "an array of text": ("axes.method", np.array(["ce", "dfr"]), ("ce", "dfr")),
    "JAX's array": ("axes.train.crop", jnp.array([0.0, 0.5]), (0.0, 0.5)),
    "integers of NumPy": ("axes.model.width", [np.int64(4), np.uint8(8)], (4, 8)),
    "a number of NumPy": ("train.epochs", np.int32(3), 3),
    "an array without axes": ("population.memory_gb", np.array(0.5), 0.5),
    "a fraction": ("train.crop", fractions.Fraction(1, 4), 0.25),
    "one number of an axis": ("axes.seed", 3, (3,)),
    "one name of an axis": ("axes.train.schedule", "cosine", ("cosine",)),
    "one value that is a tuple": ("axes.pool.classes", ["ripplet", "mossling"], (("ripplet", "mossling"),)),
    "settings": ("members", [{"train.crop": np.float32(0.5), "seed": np.int64(1)}], ({"train.crop": 0.5, "seed": 1},)),
    "a list of lists": ("pool.usual", [["land"], ["water"]], (("land",), ("water",))),
}


@pytest.mark.parametrize(("field", "given", "wanted"), TAKEN.values(), ids=TAKEN)
def test_numbers_of_any_library_ranges_and_arrays_become_pythons(field, given, wanted):
    config = configure(default_config(), {field: given})
    value = leaves(config)[field]
    assert value == wanted and repr(value) == repr(wanted)
    in_file = default_config()
    set_in_file(in_file, field, given)
    assert plan(in_file).identity == plan(configure(default_config(), {field: wanted})).identity


@pytest.mark.parametrize("config", [3, None, {"train.epochs": 3}, ("smoke",), ConfigError], ids=repr)
def test_what_is_no_configuration_is_refused(config):
    with pytest.raises(ConfigError, match=r"^config: expected a configuration's name, a file or a ConfigDict; found"):
        configure(config)


def test_changes_that_are_no_mapping_are_refused():
    with pytest.raises(ConfigError, match=r"^changes: expected a mapping from dotted keys to values; found"):
        configure("smoke", [("train.epochs", 3)])


def test_a_frozen_configuration_is_copied():
    frozen = FrozenConfigDict(configure("smoke"))
    changed = configure(frozen, {"train.epochs": 3, "axes.seed": range(2)})
    assert changed.train.epochs == 3 and changed.axes.seed == (0, 1)
    assert plan(frozen).identity == plan(configure("smoke")).identity


@pytest.mark.parametrize("field", KEYS)
def test_values_that_no_set_can_hold_are_refused(field):
    values = (([],), ({},), [[{}]], {"a": {}}, {1}, (["a"], ["b"], ["c"], ["d"]))
    for value in values:
        config = default_config()
        set_in_file(config, field, value)
        with pytest.raises(ConfigError, match=re.escape(f"config.{field}")):
            plan(config)


def test_a_configuration_with_another_network_keeps_its_pool_and_is_a_copy():
    config = configure("smoke", {"pool.size": 48, "model.width": 4, "axes.model.depth": (1, 2)})
    model = ModelSpec(name="smp_mit_b2", weights="weights/mit_b2")
    before = config.to_dict()
    with pytest.raises(ConfigError, match=r"config\.pool\.size: expected a multiple of 32"):
        plan(with_model(config, model))
    (program,) = plan(with_model(configure(config, {"pool.size": 64}), model)).programs
    assert program.experiment.model == model and program.experiment.pool.objects == config.pool.objects
    assert config.to_dict() == before
    own = configure(config, {"model.width": 8, "model.build": print})
    assert with_model(own, model).model.build is None


PRODUCT = {"axes.model.width": (4, 12), "axes.model.norm": ("none",), "axes.pool.size": (32, 64)}
BELONG = {"members": [{"model.width": 4, "pool.size": 32}, {"model.width": 16}]}
STATIC = {
    "a product": (PRODUCT, [(4, 32), (4, 64), (12, 32), (12, 64)]),
    "a list": (BELONG, [(4, 32), (16, 48)]),
    "a list and an axis": (
        {"members": [{"model.width": 4}, {"model.width": 16}], "axes.pool.size": (32, 64)},
        [(4, 32), (4, 64), (16, 32), (16, 64)],
    ),
}


@pytest.mark.parametrize(("changes", "wanted"), STATIC.values(), ids=STATIC)
def test_axes_combine_static_keys_and_members_list_what_belongs_together(changes, wanted):
    programs = plan(configure(default_config(), changes)).programs
    specs = [program.experiment for program in programs]
    # A product of axes is in the order of their names.
    assert [(spec.model.width, spec.pool.size) for spec in specs] == wanted
    axes = [setting.axes for program in programs for setting in program.settings]
    assert [(each["model.width"], each["pool.size"]) for each in axes[:: len(programs[0].names)]] == wanted
    assert all(spec.model.norm == axes[0].get("model.norm", "batch") for spec in specs)
    assert len({hash(spec) for spec in specs}) == len(wanted)
    assert len({name for program in programs for name in program.names}) == len(axes)


def test_members_of_traced_and_static_keys_share_programs():
    members = [{"model.width": 4, "rho": 0.9}, {"train.learning_rate": 1e-3}, {"model.width": 4, "rho": 0.6}]
    programs = plan(configure(default_config(), {"axes.rho": 0.5, "axes.seed": (0, 1), "members": members})).programs
    found = []
    for program in programs:
        axes = [setting.axes for setting in program.settings]
        found.append([(each["model.width"], each["rho"], each["learning_rate"], each["seed"]) for each in axes])
    first = [(4, 0.9, 2e-3, 0), (4, 0.9, 2e-3, 1), (4, 0.6, 2e-3, 0), (4, 0.6, 2e-3, 1)]
    assert found == [first, [(8, 0.5, 1e-3, 0), (8, 0.5, 1e-3, 1)]]
    assert [name for program in programs for name in program.names] == [f"m{number:03d}" for number in range(6)]
    assert {program.rhos for program in programs} == {(0.9, 0.6, 0.5)}


@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
def test_a_key_has_one_home_and_one_axis(key):
    places = [place for place, other in PLACES.items() if other is key]
    assert places == list(dict.fromkeys([key.name, f"axes.{key.axis}"] if key.varies else [key.name]))


def test_columns_are_last_names_of_traced_keys_and_full_names_of_static_ones():
    changes = {"axes.split.seed": (0, 1), "axes.pool.seed": (0, 1), "axes.train.crop": (0.0, 0.5)}
    first = plan(configure("smoke", changes)).programs[0].settings[0]
    assert [name for name in first.axes if name.endswith(("seed", "crop"))] == [
        "pool.seed",
        "split.seed",
        "seed",
        "crop",
    ]


def test_an_empty_value_is_not_taken_for_several_of_an_axis():
    with pytest.raises(ConfigError, match=r"^config\.train\.hflip: expected a number in \[0, 1\]; found \(\)$"):
        check_value("train.hflip", ())


def test_members_that_are_no_product_stand_in_a_list():
    config = default_config()
    config.axes.rho, config.axes.seed = (0.5,), (0, 1)
    config.members = [
        {"rho": 0.9, "train.learning_rate": 1e-3, "train.crop": 0.5},
        {"rho": 0.6, "method": "group_dro", "knobs.dro_step": 0.1},
    ]
    (program,) = plan(config).programs
    axes = [dict(setting.axes) for setting in program.settings]
    found = [(each["rho"], each["seed"], each["learning_rate"], each["dro_step"]) for each in axes]
    assert found == [(0.9, 0, 1e-3, None), (0.9, 1, 1e-3, None), (0.6, 0, 2e-3, 0.1), (0.6, 1, 2e-3, 0.1)]
    assert program.rhos == (0.9, 0.6) and program.experiment.active_numbers == ("crop",)
    assert [setting.knobs.dro for setting in program.settings] == [0, 0, 1, 1]
    assert [[*each] for each in axes] == [[*axes[0]]] * 4


def test_a_dataclass_of_keys_is_a_half_of_the_program_as_a_whole():
    @dataclasses.dataclass(frozen=True)
    class Mixed:
        size: int = static(8, within(1), "size")
        crop: float = traced(0.5, within(0, 1), "crop")

    with pytest.raises(TypeError, match=r"Mixed\.crop is traced, but size static"):
        keys_in("train", Mixed)


LAND, WATER = "land", "water"
LARGE = {"model.name": "smp_mit_b2", "pool.size": 64}
FOUR = {"axes.rho": (0.2,), "pool.classes": CREATURES, "pool.scene_kinds": LANDSCAPES}
UNKNOWN = ("ce+", "balanced+balanced", "ema+swa", "vgg", "group_dro+group_dro_reference")


def adam(learning_rate):
    """An optimiser of the user, with the name of a built-in one."""


# Configurations that cannot run, by the field that the error names.
REFUSED = {
    "grid.model.width": [{"grid": {"model": {"width": (8, 16)}}}],
    "axes.model.width": [
        *({"axes.model.width": values} for values in ((), "ab", (8, 4, 8))),
        {"axes.model.width": (4, 8), "members": [{"model.width": 16}]},
    ],
    "members": [{"members": 0.5}, {"members": [{}]}],
    "members[0].rate": [{"members": [{"rate": 0.5}]}],
    "members[0].train.learning_rate": [{"members": [{"train.learning_rate": 0.0}]}],
    "axes.train.learning_rate": [{"axes.train.learning_rate": values} for values in ((1e-3, print), (), (1e-3, 1e-3))],
    "members[1].rho": [{"axes.rho": 0.5, "members": [{"rho": 0.9}, {"rho": rho}]} for rho in (1.5, 0.4)],
    "axes.rho": [
        {"members": [{"rho": 0.5}]},
        {"axes.rho": 0.4, "members": [{"rho": 0.9}, {"seed": 1}]},
        {"axes.rho": (0.5, [0.9])},
        {"axes.rho": (0.4, 0.9)},
        FOUR,
    ],
    "axes.seed": [{"axes.seed": values} for values in ((0.5,), (), "ab", (8, 4, 8))],
    "axes.lr": [{"axes.lr": (1,)}],
    "pool.cue_strength": [{"pool.name": "folder", "pool.root": "photos", "axes.pool.cue_strength": (1.0, 0.25)}],
    "axes.knobs.swap": [{"axes.knobs.swap": (0.5, 1.0)}],
    "axes.method": [*({"axes.method": (method,)} for method in UNKNOWN), {"axes.method": ("dfr",), **LARGE}],
    "model.weights": [{"model.weights": "folder"}],
    "model.width": [*({"model.width": value} for value in (8.5, "8", 10**20)), {"model.width": 16, **LARGE}],
    "train.batch_size": [{"train.batch_size": True}],
    "train.epochs": [{"train.epochs": ...}],
    "axes.train.optimizer": [{"axes.train.optimizer": ("adam", adam)}],
    "train.momentum": [
        {"train.momentum": 0.9},
        {"axes.train.momentum": (0.0, 0.9)},
        {"axes.train.optimizer": ("sgd", "adam"), "train.momentum": 0.9},
        {"train.optimizer": print, "train.momentum": 0.9},
    ],
    "train.optimizer": [{"train.optimizer": value} for value in (lambda rate: rate, None, ("adam", "sgd"), "Adam")],
    "split.n_train": [{"split.n_train": 8}, {"split.n_train": 513}, {"train.batch_size": 10**6}],
    "split.n_val": [{"split.n_val": 6}, {"split.n_val": 4, "axes.method": ("dfr",)}],
    "knobs.jtt_epochs": [{"axes.train.epochs": (10, 2), "axes.method": ("jtt",)}],
    "pool.size": [{"model.depth": 5, "pool.size": 24}, {"model.name": "smp_mit_b2", "pool.size": 48}],
    "pool.usual": [{"pool.usual": usual} for usual in ((LAND, "sea"), (LAND, LAND), (LAND,), ((LAND, WATER), LAND))],
    "pool.classes": [{"pool.classes": ("ripplet", "newt")}],
    "pool.scene_kinds": [{"pool.scene_kinds": (LAND, "sea")}],
    "pool.cue": [{"pool.name": "folder", "pool.cue": "tint"}],
}


def set_in_file(config, name, value):
    """Sets a key as a configuration file does, which may be one that there is not, or deletes it for `...`."""
    *sections, last = name.split(".")
    section = functools.reduce(lambda tree, part: tree[part], sections, config)
    with section.unlocked(), section.ignore_type():
        section[last] = value
        if value is ...:
            del section[last]


CASES = [(field, changes) for field, refused in REFUSED.items() for changes in refused]


@pytest.mark.parametrize(("field", "changes"), CASES, ids=[field for field, _ in CASES])
def test_a_configuration_that_cannot_run_is_refused_by_name(field, changes):
    config = default_config()
    with pytest.raises(ConfigError) as refused:
        for name, value in changes.items():
            set_in_file(config, name, value)
        plan(config)
    assert refused.value.field == f"config.{field}"


def test_a_level_of_rho_out_of_the_pools_range_is_named_with_the_member_that_sets_it():
    changes = {"axes.rho": 0.5, "members": [{"rho": 0.9}, {"rho": 0.25}]}
    message = "config.members[1].rho: expected a number in [0.5, 1], of which"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)} .*; found 0.25$"):
        plan(configure("smoke", changes))


OPTIMISER = optax.sgd(0.1)
SAID_INSTEAD = {
    "an optimiser that was made": ({"train.optimizer": OPTIMISER}, "found an object of type GradientTransformation"),
    "one as an axis": ({"axes.train.optimizer": OPTIMISER}, "found an object of type GradientTransformation"),
    "one among several": ({"axes.train.optimizer": ("sgd", OPTIMISER)}, "found an object of type GradientTransf"),
    "one as a network": ({"model.build": OPTIMISER}, "found an object of type GradientTransformation"),
    "several": ({"train.optimizer": (max, min)}, "several go to config.axes.train.optimizer; found max, min$"),
    "a function among numbers": ({"axes.train.crop": (0.5, max)}, r"expected a number in \[0, 1\]; found max$"),
}


@pytest.mark.parametrize(("changes", "message"), SAID_INSTEAD.values(), ids=SAID_INSTEAD)
def test_a_value_that_is_no_function_or_several_is_named_without_an_address(changes, message):
    (field,) = changes
    with pytest.raises(ConfigError, match=rf"^config\.{re.escape(field)}: .*{message}") as refused:
        plan(configure("smoke", changes))
    assert "0x" not in str(refused.value)


TYPED = {
    "a word among integers": ("axes.model.width", "4,print", (4, "print")),
    "a word among numbers": ("axes.rho", "0.5,0.9x", (0.5, "0.9x")),
    "names that are numbers": ("axes.pool.classes", "cat,7", ("cat", "7")),
}


@pytest.mark.parametrize(("name", "text", "wanted"), TYPED.values(), ids=TYPED)
def test_values_of_a_command_line_are_read_one_by_one(name, text, wanted):
    assert parse_value(name, text) == wanted


def test_a_program_holds_what_any_method_needs():
    (program,) = plan(configure(default_config(), {"axes.method": ("ce", "balanced+group_dro", "jtt")})).programs
    assert program.experiment.active_knobs == ("balanced", "dro", "dro_step", "jtt_epochs", "jtt_weight")
    assert program.epochs == (15, 15, 19, 15, 15, 19)


def test_a_configuration_that_was_read_takes_further_axes():
    """As one of `default_config` does; other sections are locked in both."""
    config = configure("smoke")
    config.axes.train.crop = (0.0, 1.0)
    assert config.is_locked and config.model.is_locked


def variants_of(path):
    """The variants of a file in configs/ that its docstring names."""
    text = ast.get_docstring(ast.parse(path.read_text()))
    return sorted(set(re.findall(rf"flipjax sweep --config {path.stem}:?(\w*)", text)))


VARIANTS = [(path, variant) for path in CONFIGS for variant in variants_of(path)]


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_a_file_in_configs_says_how_it_is_run(path):
    assert "" in variants_of(path)


@pytest.mark.parametrize(("path", "variant"), VARIANTS, ids=[f"{path.stem}:{variant}" for path, variant in VARIANTS])
def test_a_file_in_configs_can_run(path, variant):
    get_config = runpy.run_path(str(path))["get_config"]
    assert plan(get_config(*filter(None, [variant]))).programs


def test_knobs_and_augmentation_are_axes_of_one_program_without_a_training_twice():
    config = default_config()
    config.axes.update(rho=(0.9,), method=("ce", "group_dro", "bg_cutmix"))
    config.axes.knobs.dro_step, config.axes.train.crop = (0.1, 1.0), (0.0, 0.75)
    config.knobs.cutmix = 0.25
    (program,) = plan(config).programs
    assert program.experiment.active_numbers == ("crop",)
    found = [(s.axes["method"], s.columns["dro_step"], s.knobs, s.augmentation.crop) for s in program.settings]
    knobs = [Knobs(), Knobs(dro=1, dro_step=0.1), Knobs(dro=1, dro_step=1.0), Knobs(cutmix=0.25)]
    methods = [("ce", ""), ("group_dro", 0.1), ("group_dro", 1.0), ("bg_cutmix", "")]
    assert found == [(*each, own, crop) for each, own in zip(methods, knobs, strict=True) for crop in (0.0, 0.75)]
    assert {s.augmentation.hflip for s in program.settings} == {0.5} and "hflip" not in program.settings[0].axes


@pytest.mark.parametrize(
    ("changes", "blended", "is_axis"),
    [
        ({}, False, False),
        ({"axes.pool.cue_strength": (1.0,)}, False, True),
        ({"axes.pool.cue_strength": (1, 0.25)}, True, True),
    ],
    ids=["not asked", "whole", "weaker"],
)
def test_a_program_blends_cues_only_where_a_member_asks_for_it(changes, blended, is_axis):
    (program,) = plan(configure(default_config(), changes)).programs
    assert program.experiment.pool.blended == blended
    assert ("cue_strength" in program.settings[0].axes) == is_axis


@pytest.mark.parametrize("lacking", ["train", "axes"])
def test_keys_of_a_configuration_that_lacks_a_section_are_one_sentence(lacking):
    config = default_config().unlock()
    del config[lacking]
    with pytest.raises(ConfigError, match=rf"^config\.{lacking}\..*: expected a value, as default_config\(\) has one"):
        describe_keys(config)
