"""Spaces: what actions, observations and arguments may be.

``Discrete``, ``Box`` and ``Dict`` describe actions and observations; they sample and check under
jit and vmap. The ``check_*`` functions check an argument and raise an error that names the value,
what is allowed and the nearest valid choice.
"""

import argparse
import difflib
import math
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Discrete(NamedTuple):
    """The integers 0 ... n - 1."""

    n: int  # how many there are
    dtype: Any = jnp.int32  # that of a sample; an integer type that can hold n - 1

    @property
    def shape(self):
        """The shape of one element: ()."""
        return ()

    def sample(self, key):
        """A uniform element: dtype[]. key: a typed or raw PRNG key."""
        return _random_integers(key, (), 0, self.n - 1, np.dtype(self.dtype))

    def contains(self, x):
        """Whether x is a scalar of an integer dtype, not necessarily this one, in 0 ... n - 1:
        bool[]. A bool is no integer."""
        x = _as_array(x)
        if x.shape != () or not jnp.issubdtype(x.dtype, jnp.integer):
            return jnp.bool_(False)
        return _all_between(x, 0, self.n - 1)


class Box(NamedTuple):
    """Arrays of one shape and dtype with every element in low ... high, both included.

    The dtype is bool, an integer or a floating type that jax can hold under its present setting (64
    bits only with jax_enable_x64). For a bool, False counts as 0 and True as 1.
    """

    low: float
    high: float
    shape: tuple[int, ...]
    dtype: Any = jnp.float32

    def sample(self, key):
        """A uniform element: dtype[shape]. key: a typed or raw PRNG key.

        Raises ValueError where no such choice exists: no element of the dtype lies in range, or the
        range of a floating dtype is infinite or wider than the dtype's largest number.
        """
        dtype = np.dtype(self.dtype)
        if _is_integer_or_bool(dtype):
            first, last = _integers_between(self.low, self.high, dtype)
            if first > last:
                raise ValueError(f"there is no {dtype} in {self.low} ... {self.high} to sample")
            return _random_integers(key, self.shape, first, last, dtype)
        if not 0 <= self.high - self.low <= float(jnp.finfo(dtype).max):  # false for NaN too
            raise ValueError(
                f"a {dtype} cannot be sampled in {self.low} ... {self.high}; bounds must be finite, the lower one first"
            )
        return jax.random.uniform(key, self.shape, dtype, self.low, self.high)

    def contains(self, x):
        """Whether x has this very dtype and shape and every element lies in range: bool[]. NaN does
        not.

        Python numbers and lists of them count as the array that jnp.asarray makes of them.
        """
        x = _as_array(x)
        if x.shape != tuple(self.shape) or x.dtype != np.dtype(self.dtype):
            return jnp.bool_(False)
        return _all_between(jnp.asarray(x), self.low, self.high)


class Dict(NamedTuple):
    """Dicts with an element of a space under each name."""

    spaces: dict[str, Any]  # a name to its space

    def sample(self, key):
        """A dict of independent uniform elements. key: a typed or raw PRNG key. Raises what the
        spaces raise."""
        keys = jax.random.split(key, len(self.spaces))
        return {name: space.sample(keys[i]) for i, (name, space) in enumerate(self.spaces.items())}

    def contains(self, x):
        """Whether x is a dict with these very names and each element lies in its space: bool[]."""
        if not isinstance(x, dict) or x.keys() != self.spaces.keys():
            return jnp.bool_(False)
        return jnp.all(jnp.stack([space.contains(x[name]) for name, space in self.spaces.items()]))


def _as_array(x):
    """x itself if it has a dtype, for jnp.asarray would cut a NumPy integer of 64 bits down to 32;
    else what jax makes of it."""
    if hasattr(x, "dtype"):
        return x
    try:
        return jnp.asarray(x)
    except OverflowError:  # a Python integer that jax cannot hold
        return np.asarray(x)


def _all_between(x, low, high):
    """Whether every element of x lies in low ... high, which may lie outside the range of x's
    dtype: bool[]."""
    if _is_integer_or_bool(x.dtype):
        # Compared with a number that its dtype cannot hold, a jax array wraps that number around:
        # uint8(3) >= -1 is false.
        low, high = _integers_between(low, high, x.dtype)
        if low > high:
            return jnp.bool_(x.size == 0)
    return jnp.all((x >= low) & (x <= high))


def _is_integer_or_bool(dtype):
    """Whether a dtype holds only whole numbers: a bool (not a jax array)."""
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)


