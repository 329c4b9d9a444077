"""The saliency functions of ``popgym_arcade.introspection``, under the name of published code."""

from popgym_arcade.introspection.figures import vis_fn
from popgym_arcade.introspection.saliency import get_saliency_maps, get_terminal_saliency_maps

__all__ = ["get_saliency_maps", "get_terminal_saliency_maps", "vis_fn"]
