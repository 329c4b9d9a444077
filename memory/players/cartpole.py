"""CartPole and NoisyCartPole: how fast the cart and the pole move.

A frame shows where the cart and the pole are, in NoisyCartPole with random errors. Their velocities
follow from many frames and from one's own pushes. Recall estimates all four with a Kalman filter,
which forgets what it saw within about a second: longer than that no frame matters.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw
from popgym_arcade.games import cartpole
from popgym_arcade.games.cartpole import FIRE, LEFT, RIGHT, START_RANGE, THETA_LIMIT, X_LIMIT
from popgym_arcade.memory.player import HIDDEN, Player
from popgym_arcade.registry import NO_ACTION


class Shown(NamedTuple):
    """What a frame shows: positions in the drawing, in the integers that the renderer rounds to.

    All are positive: those that can point to the left are counted from a point far there.
    """

    score: jax.Array  # int32[]
    # In version 1's POMDP, hidden after time 0:
    cart: jax.Array  # int32[]: of x, clipped to the range, in sub-pixels
    angle: jax.Array  # int32[]: of theta, clipped to the range, in 1 / draw.ANGLE_UNIT radian
    # Hidden in the POMDP, except in version 1's:
    cart_gauge: jax.Array  # int32[]: of x_dot / (1 + |x_dot|), in sub-pixels
    pole_gauge: jax.Array  # int32[]: of theta_dot / (1 + |theta_dot|), in sub-pixels


_ZERO = 1 << 14  # what stands for 0 m, 0 rad and no velocity


def _scales(params: cartpole.Params) -> np.ndarray:
    """Units of Shown per meter, radian, and full gauge, twice: float64[4]."""
    reach, gauge = cartpole.half_widths(params.obs_size)
    return np.array([reach / X_LIMIT, draw.ANGLE_UNIT, gauge, gauge])


def shown(state: cartpole.State, params: cartpole.Params) -> Shown:
    """What the frame of a state shows."""
    x, x_dot, theta, theta_dot = cartpole.drawn_variables(state, params)
    place = jnp.clip(x, -X_LIMIT, X_LIMIT), jnp.clip(theta, -THETA_LIMIT, THETA_LIMIT)
    speed = (velocity / (1 + jnp.abs(velocity)) for velocity in (x_dot, theta_dot))
    cart, angle, *gauges = (
        _ZERO + draw.fixed_point(value, scale=scale)
        for value, scale in zip((*place, *speed), _scales(params))
    )
    hidden = jnp.int32(HIDDEN)
    if params.partial_obs and params.velocities_hidden:
        gauges = hidden, hidden
    if params.partial_obs and not params.velocities_hidden:
        cart, angle = (jnp.where(state.time == 0, value, hidden) for value in (cart, angle))
    return Shown(state.score, cart, angle, *gauges)


def _measured(shown: Shown, params: cartpole.Params) -> jax.Array:
    """The x, theta, x_dot and theta_dot that a frame shows, 0 if hidden: float32[4]."""
    units = jnp.stack(shown[1:])
    values = jnp.where(units == HIDDEN, 0, units - _ZERO) / jnp.asarray(
        _scales(params), jnp.float32
    )
    gauges = jnp.clip(values[2:], -0.999, 0.999)
    return values.at[2:].set(gauges / (1 - jnp.abs(gauges)))


# --- without memory ------------------------------------------------------------------------------

# Edges of bins: of x in meters, theta in radians, x_dot in m/s and theta_dot in rad/s.
_X_BINS = np.array([-1.2, -0.4, 0, 0.4, 1.2])
_THETA_BINS = np.array([-0.18, -0.13, -0.08, -0.04, -0.02, 0, 0.02, 0.04, 0.08, 0.13, 0.18])
_X_DOT_BINS = np.array([-1, -0.5, -0.2, 0, 0.2, 0.5, 1])
_THETA_DOT_BINS = np.array([-1.2, -0.7, -0.4, -0.2, -0.1, 0, 0.1, 0.2, 0.4, 0.7, 1.2])
_CLOCK = 8  # the score's period as a clock


def num_keys(params: cartpole.Params) -> int:
    """The number of bins."""
    if params.velocities_hidden:
        return (len(_X_BINS) + 1) * (len(_THETA_BINS) + 1) * _CLOCK
    return (len(_X_DOT_BINS) + 1) * (len(_THETA_DOT_BINS) + 1)


def key(shown: Shown, params: cartpole.Params) -> jax.Array:
    """Bins of position, angle and the clock, or, in version 1's POMDP, of the gauges: int32[]."""
    x, theta, x_dot, theta_dot = _measured(shown, params)

    def bins(value, edges):
        return jnp.sum(value > jnp.asarray(edges, jnp.float32))

    if params.velocities_hidden:
        place = bins(x, _X_BINS) * (len(_THETA_BINS) + 1) + bins(theta, _THETA_BINS)
        return place * _CLOCK + shown.score % _CLOCK
    return bins(x_dot, _X_DOT_BINS) * (len(_THETA_DOT_BINS) + 1) + bins(theta_dot, _THETA_DOT_BINS)


