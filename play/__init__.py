"""Play, watch and record: one environment before one person.

* ``cabinet``: one compiled environment that is stepped from Python.
* ``session``: a game in play, with its clock, its keys and its views.
* ``rules``: a game's docstring as rules for a player.
* ``record``: an episode as a GIF or a contact sheet, ``popgym-arcade-record``.
* ``window`` and ``web``: a session in a window, on pygame-ce, and in a browser, on aiohttp.

``python -m popgym_arcade.play``, or ``popgym-arcade-play``, is the command.
"""
