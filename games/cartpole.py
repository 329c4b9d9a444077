"""CartPole and NoisyCartPole: balance a pole whose speed you have to infer.

Push a cart left and right so that the pole on it does not fall. NoisyCartPole is the same game with
noise: its POMDP shows position and angle with random errors.

Start: x, x_dot, theta and theta_dot are each uniform in [-0.05, 0.05] (meters, meters per second,
radians, radians per second).

Actions: 2 left pushes with -10 N, 3 right with +10 N; 0 up, 1 down, 4 fire and any other integer
apply no force.

Physics: the cart-pole of Barto, Sutton and Anderson (1983), without friction, by explicit Euler
steps of 0.02 s that use the old derivatives. Gravity 9.8 m/s^2, cart 1.0 kg, pole 0.1 kg, half the
pole's length 0.5 m.

Rewards: each step after which the state is in range, |x| <= 2.4 m and |theta| <= 12 degrees, pays
1 / T and raises the score by 1. The step that leaves the range pays 0. Returns lie in [0, 1].

Episode end: terminated when the state leaves the range; truncated at T steps.

Noise: CartPole has none. In NoisyCartPole, reset and every step draw two independent numbers from
N(0, sigma^2) and the POMDP adds them to x and theta for drawing only. The noisy x and theta are
clipped to the range before they are drawn.

Views: the cart with its pole, and one gauge each for x_dot and theta_dot, which grows from the
middle to the side that the velocity points to. The MDP shows all of it. The POMDP shows the cart
with its pole, but no gauges. In NoisyCartPole, the POMDP draws them with noise, the MDP without.

Levels: CartPole Easy T = 600, Medium T = 800, Hard T = 1000, all with sigma = 0. NoisyCartPole T =
200, Easy sigma = 0.1, Medium sigma = 0.2, Hard sigma = 0.3.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* Reward and end depend on the state after the step instead of the state before it, so the end no
  longer comes one step late.
* Gauges, cart and pole move by fractions of a pixel. A velocity had about three visible levels, so
  the MDP hid most of it.
* The noise is drawn with the step and kept in the state. It was drawn with the frame, so a state
  had no unique frame.
* The POMDP hides the velocities. It hid cart and pole after time 0 and drew the velocities, so a
  policy that pushes against the current gauges balanced: it earned 1.000 / 0.999 / 0.919 in
  CartPole and 0.992 / 0.938 / 0.831 in NoisyCartPole (Easy / Medium / Hard).
* CartPole lasts 600, 800 and 1000 steps. It lasted 200, 400 and 600. A policy that looks only at
  the current frame earns 0.75 within 200 steps and, with the score as a clock, within 400.
* The MDP of NoisyCartPole has no noise. Two states with the same noisy frame have different
  futures.

Versions:
* 1 (0.1.0): first version.
* 2 (0.2.0): the POMDP shows cart and pole instead of the gauges, noise concerns only x and theta
  and only the POMDP, and CartPole lasts longer. With velocities_hidden=False the POMDP is that of
  version 1: everything at time 0 and only the gauges afterwards, with noise on all four variables.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

__all__ = [
    "DOWN",
    "FIRE",
    "LEFT",
    "LEVELS",
    "NAME",
    "NOISY_LEVELS",
    "NOISY_NAME",
    "RETURN_RANGE",
    "RIGHT",
    "START_RANGE",
    "THETA_LIMIT",
    "UP",
    "VERSION",
    "X_LIMIT",
    "Params",
    "State",
    "advance",
    "draw_noise",
    "drawn_variables",
    "half_widths",
    "in_range",
    "push",
    "render",
    "reset",
    "step",
]

NAME: str = "CartPole"
NOISY_NAME: str = "NoisyCartPole"
VERSION: int = 2
RETURN_RANGE: tuple[float, float] = (0.0, 1.0)  # at every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)

START_RANGE = 0.05  # every variable starts within this of 0
X_LIMIT = 2.4  # meters
THETA_LIMIT = 12 * np.pi / 180  # radians

# The bands of the field from top to bottom, in layout units.
_GAUGES_BAND, _POLE_BAND, _CART_BAND = (0, 21), (21, 83), (83, 104)
_CART_GAUGE, _POLE_GAUGE = (3, 10), (14, 21)  # first and last row of each gauge
_WHEELS_TOP, _TRACK_TOP = 92, 98
# Widths and positions from left to right, in layout units.
_LABEL_LEFT = 4
_GAUGE_LEFT, _GAUGE_MIDDLE, _GAUGE_RIGHT = 32, 78, 124
_MIDDLE, _REACH = 64, 50  # the cart's position at x = 0, and its distance from there at X_LIMIT
_CART_WIDTH, _WHEEL_DISTANCE = 24, 7
_POLE_LENGTH, _POLE_THICKNESS, _HINGE = 58, 4, 8
_FAR_OUTSIDE = -(1 << 16)  # sub-pixels: the position of a hidden cart


@draw.register_params
@dataclass(frozen=True)
class Params:
    """The parameters of a level.

    Static fields set shapes and drawing; all others may be traced, e.g. swept with vmap.
    """

    # text below the field
    title: str = field(default=NAME, metadata={"static": True, "allowed": (NAME, NOISY_NAME)})
    # whether to draw the POMDP view
    partial_obs: bool = field(default=False, metadata={"static": True, "allowed": (False, True)})
    # whether the POMDP hides the velocities; otherwise it hides cart and pole after time 0
    velocities_hidden: bool = field(
        default=True, metadata={"static": True, "allowed": (False, True)}
    )
    # side of a frame in pixels
    obs_size: int = field(default=128, metadata={"static": True, "allowed": draw.OBS_SIZES})
    # T: steps before truncation
    max_steps_in_episode: int = field(default=600, metadata={"allowed": draw.STEP_LIMITS})
    # sigma: standard deviation of the noise on what the POMDP draws
    noise_sigma: float = field(default=0.0, metadata={"allowed": (0.0, 1e6)})
    gravity: float = field(default=9.8, metadata={"allowed": (0.0, 1e6)})  # m/s^2
    cart_mass: float = field(default=1.0, metadata={"allowed": (1e-6, 1e6)})  # kg
    pole_mass: float = field(default=0.1, metadata={"allowed": (1e-6, 1e6)})  # kg
    pole_half_length: float = field(default=0.5, metadata={"allowed": (1e-6, 1e6)})  # meters
    force: float = field(default=10.0, metadata={"allowed": (0.0, 1e6)})  # newtons
    time_step: float = field(default=0.02, metadata={"allowed": (1e-6, 1.0)})  # seconds
    # shared by the T steps
    episode_reward: float = field(default=1.0, metadata={"allowed": draw.ANY_REWARD})


@draw.register_state
class State(NamedTuple):
    """One episode."""

    x: jax.Array  # float32[]: the cart's position, meters from the middle, positive to the right
    x_dot: jax.Array  # float32[]: its velocity, meters per second
    theta: jax.Array  # float32[]: the pole's angle from upright, radians, positive to the right
    theta_dot: jax.Array  # float32[]: its angular velocity, radians per second
    # What the POMDP adds to x and theta. The shape depends on params.velocities_hidden: if that is
    # false, the noise is float32[4], for all four variables above.
    noise: jax.Array  # float32[2]
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], in [0, T]: steps survived


def reset(key: jax.Array, params: Params) -> tuple[jax.Array, State]:
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    start_key, noise_key = jax.random.split(key)
    start = jax.random.uniform(start_key, (4,), jnp.float32, -START_RANGE, START_RANGE)
    time, score = (jnp.zeros_like(start, jnp.int32, ()) for _ in range(2))
    state = State(*start, noise=draw_noise(noise_key, params), time=time, score=score)
    return render(state, params), state


def step(
    key: jax.Array, state: State, action: jax.Array, params: Params
) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, jax.Array]]:
    """Play one step.

    key: a typed or raw PRNG key, for the noise. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    state = advance(state, push(action, params), params)
    survived = in_range(state)
    state = state._replace(
        noise=draw_noise(key, params), time=state.time + 1, score=state.score + jnp.int32(survived)
    )
    reward = jnp.float32(survived) * (params.episode_reward / params.max_steps_in_episode)
    terminated = ~survived
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def draw_noise(key: jax.Array, params: Params) -> jax.Array:
    """The noise on one frame of the POMDP, from N(0, noise_sigma^2).

    float32[2], or float32[4] if params.velocities_hidden is false.
    """
    noisy_variables = 2 if params.velocities_hidden else 4
    return params.noise_sigma * jax.random.normal(key, (noisy_variables,), jnp.float32)


