"""flips-1: the same bytes everywhere, or a sentence that says which part and which versions; its road to a member."""

import dataclasses
import pathlib
import runpy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flipjax
from flipjax.config import ConfigError, PoolSpec
from flipjax.config.plan import plan
from flipjax.data import benchmark
from flipjax.data.member_images import digests_of_member
from flipjax.data.sources import flips
from flipjax.data.sources.flips import blossoms, exact
from flipjax.support.files import DamagedError
from flipjax.training.task import check_pools

ROOT = pathlib.Path(__file__).parents[2]
SPEC = PoolSpec(name="flips-1", classes=("thrift", "aster"), scene_kinds=("meadow", "pond"))


@pytest.fixture(scope="module")
def drawn():
    return flips.load_flips(SPEC)


@pytest.fixture(scope="module")
def member():
    return benchmark("flips-1", rho=0.95, seed=1)


def test_a_members_images_have_the_recorded_digests(member):
    """`benchmark` compares them, too; here all of them are recorded."""
    recorded = flips.recorded_digests()["2 x 2"]
    digests = digests_of_member(member)
    assert len(digests) == 18
    assert {part: recorded[part] for part in digests} == digests


def test_the_pool_has_the_recorded_digests(drawn):
    pool, catalog = drawn
    recorded = flips.recorded_digests()[flips.form_of(catalog)]
    assert {part: recorded[part] for part in flips.digests_of_pool(pool)} == flips.digests_of_pool(pool)


@pytest.mark.parametrize(("form", "count"), [("2 x 2", 4 + 6 * (2 + 35)), ("4 x 4", 4 + 6 * (2 + 35))])
def test_digests_are_recorded_of_seven_levels_and_five_seeds(form, count):
    assert len(flips.recorded_digests()[form]) == count


@pytest.mark.parametrize("name", ["images", "masks", "scenes", "labels"])
def test_another_byte_names_the_part_and_versions(drawn, name):
    pool, catalog = drawn
    array = np.array(getattr(pool, name), order="C")
    array.reshape(-1)[7] ^= 1
    other = dataclasses.replace(pool, **{name: array})
    versions = rf"with Python [\d.]+\S*, numpy {np.__version__}, scipy [\d.]+, jax [\d.]+ on \w+"
    message = rf"^flips-1, 2 x 2, pool: {name}: expected bytes with the digest \w{{16}}, found \w{{16}} {versions};"
    with pytest.raises(DamagedError, match=message):
        flips.check_digests(catalog, flips.digests_of_pool(other))


def test_other_test_images_are_refused(drawn, member):
    images = member.test.images.copy()
    images[0, 0, 0, 0] = np.nextafter(images[0, 0, 0, 0], np.float32(2))
    other = dataclasses.replace(member, test=member.test._replace(images=images))
    with pytest.raises(DamagedError, match="flips-1, 2 x 2, test: images: expected bytes"):
        flips.check_digests(drawn[1], digests_of_member(other))


def test_levels_without_a_digest_are_given_as_well():
    member = benchmark("flips-1", rho=0.875, seed=7)
    assert np.bincount(member.train.groups).tolist() == [224, 32, 32, 224]


def test_digests_do_not_depend_on_the_order_of_bytes():
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert flips.digest_of_array(array.astype(">i4")) == flips.digest_of_array(array)
    assert flips.digest_of_array(array.T) != flips.digest_of_array(array)


def test_four_classes_stand_on_four_grounds():
    spec = dataclasses.replace(SPEC, classes=flips.CLASSES, scene_kinds=flips.SCENES)
    catalog = flips.list_flips(spec)
    assert catalog.groups.common == (0, 5, 10, 15)
    assert np.bincount(catalog.object_class).tolist() == [400] * 4


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"size": 32}, "config.pool.size"),
        ({"usual": ("pond", "meadow")}, "config.pool.usual"),
        ({"classes": ("aster", "thrift")}, "config.pool.classes"),
        ({"scene_kinds": flips.SCENES}, "config.pool.classes"),
        ({"classes": ()}, "config.pool.classes"),
    ],
    ids=["size", "usual", "another order", "other numbers", "no names"],
)
def test_another_pool_is_not_flips_1(changes, field):
    with pytest.raises(ConfigError, match=f"^{field}: expected .* for flips-1"):
        flips.list_flips(dataclasses.replace(SPEC, **changes))


@pytest.mark.parametrize("variant", ["flips-1", "flips-1:four"])
def test_the_configuration_is_one_that_fits(variant):
    check_pools(plan(flipjax.configure(variant)).programs)


def test_a_cut_out_is_premultiplied(drawn):
    pool, _ = drawn
    assert (pool.images <= pool.masks[..., None]).all()
    assert ((pool.masks > 127).sum((1, 2)) > 100).all()


NUMBERS = st.lists(st.floats(0, 1, exclude_max=True), min_size=exact.NUMBERS, max_size=exact.NUMBERS)


@given(numbers=NUMBERS, kind=st.sampled_from(blossoms.KINDS))
@settings(max_examples=20)
def test_any_numbers_make_a_whole_blossom(numbers, kind):
    """And one alone is drawn as among others."""
    numbers = np.array([numbers, [0.5] * exact.NUMBERS])
    both = blossoms.draw_blossoms(kind, numbers, size=16)
    assert (both[..., 3] > 127).any((1, 2)).all()
    np.testing.assert_array_equal(blossoms.draw_blossoms(kind, numbers[:1], size=16)[0], both[0])


@given(st.floats(0, 1), st.sampled_from(range(1, 7)))
def test_chebyshevs_polynomial_is_the_cosine_of_a_multiple(share, degree):
    angle = np.pi * share
    result = exact.chebyshev(degree, np.cos(np.array([angle])))
    np.testing.assert_allclose(result, np.cos(degree * angle), atol=1e-12)


def test_pixels_are_means_of_four_samples():
    samples = np.zeros((1, 4, 4, 1))
    samples[0, :2, :2, 0] = [[1.0, 0.0], [0.5, 0.25]]
    levels = [255, 0, 128, 64]
    assert exact.to_pixels(samples, 2)[0, :, :, 0].tolist() == [[(sum(levels) + 2) // 4, 0], [0, 0]]


def test_random_numbers_are_the_same_on_every_version():
    numbers = exact.draw_numbers(1, "blossoms 0", (2, 2))
    assert numbers.dtype == np.float64 and flips.digest_of_array(numbers) == DRAWN


DRAWN = "057d74b206360666"


def test_the_script_of_digests_finds_all_of_them(monkeypatch):
    """Of one level and seed of two classes."""
    script = runpy.run_path(str(ROOT / "sweeps/benchmarks/flips-1/digests.py"))
    for name, value in {"LEVELS": {"flips-1": (0.5,)}, "SEEDS": (0,)}.items():
        script["make_digests"].__globals__[name] = value
    recorded = flips.recorded_digests()["2 x 2"]
    made = script["make_digests"]()["2 x 2"]
    assert len(made) == 4 + 18 and {part: recorded[part] for part in made} == made
