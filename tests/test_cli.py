from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
from worlds import cascade

from mesa_meanfield import write_cascades
from mesa_meanfield.cli import main


def run(capsys, *arguments):
    status = main(["run", "--backend", "scripted", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "cascades.jsonl"
    write_cascades(file, [cascade(0, key="empty"), cascade(20, key="c1"), cascade(12, key="c2")])
    return file


def lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_json_is_one_object_with_all_that_is_promised(capsys, data, tmp_path):
    status, out, _ = run(capsys, "--data", data, "--out", tmp_path / "r", "--json", "--summarizer", "tally")
    assert status == 0
    assert out.count("\n") == 1
    result = json.loads(out)
    wanted = "cascade labels real simulated kl js noise_floor rivals ticks agents failures usage seconds run_dir"
    assert set(wanted.split()) <= set(result)
    assert set(result["usage"]) == {"calls", "tokens_asked", "tokens_computed", "retries", "seconds"}
    assert (result["cascade"], result["agents"], result["ticks"], result["failures"]) == ("c1", 14, 4, 0)
    assert math.fsum(result["simulated"].values()) == pytest.approx(1)
    assert set(result["rivals"]) == {"uniform", "persistence_shrunk"}
    kl = sum(p * math.log(p / result["simulated"][label]) for label, p in result["real"].items() if p)
    assert result["kl"] == pytest.approx(kl)


def test_the_run_directory_holds_everything(capsys, data, tmp_path):
    run(capsys, "--data", data, "--out", tmp_path / "r")
    out = tmp_path / "r"
    assert {f.name for f in out.iterdir()} == {
        "calls.sqlite", "config.json", "decisions.jsonl", "fields.jsonl", "prompts.json", "result.json", "trend.png"
    }  # fmt: skip
    decisions, fields = lines(out / "decisions.jsonl"), lines(out / "fields.jsonl")
    assert [d["agent"] for d in decisions] == [f"a{i}" for i in range(1, 21)]
    assert [d["recorded"] for d in decisions] == [True] * 6 + [False] * 14
    assert all(math.fsum(d["distribution"].values()) == pytest.approx(1) for d in decisions[6:])
    assert all({"tick", "label", "text", "seed", "failure", "prompt_hash"} <= set(d) for d in decisions)
    assert [f["size"] for f in fields] == [4, 6, 10, 14, 18, 20]
    assert all(math.fsum(f["shares"].values()) == pytest.approx(1) for f in fields)
    assert (out / "trend.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "config.json").read_text())["seed"] == 0


def test_the_table_names_real_simulated_floor_and_rivals(capsys, data, tmp_path):
    write_cascades(tmp_path / "train.jsonl", [cascade(20, key="t1"), cascade(30, key="t2")])
    status, out, err = run(capsys, "--data", data, "--train", tmp_path / "train.jsonl", "--out", tmp_path / "r")
    assert status == 0
    for name in ("real", "simulated (llm)", "uniform", "prior", "persistence_shrunk", "noise floor"):
        assert name in out
    assert "6/6 ticks" in err


def test_training_data_never_hold_the_cascade_itself_and_change_no_simulation(capsys, data, tmp_path):
    def result(name, *arguments):
        assert run(capsys, "--data", data, "--out", tmp_path / name, *arguments)[0] == 0
        return json.loads((tmp_path / name / "result.json").read_text())

    write_cascades(tmp_path / "t.jsonl", [cascade(20, ["support", "other"], key="t1")])
    write_cascades(tmp_path / "leak.jsonl", [cascade(20, key="c1"), cascade(20, ["support", "other"], key="t1")])
    plain, trained, leaking = (
        result(name, *arguments)
        for name, arguments in {
            "a": (),
            "b": ("--train", tmp_path / "t.jsonl"),
            "c": ("--train", tmp_path / "leak.jsonl", "--train", tmp_path / "t.jsonl"),
        }.items()
    )
    assert plain["simulated"] == trained["simulated"]
    assert trained["rivals"] == leaking["rivals"]
    status, _, err = run(capsys, "--data", data, "--train", data, "--id", "c2", "--out", tmp_path / "d")
    assert status == 0
    write_cascades(tmp_path / "only.jsonl", [cascade(20, key="c1")])
    status, _, err = run(capsys, "--data", data, "--train", tmp_path / "only.jsonl", "--out", tmp_path / "e")
    assert (status, "holds nothing but this cascade" in err) == (2, True)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(capsys, data, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(capsys, "--data", data, "--seed", seed, "--out", tmp_path / name)[0] == 0
    for file in ("decisions.jsonl", "fields.jsonl", "trend.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert (tmp_path / "a" / "decisions.jsonl").read_bytes() != (tmp_path / "c" / "decisions.jsonl").read_bytes()


@pytest.mark.parametrize("summarizer", ["llm", "tally", "none", "recent", "popular"])
def test_every_summarizer_is_one_argument_away(capsys, data, tmp_path, summarizer):
    assert run(capsys, "--data", data, "--summarizer", summarizer, "--out", tmp_path / "r")[0] == 0
    fields = lines(tmp_path / "r" / "fields.jsonl")
    assert all(bool(f["text"]) == (summarizer != "none") for f in fields)


def test_agents_warm_up_and_per_tick_cut_as_said(capsys, data, tmp_path):
    arguments = ("--agents", 5, "--warm-up", 0.5, "--per-tick", 3, "--out", tmp_path / "r", "--json")
    _, out, _ = run(capsys, "--data", data, *arguments)
    assert (json.loads(out)["agents"], json.loads(out)["ticks"]) == (5, 2)


def test_unlabelled_cascades_use_the_rule_derived_behaviour(capsys, tmp_path):
    file = tmp_path / "weibo.jsonl"
    write_cascades(file, [cascade(20, [None], language="zh", topic="桥明天关闭。")])
    _, out, _ = run(capsys, "--data", file, "--out", tmp_path / "r", "--json")
    assert json.loads(out)["labels"] == ["comment", "share"]
    prompts = [d["text"] for d in lines(tmp_path / "r" / "decisions.jsonl") if d["label"] == "share"]
    assert prompts
    assert set(prompts) == {""}


def test_every_shipped_cascade_runs(capsys, tmp_path):
    from importlib.resources import files

    shipped = files("mesa_meanfield_models.cascade") / "data" / "synthetic.jsonl"
    ids = [json.loads(line)["id"] for line in shipped.read_text(encoding="utf-8").splitlines()]
    assert len(ids) >= 14
    for one in ids:
        assert run(capsys, "--id", one, "--out", tmp_path / one, "--summarizer", "tally")[0] == 0


def test_own_prompts_replace_the_shipped_ones(capsys, data, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "policy_prefix.j2").write_text("Be brief. {{ topic }}")
    arguments = ("--data", data, "--seed", 3, "--prompts", tmp_path / "mine")
    assert run(capsys, *arguments, "--out", tmp_path / "r")[0] == 0
    run(capsys, *arguments[:4], "--out", tmp_path / "s")
    mine, shipped = (lines(tmp_path / name / "decisions.jsonl")[-1]["prompt_hash"] for name in "rs")
    assert mine != shipped


BAD = {
    "missing file": (["--data", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
    "unknown id": (["--id", "c9"], "there is no cascade 'c9'; there are empty, c1, c2"),
    "empty cascade": (["--id", "empty"], "cascade 'empty': no action after the warm-up has a label"),
    "unknown backend": (["--backend", "gpt"], "Unknown backend 'gpt'; expected embedded"),
    "missing model": (["--backend", "hf:./no-model"], "no-model: no such folder"),
    "missing GGUF": (["--backend", "no.gguf"], "no.gguf: no such GGUF file"),
    "dead server": (["--backend", "http://127.0.0.1:9/v1#m"], "http://127.0.0.1:9/v1"),
    "adapter on a script": (["--adapter", "x"], "An adapter needs a local model"),
    "warm-up": (["--warm-up", "1"], "warm_up must be at least 0 and below 1"),
    "per-tick": (["--per-tick", "0"], "per_tick must be at least 1"),
    "agents": (["--agents", "0"], "agents must be at least 1"),
    "batch": (["--batch", "0"], "batch must be at least 1"),
    "dimension": (["--dimension", "mood"], "Dimension 'mood' has 0 labels"),
    "missing train": (["--train", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
    "small train": (["--train", "SMALL"], "no training cascade has 15 actions"),
    "password": (["--backend", "http://bob:SECRET@host/v1"], "must not hold a user or password"),
    "password without scheme": (["--backend", "bob:SECRET@host/v1"], "must not hold a user or password"),
    "password and adapter": (["--backend", "HTTP://bob:SECRET@host/v1", "--adapter", "x"], "must not hold a user"),
    "prompts": (["--prompts", "nowhere"], "nowhere: no template found there"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_status_2_and_no_run_directory(capsys, data, tmp_path, case):
    arguments, message = BAD[case]
    write_cascades(tmp_path / "small.jsonl", [cascade(3, key="small")])
    arguments = [str(tmp_path / "small.jsonl") if a == "SMALL" else a for a in arguments]
    if any(word in " ".join(arguments) for word in ("hf:", "gguf")):
        pytest.importorskip("torch", reason="optional: local models need torch")
    given = arguments if "--data" in arguments else ["--data", str(data), *arguments]
    given = given if "--backend" in given else ["--backend", "scripted", *given]
    status = main(["run", *given, "--out", str(tmp_path / "out" / "r")])
    out, err = capsys.readouterr()
    assert status == 2
    said = [line for line in err.splitlines() if not line.startswith("Backend: ")]
    assert len(said) == 1
    assert said[0].startswith("mesa-meanfield run: ")
    assert message in said[0]
    assert "SECRET" not in err
    assert out == ""
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    "arguments", [["run", "--sumarizer", "x"], ["run", "--seed", "x"], ["run", "--seed", "-1"], ["nothing"], []]
)
def test_wrong_use_is_one_line_and_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_could_be_missed_in_the_data_is_noted(capsys, tmp_path):
    write_cascades(tmp_path / "n.jsonl", [cascade(20, ["support", "SUPPORTT", None], language="de")])
    status, _, err = run(capsys, "--data", tmp_path / "n.jsonl", "--out", tmp_path / "r")
    assert status == 0
    assert "the data also has SUPPORTT" in err
    assert "6 of 20 recorded actions have no label of 'stance'" in err
    assert "no prompts in language 'de'; taking those in 'en'" in err


def test_a_dollar_in_an_id_is_no_formula(capsys, tmp_path):
    write_cascades(tmp_path / "d.jsonl", [cascade(12, key="x$\\frac$ 桥")])
    assert run(capsys, "--data", tmp_path / "d.jsonl", "--out", tmp_path / "r")[0] == 0


def test_a_broken_line_is_told_by_file_line_and_field(capsys, data, tmp_path):
    good = data.read_text(encoding="utf-8").splitlines()
    broken = json.loads(good[1])
    broken["actions"][2]["time"] = 7
    data.write_text("\n".join([good[0], json.dumps(broken)]), encoding="utf-8")
    status, _, err = run(capsys, "--data", data, "--out", tmp_path / "r")
    assert status == 2
    assert f"{data} line 2: actions[2].time: " in err


def test_nothing_is_overwritten(capsys, data, tmp_path):
    run(capsys, "--data", data, "--out", tmp_path / "r")
    before = (tmp_path / "r" / "result.json").read_bytes()
    status, _, err = run(capsys, "--data", data, "--out", tmp_path / "r")
    assert status == 2
    assert "is there already" in err
    assert (tmp_path / "r" / "result.json").read_bytes() == before


def test_a_killed_run_is_not_taken_for_a_whole_one_and_what_it_recorded_is_whole(data, tmp_path):
    script = (
        "import sys, time, mesa_meanfield.backends.load as load\n"
        "from mesa_meanfield import ScriptedBackend\n"
        "import mesa_meanfield.cli.run as run\n"
        "run.load_backend = lambda *a, **k: ScriptedBackend(lambda r: time.sleep(.05) or 'slow words')\n"
        "from mesa_meanfield.cli import main\n"
        "main(['run', '--adapter', 'none', '--summarizer-adapter', 'none', *sys.argv[1:]])\n"
    )
    command = [sys.executable, "-c", script, "--data", str(data), "--out", str(tmp_path / "r")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    fields = tmp_path / "r.partial" / "fields.jsonl"
    deadline = time.monotonic() + 60
    while not (fields.exists() and fields.read_bytes().count(b"\n") >= 3) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "r").exists()
    ticks = lines(fields)
    decisions = lines(tmp_path / "r.partial" / "decisions.jsonl")
    assert len(ticks) >= 3
    assert len([d for d in decisions if d["tick"] <= ticks[-1]["tick"]]) == ticks[-1]["size"]


def test_the_installed_command_runs_and_writes_without_color_codes(data, tmp_path):
    command = [sys.executable, "-W", "error", "-m", "mesa_meanfield.cli"]
    arguments = ["run", "--backend", "scripted", "--data", str(data), "--out", str(tmp_path / "r")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert "Run directory" in done.stdout
