"""The adapters that the package ships, made again: policy, then summarizer, for the embedded model.

    python benchmarks/fidelity/shipped.py --data rumoureval2017/train.jsonl --out DIR [--cascades 80]

The policy learns labels and texts, half of the cascades under exact tallies and half under the bare model's
summaries; then the summarizer learns for this policy. Three small events are held out: they give the temperature and
the cards' figures. A call that was killed is made again with the same arguments: it goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mesa_meanfield.cascades.jsonl import read_cascades, write_cascades
from mesa_meanfield.cli import main as command
from mesa_meanfield.data import event_of
from mesa_meanfield.evaluation.selection import stratified

HELD_OUT = ("ebola-essien", "prince-toronto", "putinmissing")
LAYERS = "15"
"""Of SmolLM2's 30 blocks the last: a third faster, and half the size."""
BOTH = ("--layers", LAYERS, "--dropout", "0", "--summary-tokens", "64", "--patience", "9")


def make(data: Path, out: Path, *, cascades: int, policy_steps: int, summarizer_steps: int) -> int:
    """Both trainings; the exit status of the first that fails, else 0."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "cascades.jsonl"
    if not file.exists():
        everything = read_cascades(data)
        learnt = stratified([one for one in everything if event_of(one) not in HELD_OUT], cascades, seed=0)
        write_cascades(file, [*learnt, *(one for one in everything if event_of(one) in HELD_OUT)])
    return _tune(
        file, out / "policy", "--summarizer", "tally,llm", "--texts", "--text-weight", "0.05", "--batch", "4",
        "--learning-rate", "7e-4", "--steps", str(policy_steps), "--every", str(policy_steps),
    ) or _tune(
        file, out / "summarizer", "--summarizer", "llm", "--stages", "summarizer", "--batch", "2",
        "--policy-adapter", str(out / "policy" / "adapters" / "policy"), "--learning-rate", "3e-4",
        "--steps", str(summarizer_steps), "--every", str(summarizer_steps),
    )  # fmt: skip


def _tune(data: Path, out: Path, *how: str) -> int:
    if out.exists():
        return 0
    resume = ["--resume"] if out.with_name(f"{out.name}.partial").exists() else []
    return command(["tune", "--data", str(data), "--held-out", *HELD_OUT, "--out", str(out), *BOTH, *how, *resume])


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="rumoureval2017/train.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="gets both runs")
    parser.add_argument("--cascades", type=int, default=80, help="to learn from, of all events alike (default 80)")
    parser.add_argument("--policy-steps", type=int, default=40, help="of 4 ticks (default 40)")
    parser.add_argument("--summarizer-steps", type=int, default=40, help="of 2 ticks (default 40)")
    given = parser.parse_args(arguments)
    return make(
        given.data,
        given.out,
        cascades=given.cascades,
        policy_steps=given.policy_steps,
        summarizer_steps=given.summarizer_steps,
    )


if __name__ == "__main__":
    sys.exit(main())
