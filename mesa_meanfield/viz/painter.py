"""Who tells a page that there is something new: a thread of its own, which waits until the last news is drawn.

A value that is set anew while a page is drawn makes Solara begin again, in the thread that happens to draw: a fast
model would keep a page from ever being drawn, and keep the thread of whoever clicked from hearing the next click.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import final

_PATIENCE = 2.0  # seconds after which a page that says nothing is told the next news all the same


@final
class Painter:
    """Tells a page of changes, at most one at a time.

    Args:
        paint: Tells it the number of the news; called in the painter's own thread.
    """

    def __init__(self, paint: Callable[[int], None]) -> None:
        self._paint = paint
        self._told = self._drawn = self._wanted = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in the context of the calling thread."""
        self._thread = threading.Thread(target=self._work, name="meanfield-painter", daemon=True)
        self._thread.start()

    def changed(self) -> None:
        """Say that there is something new; never waits for the page."""
        with self._changed:
            self._wanted += 1
            self._changed.notify_all()

    def drawn(self, number: int) -> None:
        """Say that the page has drawn a piece of news."""
        with self._changed:
            self._drawn = max(self._drawn, number)
            self._changed.notify_all()

    def close(self) -> None:
        """Tell nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._wanted > self._told)
                if self._closed:
                    return
                self._told = number = self._wanted
            try:
                self._paint(number)
            except Exception:
                if not self._closed:  # the page may go away at any time
                    raise
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._drawn >= self._told, _PATIENCE)
