"""llama.cpp's own server, in a process of its own: ``python real_server.py FILE.gguf SLOTS`` prints its address."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY = 120
"""Seconds that it may take to load a small model."""
TOKENS = 1024
"""Of one prompt with its reply."""


@contextmanager
def serving(gguf: Path, slots: int) -> Iterator[str]:
    """The URL of a server inside a with block; whatever happens, it does not outlive this process."""
    command = [sys.executable, __file__, str(gguf), str(slots)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        too_late = threading.Timer(READY, process.kill)
        too_late.start()
        try:
            address = process.stdout.readline().strip()
            too_late.cancel()
            if not address:
                log.seek(0)
                raise RuntimeError(f"The server did not start: {log.read()[-2000:]}")
            yield f"{address}/v1"
        finally:
            too_late.cancel()
            process.kill()
            process.communicate()


def main() -> None:
    """Serve until nobody holds the other end of the standard input any more."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_parallel = int(sys.argv[2])
    params.n_ctx = TOKENS * params.n_parallel
    # Threads of a small model that wait for each other on a busy machine take several times as long as one.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)  # on 127.0.0.1 and a free port
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
