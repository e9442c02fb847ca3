"""What may be paid for: a call that may cost more than what is left is not made at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from mesa_meanfield.backends.watched import Call, WatchedBackend
from mesa_meanfield.errors import BudgetSpent
from mesa_meanfield.protocols import Backend, Request, Usage

BYTES_PER_TOKEN = 4
"""What a token of a prompt has as long as nothing else is known: in UTF-8, as usual for English."""
TEMPLATE_TOKENS = 16
"""What a chat template adds to a prompt, about."""
MILLION = 1_000_000


@final
class Budget:
    """A limit of calls, tokens or money, for all models that are asked under it. Safe for threads.

    Only what a model is really asked is paid for: put the backend that `watch` gives inside a call log, so that
    what is recorded costs nothing. A call is made if its cost fits into what is left: its requests as calls; as
    tokens all of its prompts, and its replies at their full length. Tokens are those that `Usage.tokens_asked`
    counts. How long a prompt is, only its model can say, so it is estimated: `BYTES_PER_TOKEN` at first, then as
    the model's own counts were at their highest. What a call costs beyond its estimate (in practice the first one,
    in a script whose letters take many bytes or tokens) is counted when it is over.

    Args:
        calls: How many questions may be asked; None for any number.
        tokens: How many tokens may be asked and written; likewise.
        cost: How much money may be spent, in the currency of the price; likewise.
        price: Of a million tokens, asked and written alike.

    Raises:
        ValueError: A limit is not above 0, or there is a cost without a price.
    """

    def __init__(
        self,
        *,
        calls: int | None = None,
        tokens: int | None = None,
        cost: float | None = None,
        price: float | None = None,
    ) -> None:
        for name, value in {"calls": calls, "tokens": tokens, "cost": cost, "price": price}.items():
            if value is not None and not value > 0:
                raise ValueError(f"A budget's {name} must be above 0, got {value}")
        if cost is not None and price is None:
            raise ValueError("A budget of money needs the price of a million tokens")
        self._calls = calls
        self._tokens = tokens
        self._cost = cost
        self._price = price
        self._paid = Usage()
        self._under_way = Usage()  # what is expected of calls that other threads are making
        self._factor = 1.0  # by how much a call cost more tokens than expected, at most
        self._lock = threading.Lock()

    @property
    def paid(self) -> Usage:
        """What was paid for so far."""
        with self._lock:
            return self._paid

    def watch(self, backend: Backend) -> WatchedBackend:
        """The backend under this budget; its calls raise `BudgetSpent` where they do not fit."""
        return WatchedBackend(backend, self.paying)

    @contextmanager
    def paying(self, call: Call, backend: Backend) -> Iterator[None]:
        """While a call is made: see that it fits, and count what it cost, whatever came of it.

        Raises:
            BudgetSpent: It does not fit; it is not to be made.
        """
        plain = expected(call)
        with self._lock:
            reserved = Usage(plain.calls, round(plain.tokens_asked * self._factor))
            self._check(reserved)
            self._under_way += reserved
        before = backend.usage
        try:
            yield
        finally:
            with self._lock:
                spent = backend.usage - before
                self._under_way -= reserved
                self._paid += spent
                if plain.tokens_asked:
                    self._factor = max(self._factor, spent.tokens_asked / plain.tokens_asked)

    def _check(self, next_: Usage) -> None:
        known = self._paid + self._under_way
        calls, tokens = known.calls + next_.calls, known.tokens_asked + next_.tokens_asked
        if self._calls is not None and calls > self._calls:
            raise self._spent(f"{self._calls:,} calls", f"{known.calls:,} calls", f"{next_.calls:,}")
        if self._tokens is not None and tokens > self._tokens:
            raise self._spent(
                f"{self._tokens:,} tokens", f"{known.tokens_asked:,} tokens", f"about {next_.tokens_asked:,}"
            )
        if self._cost is not None and self._price is not None and tokens * self._price / MILLION > self._cost:
            paid, more = (one.tokens_asked * self._price / MILLION for one in (known, next_))
            raise self._spent(f"{self._cost:g}", f"{paid:.4g}", f"about {more:.4g}")

    def _spent(self, limit: str, paid: str, more: str) -> BudgetSpent:
        return BudgetSpent(
            f"The budget of {limit} is spent: {paid} are paid for, and the next call may need {more}; all answers "
            "are kept, go on with a new budget"
        )


def expected(call: Call) -> Usage:
    """What a call costs before anything is known of the model's tokens: its calls and tokens."""
    prompts = sum(map(prompt_tokens, call.requests))
    match call.kind:
        case "reply":
            behind = sum(one.sampling.max_tokens for one in call.requests)
        case "choice":
            behind = len(call.requests)
        case _:
            behind = sum(map(tokens_of, call.texts))
    return Usage(len(call.requests), prompts + behind)


def prompt_tokens(request: Request) -> int:
    """About how many tokens a prompt has, its chat template included."""
    return tokens_of(request.prefix) + tokens_of(request.suffix) + TEMPLATE_TOKENS


def tokens_of(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text.encode(errors="surrogatepass")) // BYTES_PER_TOKEN)
