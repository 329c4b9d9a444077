"""Play, watch and record: one environment before one person.

* ``cabinet``: a compiled environment that is stepped from Python.
* ``session``: a game being played, with its clock, keys and views.
* ``rules``: a game's docstring as rules for a player.
* ``record``: an episode as a GIF or a contact sheet; ``popgym-arcade-record``.
* ``window`` and ``web``: a session in a window (pygame-ce) or in a browser (aiohttp).

``python -m popgym_arcade.play``, or ``popgym-arcade-play``, is the command.
"""
