"""The window of the Gymnasium environments' render_mode="human"."""

import math
import os
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled

MAX_ENVS = 16  # environments of a vector that its window shows at most
PICTURE_SIDE = 640  # height in screen pixels up to which frames are enlarged


class Window:
    """A window that shows frames. It needs pygame-ce, which is imported only here."""

    def __init__(self, title: str, frames_per_second: int) -> None:
        """Raise DependencyNotInstalled without pygame-ce; the first frame opens the window."""
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ModuleNotFoundError as missing:
            raise DependencyNotInstalled(
                'render_mode="human" needs pygame-ce: pip install "popgym-arcade[human]"'
            ) from missing
        self._pygame = pygame
        self._title, self._frames_per_second = title, frames_per_second
        self._screen: Any = None
        self._clock: Any = None

    def show(self, frame: np.ndarray) -> None:
        """Show a frame, uint8[height, width, 3], and wait until the next one is due.

        Each pixel becomes a square of screen pixels.
        """
        height, width = frame.shape[:2]
        scale = max(1, PICTURE_SIDE // height)
        size = (width * scale, height * scale)
        if self._screen is None:
            self._pygame.display.init()
            self._pygame.display.set_caption(f"{self._title} - POPGym Arcade")
            self._screen = self._pygame.display.set_mode(size)
            self._clock = self._pygame.time.Clock()
        surface = self._pygame.image.frombuffer(frame.tobytes(), (width, height), "RGB")
        self._screen.blit(self._pygame.transform.scale(surface, size), (0, 0))
        self._pygame.event.pump()  # otherwise the desktop reports the program as not responding
        self._pygame.display.flip()
        self._clock.tick(self._frames_per_second)

    def close(self) -> None:
        """Close the window; another frame would open it again."""
        if self._screen is not None:
            self._pygame.display.quit()
            self._screen = None


def grid(frames: np.ndarray) -> np.ndarray:
    """Arrange frames, uint8[count, S, S, 3], in a nearly square grid: uint8[height, width, 3].

    Each has a dark border.
    """
    count, size = frames.shape[:2]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    border = size // 32
    frames = np.pad(
        frames, ((0, rows * columns - count), (border, border), (border, border), (0, 0))
    )
    cells = frames.reshape(rows, columns, *frames.shape[1:]).swapaxes(1, 2)
    return cells.reshape(rows * frames.shape[1], columns * frames.shape[2], 3)
