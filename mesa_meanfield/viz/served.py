"""The page that `serve` serves: Solara looks for a page in a module."""

from __future__ import annotations

from typing import Any

page: Any = None  # a Solara element, put here by serve() before the server starts
