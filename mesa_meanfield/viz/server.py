"""The web server of a page: this machine's own, without a word to the outside."""

from __future__ import annotations

import os
import socket
import threading
import time
import webbrowser
from typing import Any

from mesa_meanfield.errors import MeanFieldError
from mesa_meanfield.viz import served
from mesa_meanfield.viz.session import OPEN

_GRACE = 2  # seconds that open tabs have to say goodbye when the server is stopped
_ABANDONED = "15m"  # after which a tab that went away without a word is stopped; one that is closed is so at once


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address, before anything is loaded.

    Args:
        host: Its name or number.
        port: Its port; 0 for one that is free.

    Raises:
        MeanFieldError: The port is taken or may not be used, or there is no such host.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family)
    except (OSError, OverflowError) as error:
        why = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise MeanFieldError(f"cannot listen at {host}, port {port}: {why}; choose another by --port") from None


def address(listening: socket.socket, host: str) -> str:
    """The page's address, for people."""
    return f"http://{host}:{listening.getsockname()[1]}"


def serve(page: Any, listening: socket.socket, url: str, *, open_browser: bool = False) -> None:
    """Serve a page until the process is interrupted or ended; then stop all that its tabs do.

    Args:
        page: What `page_of` gives.
        listening: By `bound`.
        url: Its address.
        open_browser: Whether to show it in a browser as soon as it is there.
    """
    served.page = page
    os.environ["SOLARA_APP"] = f"{served.__name__}:page"  # read when its server is imported
    import uvicorn
    from solara.server import settings

    settings.telemetry.mixpanel_enable = False  # it would tell its makers of every page that is opened
    settings.theme.show_banner = False
    settings.kernel.cull_timeout = _ABANDONED
    config = uvicorn.Config(
        "solara.server.starlette:app",
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server = uvicorn.Server(config)
    if open_browser:
        threading.Thread(target=_show, args=(server, url), daemon=True).start()
    try:
        server.run(sockets=[listening])
    finally:
        for session in list(OPEN):
            session.close()


def _show(server: Any, url: str) -> None:
    while not server.started:
        time.sleep(0.05)
    webbrowser.open(url)
