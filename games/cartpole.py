"""CartPole and NoisyCartPole: balance from the gauges.

Push a cart left and right so that the pole on it does not fall. NoisyCartPole is the same game seen
through noise.

Start: x, x_dot, theta and theta_dot are each uniform in -0.05 ... 0.05 (metres, metres a second,
radians, radians a second).

Actions: 2 left pushes with -10 N, 3 right with +10 N; 0 up, 1 down, 4 fire and any other integer
push with nothing.

Physics: the cart-pole of Barto, Sutton and Anderson (1983), without friction, by explicit Euler
steps of 0.02 s that use the old derivatives. Gravity 9.8 m/s^2, cart 1.0 kg, pole 0.1 kg, half the
pole's length 0.5 m.

Rewards: 1 / T and a score of 1 for each step after which the state is in range, |x| <= 2.4 m and
|theta| <= 12 degrees; 0 for the step that leaves it. Returns lie in 0 ... 1.

Episode end: terminated when the state leaves the range; truncated at T steps.

Noise: reset and every step draw four independent numbers from N(0, sigma^2). They are added to (x,
x_dot, theta, theta_dot) for drawing only; the x and theta that are drawn are then clipped to the
range.

Views: the cart with its pole, and a gauge each for x_dot and theta_dot, which grow from the middle
to the side the velocity points to. The MDP shows all of it. The POMDP shows all of it at time 0 and
afterwards only the gauges.

Levels: CartPole Easy T = 200, Medium T = 400, Hard T = 600, all with sigma = 0. NoisyCartPole T =
200, Easy sigma = 0.1, Medium sigma = 0.2, Hard sigma = 0.3.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* Reward and end are those of the state after the step; they were those of the state before it, so
  the end came one step late.
* Gauges, cart and pole move by fractions of a pixel; a velocity had about three visible levels, so
  that the MDP hid most of it.
* The noise is drawn with the step and kept in the state; it was drawn with the frame, so that a
  state had no one frame.

Versions:
* 1 (0.1.0): the first.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

NAME = "CartPole"
NOISY_NAME = "NoisyCartPole"
VERSION = 1
RETURN_RANGE = (0.0, 1.0)  # of every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)

START_RANGE = 0.05  # every variable starts within this of 0
X_LIMIT = 2.4  # metres
THETA_LIMIT = 12 * np.pi / 180  # radians

# The field from top to bottom, in 128ths of the frame: a band with the gauges, one with the pole,
# one with the cart.
GAUGES_BAND, POLE_BAND, CART_BAND = (0, 21), (21, 83), (83, 104)
CART_GAUGE, POLE_GAUGE = (3, 10), (14, 21)  # first and last row of each gauge
WHEELS_TOP, TRACK_TOP = 92, 98
# Widths and places from left to right, in the same unit.
LABEL_LEFT = 4
GAUGE_LEFT, GAUGE_MIDDLE, GAUGE_RIGHT = 32, 78, 124
MIDDLE, REACH = 64, 50  # where the cart stands at x = 0, and how far from there at X_LIMIT
CART_WIDTH, WHEEL_DISTANCE = 24, 7
POLE_LENGTH, POLE_THICKNESS, HINGE = 58, 4, 8
FAR_OUTSIDE = -(1 << 16)  # sub-pixels: where a hidden cart is drawn


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """What a level sets. Fields marked static choose shapes and drawing; the others may be traced
    and swept with vmap."""

    title: str = field(
        default=NAME, metadata={"static": True, "allowed": (NAME, NOISY_NAME)}
    )  # the text below the field
    partial_obs: bool = field(
        default=False, metadata={"static": True, "allowed": (False, True)}
    )  # the POMDP view
    obs_size: int = field(
        default=128, metadata={"static": True, "allowed": draw.OBS_SIZES}
    )  # pixels a side of a frame
    max_steps_in_episode: int = field(
        default=200, metadata={"allowed": draw.STEP_LIMITS}
    )  # T: steps before truncation
    noise_sigma: float = field(
        default=0.0, metadata={"allowed": (0.0, 1e6)}
    )  # deviation of what is drawn
    gravity: float = field(default=9.8, metadata={"allowed": (0.0, 1e6)})  # m/s^2
    cart_mass: float = field(default=1.0, metadata={"allowed": (1e-6, 1e6)})  # kg
    pole_mass: float = field(default=0.1, metadata={"allowed": (1e-6, 1e6)})  # kg
    pole_half_length: float = field(default=0.5, metadata={"allowed": (1e-6, 1e6)})  # metres
    force: float = field(default=10.0, metadata={"allowed": (0.0, 1e6)})  # newtons
    time_step: float = field(default=0.02, metadata={"allowed": (1e-6, 1.0)})  # seconds
    episode_reward: float = field(
        default=1.0, metadata={"allowed": draw.ANY_REWARD}
    )  # shared by the T steps


class State(NamedTuple):
    """One episode."""

    x: jax.Array  # float32[]: the cart's place, metres from the middle, positive to the right
    x_dot: jax.Array  # float32[]: its velocity, metres a second
    theta: jax.Array  # float32[]: the pole's angle from upright, radians, positive to the right
    theta_dot: jax.Array  # float32[]: its velocity, radians a second
    noise: jax.Array  # float32[4]: what is added to the four variables above when they are drawn
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], 0 ... T: steps survived


def reset(key, params):
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    start_key, noise_key = jax.random.split(key)
    start = jax.random.uniform(start_key, (4,), jnp.float32, -START_RANGE, START_RANGE)
    state = State(
        *start, noise=draw_noise(noise_key, params), time=jnp.int32(0), score=jnp.int32(0)
    )
    return render(state, params), state


def step(key, state, action, params):
    """Play one step.

    key: a typed or raw PRNG key, for the noise. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    state = advance(state, push(action, params), params)
    survived = in_range(state)
    state = state._replace(
        noise=draw_noise(key, params), time=state.time + 1, score=state.score + survived
    )
    reward = survived * (params.episode_reward / params.max_steps_in_episode)
    terminated = ~survived
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def draw_noise(key, params):
    """The noise on one frame: float32[4] from N(0, noise_sigma^2)."""
    return params.noise_sigma * jax.random.normal(key, (4,), jnp.float32)


