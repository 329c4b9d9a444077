"""Test set-up: what compiles long is compiled once for all tests of a worker, and for the processes
that they start."""

import jax
import pytest

SETTINGS = {"jax_compilation_cache_dir": None, "jax_persistent_cache_min_compile_time_secs": 1.0}


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """Keep compiled programs in a folder while the tests run."""
    settings = {**SETTINGS, "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled"))}
    before = {name: getattr(jax.config, name) for name in settings}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        yield
        for name, value in before.items():
            jax.config.update(name, value)
