import re
from html.parser import HTMLParser

import numpy as np
import pytest
from cards import card, entry, pair, rival, scorecard, spent, story, unknown
from test_figures import HOSTILE

from mesa_meanfield.evaluation.report.drawing import legible
from mesa_meanfield.evaluation.report.page import Example, write_report
from mesa_meanfield.evaluation.report.table import (
    COLUMNS,
    amount,
    best,
    duration,
    entry_table,
    figure,
    interval,
    lowest,
)
from mesa_meanfield.evaluation.report.verdict import agreement_warning, verdict
from mesa_meanfield.evaluation.scorecard import Agreement, Annotation, Coverage, Domain, Forecast, Hits, Widened

VOID = {"meta", "img", "wbr", "br"}


class Page(HTMLParser):
    """A page as a browser sees it: elements, their attributes, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> too many"
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" in self._open:
            return
        self.text += data
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def row(self, name):
        return next(row for row in self.rows if row and row[0] == name)


def written(tmp_path, made, stories=()):
    file = tmp_path / "report.html"
    write_report(file, made, stories)
    return Page(file.read_text("utf-8"))


def full(name="llm", other="prior", **more):
    """A scorecard with everything on it."""
    low = Agreement(dimension="stance", gold=name, texts=50, accuracy=0.5, chance=0.45, kappa=0.1)
    return scorecard(
        entry(name, 0.2),
        rival(other, 0.3),
        paired=(pair(name, other, -0.1, (-0.2, -0.05), name), pair(name, other, 0.0, (-0.1, 0.1), metric="js")),
        **{
            "others": (card(entry(name), dimension=name),),
            "annotation": Annotation(model=name, texts=100, failures=2, agreement=(low,), spent=spent()),
            "left_out": (f"{name}: 3 actions",),
            **more,
        },
    )


def test_the_page_needs_no_other_file_and_no_script(tmp_path):
    page = written(tmp_path, full(), [story("c1"), story("c2"), story("c3")])
    names = {name for name, _ in page.elements}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")]
        for key in ("src", "href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/svg+xml;base64,"))
    source = (tmp_path / "report.html").read_text("utf-8")
    assert "http://" not in source
    assert "https://" not in source
    assert "url(" not in source
    assert "@import" not in source


def test_every_link_leads_somewhere(tmp_path):
    page = written(tmp_path, full(), [story()])
    there = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= there


def test_the_page_says_what_it_is_to_every_reader(tmp_path):
    page = written(tmp_path, full(), [story("c1", language="zh", topic="大桥关闭了吗？")])
    assert page.all("html")[0]["lang"] == "en"
    assert page.elements[2] == ("meta", {"charset": "utf-8"})
    assert all(len(image["alt"]) > 20 for image in page.all("img"))
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    assert [quote["lang"] for quote in page.all("blockquote")] == ["zh"]
    assert "大桥关闭了吗？" in page.text


def test_the_same_scorecard_gives_the_same_bytes(tmp_path):
    def made(name):
        write_report(tmp_path / name, full(), [story()])
        return (tmp_path / name).read_bytes()

    assert made("a") == made("b")


def skeleton(page):
    """The elements and the names of their attributes, without those of tables, which mark figures."""
    within = ("tr", "td", "th", "bdi", "wbr")
    return [(name, sorted(attributes)) for name, attributes in page.elements if name not in within]


@pytest.fixture(scope="module")
def plain_skeleton(tmp_path_factory):
    shown = story("c", names=("n", "m"), examples=[Example("n", "a", "b")], fields={"n": "f"})
    return skeleton(written(tmp_path_factory.mktemp("plain"), full("n", "m"), [shown]))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_every_text_is_escaped(tmp_path, plain_skeleton, hostile):
    plain = hostile.encode("utf-8", "ignore").decode()  # a scorecard holds no half surrogates, a story may
    made = full(
        plain, f"b{plain}", dimension=plain, settings={plain: plain, "more": [plain]}, labels=(plain, "y", "z")
    )
    shown = story(
        f"id {hostile}",
        labels=(hostile, "y", "z"),
        names=(plain, f"b{plain}"),
        topic=hostile,
        domain=hostile,
        language=hostile,
        examples=[Example(plain, hostile, hostile)],
        fields={plain: hostile},
    )
    page = written(tmp_path, made, [shown])
    assert skeleton(page) == plain_skeleton
    source = (tmp_path / "report.html").read_text("utf-8")
    assert legible(source) == source
    assert "".join(legible(hostile).split()) in "".join(page.text.split())


def test_a_language_that_is_none_is_left_unknown(tmp_path):
    tags = ("zh-Hans", "x y", "<b>")
    page = written(tmp_path, scorecard(entry()), [story(f"c{i}", language=tag) for i, tag in enumerate(tags)])
    assert [quote["lang"] for quote in page.all("blockquote")] == ["zh-Hans", "", ""]


def test_the_lowest_the_median_and_the_highest_kl_are_shown(tmp_path):
    """The real labels come in turn, so the further a guess is from even shares the higher is its KL."""
    far = {"c": 0.4, "a": 0.8, "e": 0.5, "b": 0.9, "d": 0.7}
    stories = [story(key, (share, (1 - share) / 2, (1 - share) / 2)) for key, share in far.items()]
    page = written(tmp_path, full(), stories)
    order = re.findall(r"(lowest|median|highest) KL([a-z])\s", page.text)
    assert order == [("lowest", "c"), ("median", "d"), ("highest", "b")]
    assert "of 5 cascades those with the lowest, the median and the highest KL of llm" in page.text


def test_an_impossible_cascade_has_the_highest_kl(tmp_path):
    page = written(tmp_path, full(), [story("x", (1.0, 0.0, 0.0)), story("y"), story("z", (0.6, 0.2, 0.2))])
    assert re.findall(r"highest KL([a-z])\s", page.text) == ["x"]
    assert "none, since something real was impossible in the guess" in page.text


@pytest.mark.parametrize("count", [1, 2])
def test_few_cascades_are_all_shown(tmp_path, count):
    page = written(tmp_path, full(), [story(f"c{i}") for i in range(count)])
    assert f"All {count} there are" in page.text
    assert page.text.count("labelled actions after the warm-up; KL of llm") == count


def test_curves_are_those_of_the_best_simulation_that_has_some(tmp_path):
    made = scorecard(entry("worse", 0.4), entry("better", 0.1), rival())
    assert "KL of better: " in written(tmp_path, made, [story(names=("worse", "better"))]).text
    assert "KL of worse: " in written(tmp_path, made, [story(names=("worse",))]).text
    assert "No cascade was given for display." in written(tmp_path, made, [story(names=("nobody",))]).text


def test_examples_and_the_field_are_those_of_the_shown_simulation(tmp_path):
    examples = [Example("llm", "They moved it.", "Did they?"), Example("tally", "Not this one.", "Nor this.")]
    page = written(tmp_path, full(), [story(examples=examples, fields={"llm": "Most doubt it.", "tally": "Other."})])
    assert ["They moved it.", "Did they?"] in page.rows
    assert "Most doubt it." in page.text
    assert "Not this one." not in page.text
    assert "Other." not in page.text


def test_tables_hold_the_figures(tmp_path):
    row = written(tmp_path, scorecard(entry())).row("llm")
    assert row[1:7] == ["0.2000.150 to 0.250", "0.250", "0.200", "0.100", "0.400", "0.500"]
    assert row[7:] == ["1.100", "3.200", "0.070", "0", "12 k", "75 s"]


def test_a_missing_figure_is_a_dash_with_its_reason(tmp_path):
    page = written(tmp_path, scorecard(unknown(), rival()))
    cells = [a for a in page.all("td") if a.get("title")]
    assert page.row("broken")[1] == "–"
    assert "something real was impossible in the guess, or every decision failed" in {cell["title"] for cell in cells}
    assert "JS, Wasserstein, DTW (every decision failed)" in page.text


def test_the_best_figure_is_marked_among_like_things_only(tmp_path):
    file = tmp_path / "report.html"
    entries = (entry("a", 0.4), entry("b", 0.3), rival("p", 0.2), rival("q", 0.1))
    write_report(file, scorecard(*entries), [])
    marked = re.findall(r'<bdi>(\w)</bdi></th><td class="best"><bdi>([\d.]+)', file.read_text("utf-8"))
    assert marked == [("b", "0.300"), ("q", "0.100")]


def test_a_mean_over_fewer_cascades_is_said_and_never_the_best(tmp_path):
    made = scorecard(entry("a", 0.1, cascades=2), entry("b", 0.2), entry("c", 0.3))
    page = written(tmp_path, made)
    assert "a2 of 4 cascades" in [row[0] for row in page.rows if row]
    assert "simulation b has the lowest KL" in verdict(made)


def test_nothing_is_best_where_all_are_alike():
    kl = COLUMNS[0]
    assert best(kl, [entry("a", 0.1)]) == set()
    assert best(kl, [entry("a", 0.10001), entry("b", 0.10002)]) == set()
    assert best(kl, [entry("a", 0.10001), entry("b", 0.10002), entry("c", 0.2)]) == {"a", "b"}
    assert best(kl, [entry("a", None), entry("b", 0.2)]) == set()


def test_calibration_is_no_contest():
    column = next(column for column in COLUMNS if column.head == "Calib. error")
    assert best(column, [entry("a", calibration_error=0.0), entry("b", calibration_error=0.2)]) == set()


def test_every_column_says_what_it_is():
    assert all(len(column.meaning) > 20 and column.meaning.endswith(".") for column in COLUMNS)


def test_domains_stand_in_tables_of_five(tmp_path):
    many = tuple(Domain(domain=f"d{i}", cascades=9 - i, kl=0.1, kl_ci=(None, None)) for i in range(7))
    page = written(tmp_path, scorecard(entry(by_domain=many)))
    heads = [row for row in page.rows if row and row[0] == "Entry" and row[1].startswith("d")]
    assert heads == [["Entry", *(f"d{i} ({9 - i})" for i in range(5))], ["Entry", "d5 (4)", "d6 (3)"]]


def test_forecasts_and_bands_are_told(tmp_path):
    seen = Forecast(
        error_by_horizon=(0.1,),
        direction=Hits(hits=3, of=4, false_alarms=1),
        turning_points=Hits(hits=0, of=0, false_alarms=2),
    )
    one = entry("llm", forecast=seen, coverage=Coverage(nominal=0.6, expected=0.7, covered=6, of=24))
    wide = Widened(level=0.8, before=0.25, after=0.79, factor=2.34, events=3)
    two = entry("tally", forecast=seen, widened=wide)
    three = entry("none", forecast=seen, widened=wide.model_copy(update={"factor": None, "after": 1.0}))
    rows = written(tmp_path, scorecard(one, two, three, rival())).rows
    assert ["llm", "3 of 4 (75%)1 false alarm", "0 of 02 false alarms", "25%6 of 24", "70%", "–"] in rows
    assert ["prior", "3 of 4 (75%)", "–", "–", "–", "–"] in rows
    last = {row[0]: row[-1] for row in rows if len(row) == 6 and row[1].startswith("3 of 4")}
    assert last["tally"] == "79%of 80%; 2.3 times as wide"
    assert last["none"] == "100%of 80%; everything"


def test_settings_and_what_was_left_out_are_listed(tmp_path):
    settings = {"data": ["a", "b"], "seed": 3, "train": None, "fast": True}
    page = written(tmp_path, scorecard(entry(), settings=settings, left_out=("c9: 3 actions",)))
    for row in (["data", "a, b"], ["seed", "3"], ["train", "not given"], ["fast", "yes"]):
        assert row in page.rows
    assert "c9: 3 actions" in page.text


@pytest.mark.parametrize("labels", [2, 12])
@pytest.mark.parametrize("replicas", [1, 3])
def test_few_and_many_labels_and_replicas(tmp_path, labels, replicas):
    names = tuple(f"label {i}" for i in range(labels))
    shown = story(labels=names, simulated=tuple(np.full(labels, 1 / labels)), replicas=replicas)
    page = written(tmp_path, scorecard(entry(), labels=names), [shown])
    assert ("rarest labels" in page.text) == (labels == 12)


def test_the_smallest_and_the_largest_evaluation(tmp_path):
    nothing = Forecast(error_by_horizon=(), direction=Hits(hits=0, of=0), turning_points=Hits(hits=0, of=0))
    assert "No entry has a KL" in written(tmp_path, scorecard()).text
    alone = written(tmp_path, scorecard(entry("llm", 0.1, width=None, forecast=nothing, reliability=())))
    assert "No interval: too few cascades." in alone.text
    assert "No window after the warm-up could be compared." in alone.text
    names = [f"s{i}" for i in range(12)]
    pairs = tuple(pair(a, b, 0.1, (0.0, 0.2)) for a in names for b in names if a < b)
    page = written(
        tmp_path, scorecard(*map(entry, names), paired=pairs), [story(f"c{i}", names=names) for i in range(100)]
    )
    assert "All paired differences in KL as a table (66)" in page.text
    assert "Only pairs with s0 are drawn" in page.text
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_unknown_and_infinite_figures_can_be_shown(tmp_path):
    infinite = entry("far", float("inf"), width=None)
    made = scorecard(
        unknown(), infinite, unknown("prior", kind="rival"), paired=(pair("far", "prior", None, (None, None)),)
    )
    page = written(tmp_path, made, [story(names=("far",), simulated=(1.0, 0.0, 0.0))])
    assert page.row("far")[1] == "∞"
    assert "No entry has a KL" in page.text
    assert ["far − prior", "–", "–", "–", "4"] in page.rows


# --- The verdict --------------------------------------------------------------------------------------


def test_the_verdict_names_a_simulation_that_beats_the_best_rival():
    said = verdict(
        card(
            entry("llm", 0.2), rival("prior", 0.3), rival("uniform", 0.9),
            paired=(pair("llm", "prior", -0.1, (-0.2, -0.05), "llm"),),
        )
    )  # fmt: skip
    assert said.startswith("Of 3 entries the simulation llm has the lowest KL on stance, 0.200 nats, 0.150 above")
    assert "llm (−0.100 nats, 95\u00a0% interval −0.200 to −0.050) beats the best rival (prior)" in said


def test_the_verdict_turns_a_pair_the_right_way():
    said = verdict(
        card(entry("llm", 0.2), rival("prior", 0.3), paired=(pair("prior", "llm", 0.1, (0.05, 0.2), "llm"),))
    )
    assert "llm (−0.100 nats, 95\u00a0% interval −0.200 to −0.050) beats the best rival (prior)" in said


@pytest.mark.parametrize("ci", [(-0.2, 0.05), (-0.2, 0.0), (0.0, 0.3)])
def test_nobody_beats_anybody_where_the_interval_holds_zero(ci):
    said = verdict(card(entry("llm", 0.2), rival("prior", 0.3), paired=(pair("llm", "prior", -0.1, ci, "llm"),)))
    assert "no simulation beats the best rival (prior) with an interval that excludes zero" in said
    assert "worse" not in said


def test_a_simulation_that_loses_is_said_to():
    said = verdict(
        card(entry("llm", 0.4), rival("prior", 0.3), paired=(pair("llm", "prior", 0.1, (0.05, 0.2), "prior"),))
    )
    assert said.startswith("Of 2 entries the rival prior has the lowest KL")
    assert said.endswith("interval +0.050 to +0.200), worse beyond chance.")


def test_beating_another_rival_or_in_another_metric_is_no_victory():
    said = verdict(
        card(
            entry("llm", 0.2), rival("prior", 0.3), rival("uniform", 0.9),
            paired=(
                pair("llm", "uniform", -0.7, (-0.9, -0.5), "llm"),
                pair("llm", "prior", -0.1, (-0.2, -0.1), "llm", metric="js"),
            ),
        )
    )  # fmt: skip
    assert "no simulation was compared with the best rival (prior)" in said


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (card(), "No entry has a KL"),
        (card(entry()), "there is no rival with a KL"),
        (card(rival(), unknown()), "no simulation has a KL"),
        (card(entry("llm", 0.04), noise_floor=0.05), "not above the noise floor of 0.050"),
        (card(entry(), rival(), paired=(pair("llm", "prior", -0.1, (None, None)),)), "too few cascades"),
    ],
)  # fmt: skip
def test_the_verdict_says_what_is_lacking(made, words):
    assert words in verdict(made)


def test_the_page_names_no_winner_where_the_interval_holds_zero(tmp_path):
    made = scorecard(entry("llm"), rival("prior"), paired=(pair("llm", "prior", -0.1, (-0.2, 0.1), "llm"),))
    assert written(tmp_path, made).row("llm − prior")[3] == "–"


def agreed(kappa, dimension="stance"):
    return Agreement(dimension=dimension, gold="gold", texts=9, accuracy=0.5, chance=0.4, kappa=kappa)


def test_low_agreement_is_warned_of(tmp_path):
    assert "kappa with gold labels is low (stance 0.10;" in agreement_warning([agreed(0.1)])
    assert "unknown for tone" in agreement_warning([agreed(None, "tone")])
    assert "not compared with gold labels" in agreement_warning([])
    assert agreement_warning([agreed(0.7)]) == ""
    page = written(tmp_path, full())
    assert page.text.count("kappa with gold labels is low") == 2  # at the top and beside the figures


# --- The terminal -------------------------------------------------------------------------------------


def test_the_terminal_table_keeps_unlike_things_apart():
    columns, rows = entry_table(card(rival("prior", 0.3), entry("a", 0.4), entry("b", 0.2)))
    assert columns == ["", "KL", "95 %", "JS", "DTW", "F1", "NLL"]
    assert [row[0] for row in rows] == ["b", "a", "", "prior", "", "noise floor"]
    assert rows[0] == ["b", "0.200", "0.150–0.250", "0.250", "0.100", "0.400", "1.100"]
    assert rows[-1][:2] == ["noise floor", "0.050"]
    assert all(len(row) == len(columns) for row in rows)


def test_the_terminal_table_has_failures_where_there_are_some_and_no_empty_columns():
    columns, rows = entry_table(card(unknown(failures=4)))
    assert columns == ["", "KL", "95 %", "JS", "Failed"]
    assert rows[0] == ["broken", "–", "–", "–", "4"]


def test_figures_are_written_the_same_everywhere():
    assert [figure(x) for x in (0.1234, -0.5, -0.0001, None, float("nan"), float("inf"))] == [
        "0.123", "−0.500", "0.000", "–", "–", "∞"
    ]  # fmt: skip
    assert figure(0.5, 1, sign=True) == "+0.5"
    assert interval((0.1, None)) == "–"
    assert [amount(x) for x in (None, 0, 999, 1000, 12_345, 9_960, 2_400_000, 999_999)] == [
        "–", "0", "999", "1.0 k", "12 k", "10 k", "2.4 M", "1.0 M"
    ]  # fmt: skip
    assert [duration(x) for x in (None, 1.234, 75.0, 600.0, 7200.0)] == ["–", "1.2 s", "75 s", "10 min", "2.0 h"]


def test_the_lowest_is_the_lowest_known_one():
    made = card(entry("a", None), entry("b", float("nan"), width=None), entry("c", 0.3), rival("d", 0.1))
    assert lowest(made).name == "d"
    assert lowest(made, "simulation").name == "c"
    assert lowest(card(unknown())) is None
