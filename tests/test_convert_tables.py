"""CSV files under any column names."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import pytest
from originals import write

from mesa_meanfield.cascades.conversion import Conversion
from mesa_meanfield.cascades.masking import Pseudonyms
from mesa_meanfield.cascades.records import BrokenRecord
from mesa_meanfield.cascades.tables import read_columns, table
from mesa_meanfield.data import Popularity, Profile
from mesa_meanfield.errors import DataError

PLAIN = """cascade,id,parent,time,user,text,label:stance
c1,p1,,2025-03-01T08:00:00Z,ann,A walrus.,support
c1,p2,p1,2025-03-01T08:05:00Z,bob,Says who?,query
c1,p3,p2,2025-03-01 09:06:00+01:00,cat,,
c2,p4,,1740816000,ann,The bridge closes.,
"""


def read(file, columns="", *, skip_bad=False, salt=None, **names):
    job = Conversion(Pseudonyms(salt), skip_bad=skip_bad, **names)
    mapping = read_columns(columns) if columns else {}
    return [one for one in table(file, job, mapping).cascades if one is not None], job.counts


def test_rows_become_cascades_whose_first_row_is_the_topic(tmp_path):
    (one, two), counts = read(write(tmp_path / "mine.csv", PLAIN))
    assert (one.id, one.dataset, one.language, one.domain, one.event) == ("c1", "mine", "en", "unknown", None)
    assert (one.topic.text, one.topic.label, one.topic.author) == ("A walrus.", {"stance": "support"}, Profile("ann"))
    first, second = one.actions
    assert (first.id, first.parent, first.text, first.labels) == ("p2", None, "Says who?", {"stance": "query"})
    assert (second.parent, second.text, second.labels) == ("p2", "", {})
    assert second.time == datetime(2025, 3, 1, 8, 6, tzinfo=UTC)
    assert (two.topic.time, two.actions) == (datetime(2025, 3, 1, 8, tzinfo=UTC), ())
    assert counts["broken"] == counts["orphans"] == 0


def test_columns_may_have_any_name_and_hold_all_that_a_cascade_can(tmp_path):
    cells = {
        "text=Body, is it?": "Hm.", "time=when": "2025-03-01", "cascade=thread": "1", "user=who": "ann",
        "name=nick": "Ann B", "description=bio": "I bake", "location=place": "Here", "followers=fol": "1",
        "friends=fri": "2", "statuses=sta": "3", "verified=ver": "yes", "gender=sex": "Female",
        "created=since": "2020-01-01", "reposts=rt": "4", "likes=fav": "5", "topic=claim": "A walrus.",
        "event=story": "canal", "domain=field": "news", "veracity=truth": "FALSE", "label:stance=S": "deny",
    }  # fmt: skip
    header, row = "\t".join(c.split("=")[1] for c in cells), "\t".join(cells.values())
    columns = ",".join(cells)
    (one,), _ = read(write(tmp_path / "mine.tsv", f"{header}\n{row}\n"), columns)
    assert (one.topic.text, one.event, one.domain, one.veracity, one.topic.label) == (
        "A walrus.", "canal", "news", "false", {}
    )  # fmt: skip
    (only,) = one.actions
    assert only.author == Profile("ann", "I bake", "Here", 1, 2, 3, True, "f", datetime(2020, 1, 1, tzinfo=UTC))
    assert (only.popularity, only.labels) == (Popularity(4, 5), {"stance": "deny"})


def test_text_and_time_are_enough(tmp_path):
    (one,), _ = read(write(tmp_path / "mine.csv", '\ufefftime,text\n3,third\n1,first\n\n2,"sec\nond"\n'))
    assert (one.id, one.topic.text) == ("mine", "third")
    assert [(a.id, a.text) for a in one.actions] == [("mine line 3", "first"), ("mine line 6", "sec\nond")]
    assert len({a.author.key for a in one.actions}) == 2  # who is not known is nobody else


def test_nothing_that_tells_who_somebody_is_gets_into_the_cascade(tmp_path):
    text = PLAIN.replace("Says who?", "annika and @ann: http://t.co/x").replace(",ann,", ",annika,")
    (one, two), _ = read(write(tmp_path / "mine.csv", text), salt=b"s" * 16)
    assert one.actions[0].text == "@user and @user: <url>"
    assert one.topic.author.key == two.topic.author.key
    assert not [word for word in ("annika", "p2", "c1", "bob") if f"'{word}'" in repr((asdict(one), asdict(two)))]


BROKEN = {
    "line 3: has 6 cells, the header has 7": ("c1,p2,p1,2025-03-01T08:05:00Z,bob,Says who?,query", "c1,p2,,,,"),
    "line 3: time: Input should be a valid datetime": ("2025-03-01T08:05:00Z", "soon"),
    "line 3: time: expected a time between": ("2025-03-01T08:05:00Z", "0001-01-01T00:00:00+05:00"),
    "line 3: cascade: is empty": ("c1,p2", " ,p2"),
    "line 3: is not UTF-8": ("Says who?", "Says \udcff?"),
    "line 3: ',' expected after '\"'": ("Says who?", '"Says" who?'),
}


@pytest.mark.parametrize("expected", BROKEN)
def test_a_broken_row_is_told_with_its_line_or_left_out_and_counted(tmp_path, expected):
    file = tmp_path / "mine.csv"
    file.write_bytes(PLAIN.replace(*BROKEN[expected]).encode("utf-8", "surrogateescape"))
    with pytest.raises(BrokenRecord) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file} {expected}")
    (one, _), counts = read(file, skip_bad=True)
    assert ([a.id for a in one.actions], counts["broken"]) == (["p3"], 1)


def test_a_quote_that_is_never_closed_is_told(tmp_path):
    file = write(tmp_path / "mine.csv", PLAIN + 'c2,p5,p4,1740816001,bob,"and so,\n')
    with pytest.raises(BrokenRecord, match="line 6: unexpected end of data"):
        read(file)
    assert len(read(file, skip_bad=True)[0]) == 2


def test_a_cascade_without_its_topic_is_left_out_whole(tmp_path):
    file = write(tmp_path / "mine.csv", PLAIN.replace("The bridge closes.,", "The bridge closes."))  # c2's only row
    file.write_text(file.read_text() + "c2,p5,,1740816001,bob,Why?,\nc3,p6,p5,1740816001,bob,Why?,\n")
    with pytest.raises(BrokenRecord, match="line 5: has 6 cells"):
        read(file)
    (one,), counts = read(file, skip_bad=True)
    assert (one.id, counts["broken"]) == ("c1", 3)  # p5 could be taken for the topic, p6 answers another post


def test_a_topic_in_its_own_column_does_not_depend_on_broken_rows(tmp_path):
    rows = "time,text,topic\nsoon,x,A walrus.\n1,Hm.,A walrus.\n"
    file = write(tmp_path / "mine.csv", rows.replace("soon,x", "1,x,y"))
    (one,), _ = read(file, skip_bad=True)
    assert (one.topic.text, len(one.actions)) == ("A walrus.", 1)


def test_a_verdict_is_one_of_three(tmp_path):
    with pytest.raises(BrokenRecord, match="line 2: veracity: Input should be 'true', 'false' or 'unverified'"):
        read(write(tmp_path / "mine.csv", "time,text,veracity\n1,x,maybe\n"))


def test_rows_of_a_cascade_that_do_not_stand_together_are_told(tmp_path):
    file = write(tmp_path / "mine.csv", PLAIN + "c1,p9,p1,1740816001,bob,Late.,\n")
    with pytest.raises(DataError, match="line 6: a cascade goes on here; sort the rows by their cascade"):
        read(file, skip_bad=True)


def test_a_missing_column_or_file_is_told(tmp_path):
    file = write(tmp_path / "mine.csv", "Body,when\nx,1\n")
    with pytest.raises(DataError, match=r"which column is the text\? say --columns text=COLUMN; it has Body, when"):
        read(file)
    with pytest.raises(DataError, match="has no column 'who' for user; it has Body, when"):
        read(file, "text=Body,time=when,user=who")
    with pytest.raises(DataError, match="it is empty"):
        read(write(tmp_path / "empty.csv", ""))
    with pytest.raises(DataError, match="line 1: unexpected end of data; expected a header"):
        read(write(tmp_path / "open.csv", '"text'))
    for place in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read(place)


@pytest.mark.parametrize("given", ["text", "text=", "=Body", "label:=S", "author=who", "text=a,who=b"])
def test_a_mapping_that_is_none_is_told(given):
    with pytest.raises(DataError, match=r"is no FIELD=COLUMN; the fields are text, time, .* and label:DIMENSION"):
        read_columns(given)


def test_a_column_name_may_hold_commas_and_equal_signs():
    assert read_columns("text=Body, or so,time=a=b") == {"text": "Body, or so", "time": "a=b"}
