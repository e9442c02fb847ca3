"""The Weibo rumour corpus in its original form."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
from originals import START, weibo_corpus, weibo_post, write

from mesa_meanfield.cascades.conversion import Conversion
from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.cascades.masking import Pseudonyms
from mesa_meanfield.cascades.records import BrokenRecord
from mesa_meanfield.cascades.weibo import weibo
from mesa_meanfield.data import Popularity, Profile
from mesa_meanfield.errors import DataError

PLAIN = Pseudonyms(None)
SECRET = Pseudonyms(b"a salt of our own")


def read(folder, *, skip_bad=False, pseudonyms=PLAIN):
    job = Conversion(pseudonyms, skip_bad=skip_bad)
    return [one for one in weibo(folder, job).cascades if one is not None], job


def only(folder, **options):
    (cascade,), job = read(folder, **options)
    return cascade, job.counts


def test_an_event_becomes_a_cascade_field_by_field(tmp_path):
    posts = [weibo_post(0, "河里有一头海象。"), weibo_post(1), weibo_post(2, "假的", parent=1)]
    one, counts = only(weibo_corpus(tmp_path, {"77": posts}))
    assert (one.id, one.dataset, one.language, one.event, one.domain) == (
        "77",
        "rumdect-weibo",
        "zh",
        None,
        "unknown",
    )
    assert (one.veracity, one.topic.label, one.topic.text) == ("false", {"rumor": True}, "河里有一头海象。")
    assert one.topic.time == datetime(2012, 8, 3, 13, 20, tzinfo=UTC)
    first, second = one.actions
    assert (first.id, first.parent, first.text) == ("3476055656644001", None, "真的吗？")
    assert first.time == one.topic.time + timedelta(minutes=1)
    assert first.popularity == Popularity(reposts=4, likes=1)
    assert first.author == Profile(
        "1600000001",
        "爱看河。",
        "广东 广州",
        13_495,
        826,
        713,
        False,
        "f",
        datetime(2010, 8, 22, 1, 19, 45, tzinfo=UTC),
    )
    assert (second.parent, second.labels, second.trace) == (first.id, {}, None)
    assert not counts.total()


def test_what_is_no_rumour_has_no_verdict_and_without_a_label_nothing_is_known(tmp_path):
    events = {str(n): [weibo_post(0)] for n in range(3)}
    cascades, job = read(weibo_corpus(tmp_path, events, "eid:0 label:1 5 6\neid:1\tlabel:0\t7\n"))
    assert [(one.veracity, one.topic.label) for one in cascades] == [
        ("false", {"rumor": True}), (None, {"rumor": False}), (None, {})
    ]  # fmt: skip
    assert job.counts["unlabelled"] == 1


def test_events_without_a_label_file_and_with_a_byte_order_mark_are_read(tmp_path):
    file = write(tmp_path / "77.json", "\ufeff \n" + json.dumps([weibo_post(0), weibo_post(1)]))
    one, counts = only(file)
    assert (len(one.actions), one.topic.label, one.veracity, counts["unlabelled"]) == (1, {}, None, 1)


def test_what_is_no_file_is_told(tmp_path):
    (tmp_path / "Weibo" / "77.json").mkdir(parents=True)
    with pytest.raises(BrokenRecord, match=r"77\.json: cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize("start", [".", "Weibo", "Weibo/77.json"])
def test_the_corpus_is_found_from_any_of_its_folders(tmp_path, start):
    weibo_corpus(tmp_path, {"77": [weibo_post(0)]})
    write(tmp_path / "Weibo" / "._77.json", "left by an archive")
    assert only(tmp_path / start)[0].topic.label == {"rumor": True}


def test_a_text_is_what_its_author_added_and_the_quoted_chain_where_there_is_nothing_else(tmp_path):
    bare = weibo_post(1, "", original_text="//@运河居民9: 假的")
    whole = weibo_post(2, original_text=" 不信//@运河居民9: 假的 http://t.cn/x &amp; ") | {"uid": "1600000002"}
    del whole["text"]
    one, _ = only(weibo_corpus(tmp_path, {"77": [weibo_post(0), bare, whole]}), pseudonyms=SECRET)
    assert [action.text for action in one.actions] == ["", "不信//@user: 假的 <url> &amp;"]
    assert one.actions[1].author.key == SECRET.user("1600000002")


def test_old_posts_are_found_by_their_mid_though_the_event_has_another_id(tmp_path):
    posts = [weibo_post(0, id="77", mid="2211"), weibo_post(1, id="78", mid="2212", parent=None)]
    posts += [weibo_post(2, id="79", mid="2213") | {"parent": "2212"}]
    posts[1]["parent"] = "2211"
    one, counts = only(weibo_corpus(tmp_path, {"77": posts}))
    assert [(a.id, a.parent) for a in one.actions] == [("2212", None), ("2213", "2212")]
    assert not counts["orphans"]


def test_posts_are_in_order_each_once_and_answer_only_what_came_before(tmp_path):
    posts = [
        weibo_post(0),
        weibo_post(5, "fifth", parent=4),
        weibo_post(4, "fourth", parent=9),  # 9 is nowhere
        weibo_post(4, "fourth again"),
        weibo_post(3, "third", parent=5),  # 5 comes later
        weibo_post(2, "same second, first in the file", t=START + 60),
        weibo_post(1, "same second"),
        weibo_post(0, "the topic again"),
    ]
    one, counts = only(weibo_corpus(tmp_path, {"77": posts}))
    assert [a.text for a in one.actions] == [
        "same second, first in the file",
        "same second",
        "third",
        "fourth",
        "fifth",
    ]
    assert [a.parent and a.parent[-1] for a in one.actions] == [None, None, None, None, "4"]
    assert (counts["duplicates"], counts["orphans"]) == (2, 2)


def test_what_is_unknown_is_left_out(tmp_path):
    gone = dict.fromkeys(("user_description", "user_location", "screen_name", "username"), "")
    gone |= dict.fromkeys(("gender", "verified", "friends_count", "user_created_at", "attitudes_count"))
    odd = {"gender": "n", "followers_count": -1, "user_created_at": 0, "statuses_count": "12"}
    one, _ = only(weibo_corpus(tmp_path, {"77": [weibo_post(0), weibo_post(1, **gone), weibo_post(2, **odd)]}))
    nobody, somebody = (action.author for action in one.actions)
    assert nobody == Profile("1600000001", followers=13_495, statuses=713)
    assert (somebody.gender, somebody.followers, somebody.created, somebody.statuses) == (None, None, None, 12)


def test_nothing_that_tells_who_somebody_is_gets_into_the_cascade(tmp_path):
    posts = [
        weibo_post(0, "我是运河居民0，见 http://t.cn/a"),
        weibo_post(
            1, "@运河居民0 运河居民0说谎，我是运河居民1", user_description="找我 a@b.cn", user_location="t.cn/x"
        ),
    ]
    one, _ = only(weibo_corpus(tmp_path, {"3476055656644000": posts}), pseudonyms=SECRET)
    assert one.topic.text == "我是@user，见 <url>"
    assert one.actions[0].text == "@user @user说谎，我是@user"
    assert "运河居民" not in repr(asdict(one))
    assert "34760556566440" not in repr(asdict(one))
    assert "16000000" not in repr(asdict(one))
    assert (one.actions[0].author.description, one.actions[0].author.location) == ("找我 <email>", "<url>")


def test_half_a_character_at_the_end_of_a_text_is_repaired(tmp_path):
    event = json.dumps([weibo_post(0, "好"), weibo_post(1)]).replace('"\\u597d"', '"\\u597d\\ud83d"')
    one, _ = only(weibo_corpus(tmp_path, {"77": event}))
    assert one.topic.text.startswith("好")
    write_cascades(tmp_path / "out.jsonl", [one])


GOOD = [weibo_post(n) for n in range(3)]
BROKEN_POSTS = {
    "post 2: uid: Field required": lambda posts: posts[1].pop("uid"),
    "post 3: t: Input should be a valid datetime": lambda posts: posts[2].update(t="soon"),
    "post 2: text: Input should be a valid string": lambda posts: posts[1].update(text=["no"]),
    "post 3: friends_count: Input should be a valid integer": lambda posts: posts[2].update(friends_count="many"),
    "post 2: mid: expected an id": lambda posts: posts[1].update(mid=True),
    "post 3: Input should be": lambda posts: posts.__setitem__(2, 7),
    "post 2: mid: Field required (and 2 more)": lambda posts: [posts[1].pop(k) for k in ("mid", "id", "t", "uid")],
}


@pytest.mark.parametrize("expected", BROKEN_POSTS)
def test_a_broken_post_is_told_with_file_and_place_or_left_out_and_counted(tmp_path, expected):
    posts = [dict(post) for post in GOOD]
    BROKEN_POSTS[expected](posts)
    corpus = weibo_corpus(tmp_path, {"77": posts})
    with pytest.raises(BrokenRecord) as caught:
        read(corpus)
    assert str(caught.value).startswith(f"{tmp_path / 'Weibo' / '77.json'} {expected}")
    one, counts = only(corpus, skip_bad=True)
    assert (len(one.actions), counts["broken"]) == (1, 1)


WHOLE = json.dumps(GOOD, ensure_ascii=False)
BROKEN_EVENTS = {
    "after post 3: the JSON breaks off": WHOLE[:-1],  # a list that is not closed
    "after post 1: the JSON breaks off": WHOLE[: len(WHOLE) // 2],
    "after post 3: no JSON": WHOLE + "]",
    ": expected a JSON list of posts": json.dumps({"77": GOOD}),
    ": holds no post": "[]",
    "post 1: uid: Field required": json.dumps([{k: v for k, v in GOOD[0].items() if k != "uid"}, *GOOD[1:]]),
}


@pytest.mark.parametrize("expected", BROKEN_EVENTS)
def test_of_a_broken_event_nothing_is_kept(tmp_path, expected):
    corpus = weibo_corpus(tmp_path, {"77": BROKEN_EVENTS[expected], "78": GOOD})
    with pytest.raises(BrokenRecord, match=r"77\.json") as caught:
        read(corpus)
    assert expected in str(caught.value)
    one, counts = only(corpus, skip_bad=True)
    assert (one.id, counts["broken"]) == ("78", 1)


def test_a_file_in_another_encoding_is_told(tmp_path):
    weibo_corpus(tmp_path, {"77": GOOD})
    (tmp_path / "Weibo" / "77.json").write_bytes(WHOLE.encode("gb18030"))
    with pytest.raises(BrokenRecord, match=r"77\.json after post 0: no JSON"):
        read(tmp_path)


def test_a_message_never_quotes_a_text(tmp_path):
    event = WHOLE.replace('"真的吗？", "uid"', '"真的吗？\n", "uid"', 2)  # a line break that is not escaped
    with pytest.raises(BrokenRecord) as caught:
        read(weibo_corpus(tmp_path, {"77": event}))
    assert "真的" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_label_line_is_told_with_its_line(tmp_path):
    corpus = weibo_corpus(tmp_path, {"77": GOOD, "78": GOOD}, "eid:77\tlabel:1\t1\n\neid:78\tlabel:2\t1\n")
    with pytest.raises(BrokenRecord, match=r"Weibo.txt line 3: expected eid:EVENT label:0 or label:1"):
        read(corpus)
    cascades, job = read(corpus, skip_bad=True)
    assert [one.topic.label for one in cascades] == [{"rumor": True}, {}]
    assert job.counts["broken"] == 1


def test_a_folder_without_events_is_told(tmp_path):
    with pytest.raises(DataError, match="holds no event"):
        read(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "nowhere")


def big_event(file, size):
    """A long event, as published: indented, and in UTF-8."""
    file.parent.mkdir(parents=True)
    number = 0
    with file.open("w", encoding="utf-8") as out:
        while out.tell() < size:
            post = weibo_post(0, "这条消息是真的吗？" * (number % 9), mid=str(10**15 + number), t=START + number)
            post["parent"] = str(10**15 + number // 2) if number else None
            out.write(("[" if number == 0 else ", ") + json.dumps(post, ensure_ascii=False, indent=2))
            number += 1
        out.write("]")
    return number


def peak_of(work):
    """What the work needs at most, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_large_event_needs_a_small_multiple_of_its_file(tmp_path):
    size = 16_000_000
    posts = big_event(tmp_path / "Weibo" / "77.json", size)
    feed = weibo(tmp_path, Conversion(SECRET))
    peak = peak_of(lambda: write_cascades(tmp_path / "out.jsonl", (one for one in feed.cascades if one)))
    assert posts > 10_000
    assert peak < 5 * size


def test_a_long_corpus_needs_no_more_than_a_short_one(tmp_path):
    def convert(events):
        corpus = weibo_corpus(
            tmp_path / str(events), {str(n): [weibo_post(i) for i in range(40)] for n in range(events)}
        )
        feed = weibo(corpus, Conversion(SECRET))
        return peak_of(lambda: write_cascades(tmp_path / f"{events}.jsonl", (one for one in feed.cascades if one)))

    convert(5)  # what is loaded once
    assert convert(100) < 1.5 * convert(20)
