"""A backend behind a call log: what it keeps, what it asks, what it costs."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logged import CANDIDATES, CROWD, Noting, logged

from mesa_meanfield import BatchingBackend, ScriptedBackend
from mesa_meanfield.backends import coding
from mesa_meanfield.backends.asked import choices_asked, plain, replies_asked, texts_asked
from mesa_meanfield.backends.calls import CallLog, Outcome
from mesa_meanfield.backends.log import LoggedBackend
from mesa_meanfield.errors import BackendUnavailable, Cancelled, DataError, ScoringUnsupported
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import Backend, Likelihood, LikelihoodScorer, Reply, Request, Sampling, Scorer, Usage

ODD = st.text(st.sampled_from('ab"\\,[]\x00\n海\ud83d\U0001f30a'), max_size=4)  # half an emoji and a whole one
SAMPLINGS = st.builds(
    Sampling,
    max_tokens=st.sampled_from([1, 50]),
    temperature=st.sampled_from([1, 1.0, 0.8]),
    top_k=st.sampled_from([0, 1]),
    top_p=st.sampled_from([1.0, 0.85]),
    repetition_penalty=st.sampled_from([1, 1.1]),
    stop=st.lists(ODD, max_size=2).map(tuple),
)
REQUESTS = st.builds(
    Request,
    prefix=ODD,
    suffix=ODD,
    seed=st.sampled_from([0, 1, -1, 2**63, 2**70]),
    sampling=SAMPLINGS,
    choices=st.none() | st.lists(ODD, max_size=2).map(tuple),
    schema=st.none() | st.sampled_from(["{}", '{"type": "object"}']),
    adapter=st.none() | st.sampled_from(["policy", "summarizer"]),
)


class Reader(ScriptedBackend):
    """A scripted backend that also reads given texts: one nat for each letter."""

    def log_likelihood(self, requests, texts):
        return [Likelihood(-len(text) / 3, len(text)) if text else Likelihood(math.nan, 0) for text in texts]


def key(request, **known):
    return replies_asked(known.get("model", "m"), known.get("adapters", {}), [request])[0].key


# --- What a question is known by ----------------------------------------------------------------


@settings(deadline=None)
@given(REQUESTS, REQUESTS, st.sampled_from([field.name for field in fields(Request)]))
def test_two_replies_have_one_key_just_where_nothing_of_the_requests_differs(one, other, name):
    near = replace(one, **{name: getattr(other, name)})
    for request in (other, near):
        assert (key(one) == key(request)) == (one == request)


@settings(deadline=None)
@given(REQUESTS, REQUESTS)
def test_a_choice_is_known_by_its_prompt_adapter_and_candidates_alone(one, other):
    def asked(request, candidates=CANDIDATES):
        return choices_asked("m", {}, [request], candidates)[0].key

    prompts = [(request.prefix, request.suffix, request.adapter) for request in (one, other)]
    assert (asked(one) == asked(other)) == (prompts[0] == prompts[1])
    assert asked(one) != asked(one, CANDIDATES[::-1])
    assert asked(one) not in (key(one), texts_asked("m", {}, [one], ["share"])[0].key)


@settings(deadline=None)
@given(REQUESTS, ODD, ODD)
def test_a_likelihood_is_known_by_its_text_too(request, one, other):
    first, second = texts_asked("m", {}, [request, request], [one, other])
    assert (first.key == second.key) == (one == other)


def test_a_question_to_another_model_or_other_weights_is_another_one():
    one = replace(CROWD[0], adapter="policy")
    known = {"policy": "aa", "summarizer": "bb"}
    keys = [key(one), key(one, model="n"), key(one, adapters=known), key(one, adapters={"policy": "cc"})]
    assert len(set(keys)) == 4
    assert key(one, adapters=dict(reversed(known.items()))) == key(one, adapters=known)


def test_a_name_is_kept_without_credentials():
    assert plain("server:http://me:secret@host:8000/v1#m") == "server:http://host:8000/v1#m"
    assert plain("hf:org/model@main") == "hf:org/model@main"


# --- Answers, bit for bit -----------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.builds(Reply, text=ODD, failure=st.none() | ODD, finished=st.booleans())))
def test_replies_come_back_as_they_were(replies):
    assert coding.replies([one.answer for one in coding.replies_given(replies)]) == replies


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.binary(min_size=8, max_size=8)] * 3), max_size=3))
def test_scores_come_back_bit_for_bit_whatever_floats_they_are(rows):
    scores = np.frombuffer(b"".join(map(b"".join, rows))).reshape(len(rows), 3)
    given_ = coding.scores_given(scores)
    again = coding.scores([one.answer for one in given_], 3)
    assert again.tobytes() == scores.tobytes()
    assert again.flags.writeable
    assert [one.outcome is Outcome.FAILED for one in given_] == np.isnan(scores).any(axis=1).tolist()


@settings(deadline=None)
@given(st.binary(min_size=8, max_size=8), st.integers(0, 2**40))
def test_likelihoods_come_back_bit_for_bit(bits, tokens):
    one = Likelihood(struct.unpack("<d", bits)[0], tokens)
    again = coding.likelihoods([coding.likelihoods_given([one])[0].answer])[0]
    assert (struct.pack("<d", again.nats), again.tokens) == (bits, tokens)


# --- Recording ----------------------------------------------------------------------------------


def test_nothing_is_asked_twice_and_what_is_known_costs_nothing(tmp_path):
    model = Noting()
    backend = logged(tmp_path / "log", model)
    first = backend.generate(CROWD), backend.score(CROWD, CANDIDATES)
    usage = backend.usage
    assert usage == backend.paid == model.usage
    assert usage.calls == 10
    second = backend.generate(CROWD[::-1])[::-1], backend.score(CROWD, CANDIDATES)
    assert first[0] == second[0] == ScriptedBackend().generate(CROWD)
    assert first[1].tobytes() == second[1].tobytes() == ScriptedBackend().score(CROWD, CANDIDATES).tobytes()
    assert (model.sizes, backend.hits, backend.usage, backend.paid) == ([5, 5], 10, usage, usage)


def test_of_a_call_only_what_is_missing_is_asked_and_the_order_stays(tmp_path):
    model = Noting()
    backend = logged(tmp_path / "log", model)
    backend.generate([CROWD[1], CROWD[3]])
    assert backend.generate(CROWD) == ScriptedBackend().generate(CROWD)
    assert model.asked[1] == ("replies", (CROWD[0], CROWD[2], CROWD[4]))
    assert backend.hits == 2


def test_twins_share_a_choice_whatever_their_seeds_and_replies_only_where_all_is_equal(tmp_path):
    model = Noting()
    backend = logged(tmp_path / "log", model)
    backend.score(CROWD[:1], CANDIDATES)
    backend.score([replace(CROWD[0], seed=99)], CANDIDATES)
    assert model.sizes == [1]
    twins = [CROWD[0], CROWD[1], CROWD[0], replace(CROWD[0], seed=99)]
    assert backend.generate(twins) == ScriptedBackend().generate(twins)
    assert model.asked[1:] == [("replies", (CROWD[0], CROWD[1], replace(CROWD[0], seed=99)))]


def test_the_first_answer_stands_so_that_all_see_the_same(tmp_path):
    said = iter("abcd")
    model = ScriptedBackend(lambda request: next(said))
    backend = logged(tmp_path / "log", model)
    assert [backend.generate(CROWD[:1])[0].text for _ in range(2)] == ["a", "a"]
    other = logged(tmp_path / "log", model)
    assert other.generate(CROWD[:2]) == [Reply("a"), Reply("b")]


def test_a_call_is_cut_into_units_that_are_kept_one_by_one(tmp_path):
    def die(call):
        if call == 2:
            raise Cancelled("Enough.")

    model = Noting(before=die)
    backend = logged(tmp_path / "log", model, unit=2)
    with pytest.raises(Cancelled):
        backend.generate(CROWD)
    again = Noting()
    resumed = logged(tmp_path / "log", again, unit=2)
    assert resumed.generate(CROWD) == ScriptedBackend().generate(CROWD)
    assert (model.sizes, again.sizes) == ([2, 2], [1])
    assert (resumed.usage.calls, resumed.paid.calls) == (5, 1)
    with pytest.raises(ValueError, match="unit must be at least 1"):
        logged(tmp_path / "log", again, unit=0)


def test_progress_goes_on_over_all_units_and_over_what_is_known(tmp_path):
    backend = logged(tmp_path / "log", ScriptedBackend(batch=1), unit=2)
    backend.generate(CROWD[1:2])
    heard = []
    with watching(lambda *said: heard.append(said)):
        backend.generate(CROWD)
    assert {said[::2] for said in heard} == {("replies", 5)}
    assert sorted({said[1] for said in heard}) == [1, 2, 3, 4, 5]
    assert heard == sorted(heard)
    with watching(lambda *_: heard.append("known")):
        backend.generate(CROWD)
    assert heard[-3:] == ["known"] * 3


def test_it_can_just_what_the_model_can(tmp_path):
    class Mute:
        name, usage = "mute", Usage()

        def generate(self, requests):
            return [Reply("...")] * len(requests)

    for model, can in (
        (Mute(), (False, False)),
        (ScriptedBackend(), (True, False)),
        (Reader(name="r"), (True, True)),
    ):
        recorded, again = logged(tmp_path / model.name, model), logged(tmp_path / model.name)
        for backend in (recorded, again):
            assert isinstance(backend, Backend)
            assert (isinstance(backend, Scorer), isinstance(backend, LikelihoodScorer)) == can
            assert backend.name == model.name


def test_likelihoods_are_kept_by_text(tmp_path):
    texts = ["Oh.", "Oh!!", ""]
    backend = logged(tmp_path / "log", Reader())
    found = backend.log_likelihood(CROWD[:3], texts)
    again = logged(tmp_path / "log").log_likelihood(CROWD[:3], texts)
    assert again[:2] == found[:2] == [Likelihood(-1.0, 3), Likelihood(-4 / 3, 4)]
    assert math.isnan(again[2].nats)
    with pytest.raises(ValueError, match="Each request needs its own text"):
        backend.log_likelihood(CROWD, texts)


def test_a_model_that_gives_too_few_answers_is_told_and_nothing_is_kept(tmp_path):
    class Short(ScriptedBackend):
        def generate(self, requests):
            return super().generate(requests[1:])

    backend = logged(tmp_path / "log", Short())
    with pytest.raises(ValueError, match="4 answers to 5 requests"):
        backend.generate(CROWD)
    assert CallLog(tmp_path / "log").contents().calls == {}


def test_the_log_goes_inside_a_batching_backend(tmp_path):
    with pytest.raises(TypeError, match="The log goes inside"):
        logged(tmp_path / "log", BatchingBackend(ScriptedBackend()))
    with pytest.raises(ValueError, match="a backend has its own"):
        logged(tmp_path / "log", ScriptedBackend(), name="other")


# --- Replaying ----------------------------------------------------------------------------------


def test_a_replay_says_the_same_for_the_same_price_and_pays_nothing(tmp_path):
    recorded = logged(tmp_path / "log", ScriptedBackend(name="m"))
    replies, scores = recorded.generate(CROWD), recorded.score(CROWD, CANDIDATES)
    replayed = logged(tmp_path / "log")
    assert replayed.name == "m"
    assert replayed.score(CROWD[:2], CANDIDATES).tobytes() == scores[:2].tobytes()
    assert replayed.generate(CROWD) == replies
    assert replayed.score(CROWD[2:], CANDIDATES).tobytes() == scores[2:].tobytes()
    assert (replayed.usage, replayed.paid, replayed.hits) == (recorded.usage, Usage(), 10)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (Request("The bridge closes.", "I am nobody."), r"\('I am nobody\.'\) is there: no call has this prompt"),
        (replace(CROWD[0], seed=9), "a call with this prompt has seed 0 instead of 9"),
        (replace(CROWD[0], sampling=Sampling(top_k=7)), "has top_k 50 instead of 7"),
        (replace(CROWD[0], choices=("yes",)), r"has choices None instead of \['yes'\]"),
        (replace(CROWD[0], adapter="policy"), "has adapter None instead of policy"),
        (replace(CROWD[4]), "has kind choice instead of reply"),
    ],
)
def test_a_question_that_was_not_recorded_is_told_with_what_differs(tmp_path, request_, why):
    backend = logged(tmp_path / "log", ScriptedBackend())
    backend.generate(CROWD[:4])
    backend.score(CROWD[4:], CANDIDATES)
    with pytest.raises(DataError, match=why) as caught:
        logged(tmp_path / "log").generate([*CROWD[1:4], request_])
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "log") in str(caught.value)


def test_other_candidates_and_other_texts_are_told(tmp_path):
    backend = logged(tmp_path / "log", Reader())
    backend.score(CROWD[:1], CANDIDATES)
    backend.log_likelihood(CROWD[1:2], ["Oh."])
    again = logged(tmp_path / "log")
    with pytest.raises(DataError, match=r"has candidates \['share', 'doubt', 'ignore'\] instead of \['yes', 'no'\]"):
        again.score(CROWD[:1], ["yes", "no"])
    with pytest.raises(DataError, match="has another text"):
        again.log_likelihood(CROWD[1:2], ["Ah."])


def test_a_replay_of_several_models_needs_a_name(tmp_path):
    for name in ("big", "small"):
        logged(tmp_path / "log", ScriptedBackend(lambda request, name=name: name, name=name)).generate(CROWD[:1])
    assert [logged(tmp_path / "log", name=name).generate(CROWD[:1])[0].text for name in ("big", "small")] == [
        "big",
        "small",
    ]
    with pytest.raises(DataError, match="name the model to replay; there are big, small"):
        logged(tmp_path / "log")
    with pytest.raises(DataError, match="nothing was asked of huge; the recorded models are big, small"):
        logged(tmp_path / "log", name="huge")


def test_a_replay_changes_nothing_and_loads_neither_torch_nor_a_client(tmp_path):
    logged(tmp_path / "log", ScriptedBackend()).generate(CROWD[:1])
    CallLog(tmp_path / "log").close()
    before = (tmp_path / "log").read_bytes()
    code = (
        "import sys; from mesa_meanfield.backends.calls import CallLog\n"
        "from mesa_meanfield.backends.log import LoggedBackend\n"
        "from mesa_meanfield.protocols import Request\n"
        f"log = CallLog({str(tmp_path / 'log')!r}, writable=False)\n"
        "print(LoggedBackend(None, log).generate([Request('The bridge closes.', 'I am number 0.', 0)])[0].text)\n"
        "log.close(); print({'torch', 'transformers', 'mesa', 'urllib3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [ScriptedBackend().generate(CROWD[:1])[0].text, "set()"]
    assert (tmp_path / "log").read_bytes() == before


# --- Failures -----------------------------------------------------------------------------------


def test_failures_are_answers_and_replayed_as_they_were(tmp_path):
    model = Noting(lambda request: Reply(failure="refused") if request.seed == 1 else "well")
    backend = logged(tmp_path / "log", model)
    said = backend.generate(CROWD[:3])
    assert said == [Reply("well"), Reply(failure="refused"), Reply("well")]
    assert backend.generate(CROWD[:3]) == logged(tmp_path / "log").generate(CROWD[:3]) == said
    assert model.sizes == [3]
    assert CallLog(tmp_path / "log").contents().failures == 1


def test_a_model_that_gives_no_probabilities_gives_none_again(tmp_path):
    class Silent(Noting):
        def score(self, requests, candidates):
            self._note("choices", requests)
            raise ScoringUnsupported("no probabilities here")

    model = Silent()
    backend = logged(tmp_path / "log", model)
    for one in (backend, backend, logged(tmp_path / "log")):
        with pytest.raises(ScoringUnsupported, match="no probabilities here"):
            one.score(CROWD, CANDIDATES)
    assert model.sizes == [5]


def test_a_model_that_was_away_is_asked_again_and_away_in_a_replay(tmp_path):
    def away(call):
        if call == 0:
            raise BackendUnavailable("gone fishing")

    class Away(Noting):
        def _note(self, what, requests):
            self.asked.append((what, tuple(requests)))
            away(len(self.asked) - 1)

    backend = logged(tmp_path / "log", Away())
    with pytest.raises(BackendUnavailable, match="gone fishing"):
        backend.generate(CROWD)
    with pytest.raises(BackendUnavailable, match="gone fishing"):
        logged(tmp_path / "log").generate(CROWD)
    said = backend.generate(CROWD)
    assert said == logged(tmp_path / "log").generate(CROWD) == ScriptedBackend().generate(CROWD)


def test_before_a_run_is_gone_on_with_only_its_last_failures_are_forgotten(tmp_path):
    def say(request):
        return Reply(failure="overloaded") if request.seed in (1, 3, 4) else "well"

    backend = logged(tmp_path / "log", ScriptedBackend(say))
    for some in (CROWD[:2], CROWD[2:4], CROWD[4:]):  # one early, one beside the last good answer, one after it
        backend.generate(some)
    log = CallLog(tmp_path / "log")
    assert log.forget_failures() == 2
    model = Noting()
    again = logged(tmp_path / "log", model)
    assert [one.failure for one in again.generate(CROWD)] == [None, "overloaded", None, None, None]
    assert model.asked == [("replies", (CROWD[3], CROWD[4]))]
    assert log.forget_failures() == 0


# --- A cache that runs share --------------------------------------------------------------------


def test_a_shared_cache_pays_for_the_next_run_whose_log_is_whole_by_itself(tmp_path):
    with_cache = {"cache": CallLog(tmp_path / "cache")}
    first = logged(tmp_path / "one", ScriptedBackend(), **with_cache)
    first.generate(CROWD[:3])
    model = Noting()
    second = logged(tmp_path / "two", model, **with_cache)
    said = second.generate(CROWD)
    assert model.asked == [("replies", tuple(CROWD[3:]))]
    assert (second.usage.calls, second.paid.calls, second.hits) == (2, 2, 3)
    replayed = logged(tmp_path / "two")
    assert replayed.generate(CROWD) == said == ScriptedBackend().generate(CROWD)
    assert replayed.usage == second.usage
    assert logged(tmp_path / "cache").generate(CROWD) == said


def test_failures_are_not_taken_from_a_shared_cache_nor_put_there(tmp_path):
    cache = CallLog(tmp_path / "cache")
    failing = ScriptedBackend(lambda request: Reply(failure="overloaded"))
    logged(tmp_path / "one", failing, cache=cache).generate(CROWD)
    assert cache.contents().calls == {}
    logged(tmp_path / "cache", failing).generate(CROWD[:1])  # a run's own log, which serves as a cache later
    assert logged(tmp_path / "two", ScriptedBackend(), cache=cache).generate(CROWD) == ScriptedBackend().generate(
        CROWD
    )


# --- Adapters -----------------------------------------------------------------------------------


class Tunable(Noting):
    """A backend with adapters; what it says depends on the adapter's weights."""

    def __init__(self):
        super().__init__(lambda request: self.weights.get(request.adapter, "bare"))
        self.weights: dict[str | None, str] = {}

    def adapted(self, folder, name=""):
        self.weights[name] = (folder / "adapter_model.safetensors").read_text()


