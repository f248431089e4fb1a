"""How JAX is started: what the environment asks for is refused in one line, or overridden."""

import argparse
import resource
from concurrent.futures import ThreadPoolExecutor

import jax
import pytest

import flipjax
from flipjax import command
from flipjax.backend.random import random_bits
from flipjax.backend.start import check_settings, start_backend
from flipjax.config import ConfigError, PopulationSpec


def start(_=()):
    return start_backend(PopulationSpec(), 2)


def test_devices_that_do_not_start_are_one_line(monkeypatch, capsys):
    def devices():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert command.main("flipjax sweep")(start)([]) == 2
    error = capsys.readouterr().err
    assert "JAX_PLATFORMS: expected a platform" in error and "'cuda'" in error and error.count("\n") == 1


def test_an_error_of_the_code_itself_stays_one():
    with pytest.raises(ZeroDivisionError):
        command.main("flipjax sweep")(lambda _: 1 // 0)([])


def test_want_of_memory_is_one_line(capsys):
    assert command.main("flipjax sweep")(lambda _: bytes(1 << 60))([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "more memory" in line


def test_a_limit_of_memory_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10**9, resource.RLIM_INFINITY))
    assert command.main("flipjax sweep")(start)([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "ulimit -v: expected" in line


@pytest.mark.parametrize(("name", "value"), [("jax_threefry_partitionable", False), ("jax_default_prng_impl", "rbg")])
def test_draws_are_pinned_for_a_command_and_within_a_call(name, value):
    before = jax.random.bits(jax.random.key(0), (2,)).tolist()
    pinned = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        with random_bits():
            assert jax.random.bits(jax.random.key(0), (2,)).tolist() == before
        assert getattr(jax.config, name) == value
        command.main("flipjax sweep")(start)([])
        assert getattr(jax.config, name) == pinned
        assert jax.random.bits(jax.random.key(0), (2,)).tolist() == before
    finally:
        jax.config.update(name, pinned)


def test_other_threads_keep_their_random_bits():
    before = jax.config.jax_default_prng_impl
    jax.config.update("jax_default_prng_impl", "rbg")
    try:
        with random_bits(), ThreadPoolExecutor(1) as threads:
            assert threads.submit(getattr, jax.config, "jax_default_prng_impl").result() == "rbg"
    finally:
        jax.config.update("jax_default_prng_impl", before)


def test_the_users_compilation_cache_stays(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        command.main("flipjax sweep")(start)([])
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_devices_of_a_setup_are_a_number():
    with pytest.raises(ConfigError, match=r"population.devices: expected .*; found -1"):
        flipjax.setup(devices=-1)


SETTINGS = {
    "JAX_ENABLE_X64": lambda: jax.enable_x64(True),
    "JAX_DEFAULT_MATMUL_PRECISION": lambda: jax.default_matmul_precision("bfloat16"),
    "mesh": lambda: jax.set_mesh(jax.make_mesh((1,), ("members",))),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_would_change_numbers_is_refused_before_any_work(name):
    with SETTINGS[name](), pytest.raises(ConfigError, match=f"^{name}: expected .*; found") as refused:
        start()
    assert "\n" not in str(refused.value)


def test_a_setting_of_which_jax_itself_complains_is_taken():
    with jax.numpy_rank_promotion("warn"), jax.transfer_guard("log"):
        check_settings()


def test_help_ends_the_program_as_before():
    def ask(arguments):
        argparse.ArgumentParser().parse_args(arguments)

    with pytest.raises(SystemExit) as end:
        command.main("flipjax sweep")(ask)(["--help"])
    assert end.value.code == 0
