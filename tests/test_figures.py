import base64
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from cards import LABELS, card, entry, pair, rival, story, unknown

from mesa_meanfield.evaluation.cases import UNLABELLED, Case, Guess
from mesa_meanfield.evaluation.report import figures
from mesa_meanfield.evaluation.report.drawing import Picture, label_text, legible
from mesa_meanfield.evaluation.report.plots import MAX_PANELS, shares_over_time
from mesa_meanfield.evaluation.scorecard import Domain

HOSTILE = (
    "<script>alert(1)</script>",
    '"onerror=alert(1) x="',
    "</img></svg>",
    "$x$ and $\\frac$",
    "abc\u202edef",
    "nul\x00 and bell\x07",
    "half \ud83d surrogate",
    "\ufffe\uffff",
    "]]>&amp;",
)


def texts(picture: Picture) -> list[str]:
    """What stands in the picture; fails where it is no XML."""
    root = ElementTree.fromstring(picture.svg)
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def everything(name: str = "llm", other: str = "prior") -> list[Picture]:
    one, two = entry(name), rival(other)
    world = card(one, two, paired=(pair(name, other, -0.1, (-0.2, -0.05), name),))
    shown = story(labels=(name, other, "x"), names=(name,))
    return [
        figures.kl_by_entry(world),
        figures.differences(world.paired),
        figures.by_domain(world),
        figures.reliability([one], ["#0072B2"]),
        figures.errors_by_horizon(world),
        shares_over_time(shown.case, shown.guesses[name]),
    ]


def test_equal_figures_give_equal_bytes():
    assert [one.svg for one in everything()] == [one.svg for one in everything()]
    assert all("dc:date" not in one.svg for one in everything())


def test_a_picture_is_the_same_whatever_the_user_has_set(monkeypatch):
    import matplotlib

    before = everything()[0].svg
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 22)
    monkeypatch.setitem(matplotlib.rcParams, "text.parse_math", True)
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "path")
    assert everything()[0].svg == before
    assert matplotlib.rcParams["font.size"] == 22


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_stay_texts(hostile):
    for one in everything(hostile, f"b{hostile}"):
        root = ElementTree.fromstring(one.svg)
        assert not [node for node in root.iter() if node.tag.rsplit("}", 1)[-1] in ("script", "image", "a")]
        assert not [key for node in root.iter() for key in node.attrib if key.startswith("on")]
        assert legible(one.svg) == one.svg
        assert legible(one.alt) == one.alt
        one.svg.encode()


def test_a_dollar_sign_is_a_dollar_sign():
    assert "$x$" in texts(figures.kl_by_entry(card(entry("$x$"), rival("a_b^c"))))


def test_chinese_is_text_in_the_picture():
    assert "情绪" in texts(figures.kl_by_entry(card(entry("情绪"))))


def test_an_address_holds_the_picture():
    one = figures.kl_by_entry(card(entry()))
    head, body = one.uri.split(",", 1)
    assert head == "data:image/svg+xml;base64"
    assert base64.b64decode(body).decode() == one.svg


def test_unshowable_characters_leave_a_mark():
    assert legible("a\u202eb\x00c\ud83dd\te\nf") == "a\ufffdb\ufffdc\ufffdd\te\nf"
    assert legible("x" * 10, 5) == "xxxx…"


def test_wide_characters_take_the_room_of_two():
    assert label_text("abcdefgh", 6) == "abcdef…"
    assert label_text("情绪情绪", 6) == "情绪情…"
    assert label_text("a\n b") == "a b"


def test_every_entry_stands_beside_its_kl_and_interval():
    shown = texts(figures.kl_by_entry(card(entry("llm", 0.2), rival("prior", 0.31, width=None))))
    assert {"llm", "prior", "0.200  (0.150 to 0.250)", "0.310", "noise floor"} <= set(shown)


def test_an_entry_without_kl_is_named_and_says_so():
    for kl in (None, float("inf")):
        shown = texts(figures.kl_by_entry(card(entry("llm", kl, width=None), rival())))
        assert {"llm", "no KL"} <= set(shown)


def test_the_axis_is_logarithmic_where_one_entry_is_far_off():
    def axis(*kls):
        return [
            text for text in texts(figures.kl_by_entry(card(*(rival(f"r{k}", k) for k in kls)))) if "KL in" in text
        ]

    assert axis(0.1, 1.0) == ["KL in nats"]
    assert axis(0.1, 9.0) == ["KL in nats (logarithmic)"]


def test_a_difference_is_in_colour_only_where_its_interval_excludes_zero():
    def colours(ci, winner):
        svg = figures.differences([pair("a", "b", -0.1, ci, winner)]).svg
        return "#0072b2" in svg

    assert colours((-0.2, -0.01), "a")
    assert not colours((-0.2, 0.01), None)
    assert not colours((-0.2, 0.01), "a")  # whoever is named
    assert not colours((None, None), None)


def test_small_domains_are_left_to_the_table():
    names = [f"d{i:02d}" for i in range(figures.MAX_DOMAINS + 3)]
    sizes = tuple(Domain(domain=name, cascades=40 - i, kl=0.1, kl_ci=(None, None)) for i, name in enumerate(names))
    world = card(entry(by_domain=sizes))
    shown = [text for text in texts(figures.by_domain(world)) if text.startswith("d")]
    assert shown == [f"{name} ({40 - i})" for i, name in enumerate(names[: figures.MAX_DOMAINS])]
    assert len(figures.domains_of(world)) == len(names)


