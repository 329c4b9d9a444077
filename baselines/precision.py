"""Agents compute in 32 bits, whatever ``jax_enable_x64`` says."""

import functools
import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ParamSpec, TypeVar

import jax

__all__ = ["in_32_bits"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def in_32_bits(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Make a function compute as it does without ``jax_enable_x64``, traced or not.

    With 64 bits, random draws and the layers of other libraries would change. The arguments must
    not have 64 bits.
    """

    @functools.wraps(function)
    def compute(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with _without_x64():
            return function(*args, **kwargs)

    return compute


def _without_x64() -> AbstractContextManager[None]:
    """The context in which JAX has 32 bits."""
    home = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
    return home.enable_x64(False)
