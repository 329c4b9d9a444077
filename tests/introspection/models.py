"""Agents with saliency in closed form, for the tests."""

import equinox as eqx
import jax
import jax.numpy as jnp

from popgym_arcade.baselines.model.builder import scaled


class LinearRecurrence(eqx.Module):
    """h_t = decay h_{t-1} + <weights, o_t>, with action values out[a] h_t.

    The first term is dropped where an episode starts. So the gradient of the value of a at decision
    n with respect to frame k is out[a] decay^(n - k) weights, unless an episode starts in between.
    With ``policy`` it returns (out h_t as logits, h_t as values).
    """

    decay: float
    weights: jax.Array  # float32[S, S, 3]
    out: jax.Array  # float32[5]
    policy: bool = eqx.field(static=True, default=False)

    def initialize_carry(self):
        """h before the first frame."""
        return jnp.zeros(())

    def __call__(self, carry, observations, last_actions, starts):
        """As in ``baselines.model.builder``."""

        def one_step(state, step):
            image, start = step
            state = jnp.where(start, 0, self.decay * state) + jnp.sum(self.weights * image)
            return state, state

        carry, states = jax.lax.scan(one_step, carry, (scaled(observations), starts))
        values = states[:, None] * self.out
        return carry, (values, states) if self.policy else values


def linear_recurrence(seed=0, size=4, decay=0.8, policy=False):
    """A LinearRecurrence for frames of ``size`` pixels a side, with random weights."""
    weights_key, out_key = jax.random.split(jax.random.key(seed))
    weights = jax.random.normal(weights_key, (size, size, 3)) / size
    return LinearRecurrence(decay, weights, jax.random.normal(out_key, (5,)), policy)