def push(action: jax.Array | int, params: Params) -> jax.Array:
    """The force of an action in newtons: float32[]."""
    direction = jnp.float32(action == RIGHT) - jnp.float32(action == LEFT)
    return params.force * direction


def advance(state: State, force: jax.Array, params: Params) -> State:
    """Take one explicit Euler step of the physics.

    With m the pole's mass, M the mass of both and l half the pole's length, theta'' = (g sin(theta)
    - cos(theta) a) / (l (4/3 - m cos(theta)^2 / M)) and x'' = a - m l theta'' cos(theta) / M, where
    a = (force + m l theta'^2 sin(theta)) / M (Barto, Sutton and Anderson, 1983, without friction).
    """
    mass = params.cart_mass + params.pole_mass
    moment = params.pole_mass * params.pole_half_length
    sin, cos = jnp.sin(state.theta), jnp.cos(state.theta)
    pushed = (force + moment * state.theta_dot**2 * sin) / mass
    inertia = params.pole_half_length * (4.0 / 3.0 - params.pole_mass * cos**2 / mass)
    theta_acceleration = (params.gravity * sin - cos * pushed) / inertia
    x_acceleration = pushed - moment * theta_acceleration * cos / mass
    return state._replace(
        x=state.x + params.time_step * state.x_dot,
        x_dot=state.x_dot + params.time_step * x_acceleration,
        theta=state.theta + params.time_step * state.theta_dot,
        theta_dot=state.theta_dot + params.time_step * theta_acceleration,
    )


