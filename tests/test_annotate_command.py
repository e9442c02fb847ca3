"""``mesa-meanfield annotate``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from fake_server import FakeServer, isolated  # noqa: F401
from readers import MILD, Reader, named, remarks
from worlds import cascade

from mesa_meanfield import ScriptedBackend
from mesa_meanfield.cascades.dimensions import annotated_dimensions
from mesa_meanfield.cascades.jsonl import read_cascades, write_cascades
from mesa_meanfield.cli import annotate as command
from mesa_meanfield.cli import main
from mesa_meanfield.errors import BackendUnavailable
from mesa_meanfield.protocols import Reply


@pytest.fixture
def data(tmp_path):
    """Three cascades: gold stances, Chinese texts with a bare repost, and one without actions."""
    file = tmp_path / "data.jsonl"
    chinese = remarks("哈哈", "转发微博", "真的吗？", key="c2", language="zh", topic="运河里有海象")
    write_cascades(file, [cascade(6), chinese, cascade(0, key="c3")])
    return file


def run(capsys, data, out, *options, backend="scripted"):
    arguments = ["annotate", "--data", str(data), "--out", str(out), "--backend", backend, *map(str, options)]
    status = main(arguments)
    output = capsys.readouterr()
    return status, output.out, output.err


def answers(monkeypatch, backend):
    """Let the command find this backend behind any specification."""
    monkeypatch.setattr(command, "load_backend", lambda *_, **__: backend)
    return backend


def test_the_same_cascades_come_out_with_labels(capsys, tmp_path, data):
    status, stdout, err = run(capsys, data, tmp_path / "new" / "out.jsonl")
    assert status == 0, err
    before, after = read_cascades(data), read_cascades(tmp_path / "new" / "out.jsonl")
    asked = {f"annotated.{dimension}" for dimension in annotated_dimensions()}
    assert [one.id for one in after] == ["c1", "c2", "c3"]
    for old, new in zip(before, after, strict=True):
        for one, labelled in zip(old.actions, new.actions, strict=True):
            assert labelled.labels.items() >= one.labels.items()
            assert labelled.labels.keys() - one.labels.keys() == (set() if one.text == "转发微博" else asked)
    assert "8 texts asked, 0 from the cache, 0 failed" in stdout
    assert "deny counts as oppose, query counts as neutral" in stdout
    assert "Annotate: 3/3 (3 cascades, 8 texts)" in err
    names = {file.name for file in (tmp_path / "new").iterdir()}
    assert names <= {"out.jsonl", "out.jsonl.cache.jsonl", "out.jsonl.cache.jsonl.lock"}


def test_json_is_one_object_with_all_figures(capsys, tmp_path, data, monkeypatch):
    answers(monkeypatch, Reader(lambda text: "" if text == "Remark 2." else MILD, name="reader"))
    status, stdout, _ = run(capsys, data, tmp_path / "o.jsonl", "--json", "--dimensions", "stance, annotated.belief")
    assert (status, stdout.count("\n")) == (0, 1)
    found = json.loads(stdout)
    (stance,) = found.pop("agreement")
    assert (stance["dimension"], stance["gold"], stance["texts"]) == ("annotated.stance", "stance", 5)
    assert (stance["accuracy"], stance["kappa"]) == (0.4, 0)  # a query and a comment of five
    assert found.pop("spent")["retries"] == 2
    assert found.pop("seconds") > 0
    assert found == {
        "file": str(tmp_path / "o.jsonl"), "cache": str(tmp_path / "o.jsonl.cache.jsonl"), "model": "reader",
        "cascades": 3, "actions": 9, "texts": 8, "asked": 8, "cached": 0, "failures": 1,
        "labels": {
            "annotated.stance": {"neutral": 7, "support": 0, "oppose": 0},
            "annotated.belief": {"believe": 0, "doubt": 7},
            "behaviour": {"comment": 8, "share": 1},
        },
    }  # fmt: skip


def test_what_could_not_be_labelled_is_noted_with_a_reason_and_stays_without(capsys, tmp_path, data, monkeypatch):
    answers(monkeypatch, Reader(lambda text: Reply(failure="it coughed") if text == "哈哈" else MILD))
    status, stdout, err = run(capsys, data, tmp_path / "o.jsonl")
    assert status == 0
    assert "note: 1 of 8 texts could not be labelled and have no label (one of them: it coughed)" in err
    assert "1 failed, 2 retries" in stdout
    assert [one.labels for one in read_cascades(tmp_path / "o.jsonl")[1].actions] == [{}, {}, named(MILD)]
    reader = answers(monkeypatch, Reader())
    cache = ["--cache", tmp_path / "o.jsonl.cache.jsonl"]
    assert run(capsys, data, tmp_path / "again.jsonl", *cache)[0] == 0
    assert reader.texts == ["哈哈"]


def test_where_not_one_text_could_be_labelled_nothing_is_written(capsys, tmp_path, data, monkeypatch):
    answers(monkeypatch, ScriptedBackend(lambda request: "I cannot do that."))
    status, stdout, err = run(capsys, data, tmp_path / "o.jsonl")
    assert (status, stdout) == (1, "")
    assert "Not one of 8 texts could be labelled: Reply 'I cannot do that.' holds no whole JSON" in err
    assert not {"o.jsonl", "o.jsonl.partial"} & {file.name for file in tmp_path.iterdir()}


def test_data_without_a_text_are_no_failure(capsys, tmp_path):
    write_cascades(tmp_path / "data.jsonl", [remarks("", "转发微博")])
    status, stdout, _ = run(capsys, tmp_path / "data.jsonl", tmp_path / "o.jsonl", "--json")
    assert (status, json.loads(stdout)["texts"], json.loads(stdout)["agreement"]) == (0, 0, [])


def test_the_cache_answers_a_second_run_and_another_seed_asks_anew(capsys, tmp_path, data):
    cache = ["--json", "--cache", tmp_path / "c.jsonl"]
    counts = []
    for number, seed in enumerate((0, 0, 1)):
        _, stdout, _ = run(capsys, data, tmp_path / f"{number}.jsonl", *cache, "--seed", seed)
        counts.append((json.loads(stdout)["asked"], json.loads(stdout)["cached"]))
    assert counts == [(8, 0), (0, 8), (8, 0)]
    first, second, third = ((tmp_path / f"{number}.jsonl").read_bytes() for number in range(3))
    assert first == second != third


def test_a_limit_takes_the_first_cascades(capsys, tmp_path, data):
    assert run(capsys, data, tmp_path / "o.jsonl", "--limit", 1)[0] == 0
    assert [one.id for one in read_cascades(tmp_path / "o.jsonl")] == ["c1"]


def test_a_language_without_prompts_is_told_once(capsys, tmp_path):
    write_cascades(tmp_path / "d.jsonl", [remarks("Bof.", key=key, language="fr") for key in ("c1", "c2")])
    status, _, err = run(capsys, tmp_path / "d.jsonl", tmp_path / "o.jsonl")
    assert (status, err.count("no prompts in language 'fr'")) == (0, 1)


# --- Interruptions ---------------------------------------------------------------------------------


class Leaving(Reader):
    """Breaks off after two texts."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def generate(self, requests):
        if len(self.asked) >= 2:
            raise self.error
        return super().generate(requests)


