"""One module a game: what its frames show, and how to play it with memory and without."""

from popgym_arcade.memory.player import Player
from popgym_arcade.memory.players import (
    autoencode,
    battleship,
    breakout,
    cartpole,
    count_recall,
    minesweeper,
    navigator,
    skittles,
    tetris,
)

__all__ = ["PLAYERS"]

PLAYERS: dict[str, Player] = {
    "AutoEncode": autoencode.PLAYER,
    "BattleShip": battleship.PLAYER,
    "Breakout": breakout.PLAYER,
    "CartPole": cartpole.PLAYER,
    "CountRecall": count_recall.PLAYER,
    "MineSweeper": minesweeper.PLAYER,
    "Navigator": navigator.PLAYER,
    "NoisyCartPole": cartpole.PLAYER,
    "Skittles": skittles.PLAYER,
    "Tetris": tetris.PLAYER,
}
"""The Player of every game, by its name."""