def in_range(state: State) -> jax.Array:
    """Whether both the cart and the pole are in range: bool[]."""
    return (jnp.abs(state.x) <= X_LIMIT) & (jnp.abs(state.theta) <= THETA_LIMIT)


def render(state: State, params: Params) -> jax.Array:
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    size = params.obs_size
    x, x_dot, theta, theta_dot = drawn_variables(state, params)
    cart = _subpixels(_MIDDLE, size) + draw.fixed_point(
        jnp.clip(x, -X_LIMIT, X_LIMIT), scale=half_widths(size)[0] / X_LIMIT
    )
    gauges = draw.field(size, top=_GAUGES_BAND[0], bottom=_GAUGES_BAND[1])
    if not (params.partial_obs and params.velocities_hidden):
        gauges = _draw_gauges(gauges, x_dot, theta_dot)
    if params.partial_obs and not params.velocities_hidden:
        cart = jnp.where(state.time == 0, cart, _FAR_OUTSIDE)
    angle = draw.fixed_point(jnp.clip(theta, -THETA_LIMIT, THETA_LIMIT), scale=draw.ANGLE_UNIT)
    bands = gauges, _pole_band(cart, angle, size), _cart_band(cart, size)
    return draw.frame(bands, score=state.score, name=params.title)


def drawn_variables(state: State, params: Params) -> tuple[jax.Array, ...]:
    """The four variables as the view draws them, in the POMDP with noise: float32[] each."""
    if not params.partial_obs:
        return state[:4]
    if params.velocities_hidden:
        x_noise, theta_noise = state.noise
        return state.x + x_noise, state.x_dot, state.theta + theta_noise, state.theta_dot
    return tuple(value + noise for value, noise in zip(state[:4], state.noise))


def _draw_gauges(canvas: jax.Array, x_dot: jax.Array, theta_dot: jax.Array) -> jax.Array:
    """Draw the gauges: bars that grow from the middle of their tracks with the velocity v.

    A bar fills v / (1 + |v|) of its half of the track: half of it at v = 1, never all of it, and
    enough to read a small v.
    """
    rows, size = np.arange(canvas.shape[0], dtype=np.int32), canvas.shape[1] // 3
    left, middle, right = (
        _subpixels(units, size) for units in (_GAUGE_LEFT, _GAUGE_MIDDLE, _GAUGE_RIGHT)
    )
    start, end = np.zeros((2, *rows.shape), np.int32)
    bar_start, bar_end = start, end
    for label, velocity, (top, bottom) in (
        ("CART", x_dot, _CART_GAUGE),
        ("POLE", theta_dot, _POLE_GAUGE),
    ):
        top, bottom = draw.field_row(size, top), draw.field_row(size, bottom)
        canvas = draw.text(
            canvas,
            label,
            top=top,
            left=draw.pixels(size, _LABEL_LEFT),
            scale=draw.text_scale(size),
            color="s",
        )
        here = (rows >= top) & (rows < bottom)
        start, end = np.where(here, left, start), np.where(here, right, end)
        length = draw.fixed_point(velocity / (1 + jnp.abs(velocity)), scale=half_widths(size)[1])
        bar_start = jnp.where(here, middle + jnp.minimum(length, 0), bar_start)
        bar_end = jnp.where(here, middle + jnp.maximum(length, 0), bar_end)
    half_mark = np.where(end > start, _subpixels(0.5, size), 0)
    canvas = draw.spans(canvas, left=start, right=end, colors="D")
    canvas = draw.spans(canvas, left=middle - half_mark, right=middle + half_mark, colors="w")
    return draw.spans(canvas, left=bar_start, right=bar_end, colors="y")


