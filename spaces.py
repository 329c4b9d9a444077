"""Spaces: what actions and observations look like. Both sample and check under jit and vmap."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Discrete(NamedTuple):
    """The integers 0 ... n - 1."""

    n: int  # how many there are
    dtype: Any = jnp.int32

    @property
    def shape(self):
        """The shape of one element: ()."""
        return ()

    def sample(self, key):
        """A uniform element: dtype[]. key: a typed or raw PRNG key."""
        return jax.random.randint(key, (), 0, self.n, self.dtype)

    def contains(self, x):
        """Whether x is a scalar of an integer dtype in 0 ... n - 1: bool[]."""
        x = jnp.asarray(x)
        if x.shape != () or not jnp.issubdtype(x.dtype, jnp.integer):
            return jnp.bool_(False)
        return (x >= 0) & (x < self.n)


class Box(NamedTuple):
    """Arrays of one shape and dtype with every element in low ... high, both included."""

    low: float
    high: float
    shape: tuple[int, ...]
    dtype: Any = jnp.float32

    def sample(self, key):
        """A uniform element: dtype[shape]. key: a typed or raw PRNG key."""
        if jnp.issubdtype(self.dtype, jnp.integer):
            wide = jax.random.randint(key, self.shape, int(self.low), int(self.high) + 1, jnp.int32)
            return wide.astype(self.dtype)
        return jax.random.uniform(key, self.shape, self.dtype, self.low, self.high)

    def contains(self, x):
        """Whether x has this very dtype and shape and every element lies in range: bool[]. NaN does not."""
        x = jnp.asarray(x)
        if x.shape != tuple(self.shape) or x.dtype != np.dtype(self.dtype):
            return jnp.bool_(False)
        return jnp.all((x >= self.low) & (x <= self.high))