def features(shown: Shown, params: cartpole.Params) -> jax.Array:
    """All that is shown, with the score as a clock of several periods: float32[f]."""
    x, theta, x_dot, theta_dot = _measured(shown, params)
    turns = shown.score / jnp.array([2, 3, 4, 6, 8, 16, 2 * params.max_steps_in_episode])
    parts = (
        jnp.stack([x / X_LIMIT, theta / THETA_LIMIT, 8 * theta / THETA_LIMIT]),
        jnp.tanh(jnp.stack([x_dot, theta_dot, 4 * theta_dot])),
        jnp.sin(2 * jnp.pi * turns),
        jnp.cos(2 * jnp.pi * turns),
        jax.nn.one_hot(shown.score % _CLOCK, _CLOCK),
    )
    return jnp.concatenate(parts)


def _push_against(lean: jax.Array, threshold: jax.Array | float = 0.0) -> jax.Array:
    """Push right if the lean is above the threshold, left if it is as far below 0: int32[]."""
    return jnp.where(lean > threshold, RIGHT, jnp.where(lean < -threshold, LEFT, FIRE))


def by_the_angle(shown: Shown, params: cartpole.Params) -> jax.Array:
    """Push to the side that the pole leans to: int32[]."""
    return _push_against(_measured(shown, params)[1])


def by_the_place(shown: Shown, params: cartpole.Params) -> jax.Array:
    """Push to the side that the pole leans to, and a little to where the cart is: int32[]."""
    x, theta, _, _ = _measured(shown, params)
    return _push_against(theta + 0.03 * x)


def by_the_gauges(shown: Shown, params: cartpole.Params) -> jax.Array:
    """Push to the side that the pole and the cart move to: int32[]."""
    _, _, x_dot, theta_dot = _measured(shown, params)
    return _push_against(0.105 * x_dot + 0.995 * theta_dot, 0.1)


def by_the_clock(shown: Shown, params: cartpole.Params) -> jax.Array:
    """Push to the side that the pole leans to, now and then: the more often, the more it leans.

    The score is a clock, and every step of its period has a threshold of its own. So pushes of
    one strength add up to a force that is nearly proportional to the lean, as weak as needed, and
    the pole swings slowly instead of being thrown from side to side.
    """
    x, theta, _, _ = _measured(shown, params)
    phase = shown.score % len(_RIGHT_THRESHOLDS)
    lean = _CLOCKED_GAINS[0] * theta + _CLOCKED_GAINS[1] * x
    right = lean > jnp.asarray(_RIGHT_THRESHOLDS, jnp.float32)[phase]
    left = -lean > jnp.asarray(_LEFT_THRESHOLDS, jnp.float32)[phase]
    return jnp.where(right & ~left, RIGHT, jnp.where(left & ~right, LEFT, FIRE))


# Of by_the_clock, in N, N per radian and per meter; found by the cross-entropy method.
_CLOCKED_GAINS = 30.2, 0.35
_RIGHT_THRESHOLDS = np.array([3.14, 6.47, 4.3, 8.93, 1.04, 8.5, 5.85, 9.47])
_LEFT_THRESHOLDS = np.array([0.99, 8.27, 5.31, 8.85, 3.03, 7.81, 4.86, 10.87])


# --- with memory ---------------------------------------------------------------------------------


class Belief(NamedTuple):
    """The normal distribution of (x, x_dot, theta, theta_dot)."""

    mean: jax.Array  # float32[4]
    covariance: jax.Array  # float32[4, 4]


# Where a frame's four numbers are in Belief.
_PLACES = 0, 2, 1, 3
_POSITIONS = 2  # the first two of them are x and theta


def begin(params: cartpole.Params) -> Belief:
    """Know how an episode starts."""
    variance = START_RANGE**2 / 3  # of a uniform distribution
    return Belief(jnp.zeros(4), variance * jnp.eye(4))


def remember(
    memory: Belief, last_action: jax.Array, shown: Shown, params: cartpole.Params
) -> Belief:
    """Predict with the last push, then correct by what the frame shows and by being in range."""
    predicted = _predict(memory, last_action, params)
    belief = jax.tree.map(
        lambda old, new: jnp.where(last_action == NO_ACTION, old, new), memory, predicted
    )
    for number, place in enumerate(_PLACES):
        belief = _correct(belief, place, shown, number, params)
    belief = _within(belief, 0, -X_LIMIT, X_LIMIT, 0.0)
    return _within(belief, 2, -THETA_LIMIT, THETA_LIMIT, 0.0)