def _pole_band(cart: jax.Array, angle: jax.Array, size: int) -> jax.Array:
    """Draw the pole.

    cart: int32[], the cart's middle in sub-pixels. angle: int32[], in 1 / draw.ANGLE_UNIT radian.
    """
    canvas = draw.field(size, top=_POLE_BAND[0], bottom=_POLE_BAND[1])
    length, thickness = draw.pixels(size, _POLE_LENGTH), draw.pixels(size, _POLE_THICKNESS)
    return draw.beam(
        canvas,
        x=cart,
        y=canvas.shape[0],
        angle=angle,
        length=length,
        thickness=thickness,
        color="o",
    )


def _cart_band(cart: jax.Array, size: int) -> jax.Array:
    """Draw the cart with its hinge and wheels, and its track.

    cart: int32[], the cart's middle in sub-pixels.
    """
    canvas = draw.field(size, top=_CART_BAND[0], bottom=_CART_BAND[1])
    height = canvas.shape[0]
    rows = np.arange(height, dtype=np.int32)
    wheels_top, track_top = (
        draw.field_row(size, units) - draw.field_row(size, _CART_BAND[0])
        for units in (_WHEELS_TOP, _TRACK_TOP)
    )
    colors = "c" * wheels_top + "s" * (track_top - wheels_top) + "D" * (height - track_top)
    in_body, on_track = rows < wheels_top, rows >= track_top
    half_wheel = draw.disc_half_widths(height, top=wheels_top, diameter=track_top - wheels_top)
    half_hinge = draw.disc_half_widths(height, top=0, diameter=draw.pixels(size, _HINGE))

    reach = np.where(on_track, half_widths(size)[0], 0).astype(np.int32)
    canvas = draw.spans(
        canvas,
        left=_subpixels(_MIDDLE, size) - reach,
        right=_subpixels(_MIDDLE, size) + reach,
        colors=colors,
    )
    # Each scanline has two spans: first the body or the left wheel, then the hinge or the right
    # wheel.
    wheel = np.where(in_body, 0, _subpixels(_WHEEL_DISTANCE, size)).astype(np.int32)
    half = np.where(in_body, _subpixels(_CART_WIDTH / 2, size), half_wheel).astype(np.int32)
    canvas = draw.spans(canvas, left=cart - wheel - half, right=cart - wheel + half, colors=colors)
    half = np.where(in_body, half_hinge, half_wheel)
    return draw.spans(
        canvas, left=cart + wheel - half, right=cart + wheel + half, colors=colors.replace("c", "b")
    )


def half_widths(size: int) -> tuple[int, int]:
    """Sub-pixels from the middle of the track to X_LIMIT, and half the width of a gauge."""
    middle, right = (_subpixels(units, size) for units in (_GAUGE_MIDDLE, _GAUGE_RIGHT))
    return _subpixels(_REACH, size), right - middle


def _subpixels(units: float, size: int) -> int:
    """Convert layout units to sub-pixels."""
    return round(units * size * draw.SUBPIXEL / draw.FRAME_UNITS)


LEVELS: dict[str, Params] = {
    "Easy": Params(max_steps_in_episode=600),
    "Medium": Params(max_steps_in_episode=800),
    "Hard": Params(max_steps_in_episode=1000),
}
NOISY_LEVELS: dict[str, Params] = {
    "Easy": Params(title=NOISY_NAME, max_steps_in_episode=200, noise_sigma=0.1),
    "Medium": Params(title=NOISY_NAME, max_steps_in_episode=200, noise_sigma=0.2),
    "Hard": Params(title=NOISY_NAME, max_steps_in_episode=200, noise_sigma=0.3),
}
