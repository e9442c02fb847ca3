"""The local backend scores what the model itself says, whoever else is asked."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from tiny_models import CONTEXT, KINDS, backend, brute_force, one_thread, prompt, tokenizer

from mesa_meanfield.actions import Choice
from mesa_meanfield.errors import Cancelled
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import Request

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]
kinds = pytest.mark.parametrize("kind", KINDS)

WORDS = ("share", "doubt", "share it", "never in my life")
TOWN = "You live in a small town by the sea. A rumour says that the old bridge will be closed."
STATES = (
    "I am a baker.",
    "I am a teacher, and I heard it at the market in the morning.",
    "I am a fisher.",
    "I fish.",
    "I am a teacher who heard nothing, said nothing and will sleep until noon.",
)
CROWD = [Request(TOWN, state, seed) for seed, state in enumerate(STATES)]
TWO_TOWNS = [*CROWD, Request("You live by the sea.", STATES[0], 7), CROWD[0], Request("", "Say share.", 9)]
TOO_LONG = Request(TOWN, "the rumour " * CONTEXT)


@pytest.fixture(scope="module")
def _single():
    with one_thread():
        yield


def tokens(kind, request):
    return tokenizer(kind)(prompt(kind, request), add_special_tokens=False)["input_ids"]


def common(requests, kind="llama"):
    prompts = [tokens(kind, request) for request in requests]
    return next(i for i, column in enumerate(zip(*prompts, strict=False)) if len(set(column)) > 1)


def alone(kind, requests, words=WORDS):
    return brute_force(backend(kind).model, kind, requests, words)


@kinds
def test_a_score_is_the_sum_of_its_tokens_behind_the_whole_prompt(kind):
    lengths = [len(backend(kind).tokenizer(word)["input_ids"]) for word in WORDS]
    assert lengths[:3] == [1, 1, 2]
    assert lengths[3] > 4
    assert backend(kind).score(TWO_TOWNS, WORDS) == pytest.approx(alone(kind, TWO_TOWNS), abs=1e-4)


@kinds
def test_candidates_of_one_request_are_scored_alike(kind):
    assert backend(kind).score(CROWD[:1], WORDS) == pytest.approx(alone(kind, CROWD[:1]), abs=1e-4)


@kinds
def test_the_batch_size_changes_neither_scores_nor_sampled_labels(kind):
    choice = Choice(WORDS, temperature=4.0)
    labels = []
    for batch in (1, 3, 16):
        scores = backend(kind, batch).score(TWO_TOWNS, WORDS)
        assert scores == pytest.approx(backend(kind).score(TWO_TOWNS, WORDS), abs=1e-4)
        shares = [choice.distribution(row) for row in scores]
        labels.append([choice.sample(row, seed) for row in shares for seed in range(20)])
    assert labels[0] == labels[1] == labels[2]
    assert len(set(labels[0])) > 1


@kinds
def test_rows_keep_the_order_of_their_requests(kind):
    order = [4, 7, 0, 5, 2, 6, 1, 3]
    ordered = backend(kind, 3).score(TWO_TOWNS, WORDS)
    shuffled = backend(kind, 3).score([TWO_TOWNS[i] for i in order], WORDS)
    assert shuffled == pytest.approx(ordered[order], abs=1e-4)
    assert len(np.unique(ordered.round(3), axis=0)) == len(TWO_TOWNS) - 1  # twins apart, all differ


def test_twins_are_computed_once_and_get_the_same_row():
    alone, twins = backend("llama"), backend("llama")
    alone.score(CROWD, WORDS)
    scores = twins.score([*CROWD, *CROWD], WORDS)
    assert np.array_equal(scores[: len(CROWD)], scores[len(CROWD) :])
    assert twins.usage.tokens_computed == alone.usage.tokens_computed
    assert twins.usage.tokens_asked == 2 * alone.usage.tokens_asked


@kinds
def test_a_prompt_beyond_the_context_gets_nan_and_disturbs_nobody(kind):
    scores = backend(kind).score([*CROWD, TOO_LONG], WORDS)
    assert np.isnan(scores[-1]).all()
    assert scores[:-1] == pytest.approx(backend(kind).score(CROWD, WORDS), abs=1e-4)


def test_a_prompt_that_just_fits_is_scored():
    words = next(n for n in range(CONTEXT) if len(tokens("llama", Request(TOWN, " the" * n))) == CONTEXT - 1)
    fits, too_long = (Request(TOWN, " the" * n) for n in (words, words + 1))
    scores = backend("llama").score([fits, too_long], ["share"])
    assert scores[0] == pytest.approx(alone("llama", [fits], ["share"])[0], abs=1e-4)
    assert np.isnan(scores[1])


@kinds
def test_nothing_asked_is_nothing_answered(kind):
    own, heard = backend(kind), []
    with watching(lambda *said: heard.append(said)):
        assert own.score([], WORDS).shape == (0, len(WORDS))
        assert own.score(CROWD, []).shape == (len(CROWD), 0)
        assert own.generate([]) == []
    assert heard == []
    assert own.usage.tokens_computed == own.usage.tokens_asked == 0


# --- What was spent, and who may stop it -----------------------------------------------------------


@kinds
def test_a_shared_prefix_is_computed_once(kind):
    own = backend(kind)
    own.score(CROWD, ("share", "doubt"))
    prompts, shared = [tokens(kind, request) for request in CROWD], common(CROWD, kind)
    assert shared > 10
    assert own.usage.calls == len(CROWD)
    assert own.usage.tokens_asked == sum(map(len, prompts))
    assert own.usage.tokens_computed == sum(map(len, prompts)) - (len(prompts) - 1) * shared
    assert own.usage.seconds > 0


def test_every_prefix_is_computed_once_where_there_are_several():
    hill = [Request(f"You live on a hill. {TOWN}", r.suffix) for r in CROWD]
    apart, together = backend("llama"), backend("llama")
    expected = np.concatenate([apart.score(CROWD, ["share"]), apart.score(hill, ["share"])])
    scores = together.score([r for pair in zip(CROWD, hill, strict=True) for r in pair], ["share"])
    assert np.concatenate([scores[::2], scores[1::2]]) == pytest.approx(expected, abs=1e-4)
    begin = common([*CROWD, *hill])  # what even the two prefixes share
    assert begin > 0
    assert together.usage.tokens_computed == apart.usage.tokens_computed - begin


def test_no_more_is_computed_than_was_asked():
    own = backend("llama")
    own.score(CROWD[:1], ("share it", "never in my life"))
    assert own.usage.tokens_computed <= own.usage.tokens_asked


def test_usage_adds_up_over_calls():
    own = backend("llama")
    own.score(CROWD, WORDS)
    once = own.usage
    own.score(CROWD, WORDS)
    assert (own.usage - once).tokens_asked == once.tokens_asked
    assert (own.usage - once).tokens_computed == once.tokens_computed - common(CROWD)  # which is still there
    assert own.usage.calls == 2 * len(CROWD)


@pytest.mark.parametrize(("ask", "what"), [("score", "choices"), ("generate", "replies")])
def test_progress_is_told_between_sub_batches(ask, what):
    heard = []
    with watching(lambda *said: heard.append(said)):
        asked(ask, backend("llama", 2), CROWD)
    assert heard == [(what, 2, 5), (what, 4, 5), (what, 5, 5)]


@pytest.mark.parametrize("ask", ["score", "generate"])
def test_a_cancelled_call_stops_between_sub_batches_and_can_be_made_again(ask):
    whole, stopped = backend("llama", 2), backend("llama", 2)

    def cancel(what, done, total):
        raise Cancelled("enough")

    with pytest.raises(Cancelled), watching(cancel):
        asked(ask, stopped, CROWD)
    first = stopped.usage.tokens_computed
    expected = asked(ask, whole, CROWD)
    assert 0 < first < whole.usage.tokens_computed
    assert asked(ask, stopped, CROWD) == expected
    assert stopped.usage.tokens_computed == first + whole.usage.tokens_computed - common(CROWD)


def asked(ask, own, requests):
    return own.score(requests, WORDS).tolist() if ask == "score" else own.generate(requests)
