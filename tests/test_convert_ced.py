"""CED_Dataset in its original form."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

import pytest
from originals import ced_repost, ced_set, ced_topic, write

from mesa_meanfield.cascades.ced import ced
from mesa_meanfield.cascades.conversion import Conversion
from mesa_meanfield.cascades.masking import Pseudonyms
from mesa_meanfield.cascades.records import BrokenRecord
from mesa_meanfield.data import Popularity, Profile
from mesa_meanfield.errors import DataError

NAME = "7_yBmepBtUB_2279086572"
DAY = "2012-09-12"
REPOSTS = [  # the latest first, as published
    ced_repost("yBxxcbO36", f"{DAY} 16:20:50", "假的", parent="yBxqi2eHM", uid="1700000003"),
    ced_repost("yBxqi2eHM", f"{DAY} 16:03:51", "", uid="xige299"),
    ced_repost("yBwZ3eMeq", f"{DAY} 00:56:46", "好大的海象", uid="1700000001"),
]


def read(folder, *, skip_bad=False, salt=None):
    job = Conversion(Pseudonyms(salt), skip_bad=skip_bad)
    return [one for one in ced(folder, job).cascades if one is not None], job.counts


def test_a_topic_and_its_reposts_become_a_cascade_field_by_field(tmp_path):
    (one,), counts = read(ced_set(tmp_path, {NAME: (ced_topic(), REPOSTS)}))
    assert (one.id, one.dataset, one.language, one.event, one.veracity) == (
        "yBmepBtUB", "ced-weibo", "zh", None, "false"
    )  # fmt: skip
    assert one.topic.label == {"rumor": True}
    assert one.topic.time == datetime(2012, 8, 3, 13, 20, tzinfo=UTC)
    assert one.topic.author == Profile(
        "2279086572",
        None,
        "北京 海淀区",
        15_217,
        3_231,
        25_139,
        True,
        "m",
        datetime(2010, 2, 25, 8, 4, 57, tzinfo=UTC),
    )
    first, second, third = one.actions
    assert (first.text, first.time) == ("好大的海象", datetime(2012, 9, 11, 16, 56, 46, tzinfo=UTC))  # China time
    assert (second.text, second.author, second.parent) == ("", Profile("xige299"), None)
    assert (third.parent, third.labels, third.popularity) == (second.id, {}, Popularity())
    assert not counts.total()


def test_what_is_no_rumour_has_no_verdict(tmp_path):
    (one,), _ = read(ced_set(tmp_path / "CED_Dataset", {NAME: (ced_topic(), [])}, rumours=False).parent)
    assert (one.veracity, one.topic.label, one.actions) == (None, {"rumor": False}, ())


@pytest.mark.parametrize("user", [None, {}, "", [], {"verified": None, "description": False}])
def test_an_author_without_a_profile_is_only_a_key(tmp_path, user):
    (one,), _ = read(ced_set(tmp_path, {NAME: (ced_topic(user=user), [])}))
    assert one.topic.author == Profile("2279086572")


def test_posts_of_one_second_stand_in_the_order_of_their_ids(tmp_path):
    mids = [
        "zAaaa0000",
        "yZaaa0000",
        "yBaaa0000",
        "ybaaa0000",
        "y0aaa0000",
        "9aa0000",
    ]  # as Weibo counts: 0-9 a-z A-Z
    reposts = [
        ced_repost(mid, f"{DAY} 08:00:00", parent=below) for mid, below in zip(mids, [*mids[1:], ""], strict=True)
    ]
    (one,), counts = read(ced_set(tmp_path, {NAME: (ced_topic(), reposts)}))
    assert [a.id for a in one.actions] == mids[::-1]
    assert [a.parent for a in one.actions] == [None, *mids[:0:-1]]
    assert not counts["orphans"]


def test_twins_and_orphans_are_counted(tmp_path):
    reposts = [*REPOSTS, REPOSTS[0], ced_repost("yC0000000", f"{DAY} 23:00:00", "见鬼", parent="nowhere")]
    topics = {NAME: (ced_topic(), reposts), "8_yBmepBtUB_2279086572": (ced_topic(), [])}
    (one,), counts = read(ced_set(tmp_path, topics))
    assert len(one.actions) == 4
    assert (counts["duplicates"], counts["orphans"], counts["repeated"]) == (1, 1, 1)


def test_nothing_that_tells_who_somebody_is_gets_into_the_cascade(tmp_path):
    reposts = [ced_repost("yBwZ3eMeq", f"{DAY} 14:56:46", "回复@唐山相声演员:问问@猫聪明 和xige299", uid="xige299")]
    (one,), _ = read(
        ced_set(tmp_path, {NAME: (ced_topic("海象<a href='/n/x'>@猫聪明</a>说"), reposts)}), salt=b"s" * 16
    )
    assert one.actions[0].text == "回复@user:问问@user 和@user"
    assert one.topic.text == "海象@user"
    assert not [
        word for word in ("yBwZ3eMeq", "xige299", "2279086572", "yBmepBtUB", "猫") if word in repr(asdict(one))
    ]


BROKEN = {
    "date: expected a time such as 2014-08-10 01:30:14": [ced_repost("m1", "09-12 16:20"), *REPOSTS],  # no year
    "uid: Field required": [{"mid": "m1", "text": "", "date": f"{DAY} 08:00:00"}, *REPOSTS],
    "text: Input should be a valid string": [ced_repost("m1", f"{DAY} 08:00:00") | {"text": None}, *REPOSTS],
}


@pytest.mark.parametrize("expected", BROKEN)
def test_a_broken_repost_is_told_with_file_and_place_or_left_out_and_counted(tmp_path, expected):
    folder = ced_set(tmp_path, {NAME: (ced_topic(), BROKEN[expected])})
    with pytest.raises(BrokenRecord) as caught:
        read(folder)
    assert str(caught.value) == f"{tmp_path / 'rumor-repost' / NAME}.json post 1: {expected}"
    (one,), counts = read(folder, skip_bad=True)
    assert (len(one.actions), counts["broken"]) == (3, 1)


@pytest.mark.parametrize(
    ("topic", "reposts", "expected"),
    [
        (
            '{"text": "x",\n "time"',
            [],
            "original-microblog/7_yBmepBtUB_2279086572.json line 2 column 8: Expecting ':'",
        ),
        ({"time": 1}, [], "original-microblog/7_yBmepBtUB_2279086572.json: text: Field required"),
        (
            ced_topic(),
            json.dumps(REPOSTS)[:-2],
            "rumor-repost/7_yBmepBtUB_2279086572.json after post 2: the JSON breaks",
        ),
        (ced_topic(), "", "rumor-repost/7_yBmepBtUB_2279086572.json: expected a JSON list"),
    ],
)
def test_of_a_broken_cascade_nothing_is_kept(tmp_path, topic, reposts, expected):
    folder = ced_set(tmp_path, {NAME: (topic, reposts), "8_yC_1": (ced_topic(), REPOSTS)})
    with pytest.raises(BrokenRecord) as caught:
        read(folder)
    assert str(caught.value).startswith(f"{tmp_path}/{expected}")
    (one,), counts = read(folder, skip_bad=True)
    assert (one.id, counts["broken"]) == ("yC", 1)


def test_a_topic_in_another_encoding_is_told(tmp_path):
    folder = ced_set(tmp_path, {NAME: (ced_topic(), REPOSTS)})
    file = tmp_path / "original-microblog" / f"{NAME}.json"
    file.write_bytes(file.read_text("utf-8").encode("gb18030"))
    with pytest.raises(BrokenRecord) as caught:
        read(folder)
    assert str(caught.value) == f"{file}: is not UTF-8"


def test_a_topic_without_reposts_of_either_kind_is_told(tmp_path):
    folder = ced_set(tmp_path, {NAME: (ced_topic(), REPOSTS)})
    write(tmp_path / "non-rumor-repost" / f"{NAME}.json", [])
    with pytest.raises(BrokenRecord, match="found 2 such files"):
        read(folder)
    for kind in ("rumor-repost", "non-rumor-repost"):
        (tmp_path / kind / f"{NAME}.json").unlink()
    with pytest.raises(BrokenRecord, match="found 0 such files"):
        read(folder)


def test_a_folder_without_topics_is_told(tmp_path):
    with pytest.raises(DataError, match="original-microblog: cannot be read"):
        read(tmp_path)
    (tmp_path / "original-microblog").mkdir()
    with pytest.raises(DataError, match="holds no topic"):
        read(tmp_path)
