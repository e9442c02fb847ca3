import json
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import timedelta, timezone
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import action, cascade

from mesa_meanfield.cascades.jsonl import iter_cascades, read_cascades, to_json, write_cascades
from mesa_meanfield.data import Action, Cascade, Popularity, Profile, Topic, Trace
from mesa_meanfield.errors import DataError

SHIPPED = Path(str(files("mesa_meanfield_models.cascade") / "data" / "synthetic.jsonl"))

TEXTS = st.text(max_size=20) | st.sampled_from(
    ["转发微博", "真的假的？", "🦭🫧👩‍🚒", "line\nbreak\r\n", "\u2028\x85\x00", '"\\//'])  # fmt: skip
ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(timezones=ZONES)
COUNTS = st.none() | st.integers()
SHARES = st.dictionaries(TEXTS, st.floats(0, 1), max_size=3)
PROFILES = st.builds(
    Profile, TEXTS, st.none() | TEXTS, st.none() | TEXTS, COUNTS, COUNTS, COUNTS,
    st.none() | st.booleans(), st.none() | st.sampled_from(["m", "f"]), st.none() | TIMES,
)  # fmt: skip
TRACES = st.builds(
    Trace, st.integers(0), TEXTS, st.none() | SHARES, st.none() | st.integers(0, 2**63 - 1), st.none() | TEXTS
)
TOPICS = st.builds(
    Topic, PROFILES, TEXTS, TIMES, st.dictionaries(TEXTS, st.none() | st.booleans() | TEXTS, max_size=2)
)


@st.composite
def cascades(draw):
    ids = draw(st.lists(TEXTS, unique=True, max_size=4))
    times = sorted(draw(TIMES) for _ in ids)
    actions = tuple(
        Action(
            key,
            draw(st.none() | st.sampled_from(ids[:i])) if i else None,
            times[i],
            draw(PROFILES),
            draw(TEXTS),
            draw(st.dictionaries(TEXTS, TEXTS, max_size=2)),
            Popularity(draw(COUNTS), draw(COUNTS)),
            draw(st.none() | TRACES),
        )
        for i, key in enumerate(ids)
    )
    whole = st.none() | TEXTS
    return Cascade(draw(TEXTS), draw(TEXTS), draw(whole), "news", "zh", draw(whole), draw(TOPICS), actions)


@settings(deadline=None, max_examples=60)
@given(st.lists(cascades(), min_size=1, max_size=3, unique_by=lambda one: one.id))
def test_what_is_written_is_read_back_without_loss(written):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "some.jsonl"
        write_cascades(file, written)
        read = read_cascades(file)
        assert read == written
        first = file.read_bytes()
        write_cascades(file, read)
        assert file.read_bytes() == first  # time zones, too: equal instants are written alike


