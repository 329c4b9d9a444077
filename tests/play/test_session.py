"""Tests of a game being played, without a window: its clock, its keys and its views."""

import numpy as np
import pytest

from popgym_arcade import GAMES
from popgym_arcade.play import cabinet
from popgym_arcade.play.session import CLOCKS, Session
from popgym_arcade.registry import NO_ACTION

UP, DOWN, LEFT, RIGHT, FIRE = range(5)


def session(name="NavigatorEasy", seed=1, **options):
    """A new session."""
    return Session(cabinet.build(name), seed=seed, **options)


# --- games that step on a key --------------------------------------------------------------------


def test_where_no_clock_runs_each_key_is_a_step():
    played = session()
    assert played.fps == 0 and played.due is None
    for count, action in enumerate([LEFT, UP, FIRE], 1):
        assert played.press(action, now=0.0)
        assert played.episode.time == count and played.due is None
    assert not played.tick(now=1e9)


def test_an_arrow_that_stays_down_repeats_but_fire_does_not():
    played = session()
    assert played.press(LEFT, 0.0, repeated=True)
    assert not played.press(FIRE, 0.0, repeated=True)
    assert played.episode.time == 1


def test_an_episode_that_is_over_waits_for_a_restart():
    played = session("SkittlesEasy", fps=0)
    while not played.episode.done:
        played.press(LEFT, 0.0)
    steps = played.episode.time
    assert not played.press(LEFT, 0.0) and played.episode.time == steps
    assert played.message() == f"Game over. Return: {steps / 100 - 0.01:.3f}. Press R to play again"
    played.restart()
    assert played.episode.time == 0 and played.press(LEFT, 0.0)


def test_the_end_by_the_limit_of_steps_is_told_apart():
    played = Session(cabinet.build("NavigatorEasy", max_steps_in_episode=2), seed=1)
    played.press(UP, 0.0)
    played.press(UP, 0.0)
    assert played.message().startswith("Out of steps. Return: -0.016. ")


# --- games on a clock ----------------------------------------------------------------------------


def test_the_clock_begins_with_the_first_key_and_then_goes_on_by_itself():
    played = session("SkittlesEasy", fps=4)
    assert played.due is None and not played.tick(100.0)
    assert played.message() == "Press an arrow or space to start"
    assert not played.press(FIRE, 100.0)
    played.release(FIRE)
    assert played.due == 100.25 and played.episode.time == 0 and played.message() == ""
    assert [played.tick(now) for now in (100.2, 100.25, 100.3, 100.49, 100.5, 100.75)] == [
        False,
        True,
        False,
        False,
        True,
        True,
    ]
    assert played.episode.time == 3


def test_a_tap_between_two_steps_is_played_once_and_a_held_key_with_every_step():
    played = session("SkittlesEasy", fps=4, seed=5)
    moved = []
    original = played.step
    played.step = lambda action: (moved.append(action), original(action))
    played.press(LEFT, 0.0)
    played.release(LEFT)
    played.tick(0.25)
    played.tick(0.5)
    played.press(RIGHT, 0.6)
    for now in (0.75, 1.0):
        played.tick(now)
    played.press(LEFT, 1.1)  # the newer of two keys counts
    for now in (1.25, 1.5):
        played.tick(now)
    played.release(LEFT)
    played.tick(1.75)
    played.release(RIGHT)
    played.tick(2.0)
    assert moved == [LEFT, NO_ACTION, RIGHT, RIGHT, LEFT, LEFT, RIGHT, NO_ACTION]


def test_a_key_that_goes_down_twice_is_held_once():
    played = session("SkittlesEasy", fps=4)
    played.press(LEFT, 0.0)
    played.press(LEFT, 0.0)
    assert played.held == [LEFT]


def test_key_repeat_means_nothing_on_a_clock():
    played = session("SkittlesEasy", fps=4)
    played.press(LEFT, 0.0, repeated=True)
    assert played.due is None and not played.pressed


