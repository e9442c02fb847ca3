"""How a server's answers are read: texts, and the log-probabilities of labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fake_server import OPENAI_FIELDS, FakeServer, backend, crowd, isolated, number  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st

from mesa_meanfield import Choice, LLMPolicy, MeanField, Sampling, State
from mesa_meanfield.backends.answers import label_scores
from mesa_meanfield.errors import BackendUnavailable, ScoringUnsupported
from mesa_meanfield.protocols import Reply, Turn

CANDIDATES = ("share", "doubt", "ignore")


def decide(policy, n):
    turns = [Turn(State(str(i), f"I am {i}."), seed=i) for i in range(n)]
    return policy.decide(turns, MeanField(), topic="The bridge is closed.", groups={})


# --- How replies are read --------------------------------------------------------------------------


def test_a_text_that_spent_its_tokens_is_not_finished():
    with FakeServer(reply=lambda body: "one two three four") as fake, backend(fake) as server:
        replies = server.generate([*crowd(1, Sampling(max_tokens=2)), *crowd(1, Sampling(max_tokens=9))])
    assert replies == [Reply("one two", finished=False), Reply("one two three four")]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"not JSON \xff", "expected JSON, got not JSON"),
        ([], "no text in the reply"),
        ({"error": {"message": "overloaded"}}, "no text in the reply"),
        ({"choices": []}, "no text in the reply"),
        ({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}, "no text in the reply"),
        ({"choices": [{"message": {"content": ["a"]}}]}, "no text in the reply"),
        ({"choices": [{"message": {"content": None, "refusal": "I can't."}}]}, "the model refused: I can't."),
        ({"choices": [{"message": {"content": "A"}, "finish_reason": "content_filter"}]}, "refused: content_filter"),
    ],
)
def test_a_reply_without_a_text_is_a_failure(said, why):
    answer = {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}
    with FakeServer(reply=lambda body: said if number(body) == 1 else answer) as fake, backend(fake) as server:
        replies = server.generate(crowd(3))
    assert replies[0] == replies[2] == Reply("fine")
    assert replies[1].text == ""
    assert why in replies[1].failure
    assert "\n" not in replies[1].failure


def test_tokens_are_counted_as_the_server_counts_them():
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 64}}
    said = {"choices": [{"message": {"content": "A"}}], "usage": usage}
    with FakeServer(reply=lambda body: said) as fake, backend(fake) as server:
        server.generate(crowd(2))
        assert (server.usage.tokens_asked, server.usage.tokens_computed) == (214, 86)
        usage["prompt_tokens_details"] = None
        server.generate(crowd(1))
        assert (server.usage.tokens_asked, server.usage.tokens_computed) == (321, 193)
        del said["usage"]
        server.generate(crowd(1))
        assert (server.usage.tokens_asked, server.usage.calls) == (321, 4)


# --- Scores ----------------------------------------------------------------------------------------


def entries(**logprobs):
    return [{"token": token, "logprob": logprob} for token, logprob in logprobs.items()]


def test_scores_are_those_of_the_first_token_at_temperature_one():
    with FakeServer() as fake, backend(fake) as server:
        scores = server.score(crowd(2), CANDIDATES)
    (asked,) = {tuple((key, body[key]) for key in body if key != "messages") for body in fake.asked}
    assert dict(asked) == {
        "model": "tiny", "max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "logprobs": True, "top_logprobs": 20,
    }  # fmt: skip
    body = next(body for body in fake.asked if number(body) == 1)
    known = {entry["token"]: entry["logprob"] for entry in fake._top(body)}
    assert scores[1].tolist() == pytest.approx([known[candidate] for candidate in CANDIDATES])


def test_of_the_tokens_that_begin_a_label_the_longest_count():
    top = entries(sh=math.log(0.2), **{" sh": math.log(0.1), "\tsh": math.log(0.05), "doubt": math.log(0.3)})
    scores, whole = label_scores(top, ("share", "doubt"))
    assert np.exp(scores).tolist() == pytest.approx([0.35, 0.3])
    assert not whole
    scores, whole = label_scores(top + entries(share=math.log(0.04), Share=math.log(0.01)), ("share", "doubt"))
    assert np.exp(scores).tolist() == pytest.approx([0.04, 0.3])
    assert whole


def test_a_single_letter_is_no_longer_label():
    top = entries(I=-1, d=-3, A=-4, ignore=-5, doubt=-6)
    assert label_scores(top, ("ignore", "doubt")).logs == [-5, -6]
    assert label_scores(top, ("A", "I")).logs == [-4, -1]
    with pytest.raises(ScoringUnsupported, match="none of the 5 most probable tokens begins agree"):
        label_scores(top, ("agree", "doubt"))


def test_blanks_other_words_and_nonsense_count_for_nobody():
    top = [*entries(**{" ": -1, "": -1, "\n": -1, "shares": -1, "share": -2, "no": -3, "Nope": -1}), {}, None, "x"]
    top += [{"token": "share", "logprob": None}, {"token": "no", "logprob": math.nan}, {"logprob": -1}]
    assert label_scores(top, ("share", "no")).logs == [-2, -3]


def test_capitals_count_where_a_label_is_found_with_others_only():
    assert label_scores(entries(Share=-1, DOUBT=-2), ("share", "doubt")) == ([-1, -2], False)
    assert label_scores(entries(Share=-1, share=-3, doubt=-2), ("share", "doubt")) == ([-3, -2], True)
    both = math.log(math.exp(-1) + math.exp(-3))  # for one label any capitals, for all any
    assert label_scores(entries(Share=-1, share=-3, Doubt=-2), ("share", "doubt")).logs == pytest.approx([both, -2])
    assert label_scores(entries(No=-1, Not=-2), ("no", "not sure")).logs == [-1, -2]
    assert label_scores(entries(Yes=-1, yes=-2), ("Yes", "yes")).logs == [-1, -2]
    assert label_scores(entries(A=-1, B=-2, b=-3), ("A", "B", "b")).logs == [-1, -2, -3]


def test_a_token_that_begins_several_candidates_says_nothing():
    with pytest.raises(ScoringUnsupported, match="the token 'su' begins several of support, surprise"):
        label_scores(entries(su=-1, support=-2), ("support", "surprise"))
    assert label_scores(entries(su=-1, support=-2, surprise=-3), ("support", "surprise")).logs == [-2, -3]
    assert label_scores(entries(no=-1, **{"not": -2}), ("no", "not sure")).logs == [-1, -2]
    with pytest.raises(ScoringUnsupported, match="the token 'no' begins several of no, not sure"):
        label_scores(entries(no=-1), ("no", "not sure"))


def test_a_candidate_that_is_not_listed_is_not_known():
    with pytest.raises(ScoringUnsupported, match="none of the 1 most probable tokens begins support"):
        label_scores(entries(share=-1), ("share", "support"))


def test_a_token_may_end_inside_a_character():
    top = [{"token": "\ufffd", "logprob": -1, "bytes": list("支持".encode()[:2])}]
    top += [{"token": "\ufffd", "logprob": -2, "bytes": list("反对".encode()[:4])}]
    assert label_scores(top, ("支持", "反对")).logs == [-1, -2]


@given(st.lists(st.tuples(st.sampled_from(["a", "A", " a", "ab", "b", "bc", "B", "c", ""]), st.integers(0, 99))))
def test_scores_are_log_probabilities(weights):
    total = sum(weight for _, weight in weights)
    top = [{"token": t, "logprob": math.log(w / total) if w else -math.inf} for t, w in weights]
    try:
        scores = label_scores(top, ("ab", "bc")).logs
    except ScoringUnsupported:
        return
    assert all(score <= 0 for score in scores)
    assert sum(map(math.exp, scores)) <= 1 + 1e-9


def test_more_top_tokens_are_asked_for_where_a_label_is_not_among_twenty():
    words = (*(f"word{i}" for i in range(30)), "share", "doubt", "ignore")
    with FakeServer(most=2000, words=words) as fake, backend(fake, concurrency=1) as server:
        scores = server.score(crowd(3), CANDIDATES)
        assert (server.usage.calls, server.usage.retries) == (3, 0)
        known = {entry["token"]: entry["logprob"] for entry in fake._top(fake.asked[-1])}
    assert scores[2].tolist() == pytest.approx([known[candidate] for candidate in CANDIDATES])
    assert [body["top_logprobs"] for body in fake.asked] == [20, 1000, 1000, 1000]
    with FakeServer(most=2000, words=words, latency=0.01) as fake, backend(fake, concurrency=6) as server:
        at_once = server.score(crowd(6), CANDIDATES)  # several find out at the same time
    assert at_once[:3].tolist() == scores.tolist()


def test_twenty_remain_twenty_where_a_server_lists_no_more():
    with FakeServer(most=20) as fake, backend(fake, concurrency=1) as server:
        for _ in range(2):
            with pytest.raises(ScoringUnsupported, match="tokens begins maybe"):
                server.score(crowd(1), ("share", "maybe"))
        assert server.score(crowd(2), CANDIDATES).shape == (2, 3)
        assert server.usage.calls == 4
    assert [body["top_logprobs"] for body in fake.asked] == [20, 1000, 20, 20, 20, 20]


def test_a_label_that_is_no_token_of_its_own_is_looked_for_among_more():
    with FakeServer(most=2000, words=("sh", "doubt", "ignore")) as fake, backend(fake, concurrency=1) as server:
        scores = server.score(crowd(2), CANDIDATES)
        known = {entry["token"]: entry["logprob"] for entry in fake._top(fake.asked[-1])}
    assert scores[1, 0] == pytest.approx(known["sh"])
    assert [body["top_logprobs"] for body in fake.asked] == [20, 1000, 1000]


def test_fewer_top_tokens_are_asked_for_where_twenty_are_too_many():
    with FakeServer(most=5, words=("share", "doubt", "ignore")) as fake, backend(fake, concurrency=1) as server:
        scores = server.score(crowd(3), CANDIDATES)
        assert not np.isnan(scores).any()
        server.score(crowd(2), CANDIDATES)
        assert server.usage.retries == 1
    assert [body["top_logprobs"] for body in fake.asked] == [20, 5, 5, 5, 5, 5]


@pytest.mark.parametrize("how", ["ignored", "refused"])
def test_a_server_without_log_probabilities_is_not_asked_for_them_again(how):
    takes = OPENAI_FIELDS - {"logprobs", "top_logprobs"} if how == "refused" else None
    with FakeServer(logprobs=False, takes=takes) as fake, backend(fake) as server:
        with pytest.raises(ScoringUnsupported, match="gives no log-probabilities"):
            server.score(crowd(1), CANDIDATES)
        fake.asked.clear()
        with pytest.raises(ScoringUnsupported, match="gives no log-probabilities"):
            server.score(crowd(4), CANDIDATES)
        assert fake.asked == []
        assert server.generate(crowd(1))[0].failure is None


def test_an_empty_reply_does_not_mean_that_there_are_no_log_probabilities():
    said = iter([{"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}])
    with FakeServer(reply=lambda body: next(said, None)) as fake, backend(fake) as server:
        with pytest.raises(ScoringUnsupported):
            server.score(crowd(1), CANDIDATES)
        assert server.score(crowd(1), CANDIDATES).shape == (1, 3)


def test_a_candidate_unknown_once_may_be_known_the_next_time():
    with FakeServer() as fake, backend(fake) as server:
        with pytest.raises(ScoringUnsupported, match=r"begins maybe; ask it for replies instead") as caught:
            server.score(crowd(3), ("share", "maybe"))
        assert str(caught.value).startswith(fake.url)
        assert server.score(crowd(3), CANDIDATES).shape == (3, 3)


def test_a_policy_samples_labels_where_there_are_no_log_probabilities():
    stance = Choice(("share", "doubt"), dimension="stance")
    with FakeServer(logprobs=False, reply=lambda b: "Share." if b.get("seed", 0) % 2 else "doubt") as fake:
        with backend(fake) as server:
            policy = LLMPolicy(server, stance)
            decisions = decide(policy, 12)
            assert {d.labels["stance"] for d in decisions} == {"share", "doubt"}
            assert all(d.distribution is None and d.failure is None for d in decisions)
            assert [d.labels for d in decide(policy, 12)] == [d.labels for d in decisions]
        assert policy.usage.failures == 0


def test_a_policy_scores_labels_and_counts_each_failure_once():
    stance = Choice(("share", "doubt"), dimension="stance")
    bad = lambda body: 400 if "I am 3." in body["messages"][-1]["content"] else None  # noqa: E731
    with FakeServer(status_of=bad) as fake, backend(fake) as server:
        policy = LLMPolicy(server, stance, on_failure="skip")
        decisions = decide(policy, 5)
    assert [d.failure is None for d in decisions] == [True, True, True, False, True]
    assert all(math.isclose(sum(d.distribution.values()), 1) for d in decisions if d.failure is None)
    # One scored batch of five; the one that failed is then asked to say its label, three times, and each time
    # again without what guides a reply, since that might be what the server does not take.
    assert (policy.usage.calls, policy.usage.failures, policy.usage.retries) == (8, 1, 6)


def test_retries_of_the_server_and_of_the_policy_are_counted_once_each():
    stance = Choice(("share", "doubt"), dimension="stance")
    replies = iter(["nonsense", "share"])
    with FakeServer(logprobs=False, reply=lambda body: next(replies)) as fake, backend(fake) as server:
        server._scores = False  # as if it had been asked before
        fake.statuses = [503]
        policy = LLMPolicy(server, stance)
        (decision,) = decide(policy, 1)
    assert decision.labels == {"stance": "share"}
    assert (policy.usage.calls, policy.usage.retries, policy.usage.failures) == (2, 2, 0)


def test_scores_of_an_overloaded_server_say_so():
    said = r"after 2 tries: HTTP 503.*so did all 2 requests of the batch"
    with FakeServer(status_of=lambda body: 503) as fake:
        server = backend(fake, retries=1)
        with server, pytest.raises(BackendUnavailable, match=said):
            server.score(crowd(2), CANDIDATES)
