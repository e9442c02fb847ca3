"""The command that serves pages: what it refuses before anything is served."""

from __future__ import annotations

import importlib.util
import json
import socket
from pathlib import Path

import pytest
from worlds import cascade

from mesa_meanfield import write_cascades
from mesa_meanfield.cli import main

MODELS = Path(__file__).parent / "page_models.py"


@pytest.fixture
def served(monkeypatch):
    """What would be served, by a server that ends at once."""
    pytest.importorskip("solara", reason="needs the viz extra")
    from mesa_meanfield.viz import server

    pages = []
    monkeypatch.setattr(server, "serve", lambda page, listening, url, **_: pages.append((page, listening, url)))
    return pages


def serve(capsys, *arguments):
    status = main(
        ["serve", *map(str, arguments), "--port", "0"] if "--port" not in arguments else ["serve", *arguments]
    )
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "'nothing' names no function"),
        ([f"{MODELS}:Nobody"], "page_models.py has no 'Nobody'"),
        (["nowhere.py:Town"], "there is no file"),
        ([f"{MODELS}:Lonely"], "Lonely holds no MeanFieldScheduler"),
        ([f"{MODELS}:Broken"], "the model cannot be made: RuntimeError: no agents today"),
        ([f"{MODELS}:Demanding"], "Demanding needs 'people'"),
        ([f"{MODELS}:Watched", "--backend", "scripted"], "has no parameter 'backend' for --backend"),
        ([f"{MODELS}:Watched", "--id", "c1"], "--id is for the model cascade"),
        (["cascade", "--backend", "oracle"], "Unknown backend 'oracle'"),
        (["town", "--backend", "oracle"], "Unknown backend 'oracle'"),
        (["cascade", "--backend", "http://127.0.0.1:9/v1#m"], "127.0.0.1:9"),
        (["cascade", "--backend", "scripted", "--id", "none"], "there is no cascade 'none'"),
        (["cascade", "--backend", "scripted", "--data", "nofile.jsonl"], "nofile.jsonl"),
        (["cascade", "--backend", "scripted", "--host", "no.such.host.invalid"], "cannot listen at"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(capsys, served, arguments, message):
    status, out, err = serve(capsys, *arguments)
    assert (status, out, served) == (2, "", [])
    lines = [line for line in err.splitlines() if not line.startswith(("Backend: ", "Model: "))]
    assert len(lines) == 1
    assert message in lines[0]


def test_a_port_in_use_is_told(capsys, served):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, _, err = serve(capsys, f"{MODELS}:Watched", "--port", port)
    assert status == 2
    assert f"port {port}: Address already in use; choose another by --port" in err


def test_without_the_extra_it_says_what_to_install(capsys, monkeypatch):
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "solara" else known(name))
    status, _, err = serve(capsys)
    assert status == 2
    assert 'pip install "mesa-meanfield[viz]"' in err


def test_json_is_one_object_with_the_address(capsys, served):
    status, out, _ = serve(capsys, f"{MODELS}:Watched", "--seed", "5", "--json")
    assert (status, out.count("\n")) == (0, 1)
    (_, _, url) = served[0]
    assert json.loads(out) == {"url": url, "model": f"{MODELS}:Watched", "backend": None}
    assert url.startswith("http://localhost:")


def test_it_listens_on_this_machine_alone_unless_told_otherwise(capsys, served):
    addresses = []
    for host in ([], ["--host", "0.0.0.0"]):
        _, _, err = serve(capsys, f"{MODELS}:Watched", *host)
        addresses.append("can be reached by others" in err)
    assert addresses == [False, True]


def test_what_is_given_is_what_the_page_begins_with(capsys, served):
    serve(capsys, "town", "--backend", "scripted", "--summarizer", "recent", "--seed", "7")
    serve(capsys, f"{MODELS}:Watched", "--seed", "9")
    town, own = (page.args[0].parameters.values for page, *_ in served)
    assert (town["backend"], town["summarizer"], town["rng"]) == ("scripted", "recent", 7)
    assert own == {"mood": "plain", "voters": 4, "rng": 9}


def test_a_cascades_page_makes_its_model_and_has_its_record(capsys, served, tmp_path):
    file = tmp_path / "cascades.jsonl"
    write_cascades(file, [cascade(20, key="c1"), cascade(12, key="c2"), cascade(0, key="empty")])
    arguments = ("--data", file, "--id", "c2", "--backend", "scripted", "--summarizer", "none", "--seed", "3")
    status, _, _ = serve(capsys, "cascade", *arguments)
    assert status == 0
    subject = served[0][0].args[0]
    values = subject.parameters.values
    assert subject.parameters.inputs["cascade"]["values"] == ["c1", "c2"]
    assert (values["cascade"], values["rng"], values["summarizer"]) == ("c2", 3, "none")
    model = subject.make(**values)
    while model.running:
        model.step()
    real = subject.real(values)
    assert len(real) == len(model.ticks)
    assert sum(sum(tick["stance"].values()) for tick in real) == 12
    played = [sum(tick["stance"].values()) for tick in real[: len(model.cut.warm_up)]]
    assert sum(played) == 3
