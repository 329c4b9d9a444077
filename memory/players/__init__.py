"""One module a game: what its frames show, and how to play it with memory and without."""

from popgym_arcade.games import navigator as navigator_game
from popgym_arcade.memory.player import Player
from popgym_arcade.memory.players import navigator

__all__ = ["PLAYERS"]

PLAYERS: dict[type, Player] = {
    navigator_game.Params: navigator.PLAYER,
}
"""The Player of every game: its class of Params -> Player."""