def test_a_domain_is_as_large_as_the_entry_that_saw_most_of_it():
    def seen(cascades):
        return (Domain(domain="news", cascades=cascades, kl=0.1, kl_ci=(None, None)),)

    assert figures.domains_of(card(entry(by_domain=seen(2)), rival(by_domain=seen(5)))) == [("news", 5)]


def test_a_simulation_keeps_its_colour_and_a_rival_is_grey():
    one, two, three = entry("none", 0.9), entry("llm", 0.1), rival()
    world = card(one, two, three)
    assert figures.colour_of(world, one) == figures.colour_of(card(one), one)
    assert figures.colour_of(world, one) != figures.colour_of(world, two)
    assert figures.colour_of(world, three) == "0.55"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_reliability_has_a_panel_for_each(count):
    entries = [entry(f"s{i}") for i in range(count)]
    shown = texts(figures.reliability(entries, ["#0072B2"] * count))
    assert [text for text in shown if text.startswith("s")] == [f"s{i}" for i in range(count)]
    assert shown.count("predicted probability") == count


def test_unknown_figures_can_be_drawn():
    world = card(unknown(), unknown("prior", kind="rival"), paired=(pair("broken", "prior", None, (None, None)),))
    assert "broken" in texts(figures.kl_by_entry(world))
    assert texts(figures.differences(world.paired))
    assert texts(figures.errors_by_horizon(world))
    assert figures.kl_by_entry(card()).svg


@pytest.mark.parametrize("k", [2, 4, 8, 12])
def test_the_commonest_labels_have_a_panel_each(k):
    labels = tuple(f"label {i}" for i in range(k))
    real = np.concatenate([np.arange(k), np.arange(4, k)]).astype(
        np.int64
    )  # of twelve, the first four are the rarest
    case = Case("c", "e", "news", "en", "stance", labels, real[-2:], real)
    guess = Guess("llm", np.full((1, len(real), k), 1 / k), np.zeros((1, len(real)), dtype=np.int64))
    shown = [text for text in texts(shares_over_time(case, guess)) if text.startswith("label")]
    assert shown == list(labels if k <= MAX_PANELS else labels[4:])


def test_the_band_needs_two_replicas():
    def drawn(replicas):
        one = story(replicas=replicas)
        return texts(shares_over_time(one.case, one.guesses["llm"]))

    assert "lowest to highest replica" in drawn(2)
    assert "lowest to highest replica" not in drawn(1)


def test_the_last_shares_are_those_of_labelled_actions():
    """Real: 1 deny of 4 labelled actions; simulated: .5 of the two slots that have a real label, so 1 of 4."""
    played, real = np.array([0, UNLABELLED, 0]), np.array([0, UNLABELLED, 1])
    case = Case("c", "e", "news", "en", "stance", ("support", "deny"), played, real)
    rows = np.array([[[0.5, 0.5], [0.0, 1.0], [0.5, 0.5]]])
    picture = shares_over_time(case, Guess("llm", rows, np.array([[0, 1, 0]])))
    assert "support 75% and 75%, deny 25% and 25%" in picture.alt


def test_failed_decisions_add_nothing():
    case = Case("c", "e", "news", "en", "stance", ("support", "deny"), np.array([0]), np.array([0, 1]))
    rows = np.array([[[0.0, 1.0], [np.nan, np.nan]]])
    picture = shares_over_time(case, Guess("llm", rows, np.array([[1, UNLABELLED]])))
    assert "support 67% and 50%, deny 33% and 50%" in picture.alt
    nothing = Guess("llm", np.full((1, 2, 2), np.nan), np.full((1, 2), UNLABELLED))
    assert "support 67% and 100%" in shares_over_time(case, nothing).alt


def test_a_cascade_without_warm_up_is_drawn():
    case = Case("c", "e", "news", "en", "stance", LABELS, np.array([], dtype=np.int64), np.array([0, 1, 2]))
    picture = shares_over_time(case, Guess("llm", np.full((1, 3, 3), 1 / 3), np.array([[0, 1, 2]])))
    assert "support 33% and 33%" in picture.alt
    assert not [text for text in texts(picture) if "warm-up" in text]


def test_the_last_figures_of_near_curves_stand_apart():
    """Real support is 100 %, simulated 99 %: at the upper edge, where both cannot be at their place."""
    case = Case("c", "e", "news", "en", "stance", ("support", "deny"), np.array([0]), np.zeros(99, dtype=np.int64))
    rows = np.broadcast_to(np.array([0.99, 0.01]), (1, 99, 2))
    svg = shares_over_time(case, Guess("llm", rows, np.zeros((1, 99), dtype=np.int64))).svg
    places = {
        text: float(y)
        for y, text in re.findall(r'<text[^>]*font-size: 8px[^>]* y="([\d.]+)"[^>]*>(\d+%)</text>', svg)
    }
    assert places.keys() == {"100%", "99%", "1%", "0%"}
    assert places["99%"] - places["100%"] > 7  # an eight-point line beneath
    assert places["0%"] - places["1%"] > 7