def push(action, params):
    """The force of an action in newtons: float32[]."""
    direction = 0.0 + (action == RIGHT) - (action == LEFT)
    return params.force * direction


def advance(state, force, params):
    """One explicit Euler step of the physics: State.

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


def in_range(state):
    """Whether neither the cart nor the pole has gone too far: bool[]."""
    return (jnp.abs(state.x) <= X_LIMIT) & (jnp.abs(state.theta) <= THETA_LIMIT)


def render(state, params):
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    size = params.obs_size
    x, x_dot, theta, theta_dot = (value + noise for value, noise in zip(state[:4], state.noise))
    cart = subpixels(MIDDLE, size) + draw.fixed_point(
        jnp.clip(x, -X_LIMIT, X_LIMIT), scale=subpixels(REACH, size) / X_LIMIT
    )
    if params.partial_obs:
        cart = jnp.where(state.time == 0, cart, FAR_OUTSIDE)
    angle = draw.fixed_point(jnp.clip(theta, -THETA_LIMIT, THETA_LIMIT), scale=draw.ANGLE_UNIT)
    bands = gauges_band(x_dot, theta_dot, size), pole_band(cart, angle, size), cart_band(cart, size)
    return draw.frame(bands, score=state.score, name=params.title)


def gauges_band(x_dot, theta_dot, size):
    """Two bars that grow from the middle of their tracks, to the side that the velocity v points
    to.

    A bar's length is v / (1 + |v|) of the half track: half full at 1, never full, and long enough
    to read when v is small.
    """
    canvas = draw.field(size, top=GAUGES_BAND[0], bottom=GAUGES_BAND[1])
    rows = np.arange(canvas.shape[0])
    left, middle, right = (
        subpixels(units, size) for units in (GAUGE_LEFT, GAUGE_MIDDLE, GAUGE_RIGHT)
    )
    start, end = np.zeros((2, *rows.shape), np.int32)
    bar_start, bar_end = start, end
    for label, velocity, (top, bottom) in (
        ("CART", x_dot, CART_GAUGE),
        ("POLE", theta_dot, POLE_GAUGE),
    ):
        top, bottom = draw.field_row(size, top), draw.field_row(size, bottom)
        canvas = draw.text(
            canvas,
            label,
            top=top,
            left=draw.pixels(size, LABEL_LEFT),
            scale=draw.text_scale(size),
            color="s",
        )
        here = (rows >= top) & (rows < bottom)
        start, end = np.where(here, left, start), np.where(here, right, end)
        length = draw.fixed_point(velocity / (1 + jnp.abs(velocity)), scale=right - middle)
        bar_start = jnp.where(here, middle + jnp.minimum(length, 0), bar_start)
        bar_end = jnp.where(here, middle + jnp.maximum(length, 0), bar_end)
    half_mark = np.where(end > start, subpixels(0.5, size), 0)
    canvas = draw.spans(canvas, left=start, right=end, colors="D")
    canvas = draw.spans(canvas, left=middle - half_mark, right=middle + half_mark, colors="w")
    return draw.spans(canvas, left=bar_start, right=bar_end, colors="y")


def pole_band(cart, angle, size):
    """The pole. cart: int32[], the middle of the cart in sub-pixels. angle: int32[], in
    draw.ANGLE_UNIT."""
    canvas = draw.field(size, top=POLE_BAND[0], bottom=POLE_BAND[1])
    length, thickness = draw.pixels(size, POLE_LENGTH), draw.pixels(size, POLE_THICKNESS)
    return draw.beam(
        canvas,
        x=cart,
        y=canvas.shape[0],
        angle=angle,
        length=length,
        thickness=thickness,
        color="o",
    )


def cart_band(cart, size):
    """The cart with its hinge and wheels, and the track that it may use. cart: int32[], its middle
    in sub-pixels."""
    canvas = draw.field(size, top=CART_BAND[0], bottom=CART_BAND[1])
    height = canvas.shape[0]
    rows = np.arange(height)
    wheels_top, track_top = (
        draw.field_row(size, units) - draw.field_row(size, CART_BAND[0])
        for units in (WHEELS_TOP, TRACK_TOP)
    )
    colors = "c" * wheels_top + "s" * (track_top - wheels_top) + "D" * (height - track_top)
    in_body, on_track = rows < wheels_top, rows >= track_top
    half_wheel = draw.disc_half_widths(height, top=wheels_top, diameter=track_top - wheels_top)
    half_hinge = draw.disc_half_widths(height, top=0, diameter=draw.pixels(size, HINGE))

    reach = np.where(on_track, subpixels(REACH, size), 0)
    canvas = draw.spans(
        canvas,
        left=subpixels(MIDDLE, size) - reach,
        right=subpixels(MIDDLE, size) + reach,
        colors=colors,
    )
    # Two spans on each scanline: the body and the left wheel below it; the hinge and the right
    # wheel.
    wheel = np.where(in_body, 0, subpixels(WHEEL_DISTANCE, size))
    half = np.where(in_body, subpixels(CART_WIDTH / 2, size), half_wheel)
    canvas = draw.spans(canvas, left=cart - wheel - half, right=cart - wheel + half, colors=colors)
    half = np.where(in_body, half_hinge, half_wheel)
    return draw.spans(
        canvas, left=cart + wheel - half, right=cart + wheel + half, colors=colors.replace("c", "b")
    )


def subpixels(units, size):
    """128ths of the frame to sub-pixels: an int."""
    return round(units * size * draw.SUBPIXEL / draw.FRAME_UNITS)


LEVELS = {
    "Easy": Params(max_steps_in_episode=200),
    "Medium": Params(max_steps_in_episode=400),
    "Hard": Params(max_steps_in_episode=600),
}
NOISY_LEVELS = {
    "Easy": Params(title=NOISY_NAME, noise_sigma=0.1),
    "Medium": Params(title=NOISY_NAME, noise_sigma=0.2),
    "Hard": Params(title=NOISY_NAME, noise_sigma=0.3),
}