def test_steps_that_were_missed_are_not_made_up_for():
    played = session("SkittlesEasy", fps=4)
    played.press(FIRE, 0.0)
    assert played.tick(3.0) and not played.tick(3.0)
    assert played.due == 3.25


def test_a_pause_stops_the_clock_until_the_next_key_and_forgets_the_old_ones():
    played = session("SkittlesEasy", fps=4)
    played.press(LEFT, 0.0)
    played.tick(0.25)
    played.pause()
    assert played.due is None and not played.tick(9.0) and "Paused" in played.message()
    played.press(RIGHT, 10.0)
    assert played.due == 10.25 and list(played.pressed) == [RIGHT] and played.held == [RIGHT]


def test_the_clock_stops_with_the_episode():
    played = session("SkittlesEasy", fps=4)
    played.press(LEFT, 0.0)
    now = 0.0
    while not played.episode.done:
        now += 0.25
        played.tick(now)
    assert played.due is None and not played.tick(now + 9)


MOVE_BY_THEMSELVES = {"Breakout", "CartPole", "NoisyCartPole", "Skittles", "Tetris"}


def test_the_games_that_move_by_themselves_run_on_a_clock():
    assert set(CLOCKS) == MOVE_BY_THEMSELVES < set(GAMES)
    assert session("SkittlesEasy").fps == CLOCKS["Skittles"] and session("NavigatorEasy").fps == 0


def test_an_option_overrides_the_clock():
    assert session("SkittlesEasy", fps=0).fps == 0 and session("NavigatorEasy", fps=3).fps == 3


# --- what is shown -------------------------------------------------------------------------------


def test_a_swap_changes_the_view_and_nothing_else():
    played = session()
    played.press(LEFT, 0.0)
    before, frame = played.episode, played.picture()
    played.swap()
    assert played.episode is before
    assert (frame == cabinet.observe(played.machine, before, False)).all()
    assert (played.picture() == cabinet.observe(played.machine, before, True)).all()
    assert played.status()["view"] == "POMDP"


def test_a_swap_changes_nothing_where_both_views_are_shown():
    played = session(both=True)
    before = played.status(), played.picture()
    played.swap()
    assert not played.partial_obs and played.status() == before[0]
    assert (played.picture() == before[1]).all()


def test_both_views_show_one_state():
    played = session(both=True)
    played.press(LEFT, 0.0)
    parts = [
        cabinet.observe(played.machine, played.episode, partial_obs)
        for partial_obs in (False, True)
    ]
    assert (played.picture() == cabinet.side_by_side(parts)).all()
    assert (played.picture()[:, :128] == parts[0]).all() and (
        played.picture()[:, -128:] == parts[1]
    ).all()


def test_a_seed_decides_every_episode_and_the_episodes_differ():
    one, other, foreign = session(seed=7), session(seed=7), session(seed=8)
    for played in (one, other, foreign):
        played.restart()
    first = session(seed=7)
    assert (one.picture() == other.picture()).all()
    assert (one.picture() != foreign.picture()).any() and (one.picture() != first.picture()).any()


def test_the_status_counts_return_and_steps():
    played = session(seed=7)
    played.press(FIRE, 0.0)
    status = played.status()
    assert (status["game"], status["level"], status["view"]) == ("Navigator", "Easy", "MDP")
    assert (status["return"], status["step"], status["seed"], status["episode"]) == (
        "-0.008",
        "1 of 64",
        "7",
        "1",
    )


@pytest.mark.parametrize("keep_all, count", [(False, 2), (True, 5)])
def test_the_pictures_of_the_episode_or_of_all_of_them_are_kept(keep_all, count):
    played = session(keep_all=keep_all)
    played.press(LEFT, 0.0)
    played.press(UP, 0.0)
    played.restart()
    played.press(UP, 0.0)
    assert len(played.pictures) == count
    assert (played.pictures[count - 1] == played.picture()).all()


def test_pictures_are_numpy_bytes():
    picture = session().picture()
    assert (
        isinstance(picture, np.ndarray)
        and picture.dtype == np.uint8
        and picture.shape == (128, 128, 3)
    )
