"""``mesa-meanfield convert``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from originals import ced_repost, ced_set, ced_topic, rumoureval, thread, tweet, weibo_corpus, weibo_post, write

from mesa_meanfield.cascades.jsonl import read_cascades
from mesa_meanfield.cli import main

SALT = "a secret of our own"


def convert(capsys, source, form, out, *options):
    status = main(["convert", str(source), "--from", form, "--out", str(out), *map(str, options)])
    output = capsys.readouterr()
    return status, output.out, output.err


def originals(folder):
    """One data set of each form: its form -> where it is."""
    posts = [weibo_post(n, f"第{n}句", parent=n // 2) for n in range(12)]
    reposts = [ced_repost(f"yB{n}", f"2012-09-12 08:00:{n}", "好") for n in range(10, 22)]
    replies = [tweet(101 + n, to=100) for n in range(9)]
    thread(folder / "p" / "gurlitt" / "rumours", tweet(100), replies, {})
    rows = "".join(f"{n},Remark {n}.,{'deny' if n % 2 else 'query'}\n" for n in range(12))
    return {
        "weibo": weibo_corpus(folder / "w", {"77": posts}),
        "ced": ced_set(folder / "c", {"1_yA_9": (ced_topic(), reposts)}),
        "rumoureval": rumoureval(folder / "r"),
        "pheme": folder / "p",
        "csv": write(folder / "t.csv", "time,text,label:stance\n" + rows),
    }


@pytest.mark.parametrize("form", ["weibo", "ced", "rumoureval", "pheme", "csv"])
def test_what_is_converted_is_read_again_and_can_be_simulated(capsys, tmp_path, form):
    out = tmp_path / "new" / "out.jsonl"
    status, stdout, err = convert(capsys, originals(tmp_path)[form], form, out, "--salt", SALT)
    assert status == 0, err
    cascades = read_cascades(out)
    assert f"{len(cascades)} cascades" in stdout
    assert list(out.parent.iterdir()) == [out]
    assert SALT not in out.read_text("utf-8")
    arguments = ["run", "--backend", "scripted", "--data", str(out), "--out", str(tmp_path / "run"), "--warm-up", "0"]
    assert main([*arguments, "--summarizer", "tally", "--per-tick", "4"]) == 0


def test_json_is_one_object_with_all_that_was_counted(capsys, tmp_path):
    source = rumoureval(tmp_path / "r")
    status, out, err = convert(capsys, source, "rumoureval", tmp_path / "o.jsonl", "--json")
    assert (status, out.count("\n")) == (0, 1)
    assert json.loads(out) == {
        "file": str(tmp_path / "o.jsonl"), "dataset": "rumoureval2017", "cascades": 2, "actions": 3,
        "labels": {"stance": {"deny": 1, "query": 1, "comment": 1}},
        "broken": 0, "repeated": 0, "duplicates": 0, "orphans": 0, "textless": 0, "unlabelled": 0,
    }  # fmt: skip
    assert "Convert: 2/2 (2 events)" in err


def test_the_same_salt_gives_the_same_file_and_none_gives_another_each_time(capsys, tmp_path):
    source = rumoureval(tmp_path / "r")
    files = [tmp_path / f"{n}.jsonl" for n in range(4)]
    for file, options in zip(files, [["--salt", SALT], ["--salt", SALT], [], []], strict=True):
        assert convert(capsys, source, "rumoureval", file, *options)[0] == 0
    first, second, third, fourth = (file.read_bytes() for file in files)
    assert first == second
    assert len({first, third, fourth}) == 3
    assert b"canal_walker" not in first


def test_names_of_the_data_set_and_pseudonyms_are_chosen_by_options(capsys, tmp_path):
    options = ["--dataset", "mine", "--language", "de", "--domain", "sports", "--no-pseudonyms"]
    status, _, err = convert(capsys, rumoureval(tmp_path / "r"), "rumoureval", tmp_path / "o.jsonl", *options)
    assert status == 0
    assert "real ids, names and links" in err
    one, _ = read_cascades(tmp_path / "o.jsonl")
    assert (one.id, one.dataset, one.language, one.domain, one.event) == (
        "200",
        "mine",
        "de",
        "sports",
        "germanwings-crash",
    )


def test_columns_may_be_given_in_parts(capsys, tmp_path):
    file = write(tmp_path / "t.csv", "Body,when,S\nA walrus.,1,\nHm.,2,deny\n")
    options = ["--columns", "text=Body,time=when", "--columns", "label:stance=S"]
    assert convert(capsys, file, "csv", tmp_path / "o.jsonl", *options)[0] == 0
    assert read_cascades(tmp_path / "o.jsonl")[0].actions[0].labels == {"stance": "deny"}


def test_a_broken_record_ends_it_with_status_2_or_is_left_out_and_counted(capsys, tmp_path):
    broken = [weibo_post(n) | ({"t": "soon"} if n > 3 else {}) for n in range(40)]
    corpus = weibo_corpus(tmp_path / "w", {"76": [weibo_post(0)], "77": broken})
    status, out, err = convert(capsys, corpus, "weibo", tmp_path / "o.jsonl")
    assert (status, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith(f"mesa-meanfield convert: {corpus / 'Weibo' / '77.json'} post 5: t: ")
    assert last.endswith("--skip-bad goes on without such records")
    assert {file.name for file in tmp_path.iterdir()} == {"w"}  # nothing half
    status, out, err = convert(capsys, corpus, "weibo", tmp_path / "o.jsonl", "--skip-bad", "--json")
    assert status == 0
    assert (json.loads(out)["broken"], json.loads(out)["actions"]) == (36, 3)
    assert err.count("note: left out: ") == 20
    assert "note: broken records, left out: 36" in err


def test_what_is_there_already_is_not_overwritten(capsys, tmp_path):
    kept = write(tmp_path / "o.jsonl", "mine")
    status, _, err = convert(capsys, rumoureval(tmp_path / "r"), "rumoureval", kept)
    assert status == 2
    assert "is there already" in err
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--from", "weibo", "--labels", "x"], "--labels is for --from rumoureval and pheme"),
        (["--from", "weibo", "--columns", "text=x"], "--columns is for --from csv"),
        (["--from", "csv", "--columns", "who=x"], "'who=x' is no FIELD=COLUMN"),
        (["--from", "weibo"], "holds no event"),
        (["--from", "ced"], "cannot be read"),
        (["--from", "pheme"], "holds no thread"),
        (["--from", "csv"], "cannot be read"),
    ],
)
def test_what_cannot_be_is_told_in_one_line_with_status_2(capsys, tmp_path, options, expected):
    (tmp_path / "empty").mkdir()
    status = main(["convert", str(tmp_path / "empty"), "--out", str(tmp_path / "o.jsonl"), *options])
    err = capsys.readouterr().err
    assert (status, err.count("\n")) == (2, 1)
    assert expected in err
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize(
    "options",
    [[], ["--from", "csv"], ["--from", "x", "--out", "o"], ["--from", "csv", "--out", "o", "--salt", "short"],
     ["--from", "csv", "--out", "o", "--salt", SALT, "--no-pseudonyms"]],
)  # fmt: skip
def test_wrong_use_is_one_line_and_status_2(capsys, options):
    with pytest.raises(SystemExit) as stopped:
        main(["convert", "source", *options])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_where_every_event_is_broken_nothing_is_written(capsys, tmp_path):
    corpus = weibo_corpus(tmp_path / "w", {"77": "[]"})
    status, _, err = convert(capsys, corpus, "weibo", tmp_path / "o.jsonl", "--skip-bad")
    assert status == 2
    assert "not one cascade could be read" in err
    assert {file.name for file in tmp_path.iterdir()} == {"w"}


def test_a_long_conversion_tells_a_hundred_steps(capsys, tmp_path):
    corpus = weibo_corpus(tmp_path / "w", {str(n): [weibo_post(0)] for n in range(250)})
    status, _, err = convert(capsys, corpus, "weibo", tmp_path / "o.jsonl")
    assert status == 0
    lines = [line for line in err.splitlines() if line.startswith("Convert: ")]
    assert len(lines) == 84  # three events each, and the last one
    assert lines[-1].startswith("Convert: 84/84 (250 events)")


def test_a_killed_conversion_leaves_no_file_under_the_final_name(tmp_path):
    corpus, out = (
        weibo_corpus(tmp_path / "w", {str(n): [weibo_post(0)] * 2 for n in range(200)}),
        tmp_path / "o.jsonl",
    )
    script = (
        "import time, mesa_meanfield.cli.convert as convert\n"
        "real = convert.weibo\n"
        "def slow(*given):\n"
        "    feed = real(*given)\n"
        "    return convert.Feed(feed.total, (time.sleep(.05) or one for one in feed.cascades))\n"
        "convert.weibo = slow\n"
        "from mesa_meanfield.cli import main\n"
        f"main(['convert', {str(corpus)!r}, '--from', 'weibo', '--out', {str(out)!r}])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    for _ in range(3):  # steps that are done
        process.stderr.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert not out.exists()
    assert (tmp_path / "o.jsonl.partial").exists()


def test_an_interrupted_conversion_leaves_nothing(capsys, tmp_path, monkeypatch):
    corpus = weibo_corpus(tmp_path / "w", {"77": [weibo_post(0)]})

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mesa_meanfield.cli.convert.weibo", interrupt)
    assert convert(capsys, corpus, "weibo", tmp_path / "o.jsonl")[0] == 1
    assert {file.name for file in tmp_path.iterdir()} == {"w"}