@pytest.mark.parametrize(("error", "expected"), [(KeyboardInterrupt(), 1), (BackendUnavailable("It is gone"), 2)])
def test_what_breaks_off_leaves_no_file_and_goes_on_from_the_cache(
    capsys, tmp_path, data, monkeypatch, error, expected
):
    monkeypatch.setattr(command, "_TEXTS", 2)
    answers(monkeypatch, Leaving(error))
    status, stdout, err = run(capsys, data, tmp_path / "o.jsonl")
    assert (status, stdout) == (expected, "")
    assert "o.jsonl.cache.jsonl; the same command goes on from there" in err
    assert not {"o.jsonl", "o.jsonl.partial"} & {file.name for file in tmp_path.iterdir()}
    reader = answers(monkeypatch, Reader())
    _, stdout, _ = run(capsys, data, tmp_path / "o.jsonl", "--json")
    assert (json.loads(stdout)["cached"], len(reader.asked)) == (2, 6)


def test_a_killed_run_goes_on_where_it_was(capsys, tmp_path):
    texts = [remarks(*(f"{n} {i}." for i in range(4)), key=f"c{n}") for n in range(200)]
    write_cascades(tmp_path / "data.jsonl", texts)
    out, cache = tmp_path / "o.jsonl", tmp_path / "o.jsonl.cache.jsonl"
    arguments = ["annotate", "--data", str(tmp_path / "data.jsonl"), "--out", str(out), "--backend", "scripted"]
    script = (
        "import time, mesa_meanfield.cli.annotate as annotate\n"
        "from mesa_meanfield import ScriptedBackend\n"
        "from mesa_meanfield.cli import main\n"
        "class Slow(ScriptedBackend):\n"
        "    def generate(self, requests):\n"
        "        return time.sleep(.1) or super().generate(requests)\n"
        "annotate.load_backend = lambda *a, **k: Slow()\n"
        "annotate._TEXTS = 8\n"
        f"main({arguments!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    for _ in range(3):  # steps that are done
        process.stderr.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert not out.exists()
    kept = cache.read_bytes().count(b"\n")
    assert 0 < kept < 800
    status, stdout, _ = run(capsys, tmp_path / "data.jsonl", out, "--json")
    assert (status, json.loads(stdout)["cached"], json.loads(stdout)["asked"]) == (0, kept, 800 - kept)
    run(capsys, tmp_path / "data.jsonl", tmp_path / "whole.jsonl")
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not (tmp_path / "o.jsonl.partial").exists()


# --- Wrong use -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--dimensions", "behaviour"], "behaviour is known by rule"),
        (["--dimensions", "mood"], "some of rumour, "),
        (["--limit", "0"], "--limit must be at least 1, got 0"),
        (["--batch", "0"], "batch must be at least 1"),
        (["--backend", "nowhere"], "Unknown backend 'nowhere'"),
        (["--adapter", "folder"], "An adapter needs a local model"),
    ],
)
def test_what_cannot_be_is_told_in_one_line_with_status_2(capsys, tmp_path, data, options, expected):
    status, stdout, err = run(capsys, data, tmp_path / "o.jsonl", *options)
    assert (status, stdout, err.count("\n")) == (2, "", 1)
    assert expected in err
    assert not (tmp_path / "o.jsonl").exists()


