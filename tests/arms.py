"""Crowds whose answers are known, for experiments."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from crowds import YES_NO, Crowd

from mesa_meanfield import LLMPolicy, Prompts, ScriptedBackend, TallySummarizer
from mesa_meanfield.experiments.runs import RunResult, TickCounts
from mesa_meanfield.interventions import Announce
from mesa_meanfield.protocols import Usage

DENIAL = "It is false."
PROMPTS = Prompts()  # read once for all models


def denial(at: int = 0, reach: float = 1.0) -> Announce:
    """A statement after which agents say yes less often."""
    return Announce(at, DENIAL, "the mayor", reach=reach)


def chances(before: float = 0.5, after: float = 0.2):
    """Request and candidate -> the probability of yes and no, before the denial is in the prompt and after."""

    def probability(request, candidate):
        yes = after if DENIAL in request.prefix + request.suffix else before
        return yes if candidate == "yes" else 1 - yes

    return probability


def town(voters: int = 5, backend=None, summarizer=None, policy=None, **scheduler):
    """A model factory: all its models ask one backend, each by a policy of its own."""
    common = backend or ScriptedBackend(probability=chances())

    def make(seed: int) -> Crowd:
        return Crowd(
            voters,
            backend=common,
            policy=policy(seed) if policy else LLMPolicy(common, YES_NO, prompts=PROMPTS),
            summarizer=summarizer or TallySummarizer(prompts=PROMPTS),
            rng=seed,
            **scheduler,
        )

    return make


def all_at_once(model_factory, runs: int):
    """Models whose first steps wait for each other: then all replicas are known before the first one asks."""
    met = threading.Barrier(runs, timeout=60)

    def make(seed):
        model = model_factory(seed)
        step, model.waited = model.step, False

        def together():
            if not model.waited:
                model.waited = True
                met.wait()
            step()

        model.step = together
        return model

    return make


def run_of(
    yes: Sequence[int | None], size: int = 10, *, arm: str = "run", replica: int = 0, tokens: int = 0
) -> RunResult:
    """A run with so many of ``size`` decisions for yes in each tick; None is a tick in which nobody decides."""
    ticks = []
    for number, count in enumerate(yes):
        counts: Mapping[str, int] = {"yes": 0, "no": 0} if count is None else {"yes": count, "no": size - count}
        expected = {label: float(n) for label, n in counts.items()}
        ticks.append(TickCounts(number, {"action": counts}, {"action": expected}, 0, 0, False, Usage()))
    return RunResult(arm, replica, replica, tuple(ticks), Usage(tokens_asked=tokens))
