"""A budget lets no call through that may cost more than what is left; a dry run counts without asking."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from logged import CANDIDATES, CROWD, Noting, logged

from mesa_meanfield import ScriptedBackend, Usage
from mesa_meanfield.backends.budget import Budget, expected
from mesa_meanfield.backends.counting import CountingBackend
from mesa_meanfield.backends.watched import Call
from mesa_meanfield.errors import BudgetSpent
from mesa_meanfield.protocols import LikelihoodScorer, Reply, Request, Sampling, Scorer

TEN = Sampling(max_tokens=10)
ASKED = [Request("12345678", "1234", i, TEN) for i in range(3)]
"""Prompts of 2 + 1 tokens by their bytes, 16 for the template, and 10 of the reply: 29 each."""


class Dense(Noting):
    """A model with ten times the tokens that the bytes of a prompt let expect."""

    def generate(self, requests):
        replies = super().generate(requests)
        self.usage += Usage(tokens_asked=290 * len(requests) - (self.usage.tokens_asked % 290))
        return replies


def test_a_call_that_does_not_fit_is_not_made_and_what_was_made_is_counted():
    model = Noting()
    backend = Budget(calls=7).watch(model)
    backend.generate(CROWD)
    with pytest.raises(BudgetSpent, match=r"budget of 7 calls is spent: 5 calls are paid for.* may need 5;"):
        backend.score(CROWD, CANDIDATES)
    backend.score(CROWD[:2], CANDIDATES)
    assert model.sizes == [5, 2]
    with pytest.raises(BudgetSpent, match="7 calls are paid for"):
        backend.generate(CROWD[:1])


def test_what_a_call_costs_is_expected_from_its_bytes_and_the_length_of_its_replies():
    assert expected(Call("reply", ASKED)) == Usage(3, 3 * 29)
    assert expected(Call("choice", ASKED, CANDIDATES)) == Usage(3, 3 * (19 + 1))
    assert expected(Call("text", ASKED[:2], texts=["12345", "桥"])) == Usage(2, 2 * 19 + 2 + 1)


def test_tokens_are_expected_as_the_model_has_counted_them():
    model = Dense()
    backend = Budget(tokens=1500).watch(model)
    backend.generate(ASKED)  # 87 tokens were expected, 870 came
    with pytest.raises(BudgetSpent, match=r"budget of 1,500 tokens is spent: 870 tokens.* may need about 870;"):
        backend.generate(ASKED)
    backend.generate(ASKED[:2])
    assert model.sizes == [3, 2]


def test_money_is_tokens_at_their_price():
    backend = Budget(cost=0.00017, price=2.0).watch(ScriptedBackend())  # for 85 tokens
    backend.generate(ASKED[:1])
    with pytest.raises(BudgetSpent, match=r"budget of 0\.00017 is spent: .* may need about 0\.000174;"):
        backend.generate(ASKED)


def test_what_is_in_the_log_is_not_paid_for_again(tmp_path):
    for _ in range(2):
        budget = Budget(calls=5)
        backend = logged(tmp_path / "log", budget.watch(ScriptedBackend()))
        backend.generate(CROWD)
        backend.generate(CROWD)
    assert budget.paid == Usage()
    assert backend.usage.calls == 5
    with pytest.raises(BudgetSpent):
        backend.score([*CROWD, Request("a", "b")], CANDIDATES)
    assert len(logged(tmp_path / "log").generate(CROWD)) == 5  # the log is as it was


def test_calls_under_way_in_other_threads_count():
    asked, answer = threading.Event(), threading.Event()

    def wait(_):
        asked.set()
        assert answer.wait(30)

    budget = Budget(calls=8)
    slow, other = budget.watch(Noting(before=wait)), Noting()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(slow.generate, CROWD)
        assert asked.wait(30)
        with pytest.raises(BudgetSpent):
            budget.watch(other).generate(CROWD)
        answer.set()
        assert len(under_way.result()) == 5
    assert (other.asked, budget.paid.calls) == ([], 5)


def test_a_call_that_fails_is_paid_for_as_far_as_it_went():
    class Failing(ScriptedBackend):
        def generate(self, requests):
            super().generate(requests[:2])
            raise OSError("the line is dead")

    budget = Budget(calls=8)
    with pytest.raises(OSError, match="dead"):
        budget.watch(Failing()).generate(CROWD)
    assert budget.paid.calls == 2


@pytest.mark.parametrize("limits", [{"calls": 0}, {"tokens": -1}, {"cost": 0.0, "price": 1.0}, {"cost": 1.0}])
def test_a_budget_must_be_one(limits):
    with pytest.raises(ValueError, match="budget"):
        Budget(**limits)


def test_a_watched_backend_can_just_what_the_model_can():
    watched = Budget().watch(ScriptedBackend())
    assert isinstance(watched, Scorer)
    assert not isinstance(watched, LikelihoodScorer)
    assert not hasattr(watched, "adapted")
    counting = Budget().watch(CountingBackend("a model"))
    assert isinstance(counting, LikelihoodScorer)
    assert counting.adapted("some/folder").name == "a model+folder"


# --- Dry runs -----------------------------------------------------------------------------------


def test_a_dry_run_counts_each_question_of_the_log_once():
    backend = CountingBackend("a model")
    replies = backend.generate([*ASKED, ASKED[0]])
    backend.generate(ASKED)
    assert backend.usage == Usage(3, 3 * 29)
    assert backend.reply_tokens == 30
    assert replies[0] == replies[3]
    backend.score([ASKED[0], ASKED[0]], CANDIDATES)  # twins, which differ in their seeds alone
    backend.score(ASKED, CANDIDATES)
    assert backend.usage - Usage(3, 3 * 29) == Usage(2, 2 * 20)
    backend.log_likelihood(ASKED[:1], ["12345"])
    assert backend.usage.calls == 6


def test_made_up_replies_are_as_long_as_they_may_be_and_of_the_right_form():
    text, choice, form = CountingBackend("a model").generate(
        [
            ASKED[0],
            Request("a", "b", 1, TEN, choices=("x", "y")),
            Request("a", "c", 1, TEN, schema='{"type": "null"}'),
        ]
    )
    assert 35 <= len(text.text) <= 40
    assert choice.text in ("x", "y")
    assert form == Reply("null")
