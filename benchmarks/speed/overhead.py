"""What a tick costs beside the model: microseconds and bytes per agent, with a backend that answers at once.

    python benchmarks/speed/overhead.py [--agents N ...] [--archetypes N ...] [--million] [--json]

Each line is the fastest of a few ticks, split into the agents' own ``observe`` and ``act``, the scripted
backend, and the rest, which is this package's own cost. Memory is traced in a run of its own: what is kept
from one tick to the next (the recorded tick, its states and decisions), and the most that a tick needs.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import time
import tracemalloc
from collections.abc import Sequence

import mesa

from mesa_meanfield import Choice, Decision, LLMPolicy, MeanFieldScheduler, ScriptedBackend, TallySummarizer

AGENTS = (1_000, 10_000, 100_000)
MILLION = 1_000_000
TRACED = 100_000
"""The most agents whose memory is traced, since tracing takes several times the time and memory itself."""
SPACE = Choice(("share", "doubt", "ignore"))


class Citizen(mesa.Agent):
    """Costs as little as an agent can, so that nearly all that is measured is ours."""

    def __init__(self, model: mesa.Model, archetypes: int) -> None:
        super().__init__(model)
        kind = self.unique_id % archetypes if archetypes else self.unique_id
        self.state = f"You are citizen {kind}, a nurse who reads the local paper and talks to the neighbours."
        self.decision: Decision | None = None

    def observe(self) -> str:
        """The same each tick."""
        return self.state

    def act(self, decision: Decision) -> None:
        """Keep the decision."""
        self.decision = decision


class Town(mesa.Model):
    """Citizens under one scheduler."""

    def __init__(self, agents: int, archetypes: int) -> None:
        super().__init__(rng=1)
        Citizen.create_agents(self, agents, archetypes)
        self.backend = ScriptedBackend()
        self.crowd = MeanFieldScheduler(
            self,
            policy=LLMPolicy(self.backend, SPACE),
            summarizer=TallySummarizer(),
            topic="The bridge will be closed for a year, says an unsigned leaflet.",
        )


def cost_of_agents(citizens: Sequence[Citizen], repeats: int) -> float:
    """Seconds that the agents' own methods take, all together."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for one in citizens:
            one.observe()
            one.act(one.decision)
        best = min(best, time.perf_counter() - start)
    return best


def measure(agents: int, archetypes: int, ticks: int) -> dict[str, float]:
    """One line of the table; times in microseconds per agent, memory in bytes per agent."""
    town = Town(agents, archetypes)
    town.crowd.step(town.agents)  # what is made once is no cost of a tick
    steps = []
    for _ in range(ticks):
        gc.collect()
        start, spent = time.perf_counter(), town.backend.usage.seconds
        town.crowd.step(town.agents)
        steps.append((time.perf_counter() - start, town.backend.usage.seconds - spent))
    total, backend = min(steps)
    own = cost_of_agents(list(town.agents), ticks)
    times = {"total": total, "observe_act": own, "backend": backend, "rest": total - own - backend}
    line = {"agents": agents, "archetypes": archetypes, **{k: 1e6 * s / agents for k, s in times.items()}}
    return line | (memory(agents, archetypes) if agents <= TRACED else {})


def memory(agents: int, archetypes: int) -> dict[str, float]:
    """Bytes per agent that stay between ticks, and those at the height of a tick."""
    town = Town(agents, archetypes)
    gc.collect()
    tracemalloc.start()
    for _ in range(2):
        town.crowd.step(town.agents)
    gc.collect()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"bytes_kept": kept / agents, "bytes_peak": peak / agents}


def main() -> None:
    """Print one line per size and number of archetypes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, nargs="+", default=AGENTS, help="how many agents")
    parser.add_argument(
        "--archetypes", type=int, nargs="+", default=(0, 200), help="how many different states; 0: all different"
    )
    parser.add_argument("--ticks", type=int, default=5, help="ticks of which the fastest counts")
    parser.add_argument("--million", action="store_true", help="one million agents, too (about 3 GB, minutes)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    lines = []
    if not args.json:
        print(f"{'':20}| microseconds per agent                 | bytes per agent")
        print(
            f"{'agents':>9} {'states':>9} | {'total':>7} {'observe+act':>12} {'backend':>9} {'rest':>7} |"
            f" {'kept':>6} {'peak':>6}"
        )
    for agents in [*args.agents, *([MILLION] if args.million else [])]:
        for archetypes in args.archetypes:
            lines.append(line := measure(agents, archetypes, args.ticks))
            if not args.json:
                print(
                    f"{agents:>9,} {archetypes or 'all':>9} | {line['total']:>7.1f} {line['observe_act']:>12.1f}"
                    f" {line['backend']:>9.1f} {line['rest']:>7.1f} |"
                    f" {line.get('bytes_kept', math.nan):>6,.0f} {line.get('bytes_peak', math.nan):>6,.0f}"
                )
    if args.json:
        print(json.dumps({"lines": lines}))


if __name__ == "__main__":
    main()
