"""The processes beside the benchmark's own: servers, and mesa-llm in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import platformdirs

HERE = Path(__file__).parent
MESA_LLM = ("mesa-llm==0.2.0", "litellm[mcp]")
"""What its environment holds; without mcp, LiteLLM 1.106 cannot send tools, and mesa-llm tries again for ever."""


class Side:
    """A script in another process, which ends when its standard input does.

    Args:
        script: Its name, beside this file.
        arguments: Its arguments.
        python: What runs it.
    """

    def __init__(self, script: str, *arguments: str, python: Path | str = sys.executable) -> None:
        self._script = script
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # until close
        command = [str(python), str(HERE / script), *arguments]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._log, text=True)  # noqa: S603
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._in.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._out.close()
        self._log.close()

    def read(self) -> str:
        """Its next line.

        Raises:
            RuntimeError: It ended; the message shows what it said last.
        """
        line = self._out.readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"{self._script} ended: {self._log.read()[-2000:]}")
        return line.strip()

    def ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Send a line of JSON, and read one."""
        self._in.write(json.dumps(asked) + "\n")
        self._in.flush()
        answer: dict[str, Any] = json.loads(self.read())
        return answer


class MesaLlm(Side):
    """mesa-llm, which steps its agents as asked.

    Args:
        folder: Its environment; made and filled where there is none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        place = folder or Path(platformdirs.user_cache_dir("mesa-meanfield")) / MESA_LLM[0].replace("==", "-")
        python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        ready = place / "ready"
        if not ready.exists():
            print(f"Installing {', '.join(MESA_LLM)} into {place} (about 1 GB, once)", file=sys.stderr)
            venv.create(place, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *MESA_LLM], check=True)  # noqa: S603
            ready.touch()
        self.versions = _versions(python)
        super().__init__("mesa_llm_side.py", python=python)

    def tick(self, url: str, model: str, prompts: Sequence[tuple[str, str]], *, agents: str) -> dict[str, Any]:
        """Step one new crowd once.

        Args:
            url: Where the model is.
            model: Its name there.
            prompts: A system and a user prompt for each agent.
            agents: "ask" for one plain call each, "step" for a usual step.

        Returns:
            "seconds", "processor" (seconds of the client's process) and "replies".
        """
        return self.ask({"url": url, "model": model, "prompts": list(prompts), "agents": agents})


def _versions(python: Path) -> dict[str, str]:
    code = (
        "import importlib.metadata as m, json, platform; names = ('mesa-llm', 'mesa', 'litellm', 'openai'); "
        "print(json.dumps({'python': platform.python_version()} | {n: m.version(n) for n in names}))"
    )
    said = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout  # noqa: S603
    found: dict[str, str] = json.loads(said)
    return found
