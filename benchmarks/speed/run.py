"""Decisions per second: ours against plain transformers, a loop over agents, and mesa-llm, in one run.

    python benchmarks/speed/run.py [--agents 32 ...] [--only plain,ours] [--json FILE]

README.md beside this file says what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from client import client_overhead
from contest import Ours, Rival, rates_by_batch, timed
from plain import LABEL, Plain
from sides import MesaLlm, Side
from table import markdown

from mesa_meanfield.backends.load import load_backend
from mesa_meanfield.backends.local.peaks import facts_of, measure_peaks, phases_told
from mesa_meanfield.bench import CHOICE, Sizes, Timed, counter, tokens_told
from mesa_meanfield.machine import machine
from mesa_meanfield.protocols import Request, Usage

PARTS = ("plain", "loop", "mesa-llm", "ours", "overhead")
Contender = Ours | Rival


def main() -> None:
    """Set up who takes part, let them take turns, and print the tables."""
    given = _arguments()
    sizes = Sizes(given.agents, given.shared, given.own, given.new, given.crowd, given.archetypes)
    with ExitStack() as stack:
        bench = Bench(given, sizes, stack)
        if "overhead" in given.only:
            # First of all, since a loaded model slows everything else in this process down a little.
            many = replace(sizes, agents=given.overhead_agents)
            bench.client = client_overhead(bench.mesa_llm(), many, repeats=given.repeats, say=_say)
        if set(given.only) & set(PARTS[:4]):
            bench.invite()
            bench.play()
        result = bench.told()
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(markdown(result))


class Bench:
    """One run of the benchmark.

    Args:
        given: The command line.
        sizes: How large the crowds and prompts are.
        stack: Closes what is opened.
    """

    def __init__(self, given: argparse.Namespace, sizes: Sizes, stack: ExitStack) -> None:
        self.given = given
        self.sizes = sizes
        self.stack = stack
        self.backend: Any = None  # a LocalBackend, where it is loaded
        self.contenders: list[Contender] = []
        self.batches: dict[str, dict[int, float]] = {}
        self.client: dict[str, dict[str, Any]] = {}
        self._mesa_llm: MesaLlm | None = None

    def mesa_llm(self) -> MesaLlm:
        """mesa-llm's process, started when it is first needed."""
        if self._mesa_llm is None:
            _say("starting mesa-llm")
            self._mesa_llm = self.stack.enter_context(MesaLlm(self.given.mesa_llm_venv))
        return self._mesa_llm

    def invite(self) -> None:
        """Load the models, find the best batches, and line everyone up."""
        given, only = self.given, self.given.only
        _say("loading")
        self.backend = load_backend(given.backend)
        count = counter(self.backend)
        plain = Plain.load(given.backend) if {"plain", "loop"} & set(only) else None
        if plain is not None and "plain" in only:
            ways: dict[tuple[str, str], Callable[..., list[str]]] = {
                ("text", "plain generate"): plain.write,
                ("choice", "plain generate, the label is written"): partial(plain.write, sampling=LABEL),
                ("choice", "plain forward, labels are scored"): partial(plain.score, labels=CHOICE.options),
            }
            for (kind, name), way in ways.items():
                rates = rates_by_batch(way, given.batches, self.sizes, kind, count)
                self.batches[name] = dict(rates)
                best = max(rates, key=lambda batch: rates[batch])
                _say(f"{name}: " + ", ".join(f"{rate:.2f}/s at {batch}" for batch, rate in rates.items()))
                sizes = replace(self.sizes, agents=max(best, self.sizes.agents))
                decide = timed(partial(way, batch=best))
                self.contenders.append(Rival(kind, f"{name}, batch {best}", decide, sizes, count))
        if plain is not None and "loop" in only:
            few = replace(self.sizes, agents=given.loop_agents)
            text, label = timed(partial(plain.write, batch=1)), timed(partial(plain.write, batch=1, sampling=LABEL))
            self.contenders.append(Rival("text", "a loop over agents, batch 1", text, few, count))
            self.contenders.append(Rival("choice", "a loop over agents, the label is written", label, few, count))
        if "mesa-llm" in only:
            self._invite_mesa_llm(count)
        if "ours" in only:
            kinds = ("text", "choice", "collapsed") if self.sizes.crowd else ("text", "choice")
            self.contenders += [Ours(kind, self.backend, self.sizes, count) for kind in kinds]

    def _invite_mesa_llm(self, count: Any) -> None:
        mesa_llm, given = self.mesa_llm(), self.given
        arguments = ("--backend", given.backend, "--batch", str(given.agents))
        url = self.stack.enter_context(Side("server.py", *arguments)).read()

        def decide(requests: Sequence[Request], model: str) -> tuple[float, list[str]]:
            prompts = [(request.prefix, request.suffix) for request in requests]
            answer = mesa_llm.tick(url, model, prompts, agents="ask")
            return answer["seconds"], answer["replies"]

        for kind, name, tokens in (("text", "mesa-llm", given.new), ("choice", "mesa-llm, the label is written", 8)):
            model = f"{'text' if kind == 'text' else 'label'}-{tokens}"
            self.contenders.append(Rival(kind, name, partial(decide, model=model), self.sizes, count))

    def play(self) -> None:
        """Everyone in turn, round after round; a round of short replies before them warms up and does not count."""
        for one in self.contenders:
            replace(one, sizes=replace(one.sizes, new=2, crowd=2), timed=Timed()).play(998)
        for number in range(self.given.repeats):
            for one in self.contenders:
                one.play(number)
                _say(
                    f"round {number + 1}/{self.given.repeats}: {one.kind}: {one.name}: {one.timed.seconds[-1]:.2f} s"
                )

    def told(self) -> dict[str, Any]:
        """Everything as JSON; the keys of ``mesa-meanfield bench``, the rivals' and the client's."""
        rows: dict[str, dict[str, Any]] = {}
        for one in self.contenders:
            row = one.timed.told()
            if isinstance(one, Rival) and one.unread:
                row["unread"] = one.unread
            rows.setdefault(one.kind, {})[one.name] = row
        if "collapsed" in rows:
            plain = {name: row for name, row in rows.get("choice", {}).items() if name != "ours"}
            rows["collapsed"] |= {name: {"per_s": row["per_s"]} for name, row in plain.items()}
        ours = [one for one in self.contenders if isinstance(one, Ours)]
        rates = {f"{one.kind}: {one.name}": rows[one.kind][one.name]["per_s"] for one in self.contenders}
        names = {"text": "text_per_s", "choice": "choice_per_s", "collapsed": "collapsed_agents_per_s"}
        result = {
            "backend": self.backend.name if self.backend is not None else "no model",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            **{names[one.kind]: rates[f"{one.kind}: ours"] for one in ours},
            "tokens": tokens_told(sum((one.timed.usage for one in ours), Usage())),
            "baselines": {name: rate for name, rate in rates.items() if not name.endswith(": ours")},
            "machine": machine(),
            "rows": rows,
            "batches": self.batches,
            "client": self.client,
            "mesa_llm": self._mesa_llm.versions if self._mesa_llm is not None else None,
            "settings": {name: value for name, value in vars(self.given).items() if not isinstance(value, Path)},
        }
        return result | self._peaks(ours)

    def _peaks(self, ours: Sequence[Ours]) -> dict[str, Any]:
        measured = {one.kind: one.timed for one in ours if one.timed.phases}
        if not measured:
            return {}
        facts, peaks = facts_of(self.backend.model), measure_peaks(self.backend.model)
        phases = {
            kind: phases_told(one.phases, sum(one.seconds), facts, peaks, shared=one.shared, own=one.held)
            for kind, one in measured.items()
        }
        peak = {"flops_per_s": peaks.flops, "bytes_per_s": peaks.bytes, "dtype": peaks.dtype}
        return {"phases": phases, "peak": peak, "machine": machine() | {"device": peaks.device}}


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _parts(given: str) -> list[str]:
    parts = given.split(",")
    if unknown := set(parts) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: expected some of {','.join(PARTS)}")
    return parts


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, sizes = parser.add_argument, Sizes()
    add("--backend", default="embedded", help="embedded, or hf:NAME-OR-FOLDER")
    add("--agents", type=int, default=sizes.agents, help="agents per tick")
    add("--shared", type=int, default=sizes.shared, help="tokens that the prompts share")
    add("--own", type=int, default=sizes.own, help="tokens that each prompt has of its own")
    add("--new", type=int, default=sizes.new, help="tokens of a text at most")
    add("--crowd", type=int, default=sizes.crowd, help="agents of the crowd with few states; 0 for none")
    add("--archetypes", type=int, default=sizes.archetypes, help="how many states it has")
    add("--batches", type=int, nargs="+", default=[8, 16, 32, 64], help="those that plain transformers tries")
    add("--loop-agents", type=int, default=8, help="agents of the loop, whose rate does not depend on their number")
    add("--overhead-agents", type=int, default=200, help="agents against the server that answers at once")
    add("--repeats", type=int, default=3, help="rounds")
    add("--only", type=_parts, default=list(PARTS), help=f"some of {','.join(PARTS)}")
    add("--mesa-llm-venv", type=Path, help="mesa-llm's environment; made where there is none")
    add("--json", type=Path, help="write everything there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
