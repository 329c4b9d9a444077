"""Look into an agent's memory: what it remembers, what that is worth, and what disturbs it.

* ``episode``: roll out an agent for one episode and record its trajectory.
* ``saliency``: the gradient of each decision with respect to every past frame.
* ``measures``: observability gap, memory bias, recall density and memory contamination.
* ``differences``: observability gap and memory bias from the logs of training runs.
* ``figures``: figures of all of these.
* ``study``: everything about one agent; ``output`` writes it to a folder, ``report`` to a web page.
* ``introspect``: the command ``popgym-arcade-introspect``, which does all of it for a checkpoint.

docs/introspection.md explains each measure. Source of the ideas: Wang et al. (2025), "Investigating
Memory in Model-Free RL with POPGym Arcade", arXiv:2503.01450.
"""