@pytest.fixture
def adapter(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "adapter_config.json").write_text("{}")
    (tmp_path / "mine" / "adapter_model.safetensors").write_text("first")
    return tmp_path / "mine"


def test_an_adapter_is_known_by_its_files(tmp_path, adapter):
    def say(backend):
        return backend.adapted(adapter, "policy").generate(CROWD[:1])[0].text, backend.generate(CROWD[:1])[0].text

    assert say(logged(tmp_path / "log", Tunable())) == ("first", "bare")
    replayed = logged(tmp_path / "log")
    assert say(replayed) == ("first", "bare")
    for name, content in (("adapter_model.safetensors", "second"), ("adapter_config.json", '{"r": 8}')):
        (adapter / name).write_text(content)
        model = Tunable()
        assert say(logged(tmp_path / "log", model)) == ("second", "bare")
        assert model.sizes == [1]  # the bare model's answer is known
    assert len(CallLog(tmp_path / "log").contents().adapters["policy"]) == 3


def test_a_replay_needs_no_adapter_files(tmp_path, adapter):
    logged(tmp_path / "log", Tunable()).adapted(adapter).generate(CROWD)
    gone = adapter.rename(tmp_path / "gone")
    with_name = logged(tmp_path / "log").adapted(tmp_path / "mine")
    assert [reply.text for reply in with_name.generate(CROWD)] == ["first"] * 5
    assert with_name.name == "scripted+mine"
    assert gone.is_dir()


def test_a_model_without_adapters_offers_none(tmp_path):
    assert not hasattr(logged(tmp_path / "log", ScriptedBackend()), "adapted")


def test_the_contents_are_told_in_figures(tmp_path):
    backend = logged(tmp_path / "log", Reader(name="m"))
    backend.generate(CROWD)
    backend.score(CROWD[:2], CANDIDATES)
    backend.log_likelihood(CROWD[:1], ["Oh."])
    found = CallLog(tmp_path / "log").contents()
    assert (found.calls, found.failures, found.models) == ({"choice": 2, "reply": 5, "text": 1}, 0, ("m",))
    assert found.usage == backend.usage
    assert found.first <= found.last
    assert LoggedBackend(None, CallLog(tmp_path / "log", writable=False)).usage == Usage()
