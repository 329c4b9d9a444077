"""Spaces of actions and observations, and checks of arguments.

``Discrete``, ``Box`` and ``Dict`` sample elements and test membership, also under jit and vmap. The
``check_*`` functions raise an error that names the value, what is allowed and the nearest valid
choice.
"""

import argparse
import difflib
import math
import numbers
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "Box",
    "Dict",
    "Discrete",
    "MAX_SEED",
    "check_choice",
    "check_multiple",
    "check_name",
    "check_range",
    "check_seed",
    "evenly_spaced",
    "listed",
    "nearest_names",
    "number_argument",
]


MAX_SEED: int = 2**31 - 1
"""The largest seed that JAX takes without 64-bit integers."""


class Discrete(NamedTuple):
    """The integers in [0, n - 1]."""

    n: int  # number of elements
    dtype: Any = jnp.int32  # of samples; an integer dtype that can hold n - 1

    @property
    def shape(self) -> tuple[()]:
        """The shape of an element: ()."""
        return ()

    def sample(self, key: jax.Array) -> jax.Array:
        """Sample an element uniformly: dtype[]. key: a typed or raw PRNG key."""
        return _random_integers(key, (), 0, self.n - 1, np.dtype(self.dtype))

    def contains(self, x: Any) -> jax.Array:
        """Whether x is an integer scalar in [0, n - 1]: bool[].

        Any integer dtype is accepted, not only the space's own; bool is not.
        """
        x = _as_array(x)
        if x.shape != () or not jnp.issubdtype(x.dtype, jnp.integer):
            return jnp.bool_(False)
        return _all_between(x, 0, self.n - 1)


class Box(NamedTuple):
    """Arrays of one shape and dtype with every element in [low, high].

    The dtype is bool, an integer or a floating dtype; 64-bit dtypes need jax_enable_x64. For bool,
    False counts as 0 and True as 1.
    """

    low: float
    high: float
    shape: tuple[int, ...]
    dtype: Any = jnp.float32

    def sample(self, key: jax.Array) -> jax.Array:
        """Sample an element uniformly: dtype[shape]. key: a typed or raw PRNG key.

        Raises ValueError if no value of the dtype lies in [low, high], or if the range of a
        floating dtype is infinite or wider than the dtype's largest number.
        """
        dtype = np.dtype(self.dtype)
        if _is_integer_or_bool(dtype):
            first, last = _integers_between(self.low, self.high, dtype)
            if first > last:
                raise ValueError(
                    f"cannot sample {dtype} in [{self.low}, {self.high}]: it holds no {dtype}"
                )
            return _random_integers(key, self.shape, first, last, dtype)
        if not 0 <= self.high - self.low <= float(jnp.finfo(dtype).max):  # false for NaN too
            raise ValueError(
                f"cannot sample {dtype} in [{self.low}, {self.high}]: "
                f"the bounds must be finite, with low <= high and a range that {dtype} can hold"
            )
        return jax.random.uniform(key, self.shape, dtype, self.low, self.high)

    def contains(self, x: Any) -> jax.Array:
        """Whether x has the space's dtype and shape and every element lies in [low, high]: bool[].

        NaN does not. Python numbers and lists are converted with jnp.asarray first.
        """
        x = _as_array(x)
        if x.shape != tuple(self.shape) or x.dtype != np.dtype(self.dtype):
            return jnp.bool_(False)
        return _all_between(jnp.asarray(x), self.low, self.high)


class Dict(NamedTuple):
    """Dicts that hold one element of each named space."""

    spaces: dict[str, Any]  # name -> space

    def sample(self, key: jax.Array) -> dict[str, Any]:
        """Sample every space independently: a dict. key: a typed or raw PRNG key.

        Raises ValueError if one of the spaces cannot be sampled.
        """
        keys = jax.random.split(key, len(self.spaces))
        return {name: space.sample(keys[i]) for i, (name, space) in enumerate(self.spaces.items())}

    def contains(self, x: Any) -> jax.Array:
        """Whether x is a dict with exactly these names, each value in its space: bool[]."""
        if not isinstance(x, dict) or x.keys() != self.spaces.keys():
            return jnp.bool_(False)
        return jnp.all(jnp.stack([space.contains(x[name]) for name, space in self.spaces.items()]))


def _as_array(x: Any) -> Any:
    """Convert x to an array, unless it already has a dtype.

    jnp.asarray would truncate 64-bit NumPy integers to 32 bits.
    """
    if hasattr(x, "dtype"):
        return x
    try:
        return jnp.asarray(x)
    except OverflowError:  # a Python integer beyond jax's dtypes
        return np.asarray(x)


def _all_between(x: Any, low: float, high: float) -> jax.Array:
    """Whether every element of x lies in [low, high]: bool[].

    The bounds may lie outside the range of x's dtype.
    """
    if _is_integer_or_bool(x.dtype):
        # jax wraps a bound that the array's dtype cannot hold: uint8(3) >= -1 is false.
        low, high = _integers_between(low, high, x.dtype)
        if low > high:
            return jnp.bool_(x.size == 0)
    return jnp.all((x >= low) & (x <= high))


def _is_integer_or_bool(dtype: Any) -> bool:
    """Whether a dtype is bool or an integer dtype."""
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)


def _integers_between(low: float, high: float, dtype: Any) -> tuple[int, int]:
    """The least and the greatest number of an integer dtype or bool in [low, high].

    If there is none, the first is greater than the second.
    """
    smallest, largest = 0, 1
    if jnp.issubdtype(dtype, jnp.integer):
        smallest, largest = int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max)
    return math.ceil(max(low, smallest)), math.floor(min(high, largest))