def test_files_that_cannot_be_are_told_in_one_line_with_status_2(capsys, tmp_path, data):
    kept = data.read_bytes()
    (tmp_path / "empty.jsonl").write_text("\n \n")
    (tmp_path / "broken.jsonl").write_bytes(kept.splitlines(keepends=True)[0] + b"{}\n")
    out = tmp_path / "o.jsonl"
    for arguments, expected in [
        ([data, data], "is there already"),
        ([data, out, "--cache", data], "needs a file of its own"),
        ([data, out, "--cache", out], "needs a file of its own"),
        ([data, out, "--cache", tmp_path], "cannot be used"),
        ([tmp_path / "none.jsonl", out], "cannot be read"),
        ([tmp_path / "empty.jsonl", out], "holds no cascade"),
        ([tmp_path / "broken.jsonl", out], "broken.jsonl line 2: "),
    ]:
        status, stdout, err = run(capsys, *arguments)
        assert (status, stdout) == (2, "")
        assert expected in err.splitlines()[-1]
        assert not out.exists()
    assert data.read_bytes() == kept


@pytest.mark.parametrize("options", [[], ["--data", "d"], ["--data", "d", "--out", "o", "--seed", "-1"]])
def test_wrong_use_is_one_line_and_status_2(capsys, options):
    with pytest.raises(SystemExit) as stopped:
        main(["annotate", *options])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- A server --------------------------------------------------------------------------------------


def test_a_server_is_asked_by_a_schema_and_its_key_stays_out_of_the_cache(capsys, tmp_path, data, monkeypatch):
    monkeypatch.setenv("MESA_MEANFIELD_API_KEY", "sesame")
    with FakeServer(reply=lambda body: f"Here: {json.dumps(MILD)}", key="sesame") as fake:
        status, stdout, err = run(capsys, data, tmp_path / "o.jsonl", "--json", backend=f"{fake.url}#tiny")
    assert status == 0, err
    assert (json.loads(stdout)["asked"], json.loads(stdout)["failures"]) == (8, 0)
    shapes = [body["response_format"]["json_schema"]["schema"] for body in fake.asked if "response_format" in body]
    assert [list(shape["properties"]) for shape in shapes] == [list(annotated_dimensions())] * 8
    assert "sesame" not in (tmp_path / "o.jsonl.cache.jsonl").read_text()
    assert [one.labels for one in read_cascades(tmp_path / "o.jsonl")[1].actions] == [named(MILD), {}, named(MILD)]


def test_a_server_that_refuses_is_told_before_anything_is_written(capsys, tmp_path, data):
    with FakeServer(key="sesame") as fake:
        status, stdout, err = run(capsys, data, tmp_path / "o.jsonl", backend=f"{fake.url}#tiny")
    assert (status, stdout) == (2, "")
    assert "MESA_MEANFIELD_API_KEY" in err
    assert not (tmp_path / "o.jsonl").exists()