def _integers_between(low, high, dtype):
    """The least and the greatest number of an integer dtype (bool: 0 and 1) in low ... high; least
    > greatest if there is none."""
    smallest, largest = 0, 1
    if jnp.issubdtype(dtype, jnp.integer):
        smallest, largest = int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max)
    return math.ceil(max(low, smallest)), math.floor(min(high, largest))


def _random_integers(key, shape, first, last, dtype):
    """Uniform over first ... last, both included: dtype[shape]. dtype: a NumPy dtype, an integer or
    bool."""
    wide = dtype if dtype.itemsize >= 4 else np.dtype(np.int32)
    if last - first == 2 ** (8 * wide.itemsize) - 1:
        return jax.random.bits(key, shape, f"uint{8 * wide.itemsize}").astype(dtype)
    # The upper bound of randint is excluded and has to fit the dtype as well, so a range that ends
    # at the limit is moved by 1.
    shift = int(last == jnp.iinfo(wide).max)
    low, high = np.asarray([first - shift, last + 1 - shift], wide)
    return (jax.random.randint(key, shape, low, high, wide) + wide.type(shift)).astype(dtype)


# --- arguments -----------------------------------------------------------------------------------


def check_name(kind: str, name: object, names: Iterable[str], hint: str = "") -> None:
    """Raise ValueError unless name is one of names; the message names the nearest ones.

    kind: what is named, e.g. "environment". hint: appended to the message, e.g. "; or pass a
    function".
    """
    names = tuple(names)
    if name not in names:
        raise ValueError(f"there is no {kind} {name!r}; {nearest_names(name, names)}{hint}")


def nearest_names(word: object, words: Iterable[str]) -> str:
    """The end of a message about an unknown word: the closest known words or, if none is close, all
    of them."""
    by_lower_case = {known.lower(): known for known in words}
    close = difflib.get_close_matches(str(word).lower(), by_lower_case, n=3, cutoff=0.5)
    if close:
        return f"the nearest are: {', '.join(by_lower_case[lower] for lower in close)}"
    return f"there are: {', '.join(by_lower_case.values())}"


def check_range(
    what: str, value: float, low: float, high: float = math.inf, hint: str = ""
) -> None:
    """Raise ValueError unless value lies in [low, high]; NaN does not.

    what: the argument's name. hint: appended to what is allowed, e.g. ", the devices of this
    machine".
    """
    if not low <= value <= high:
        allowed = f"at least {low:.15g}" if high == math.inf else f"in [{low:.15g}, {high:.15g}]"
        nearest = high if value > high else low
        raise ValueError(
            f"{what} must be {allowed}{hint}, but it is {value}; the nearest is {nearest:.15g}"
        )


def check_multiple(what: str, value: int, of: str, factor: int) -> None:
    """Raise ValueError unless value is a multiple of factor. what, of: the names of the two."""
    if value % factor:
        nearest = max(1, round(value / factor)) * factor
        raise ValueError(
            f"{what} must be a multiple of {of}, {factor}, but it is {value}; the nearest is {nearest}"
        )


def check_choice(what: str, value: Any, allowed: Collection[Any]) -> None:
    """Raise ValueError unless value is one of allowed, a range or a tuple of values of its type."""
    if value not in allowed:
        nearest = _closest(value, allowed)
        raise ValueError(
            f"{what} must be {listed(allowed)}, but it is {value!r}; the nearest is {nearest!r}"
        )


def listed(allowed: Collection[Any]) -> str:
    """What is allowed, in words: "one of 128, 256", "in [4, 20]" or "one of 6, 8, ..., 20"."""
    if not isinstance(allowed, range):
        return "one of " + ", ".join(map(repr, allowed))
    if allowed.step == 1:
        return f"in [{allowed[0]}, {allowed[-1]}]"
    return f"one of {allowed[0]}, {allowed[1]}, ..., {allowed[-1]}"


def _closest(value, allowed):
    """The allowed choice nearest to a value of the right type."""
    if isinstance(value, str):
        return (difflib.get_close_matches(value, allowed, n=1, cutoff=0) or list(allowed))[0]
    if isinstance(allowed, range):
        low, high = allowed[0], allowed[-1]
        return (
            low if value < low else high if value > high else allowed[(value - low) // allowed.step]
        )
    return min(allowed, key=lambda choice: abs(choice - value))


def number_argument(
    low: float, high: float = math.inf, type_: Callable[[str], float] = int
) -> Callable[[str], float]:
    """A ``type`` for argparse: a number in [low, high]. type_: int or float."""

    def parse_number(text):
        value = type_(text)
        try:
            check_range("it", value, low, high)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix("it ")) from None
        return value

    parse_number.__name__ = type_.__name__  # argparse names it where text is not a number at all
    return parse_number