def _random_integers(
    key: jax.Array, shape: tuple[int, ...], first: int, last: int, dtype: np.dtype
) -> jax.Array:
    """Sample integers uniformly from [first, last]: dtype[shape]. dtype: integer or bool."""
    wide = dtype if dtype.itemsize >= 4 else np.dtype(np.int32)
    if last - first == 2 ** (8 * wide.itemsize) - 1:
        return jax.random.bits(key, shape, f"uint{8 * wide.itemsize}").astype(dtype)
    # randint's exclusive upper bound must fit the dtype too, so shift a range that ends at the
    # dtype's maximum down by 1.
    shift = int(last == jnp.iinfo(wide).max)
    low, high = np.asarray([first - shift, last + 1 - shift], wide)
    return (jax.random.randint(key, shape, low, high, wide) + wide.type(shift)).astype(dtype)


# --- arguments -----------------------------------------------------------------------------------


def check_name(kind: str, name: object, names: Iterable[str], hint: str = "") -> None:
    """Raise ValueError unless name is one of names; the message lists the nearest ones.

    kind: what the names stand for, e.g. "environment". hint: appended to the message, e.g.
    "; or pass a function".
    """
    names = tuple(names)
    if name not in names:
        raise ValueError(f"there is no {kind} {name!r}; {nearest_names(name, names)}{hint}")


def nearest_names(word: object, words: Iterable[str]) -> str:
    """The end of an error message about an unknown word: the nearest known ones, or all of them."""
    by_lower_case = {known.lower(): known for known in words}
    close = difflib.get_close_matches(str(word).lower(), by_lower_case, n=3, cutoff=0.5)
    if close:
        return f"the nearest are: {', '.join(by_lower_case[lower] for lower in close)}"
    return f"there are: {', '.join(by_lower_case.values())}"


def check_range(
    what: str, value: float, low: float, high: float = math.inf, hint: str = ""
) -> None:
    """Raise ValueError unless value lies in [low, high]; NaN does not.

    what: the argument's name. hint: appended to the allowed range, e.g. ", the devices of this
    machine".
    """
    if not low <= value <= high:
        allowed = f"at least {low:.15g}" if high == math.inf else f"in [{low:.15g}, {high:.15g}]"
        nearest = high if value > high else low
        raise ValueError(
            f"{what} must be {allowed}{hint}, but it is {value}; the nearest is {nearest:.15g}"
        )


def check_seed(what: str, seed: object) -> None:
    """Raise TypeError unless a seed is an integer, and ValueError unless it is in [0, MAX_SEED].

    what: the argument's name.
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
        raise TypeError(f"{what} must be an int in [0, {MAX_SEED}], but it is {seed!r}")
    check_range(what, int(seed), 0, MAX_SEED)


def check_multiple(what: str, value: int, of: str, factor: int) -> None:
    """Raise ValueError unless value is a multiple of factor. what, of: their arguments' names."""
    if value % factor:
        nearest = max(1, round(value / factor)) * factor
        raise ValueError(
            f"{what} must be a multiple of {of}, {factor}, "
            f"but it is {value}; the nearest is {nearest}"
        )


def check_choice(what: str, value: Any, allowed: Collection[Any]) -> None:
    """Raise ValueError unless value is in allowed: a range, or a collection of values of one type.

    Raises TypeError for a value that cannot be compared with these.
    """
    if value not in allowed:
        message = f"{what} must be {listed(allowed)}, but it is {value!r}"
        type_ = str if isinstance(next(iter(allowed)), str) else numbers.Real
        if not isinstance(value, type_):
            raise TypeError(message)
        raise ValueError(f"{message}; the nearest is {_closest(value, allowed)!r}")


def listed(allowed: Collection[Any]) -> str:
    """Describe allowed values: "one of 128, 256", "in [4, 20]" or "one of 6, 8, ..., 20"."""
    if not isinstance(allowed, range):
        return "one of " + ", ".join(map(repr, allowed))
    if allowed.step == 1:
        return f"in [{allowed[0]}, {allowed[-1]}]"
    return f"one of {allowed[0]}, {allowed[1]}, ..., {allowed[-1]}"


def _closest(value: Any, allowed: Collection[Any]) -> Any:
    """The allowed value nearest to a value of the same type."""
    if isinstance(value, str):
        return (difflib.get_close_matches(value, allowed, n=1, cutoff=0) or list(allowed))[0]
    if isinstance(allowed, range):
        if value < allowed[0]:
            return allowed[0]
        return allowed[min((value - allowed[0]) // allowed.step, len(allowed) - 1)]
    return min(allowed, key=lambda choice: abs(choice - value))


def number_argument(
    low: float, high: float = math.inf, type_: Callable[[str], float] = int
) -> Callable[[str], float]:
    """A ``type`` for argparse that accepts a number in [low, high]. type_: int or float."""

    def parse_number(text: str) -> float:
        value = type_(text)
        try:
            check_range("it", value, low, high)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix("it ")) from None
        return value

    # argparse names this function in its message about text that is not a number.
    parse_number.__name__ = getattr(type_, "__name__", "number")
    return parse_number


def evenly_spaced(length: int, most: int) -> np.ndarray:
    """At most ``most`` evenly spaced indices in [0, length - 1]: int[count].

    The first and the last are included.
    """
    return np.unique(np.linspace(0, length - 1, min(length, most)).round().astype(int))