def test_a_file_is_one_readable_line_per_cascade(tmp_path):
    file = tmp_path / "two.jsonl"
    write_cascades(file, [cascade(2, key="c1", topic="海象在运河里"), cascade(1, key="c2")])
    lines = file.read_text("utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["c1", "c2"]
    assert "海象在运河里" in lines[0]
    assert "2025-03-01T08:00:01Z" in lines[0]


def test_only_simulated_actions_have_a_trace():
    plain, traced = to_json(cascade(actions=[action("a1"), action("a2", distribution={"deny": 1.0})]))["actions"]
    assert "trace" not in plain
    assert traced["trace"]["distribution"] == {"deny": 1.0}


def test_the_shipped_cascades_are_read_and_written_without_a_change(tmp_path):
    file = tmp_path / "copy.jsonl"
    write_cascades(file, read_cascades(SHIPPED))
    before, after = (
        [json.dumps(json.loads(line)) for line in f.read_text("utf-8").splitlines()] for f in (SHIPPED, file)
    )
    assert before == after


def test_the_shipped_cascades_are_synthetic_two_per_domain_in_two_languages():
    shipped = read_cascades(SHIPPED)
    assert len(shipped) == 14
    assert {one.dataset for one in shipped} == {"synthetic"}
    assert all(one.id.startswith("syn-") for one in shipped)
    domains = ["crime", "culture", "health", "news", "politics", "sports", "technology"]
    assert Counter(one.domain for one in shipped) == dict.fromkeys(domains, 2)
    assert {one.language for one in shipped} == {"en", "zh"}


def test_blank_lines_are_passed_over(tmp_path):
    file = tmp_path / "gaps.jsonl"
    line = json.dumps(to_json(cascade(1)))
    file.write_text(f"\n{line}\n  \n\n")
    assert read_cascades(file) == [cascade(1)]


def test_cascades_come_one_at_a_time_until_the_broken_line(tmp_path):
    file = tmp_path / "half.jsonl"
    file.write_text(json.dumps(to_json(cascade(1))) + "\nbroken\n")
    reader = iter_cascades(file)
    assert next(reader) == cascade(1)
    with pytest.raises(DataError, match="line 2"):
        next(reader)


def told(file):
    """The message of the error that reading the file gives: one line that names the file."""
    with pytest.raises(DataError) as caught:
        read_cascades(file)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(str(file))
    return message


BREAKS = {
    "actions[1].text: Input should be a valid string": lambda c: c["actions"][1].update(text=None),
    "actions[0].author.followers: Input should": lambda c: c["actions"][0]["author"].update(followers="12"),
    "actions[0].shape: Unexpected": lambda c: c["actions"][0].update(shape="round"),
    "domain: Field required": lambda c: c.pop("domain"),
    "topic.time: Input should be a valid datetime": lambda c: c["topic"].update(time="yesterday"),
    "actions[1].parent 'zz' is no earlier action": lambda c: c["actions"][1].update(parent="zz"),
    "actions[1].id 'a1' stands there twice": lambda c: c["actions"][1].update(id="a1"),
    "actions[1].time is before": lambda c: c["actions"][1].update(time="2001-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("expected", BREAKS)
def test_a_broken_cascade_is_told_with_file_line_and_field(tmp_path, expected):
    file = tmp_path / "bad.jsonl"
    good, bad = to_json(cascade(2, key="good")), to_json(cascade(2, key="bad"))
    BREAKS[expected](bad)
    file.write_text(f"{json.dumps(good)}\n\n{json.dumps(bad)}\n")
    assert f"line 3: {expected}" in told(file)


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("topic.time", ("topic", "time")),
        ("actions[1].time", ("actions", 1, "time")),
        ("actions[1].author.created", ("actions", 1, "author", "created")),
    ],
)
def test_a_time_without_zone_is_told(tmp_path, field, path):
    file = tmp_path / "naive.jsonl"
    values = to_json(cascade(2))
    *way, last = path
    place = values
    for step in way:
        place = place[step]
    place[last] = "2025-03-01T08:00:01"
    file.write_text(json.dumps(values))
    message = told(file)
    assert f"line 1: {field}" in message
    assert "zone" in message


def test_several_faults_are_counted(tmp_path):
    file = tmp_path / "bad.jsonl"
    values = to_json(cascade(2))
    del values["domain"], values["language"], values["veracity"]
    file.write_text(json.dumps(values))
    assert told(file).endswith("domain: Field required (and 2 more)")


def test_a_line_break_in_a_field_name_does_not_break_the_message(tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps(to_json(cascade(1)) | {"two\nlines": 1}))
    assert "lines" in told(file)


@pytest.mark.parametrize("line", [b"hello", b"[1]", b"{'id': 1}", b'{"id": ', b'{"id": "x\xff"}', b"7", b"null"])
def test_a_line_that_is_no_json_object_is_told(tmp_path, line):
    file = tmp_path / "bad.jsonl"
    file.write_bytes(json.dumps(to_json(cascade(1))).encode() + b"\n" + line + b"\n")
    assert "line 2: " in told(file)


def test_a_missing_file_a_folder_and_an_empty_file_are_told(tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    assert "No such file" in told(tmp_path / "nowhere.jsonl")
    assert "directory" in told(tmp_path)
    assert "holds no cascade" in told(empty)


def test_a_cascade_id_that_stands_there_twice_is_told_with_its_line(tmp_path):
    file = tmp_path / "twice.jsonl"
    line = json.dumps(to_json(cascade(1, key="c9")))
    file.write_text(f"{line}\n{line}\n")
    message = told(file)
    assert "'c9'" in message
    assert "line 2" in message


def test_writing_that_breaks_off_leaves_the_old_file_as_it_was(tmp_path):
    def breaks_off():
        yield cascade(3)
        raise KeyboardInterrupt

    file = tmp_path / "kept.jsonl"
    write_cascades(file, [cascade(1)])
    with pytest.raises(KeyboardInterrupt):
        write_cascades(file, breaks_off())
    assert read_cascades(file) == [cascade(1)]
    write_cascades(file, [replace(cascade(2), id="new")])
    assert [one.id for one in read_cascades(file)] == ["new"]
    assert list(tmp_path.iterdir()) == [file]


def test_the_least_cascade_of_the_readme_is_one(tmp_path):
    readme = Path(__file__).parents[1] / "models" / "cascade" / "data" / "README.md"
    shown = readme.read_text(encoding="utf-8").split("The least:\n\n")[1].split("\n\n")[0]
    (tmp_path / "least.jsonl").write_text(" ".join(shown.split()), encoding="utf-8")
    (least,) = read_cascades(tmp_path / "least.jsonl")
    assert least.actions[0].labels == {"stance": "query"}
