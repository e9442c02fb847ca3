"""How work inside a tick tells the outside how far it is, and how the outside stops it.

Backends call `report` between sub-batches. Whoever started the work watches with `watching`; a
watcher that raises stops the work there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watcher = Callable[[str, int, int], None]
"""Takes what is done, how many are done, and of how many."""

_watcher: ContextVar[Watcher | None] = ContextVar("mesa_meanfield_watcher", default=None)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Let the watcher hear every report made inside the block; one watcher around another hears both."""
    outer = _watcher.get()

    def both(what: str, done: int, total: int) -> None:
        watcher(what, done, total)
        if outer is not None:
            outer(what, done, total)

    token = _watcher.set(both)
    try:
        yield
    finally:
        _watcher.reset(token)


def report(what: str, done: int, total: int) -> None:
    """Say that ``done`` of ``total`` are done."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(what, done, total)
