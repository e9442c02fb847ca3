"""RumourEval 2017 and 2019 and PHEME in their original form."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import pytest
from originals import rumoureval, thread, tweet, write

from mesa_meanfield.cascades.conversion import Conversion
from mesa_meanfield.cascades.masking import Pseudonyms
from mesa_meanfield.cascades.records import BrokenRecord
from mesa_meanfield.cascades.threads import threads
from mesa_meanfield.data import Popularity, Profile
from mesa_meanfield.errors import DataError


def read(folder, *, skip_bad=False, salt=None, labels=(), dataset=""):
    job = Conversion(Pseudonyms(salt), skip_bad=skip_bad)
    return [one for one in threads(folder, job, labels, dataset).cascades if one is not None], job.counts


def test_a_conversation_becomes_a_cascade_field_by_field(tmp_path):
    (dev, train), counts = read(rumoureval(tmp_path))
    assert (train.id, train.dataset, train.language) == ("100", "rumoureval2017", "en")
    assert (train.event, train.domain, train.veracity) == ("ottawashooting", "crime", "false")
    assert (dev.event, dev.domain, dev.veracity) == ("germanwings-crash", "news", "unverified")
    assert train.topic.label == {"stance": "support"}
    assert train.topic.time == datetime(2014, 8, 10, 1, 40, 14, tzinfo=UTC)
    first, second = train.actions
    assert (first.id, first.parent, first.text, first.labels) == ("101", None, "Says who?", {"stance": "query"})
    assert first.popularity == Popularity(reposts=3, likes=5)
    assert first.author == Profile(
        "7000101", "I walk.", None, 12, 34, 56, False, None, datetime(2009, 3, 13, 12, 55, 21, tzinfo=UTC)
    )
    assert (second.parent, second.labels) == ("101", {"stance": "comment"})
    assert not counts.total()


def test_label_files_that_are_named_pick_their_threads(tmp_path):
    labels = [rumoureval(tmp_path) / "traindev" / f"subtask{task}-dev.json" for task in "AB"]
    (one,), _ = read(tmp_path, labels=labels)
    assert (one.event, one.actions[0].labels) == ("germanwings-crash", {"stance": "deny"})
    (one,), counts = read(tmp_path / "rumoureval-data" / "ottawashooting")  # the label files lie elsewhere
    assert (one.event, one.topic.label, one.actions[0].labels, counts["unlabelled"]) == ("ottawashooting", {}, {}, 1)


def test_the_files_of_2019_hold_both_tasks_and_reddit_too(tmp_path):
    folder = tmp_path / "rumoureval-2019-training-data"
    thread(folder / "twitter-english" / "ferguson", tweet(100), [], {"100": []})
    place = folder / "reddit-training-data" / "5xyz"
    listing = {
        "title": "Is there a walrus?",
        "selftext": "Ask u/walrus_fan",
        "author": "op_one",
        "created_utc": 1.5e9,
    }
    write(place / "source-tweet" / "5xyz.json", {"kind": "Listing", "data": {"children": [{"data": listing}]}})
    comment = {
        "body": "No.",
        "author": "walrus_fan",
        "created_utc": 1_500_000_060.0,
        "score": -3,
        "parent_id": "t3_5xyz",
    }
    write(place / "replies" / "d1.json", {"kind": "t1", "data": comment})
    gone = {"body": "[deleted]", "author": "[deleted]", "created_utc": 1_500_000_120, "parent_id": "t1_d1"}
    write(place / "replies" / "d2.json", {"kind": "t1", "data": gone})
    write(place / "replies" / "d3.json", {"kind": "more", "data": {"count": 2, "children": ["d4", "d5"], "id": "d3"}})
    write(place / "structure.json", {"5xyz": {"d1": []}})  # d2 is told by its own parent
    write(
        folder / "train-key.json",
        {"subtaskaenglish": {"5xyz": "query", "d1": "deny"}, "subtaskbenglish": {"5xyz": "true"}},
    )
    write(folder / "dev-key.json", {"subtaskaenglish": {"100": "support"}, "subtaskbenglish": {"100": "false"}})
    (reddit, twitter), counts = read(folder, salt=b"s" * 16)
    assert (reddit.dataset, reddit.event, reddit.veracity) == ("rumoureval2019", None, "true")
    assert reddit.topic.text == "Is there a walrus?\n\nAsk @user"
    first, second = reddit.actions
    assert (first.text, first.parent, first.labels, first.popularity.likes) == ("No.", None, {"stance": "deny"}, -3)
    assert (second.parent, second.author.key == first.author.key) == (first.id, False)
    assert counts["textless"] == 1
    assert (twitter.event, twitter.veracity, twitter.topic.label) == ("ferguson", "false", {"stance": "support"})
    (dev,), _ = read(folder, labels=[folder / "dev-key.json"])
    assert dev.event == "ferguson"


def pheme(folder, kind, annotation, identity=100):
    place = thread(
        folder / "gurlitt-all-rnr-threads" / kind, tweet(identity), [tweet(identity + 1, to=identity)],
        {str(identity): {str(identity + 1): []}}, names=("source-tweets", "reactions"),
    )  # fmt: skip
    write(place / "reactions" / f"._{identity + 1}.json", "left by an archive")
    write(folder / ".DS_Store", "left by a desktop")
    if annotation is not None:
        write(place / "annotation.json", annotation)
    return folder


@pytest.mark.parametrize(
    ("kind", "annotation", "rumour", "veracity"),
    [
        ("rumours", {"is_rumour": "rumour", "misinformation": "1", "true": 0}, True, "false"),
        ("rumours", {"is_rumour": "rumour", "misinformation": 0, "true": "1"}, True, "true"),
        ("rumours", {"is_rumour": "rumour", "misinformation": 0, "true": 0, "links": []}, True, "unverified"),
        ("rumours", {"is_rumour": "rumour", "misinformation": "0"}, True, "unverified"),
        ("rumours", {"is_rumour": "rumour", "misinformation": 1}, True, "false"),
        ("rumours", {"is_rumour": "rumour"}, True, None),
        ("rumours", None, True, None),
        ("non-rumours", {"is_rumour": "nonrumour"}, False, None),
        ("non-rumours", {"is_rumour": "nonrumour", "misinformation": 0, "true": 0}, False, None),
    ],
)
def test_the_annotation_of_a_thread_tells_its_veracity(tmp_path, kind, annotation, rumour, veracity):
    (one,), _ = read(pheme(tmp_path, kind, annotation), dataset="pheme")
    assert (one.dataset, one.event, one.domain) == ("pheme", "gurlitt", "culture")
    assert (one.topic.label, one.veracity, len(one.actions)) == ({"rumor": rumour}, veracity, 1)


def test_a_story_that_is_both_true_and_false_is_told(tmp_path):
    with pytest.raises(BrokenRecord, match=r"annotation.json: says both"):
        read(pheme(tmp_path, "rumours", {"misinformation": 1, "true": 1}))


def test_a_reply_to_a_missing_one_answers_the_next_above_it_in_the_tree(tmp_path):
    replies = [tweet(n, to=n - 1) for n in (101, 103, 104, 106, 108)]
    tree = {
        "100": {"101": {"102": {"103": {"104": []}}, "109": {"108": []}}},
        "105": {"106": []},
    }  # 102, 105, 109 are gone
    thread(tmp_path / "ferguson", tweet(100), replies, tree)
    (one,), counts = read(tmp_path)
    assert {a.id: a.parent for a in one.actions} == {
        "101": None,
        "103": "101",
        "104": "103",
        "106": None,
        "108": "101",
    }
    assert counts["orphans"] == 3


def test_without_a_tree_a_reply_tells_whom_it_answers(tmp_path):
    replies = [tweet(101, to=100), tweet(102, to=101), tweet(103, to=None), tweet(104, to=99)]
    place = thread(tmp_path / "ferguson", tweet(100), replies, {})
    (place / "structure.json").unlink()
    (one,), counts = read(tmp_path)
    assert [a.parent for a in one.actions] == [None, "101", None, None]
    assert counts["orphans"] == 1


def test_equal_times_keep_the_order_of_the_ids_and_twins_are_counted(tmp_path):
    time = tweet(130)["created_at"]
    replies = [tweet(n, to=100, created_at=time) for n in (1000, 999)]
    place = thread(tmp_path / "ferguson", tweet(100), replies, {"100": {"999": [], "1000": []}})
    write(place / "reactions" / "999.json", replies[1])
    thread(tmp_path / "ottawashooting", tweet(100), [], {})
    (one,), counts = read(tmp_path)
    assert [a.id for a in one.actions] == ["999", "1000"]
    assert (counts["duplicates"], counts["repeated"]) == (1, 1)


def test_nothing_that_tells_who_somebody_is_gets_into_the_cascade(tmp_path):
    text = "RT @canal_walker100: canal_walker100 lies, says Walker No. 101 7000101 http://t.co/x pic.twitter.com/y"
    reply = tweet(10_100, text, to=100)
    reply["user"] |= {"name": "Walker No. 101", "id_str": "7000101", "description": "me@mail.com @foo"}
    thread(tmp_path / "ferguson", tweet(100), [reply], {"100": {"10100": []}})
    (one,), _ = read(tmp_path, salt=b"s" * 16)
    assert one.actions[0].text == "RT @user: @user lies, says @user @user <url> <url>"
    assert one.actions[0].author.description == "<email> @user"
    assert not [word for word in ("canal_walker", "Walker No", "7000", "10100") if word in repr(asdict(one))]


BROKEN = {
    "101.json line 1 column 2": "{",
    "101.json: user.id_str: Field required": tweet(101, user={"name": "x"}),
    "101.json: created_at: Input should be a valid datetime": tweet(101, created_at="Sun Aug 32"),
    "101.json: text: Input should be a valid string": tweet(101, None),
    "101.json: Input should be": [tweet(101)],
    "101.json: body: Input should be a valid string": {"data": {"body": 7, "created_utc": 1}},
    "101.json: is nested too deeply": "[" * 100_000,
}


@pytest.mark.parametrize("expected", BROKEN)
def test_a_broken_reply_is_told_with_its_file_or_left_out_and_counted(tmp_path, expected):
    place = thread(tmp_path / "ferguson", tweet(100), [tweet(102)], {"100": {"101": [], "102": []}})
    write(place / "replies" / "101.json", BROKEN[expected])
    with pytest.raises(BrokenRecord) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{place / 'replies'}/{expected}")
    (one,), counts = read(tmp_path, skip_bad=True)
    assert ([a.id for a in one.actions], counts["broken"]) == (["102"], 1)


@pytest.mark.parametrize("name", ["source-tweet/100.json", "structure.json", "annotation.json"])
def test_of_a_thread_whose_frame_is_broken_nothing_is_kept(tmp_path, name):
    place = thread(tmp_path / "ferguson", tweet(100), [], {"100": []})
    write(place / name, '{"100": ')
    thread(tmp_path / "ferguson", tweet(200), [], {"200": []})
    with pytest.raises(BrokenRecord, match=name):
        read(tmp_path)
    (one,), counts = read(tmp_path, skip_bad=True)
    assert (one.id, counts["broken"]) == ("200", 1)


def test_a_thread_without_its_source_is_told(tmp_path):
    place = thread(tmp_path / "ferguson", tweet(100), [], {"100": []})
    (place / "source-tweet" / "100.json").unlink()
    with pytest.raises(BrokenRecord, match=r"100.json: cannot be read"):
        read(tmp_path)


def test_a_source_that_is_a_placeholder_is_told(tmp_path):
    place = thread(tmp_path / "ferguson", tweet(100), [], {"100": []})
    write(place / "source-tweet" / "100.json", {"kind": "more", "data": {"children": ["100"]}})
    with pytest.raises(BrokenRecord, match=r"100\.json: holds no text"):
        read(tmp_path)


def test_label_files_that_disagree_hold_nothing_or_are_broken_are_told(tmp_path):
    rumoureval(tmp_path)
    answers = write(tmp_path / "answers.json", {"subtaskaenglish": {"101": "deny"}})
    with pytest.raises(DataError, match=r"answers.json and .*subtaskA-train.json give a post different labels"):
        read(tmp_path)
    answers.unlink()
    write(tmp_path / "list.json", ["101", "deny"])
    other = write(tmp_path / "other.json", {"settings": {"a": 1}, "b": ["true"]})
    assert len(read(tmp_path)[0]) == 2  # what holds no labels is passed over
    with pytest.raises(DataError, match=r"other.json: holds no labels"):
        read(tmp_path, labels=[other])
    write(other, "{")
    with pytest.raises(BrokenRecord, match=r"other.json line 1"):
        read(tmp_path)
    assert len(read(tmp_path, skip_bad=True)[0]) == 2
    with pytest.raises(DataError, match=r"other.json line 1"):
        read(tmp_path, labels=[other], skip_bad=True)


def test_a_folder_without_threads_is_told(tmp_path):
    with pytest.raises(DataError, match="holds no thread"):
        read(tmp_path)
    labels = write(tmp_path / "labels.json", {"55": "deny"})
    thread(tmp_path / "ferguson", tweet(100), [], {"100": []})
    with pytest.raises(DataError, match="holds no thread that the label files name"):
        read(tmp_path, labels=[labels])
