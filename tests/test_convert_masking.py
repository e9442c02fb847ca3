"""Nobody can be found again in what is written: not by an id, a name, a mention, a link or an address."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesa_meanfield.cascades.masking import Pseudonyms, mask
from mesa_meanfield.data import Profile

SECRET = Pseudonyms(b"a salt of our own")
ASCII = string.ascii_letters + string.digits
HANDLES = st.text(ASCII + "_", min_size=4, max_size=15).filter(lambda name: any(c.isalpha() for c in name))
CHINESE = st.text("桥河象海船城雨夜灯鱼", min_size=2, max_size=10)
NAMES = HANDLES | CHINESE | st.builds("{}_{}".format, CHINESE, HANDLES)
WORDS = st.sampled_from(["", "yes", "真的吗", "“", "RT", "&lt;", "//", "回复", "😀", "<b>", "12", ",", "\n", "é"])
GAPS = st.sampled_from([" ", "：", ": ", "，", "\n", "&nbsp;", "”", "。"])
TAILS = st.text(ASCII + "/?=&%.-_~#", max_size=12)


@st.composite
def texts(draw, secret):
    """A text in which the secret stands a few times, as it does in posts."""
    parts = draw(st.lists(st.tuples(WORDS, GAPS), max_size=4))
    spots = draw(st.lists(st.just(secret), min_size=1, max_size=3))
    pieces = [word + gap for word, gap in parts] + [spot + draw(GAPS) for spot in spots]
    return "".join(draw(st.permutations(pieces)))


@given(NAMES.flatmap(lambda name: st.tuples(st.just(name), texts("@" + name) | texts("＠" + name))))
@example(("abcd", "//@abcd:yes //@abcd: no"))
@example(("abcd", "<a href='/n/abcd'>@abcd</a> yes"))
def test_no_mention_survives(case):
    name, text = case
    masked = mask(text)
    assert name not in masked.replace("@user", "")
    assert masked.count("@user") == text.count("@") + text.count("＠")


@given(NAMES.flatmap(lambda name: st.tuples(st.just(name), texts(name))))
def test_no_known_name_survives_where_it_stands_alone(case):
    name, text = case
    assert name.casefold() not in mask(text, [name]).replace("@user", "").casefold()


@given(st.integers(10_000, 10**19).flatmap(lambda number: st.tuples(st.just(str(number)), texts(str(number)))))
def test_no_known_id_survives(case):
    number, text = case
    assert number not in mask(text, [number])


LINKS = st.builds(
    "{}{}.{}/{}".format,
    st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "sinaweibo://", "www.", ""]),
    st.text(ASCII, min_size=1, max_size=8),
    st.sampled_from(["com", "cn", "co", "weibo.com", "example.org"]),
    TAILS,
)


@given(LINKS.flatmap(lambda link: st.tuples(st.just(link), texts(link))))
@example(("http://", "http://"))
@example(("t.cn/zT7", "见t.cn/zT7。"))
@example(("http://a.org/web/http://b.com/c", "x http://a.org/web/http://b.com/c y"))
def test_no_link_survives(case):
    link, text = case
    masked = mask(text)
    assert link not in masked
    assert "://" not in masked
    assert "<url>" in masked


@given(HANDLES, HANDLES, GAPS)
def test_no_e_mail_address_survives(local, domain, gap):
    masked = mask(f"Write to {local}@{domain.replace('_', '-')}.com{gap}soon")
    assert masked == f"Write to <email>{gap}soon"


@pytest.mark.parametrize(
    "number", ["13812345678", "138-1234-5678", "+86 13812345678", "415-555-2671", "(415) 555-2671", "+1 415.555.2671"]
)
def test_no_phone_number_survives(number):
    assert mask(f"打 {number} 吧") == "打 <phone> 吧"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("太狠了！//@甲乙: 转发微博 http://t.cn/zT7abc//@foo:不信", "太狠了！//@user: 转发微博 <url>//@user:不信"),
        ("AT&amp;T &lt;3 @foo&nbsp;yes", "AT&amp;T &lt;3 @user&nbsp;yes"),
        ("“@foo: a bridge http://t.co/x” wow", "“@user: a bridge <url>” wow"),
        ("cr@p! Thanks @foo's friend and /u/some-one", "cr@user! Thanks @user's friend and @user"),
        ("Foob says foobar and xfoob; FOOB.", "@user says foobar and xfoob; @user."),
        ("1.5 million. End.It is 24/7, U.S./UK", "1.5 million. End.It is 24/7, U.S./UK"),
        ("@user <url> <email> <phone>", "@user <url> <email> <phone>"),
        ("@一二三四五六七八九十一二三四五就这样", "@user就这样"),  # no name is longer
        ("", ""),
    ],
)
def test_the_rest_stays_as_posted(text, expected):
    assert mask(text, ["Foob", "user", "phone", "me"]) == expected


def test_names_of_three_letters_are_too_common_to_be_masked_where_they_stand_alone():
    assert mask("Ann says so, @Ann", ["Ann"]) == "Ann says so, @user"
    assert mask("Anna says so: anna", ["Anna"]) == "@user says so: @user"


@given(st.text(max_size=80), st.lists(NAMES, max_size=2))
def test_any_text_can_be_masked(text, names):
    mask(text, names)


@pytest.mark.parametrize("part", ["a", "a.", "@", "a@", "http://", "<a", "1", "u/", "-"])
def test_long_texts_are_masked_at_once(part):
    mask(part * 20_000, ["abcd"])  # a pattern that went back and forth would need minutes


def test_pseudonyms_depend_on_the_secret_and_on_the_kind_alone():
    assert SECRET.user("7") == Pseudonyms(b"a salt of our own").user("7")
    assert len({SECRET.user("7"), SECRET.user("8"), SECRET.post("7"), Pseudonyms(b"other").user("7")}) == 4
    assert "salt" not in repr(SECRET).replace("Pseudonyms", "")
    assert "7" not in (SECRET.user("7")[0], SECRET.post("7")[0])


def test_a_profile_keeps_what_tells_nobody():
    profile = Profile("7", "Editor of @foo, Foobar, foo.com", "at www.foo.com", 1, 2, 3, True, "f")
    hidden = SECRET.profile(profile, ["Foobar"])
    assert (hidden.description, hidden.location) == ("Editor of @user, @user, <url>", "at <url>")
    assert (hidden.followers, hidden.friends, hidden.statuses, hidden.verified, hidden.gender) == (1, 2, 3, True, "f")
    assert hidden.key == SECRET.user("7")


def test_without_a_salt_everything_stays():
    open_book = Pseudonyms(None)
    assert open_book.text("@foo http://t.cn/x") == "@foo http://t.cn/x"
    assert (open_book.user("7"), open_book.post("8")) == ("7", "8")
    assert open_book.profile(Profile("7", "@foo")) == Profile("7", "@foo")