def _predict(belief: Belief, action: jax.Array, params: cartpole.Params) -> Belief:
    """What the physics makes of a belief in one step, to first order."""

    def move(mean):
        zero = jnp.int32(0)
        state = cartpole.State(*mean, noise=jnp.zeros(2), time=zero, score=zero)
        return jnp.stack(cartpole.advance(state, cartpole.push(action, params), params)[:4])

    slope = jax.jacfwd(move)(belief.mean)
    covariance = slope @ belief.covariance @ slope.T + _ROUNDING * jnp.eye(4)
    # Symmetric, or rounding errors grow from step to step.
    return Belief(move(belief.mean), (covariance + covariance.T) / 2)


_ROUNDING = 1e-8  # variance that keeps the covariance positive in float32


def _correct(
    belief: Belief, place: int, shown: Shown, number: int, params: cartpole.Params
) -> Belief:
    """Take one number of a frame into account."""
    value = _measured(shown, params)[number]
    unit = 1 / _scales(params)[number]
    if number >= _POSITIONS:  # a unit of a gauge is more at a high velocity
        unit = unit * (1 + jnp.abs(value)) ** 2
    sigma = params.noise_sigma if params.partial_obs else 0.0
    variance = sigma**2 + unit**2 / 12 + _ROUNDING
    exact = _learn(belief, place, value, variance)
    if number < _POSITIONS:
        limit = (X_LIMIT, THETA_LIMIT)[number]
        inside = jnp.abs(value) < limit - unit
        upper = _within(belief, place, limit, jnp.inf, variance)
        lower = _within(belief, place, -jnp.inf, -limit, variance)
        clipped = jax.tree.map(lambda *way: jnp.where(value > 0, *way), upper, lower)
        exact = jax.tree.map(lambda *way: jnp.where(inside, *way), exact, clipped)
    hidden = shown[1 + number] == HIDDEN
    return jax.tree.map(lambda *way: jnp.where(hidden, *way), belief, exact)


def _learn(belief: Belief, place: int, value: jax.Array, variance: jax.Array) -> Belief:
    """Correct a belief by a measurement with this variance: the Kalman filter."""
    spread = belief.covariance[place, place] + variance
    return _project(belief, place, spread, value - belief.mean[place], -spread)


def _within(
    belief: Belief, place: int, low: float, high: float, variance: jax.Array | float
) -> Belief:
    """Correct a belief by knowing only that a measurement lies between two values.

    The result is no longer normal; it is replaced by the normal distribution of the same mean and
    covariance.
    """
    spread = belief.covariance[place, place] + variance
    deviation = jnp.sqrt(spread)
    # At most this far from the mean: beyond, float32 has no probability left.
    left = jnp.minimum((low - belief.mean[place]) / deviation, _FAR)
    right = jnp.maximum((high - belief.mean[place]) / deviation, -_FAR)
    heights = jnp.exp(-(left**2) / 2), jnp.exp(-(right**2) / 2)
    mass = jnp.sqrt(2 * jnp.pi) * (jax.scipy.special.ndtr(right) - jax.scipy.special.ndtr(left))
    mass = jnp.maximum(mass, 1e-6)
    shift = (heights[0] - heights[1]) / mass
    edges = [jnp.where(jnp.isinf(e), 0, e) * h for e, h in zip((left, right), heights)]
    change = (edges[0] - edges[1]) / mass - shift**2
    return _project(belief, place, spread, shift * deviation, jnp.clip(change, -0.999, 0) * spread)


_FAR = 4.0  # standard deviations


def _project(
    belief: Belief, place: int, spread: jax.Array, shift: jax.Array, change: jax.Array
) -> Belief:
    """What a belief becomes if the mean and variance of one measurement change by so much.

    spread: the variance of the measurement before.
    """
    gain = belief.covariance[:, place] / spread
    return Belief(belief.mean + gain * shift, belief.covariance + change * jnp.outer(gain, gain))


def act(memory: Belief, params: cartpole.Params) -> jax.Array:
    """Apply -10, 0 or 10 N, whichever is nearest to a linear regulator's force: int32[]."""
    return _push_against(memory.mean @ jnp.asarray(_GAINS), params.force / 2)


# In N per m, m/s, rad and rad/s, found by the cross-entropy method in NoisyCartPole. Under noise it
# pays to hold the pole more firmly, and the cart less, than the expert does.
_GAINS = np.array([5.0, 21.0, 360.0, 48.0], np.float32)


_REFLEXES = {
    "by the angle": by_the_angle,
    "by the place": by_the_place,
    "by the gauges": by_the_gauges,
    "by the clock": by_the_clock,
}
PLAYER = Player(shown, num_keys, key, features, _REFLEXES, begin, remember, act)
