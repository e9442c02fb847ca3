"""Labels for texts that have none, and what is kept of them."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import ANGRY, MILD, Reader, named, remarks, text_of
from worlds import action, cascade

from mesa_meanfield import ScriptedBackend, load_backend
from mesa_meanfield.cascades.dimensions import annotated_dimensions, known_labels
from mesa_meanfield.cascades.jsonl import iter_cascades
from mesa_meanfield.cli.common import SHIPPED
from mesa_meanfield.errors import BackendError, DataError
from mesa_meanfield.evaluation.annotation.agreement import GOLD, Pair, agreements, gold_pairs
from mesa_meanfield.evaluation.annotation.annotator import Annotator
from mesa_meanfield.evaluation.annotation.label_cache import LabelCache, question_key
from mesa_meanfield.evaluation.annotation.label_form import LabelForm
from mesa_meanfield.protocols import Reply, Request, Sampling


def labels(annotated) -> list[dict[str, str]]:
    return [one.labels for one in annotated.actions]


# --- Labels ----------------------------------------------------------------------------------------


def test_every_text_gets_one_label_in_each_dimension():
    reader = Reader(lambda text: ANGRY if "!" in text else MILD)
    assert labels(Annotator(reader).annotate(remarks("Hm.", "No!"))) == [named(MILD), named(ANGRY)]


def test_gold_labels_stay_as_they_are():
    before = cascade(8)
    after = Annotator(ScriptedBackend()).annotate(before)
    for old, new in zip(before.actions, after.actions, strict=True):
        assert new.labels.items() >= old.labels.items()
        assert new.labels.keys() - old.labels.keys() == {f"annotated.{d}" for d in annotated_dimensions()}
        assert replace(new, labels=old.labels) == old
    assert replace(after, actions=before.actions) == before


def test_what_holds_no_words_is_not_asked_about_whether_real_or_simulated():
    kinds = [{}, {"simulated": True}]
    actions = [
        action(f"{text}{number}", None, text, **kind)
        for text in ("", "转发微博", " &nbsp; ")
        for number, kind in enumerate(kinds)
    ]
    actions.append(action("failed", None, "Hm.", failure="unreadable"))
    reader = Reader()
    assert labels(Annotator(reader).annotate(cascade(actions=actions))) == [{}] * 7
    assert reader.asked == []


def test_real_and_simulated_texts_are_asked_about_in_the_same_words_at_once():
    real, simulated = (action(str(n), None, "Hm.", simulated=n) for n in (False, True))
    reader = Reader()
    assert labels(Annotator(reader).annotate(cascade(actions=[real, simulated]))) == [named(MILD)] * 2
    assert len(reader.asked) == 1


def test_a_label_that_an_agent_decided_stays():
    row = {"positive": 0.9, "negative": 0.1, "neutral": 0.0}
    own, other = (
        action(d, "positive", "Sure.", dimension=d, distribution=row) for d in ("annotated.attitude", "attitude")
    )
    found = labels(Annotator(Reader()).annotate(cascade(actions=[own, other])))
    assert found[0] == named(MILD | {"attitude": "positive"})
    assert found[1] == named(MILD) | {"attitude": "positive"}


def test_some_dimensions_can_be_asked_and_the_others_stay():
    reader = Reader(lambda text: ANGRY)
    once = Annotator(reader, dimensions=("stance", "belief")).annotate(remarks("No!"))
    assert labels(once) == [named({"stance": "oppose", "belief": "doubt"})]
    assert list(json.loads(reader.asked[0].schema)["properties"]) == ["stance", "belief"]
    twice = Annotator(Reader(lambda text: MILD), dimensions=["stance"]).annotate(once)
    assert labels(twice) == [named({"stance": "neutral", "belief": "doubt"})]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"dimensions": ["behaviour"]}, "behaviour is known by rule"),
        ({"dimensions": ["mood", "stance"]}, "some of rumour, .*; got mood, stance"),
        ({"dimensions": []}, "got none"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"retries": -1}, "retries at least 0"),
    ],
)
def test_wrong_arguments_are_told(settings, expected):
    with pytest.raises(ValueError, match=expected):
        Annotator(Reader(), **settings)


# --- Failures --------------------------------------------------------------------------------------

BROKEN = ("", "I would say it is calm.", '{"stance": "neutral"}', json.dumps(MILD | {"stance": "unsure"}))


@pytest.mark.parametrize("said", [*BROKEN, Reply(failure="the server coughed")], ids=repr)
def test_a_text_without_a_readable_reply_has_no_label_and_the_others_have(said):
    reader = Reader(lambda text: said if "?" in text else MILD)
    annotator = Annotator(reader, retries=2)
    assert labels(annotator.annotate(remarks("Hm.", "What?", "Well."))) == [named(MILD), {}, named(MILD)]
    assert (annotator.texts, annotator.asked, len(annotator.failed)) == (3, 3, 1)
    assert (annotator.usage.retries, annotator.usage.failures, annotator.usage.calls) == (2, 1, 5)
    assert len({request.seed for request in reader.asked if "?" in text_of(request)}) == 3


def test_a_failing_text_loses_the_label_of_an_earlier_annotator_but_no_gold_one():
    gold = cascade(actions=[action("a1", "deny", "No!")])
    before = Annotator(Reader()).annotate(gold)
    assert Annotator(Reader(lambda text: "What?")).annotate(before) == gold


def test_a_reply_that_can_be_read_at_the_second_time_counts():
    replies = iter(["Hm?", json.dumps(MILD)])
    annotator = Annotator(Reader(lambda text: next(replies)))
    assert labels(annotator.annotate(remarks("Hm."))) == [named(MILD)]
    assert (annotator.usage.retries, annotator.failed) == (1, {})


def test_talk_around_the_object_and_broken_objects_are_told_apart():
    reader = Reader(lambda text: f"Sure, here you go:\n```json\n{json.dumps(MILD, indent=2)}\n```")
    assert labels(Annotator(reader).annotate(remarks("Hm."))) == [named(MILD)]


def test_what_failed_is_asked_again_next_time_and_what_did_not_is_known(tmp_path):
    texts = remarks("Hm.", "What?")
    failing = Annotator(Reader(lambda text: "" if "?" in text else MILD), cache=tmp_path / "c.jsonl")
    failing.annotate(texts)
    reader = Reader()
    annotator = Annotator(reader, cache=tmp_path / "c.jsonl")
    assert labels(annotator.annotate(texts)) == [named(MILD)] * 2
    assert reader.texts == ["What?"]
    assert (annotator.texts, annotator.asked, annotator.cached) == (2, 1, 1)
    failing.annotate(texts)  # which now finds what the other one kept
    assert (len(failing.failed), failing.texts) == (0, 2)


# --- What is asked ---------------------------------------------------------------------------------


def test_equal_texts_under_equal_topics_are_asked_once():
    reader = Reader()
    annotator = Annotator(reader)
    list(annotator.annotate_all([remarks("Hm.", "Well.", "Hm."), remarks("Hm.", " Hm.\n"), remarks("Well.")]))
    annotator.annotate(remarks("Well."))
    assert reader.texts == ["Hm.", "Well."]
    annotator.annotate(remarks("Hm.", topic="A seal sits there."))
    assert reader.texts == ["Hm.", "Well.", "Hm."]
    assert (annotator.texts, annotator.cached) == (3, 0)


@given(st.permutations(range(6)), st.integers(1, 7))
@settings(max_examples=25, deadline=None)
def test_labels_depend_neither_on_the_order_nor_on_who_else_is_asked(order, batch):
    usual = Annotator(ScriptedBackend()).annotate(remarks(*(f"Remark {n}." for n in range(6))))
    several = [remarks(*(f"Remark {n}." for n in part)) for part in (order[:2], order[2:3], order[3:])]
    found = [one for each in Annotator(ScriptedBackend(), batch=batch).annotate_all(several) for one in labels(each)]
    assert found == [labels(usual)[n] for n in order]
    assert len({tuple(one.items()) for one in found}) > 1


def test_another_seed_asks_anew_with_another_seed(tmp_path):
    readers = Reader(), Reader()
    for seed, reader in enumerate(readers):
        Annotator(reader, seed=seed, cache=tmp_path / "c.jsonl").annotate(remarks("Hm."))
    (one,), (other,) = (reader.asked for reader in readers)
    assert one.seed != other.seed
    assert replace(one, seed=other.seed) == other


def test_cascades_with_few_texts_are_asked_together():
    sizes = []

    class Counting(Reader):
        def generate(self, requests):
            sizes.append(len(requests))
            return super().generate(requests)

    four = [remarks(f"{n} a.", f"{n} b.", f"{n} c.", topic=f"{n} walruses") for n in range(4)]
    found = list(Annotator(Counting(), batch=5).annotate_all(iter(four)))
    assert [one.topic for one in found] == [one.topic for one in four]
    assert sizes == [5, 1, 5, 1]


def test_cascades_come_back_before_all_are_read():
    read = []

    def feed():
        for n in range(5):
            read.append(n)
            yield remarks(f"{n}.")

    next(Annotator(Reader(), batch=2).annotate_all(feed()))
    assert read == [0, 1]


def test_topic_and_text_are_shown_on_one_line_without_html_entities():
    reader = Reader()
    Annotator(reader).annotate(remarks("a &lt;\n b", "a < b", topic="Salt &amp;\n pepper"))
    (request,) = reader.asked
    assert text_of(request) == "a < b"
    assert "Salt & pepper" in request.prefix.splitlines()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_prompt_tells_the_topic_and_what_each_label_means(language):
    reader = Reader()
    Annotator(reader).annotate(remarks("哈哈", language=language, topic="运河里有海象"))
    (request,) = reader.asked
    assert "运河里有海象" in request.prefix.splitlines()
    assert "哈哈" in request.suffix.splitlines()
    for dimension in annotated_dimensions():
        assert all(f'"{label}"' in request.prefix for label in known_labels(f"annotated.{dimension}"))
        assert f'"{dimension}"' in request.suffix
    assert ("没有强烈的情绪" in request.prefix) == (language == "zh")
    assert ("no strong feeling" in request.prefix) == (language == "en")
    assert "crowd" not in request.prefix  # no persona
    assert "人群" not in request.prefix
    assert request.sampling.temperature < 0.2


def test_both_languages_have_the_same_labels_and_others_are_asked_in_english():
    english, chinese = (LabelForm(language, annotated_dimensions()).schema for language in ("en", "zh"))
    assert english.labels == chinese.labels
    assert english.labels == {d: known_labels(f"annotated.{d}") for d in annotated_dimensions()}
    reader = Reader()
    Annotator(reader).annotate(remarks("Hm.", language="fr"))
    assert reader.asked[0].prefix == LabelForm("en", annotated_dimensions()).prefix("A walrus sits in the canal.")


# --- The cache -------------------------------------------------------------------------------------

TEXTS = remarks("Hm.", "转发了", "No!", "What?")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    file = tmp_path_factory.mktemp("whole") / "c.jsonl"
    annotated = Annotator(ScriptedBackend(), cache=file, batch=2).annotate(TEXTS)
    return file.read_bytes(), annotated


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_after_a_kill_at_any_byte_what_was_whole_is_known_and_the_rest_is_asked(whole, tmp_path_factory, data):
    content, annotated = whole
    cut = data.draw(st.integers(0, len(content)))
    file = tmp_path_factory.mktemp("cut") / "c.jsonl"
    file.write_bytes(content[:cut])
    backend = ScriptedBackend()
    annotator = Annotator(backend, cache=file, batch=3)
    assert annotator.annotate(TEXTS) == annotated
    assert annotator.cached == content[:cut].count(b"\n")
    assert backend.usage.calls == annotator.asked == 4 - annotator.cached
    assert file.read_bytes() == content


def test_every_byte_offset_is_a_cut_that_can_be_read(whole, tmp_path):
    content, _ = whole
    file = tmp_path / "c.jsonl"
    for cut in range(len(content) + 1):
        file.write_bytes(content[:cut])
        assert len(LabelCache(file)) == content[:cut].count(b"\n")


def test_what_is_kept_before_the_backend_breaks_down_is_not_asked_again(tmp_path):
    class Breaking(Reader):
        def generate(self, requests):
            if self.asked:
                raise BackendError("gone")
            return super().generate(requests)

    with pytest.raises(BackendError, match="gone"):
        Annotator(Breaking(), cache=tmp_path / "c.jsonl", batch=3).annotate(TEXTS)
    reader = Reader()
    Annotator(reader, cache=tmp_path / "c.jsonl").annotate(TEXTS)
    assert reader.texts == ["What?"]


@pytest.mark.parametrize(
    "line",
    [b"{", b"", b"[]", b"\xff", b'{"key": "k"}', b'{"key": "k", "model": "m", "labels": {"stance": 1}}',
     b'{"key": "k", "model": "m", "labels": {}, "text": "Hm."}'],
)  # fmt: skip
def test_a_damaged_line_is_one_clear_error(tmp_path, line):
    file = tmp_path / "c.jsonl"
    LabelCache(file).add({"k1": MILD}, "m")
    file.write_bytes(file.read_bytes() + line + b"\n" + file.read_bytes())
    with pytest.raises(DataError, match=r"c\.jsonl line 2: .*; remove the line") as caught:
        Annotator(Reader(), cache=file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [{"stance": "oppose"}, MILD | {"stance": "unsure"}, {}])
def test_labels_that_are_none_of_ours_are_not_taken_from_the_cache(tmp_path, labels):
    file, reader = tmp_path / "c.jsonl", Reader()
    Annotator(reader).annotate(remarks("Hm."))
    key = question_key(reader.name, reader.asked[0])
    LabelCache(file).add({key: labels}, reader.name)
    with pytest.raises(DataError, match=rf"c\.jsonl: the labels of {key} are none of ours"):
        Annotator(reader, cache=file).annotate(remarks("Hm."))


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(DataError, match=r"cannot be used: "):
        LabelCache(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be made: "):
        LabelCache(tmp_path / "file" / "c.jsonl")


def test_a_cache_that_is_shortened_under_way_is_told_and_not_filled_with_zeros(tmp_path):
    file = tmp_path / "c.jsonl"
    cache = LabelCache(file)
    cache.add({"k1": MILD, "k2": MILD}, "m")
    file.write_bytes(b"")
    with pytest.raises(DataError, match="was shortened while it was in use"):
        cache.add({"k3": MILD}, "m")
    assert file.read_bytes() == b""


def test_two_caches_on_one_file_see_each_other_and_the_first_answer_stands(tmp_path):
    one, other = LabelCache(tmp_path / "c.jsonl"), LabelCache(tmp_path / "c.jsonl")
    one.add({"k1": MILD}, "m")
    other.add({"k1": ANGRY, "k2": ANGRY}, "m")
    one.refresh()
    for cache in (one, other, LabelCache(tmp_path / "c.jsonl")):
        assert (cache.get("k1"), cache.get("k2"), len(cache)) == (MILD, ANGRY, 2)


def test_many_writers_at_once_leave_whole_lines(tmp_path):
    def write(writer):
        cache = LabelCache(tmp_path / "c.jsonl")
        for n in range(12):
            cache.add({f"{n}": MILD, f"{writer} {n}": ANGRY}, "m")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    keys = [json.loads(line)["key"] for line in (tmp_path / "c.jsonl").read_bytes().splitlines()]
    assert Counter(keys) == Counter([*map(str, range(12)), *(f"{w} {n}" for w in range(4) for n in range(12))])


def test_the_cache_holds_neither_texts_nor_topics(tmp_path):
    Annotator(Reader(), cache=tmp_path / "deep" / "c.jsonl").annotate(remarks("Hm, 好吧."))
    (line,) = (tmp_path / "deep" / "c.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line).keys() == {"key", "model", "labels"}
    assert "好吧" not in line
    assert "walrus" not in line


def test_all_that_an_answer_depends_on_is_in_its_name():
    usual = Request("p", "s", 1, Sampling(), schema="{}")
    others = [
        replace(usual, prefix="q"),
        replace(usual, suffix="t"),
        replace(usual, prefix="ps", suffix=""),
        replace(usual, seed=2),
        replace(usual, sampling=Sampling(temperature=0.1)),
        replace(usual, schema='{"type": "object"}'),
    ]
    keys = {question_key("m", usual), question_key("n", usual), *(question_key("m", one) for one in others)}
    assert len(keys) == 8


def test_without_a_file_labels_last_as_long_as_the_annotator():
    reader = Reader()
    annotator = Annotator(reader)
    annotator.annotate(TEXTS)
    annotator.annotate(TEXTS)
    assert len(reader.asked) == 4
    Annotator(reader).annotate(TEXTS)
    assert len(reader.asked) == 8


# --- Figures ---------------------------------------------------------------------------------------


def judged(*pairs, dimension="stance", **settings):
    """Actions with a gold and an annotated label each."""
    return [
        replace(one, labels=one.labels | {f"annotated.{dimension}": said})
        for one, (_, said) in zip(
            [action(f"a{n}", gold, dimension=dimension, **settings) for n, (gold, _) in enumerate(pairs)],
            pairs,
            strict=True,
        )
    ]


def test_agreement_is_that_of_the_mapped_labels():
    actions = judged(("support", "support"), ("support", "support"), ("deny", "neutral"), ("comment", "neutral"))
    (one,) = agreements(gold_pairs(actions))
    assert (one.dimension, one.gold, one.texts, one.accuracy, one.chance) == (
        "annotated.stance", "stance", 4, 0.75, 0.5,
    )  # fmt: skip
    # Chance agreement is .5 * .5 + .25 * .5 = .375: half of both is support, a quarter and a half neutral.
    assert one.kappa == pytest.approx((0.75 - 0.375) / (1 - 0.375))


def test_queries_and_comments_take_no_side_and_denials_oppose():
    assert set(GOLD["stance"]) == set(known_labels("stance"))
    assert set(GOLD["stance"].values()) == set(known_labels("annotated.stance"))
    pairs = gold_pairs(
        judged(("deny", "oppose"), ("query", "neutral"), ("comment", "neutral"), ("comment", "oppose"))
    )
    assert pairs == {
        Pair("stance", "oppose", "oppose"): 1,
        Pair("stance", "neutral", "neutral"): 2,
        Pair("stance", "neutral", "oppose"): 1,
    }


def test_gold_labels_of_the_same_names_are_compared_as_they_are():
    (one,) = agreements(gold_pairs(judged(("sad", "sad"), ("sad", "calm"), ("fear", "fear"), dimension="sentiment")))
    assert (one.gold, one.texts, one.accuracy) == ("sentiment", 3, pytest.approx(2 / 3))


def test_always_saying_one_label_is_no_better_than_chance_and_without_a_second_one_there_is_no_kappa():
    (blind,) = agreements(gold_pairs(judged(("comment", "neutral"), ("deny", "neutral"), ("query", "neutral"))))
    assert (blind.accuracy, blind.chance, blind.kappa) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 0)
    (same,) = agreements(gold_pairs(judged(("comment", "neutral"), ("query", "neutral"))))
    assert (same.accuracy, same.chance, same.kappa) == (1, 1, None)


def test_only_recorded_labels_that_are_known_are_gold():
    assert not gold_pairs(judged(("deny", "oppose"), simulated=True))
    assert not gold_pairs(judged(("awe", "oppose")))
    assert not gold_pairs(cascade(4).actions)  # nobody annotated them
    assert agreements(Counter()) == ()


def test_counts_of_several_cascades_add_up():
    first, second = judged(("deny", "oppose")), judged(("deny", "neutral"), ("query", "neutral"))
    assert gold_pairs(first) + gold_pairs(second) == gold_pairs([*first, *second])


def test_the_annotation_tells_what_was_done():
    annotator = Annotator(Reader(lambda text: "" if "?" in text else MILD, name="reader"), retries=1)
    found = annotator.annotate(cascade(actions=[action("a1", "deny", "No!"), action("a2", "query", "What?")]))
    told = annotator.annotation(agreements(gold_pairs(found.actions)))
    assert (told.model, told.texts, told.failures) == ("reader", 2, 1)
    assert (told.spent.calls, told.spent.retries) == (3, 1)
    (stance,) = told.agreement  # of the text that has a label
    assert (stance.texts, stance.accuracy) == (1, 0)


def test_only_what_the_labels_cost_is_counted():
    reader = Reader()
    reader.generate([Request("", "Who?\nYou.", schema=LabelForm("en", ["stance"]).schema.schema)])
    annotator = Annotator(reader)
    annotator.annotate(TEXTS)
    assert (annotator.usage.calls, reader.usage.calls) == (4, 5)


# --- The embedded model ----------------------------------------------------------------------------


@pytest.mark.model
@pytest.mark.usefixtures("embedded_model")
def test_the_embedded_model_labels_every_text_by_its_grammar():
    backend = load_backend("embedded")
    shipped = {one.language: one for one in iter_cascades(SHIPPED)}
    few = [replace(one, actions=one.actions[:4]) for one in shipped.values()]
    annotator = Annotator(backend, retries=0)
    found = list(annotator.annotate_all(few))
    for before, after in zip(few, found, strict=True):
        for old, new in zip(before.actions, after.actions, strict=True):
            assert new.labels.items() >= old.labels.items()
            if new.text:
                asked = {d: new.labels[f"annotated.{d}"] for d in annotated_dimensions()}
                assert all(label in known_labels(f"annotated.{d}") for d, label in asked.items())
    assert (annotator.failed, len({one.language for one in found})) == ({}, 2)
    assert (annotator.usage.calls, annotator.texts) == (8, 8)
