"""What a client costs beside its model: whole ticks against a server that answers at once."""

from __future__ import annotations

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from contest import asked
from sides import MesaLlm, Side

from mesa_meanfield.backends.server import ServerBackend
from mesa_meanfield.bench import Sizes, counter, overhead, task

ASK = "mesa-llm: one bare call of its model per agent"
STEP = "mesa-llm: its usual step (observe, ReAct, tool call; two calls)"
OURS = {"text": "ours over HTTP: a text per agent", "choice": "ours over HTTP: a label per agent"}
INSIDE = "ours without a server: the scheduler alone"
_Times = tuple[float, float]  # seconds by the clock, and of the client's process on the processor


def client_overhead(
    mesa_llm: MesaLlm, sizes: Sizes, *, repeats: int, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Microseconds per decision of each client, by the clock and on the processor; medians of alternating rounds.

    Args:
        mesa_llm: Its process.
        sizes: How many agents there are, and how long their prompts.
        repeats: How many rounds count, after one that does not.
        say: Hears of every tick.
    """
    times: dict[str, list[_Times]] = defaultdict(list)
    with Side("instant.py") as instant:
        url = instant.read()
        with ServerBackend(url, "instant") as backend:
            count = counter(backend)
            for number in range(repeats + 1):
                works = {kind: task(kind, sizes, count, number) for kind in OURS}
                prompts = [(request.prefix, request.suffix) for request in asked(works["text"])]
                found = {OURS[kind]: _tick(work.town(backend, number)) for kind, work in works.items()}
                for name, agents in ((ASK, "ask"), (STEP, "step")):
                    answer = mesa_llm.tick(url, "instant", prompts, agents=agents)
                    found[name] = (answer["seconds"], answer["processor"])
                for name, one in found.items():
                    say(f"{name}: {1e6 * one[0] / sizes.agents:,.0f} us per decision")
                    if number:
                        times[name].append(one)
    told = {name: _told(some, sizes.agents) for name, some in times.items()}
    return {INSIDE: {"us": overhead(sizes.crowd)}, **told}


def _tick(town: Any) -> _Times:
    gc.collect()
    start, spent = time.perf_counter(), time.process_time()
    town.step()
    return time.perf_counter() - start, time.process_time() - spent


def _told(times: list[_Times], agents: int) -> dict[str, Any]:
    clock, processor = ([1e6 * one[which] / agents for one in times] for which in (0, 1))
    return {
        "us": statistics.median(clock),
        "low": min(clock),
        "high": max(clock),
        "processor_us": statistics.median(processor),
    }
