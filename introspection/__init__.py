"""Look into an agent's memory: which past pixels it remembers, what its memory is worth, and what
harms it.

* ``episode``: plays an agent through an episode and keeps all that it saw.
* ``saliency``: the gradient of each decision with respect to every frame before it.
* ``measures``: observability gap, memory bias, recall density and memory contamination.
* ``figures``: pictures of these.
* ``report``: the page with the film strip.
* ``introspect``: the command ``popgym-arcade-introspect``, which does all of it for a checkpoint.

docs/introspection.md explains each measure. Source of the ideas: Wang et al. (2025), "POPGym
Arcade: Parallel Pixelated POMDPs", arXiv:2503.01450.
"""
