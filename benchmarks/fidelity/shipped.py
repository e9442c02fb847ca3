"""The adapters that the package ships, made again: policy, then summarizer, for the embedded model.

    python benchmarks/fidelity/shipped.py --data rumoureval2017/train.jsonl --out DIR [--cascades 60] [-- OPTION ...]

The policy first learns to read: shares of invented crowds (urns.py). Then it learns labels and texts of recorded
cascades, each beside a copy with labels drawn anew, half of them under exact tallies and half under the bare model's
summaries; then the summarizer learns for this policy. Three small events are held out: they give the temperature and
the cards' figures. A call that was killed is made again with the same arguments: it goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import urns

from mesa_meanfield.cascades.jsonl import read_cascades, write_cascades
from mesa_meanfield.cli import main as command
from mesa_meanfield.data import event_of
from mesa_meanfield.evaluation.selection import stratified

HELD_OUT = ("ebola-essien", "prince-toronto", "putinmissing")
LAYERS = "15"
"""Of SmolLM2's 30 blocks the last: a third faster, and half the size."""
BOTH = ("--layers", LAYERS, "--dropout", "0", "--summary-tokens", "64", "--patience", "9", "--roll-outs", "0")


def make(
    data: Path, out: Path, *, cascades: int, policy_steps: int, summarizer_steps: int, more: Sequence[str] = ()
) -> int:
    """All trainings, told ``more`` each; the exit status of the first that fails, else 0."""
    out.mkdir(parents=True, exist_ok=True)
    invented, recorded, copied = (out / f"{name}.jsonl" for name in ("urns", "recorded", "copied"))
    if not copied.exists():
        everything = read_cascades(data)
        learnt = stratified([one for one in everything if event_of(one) not in HELD_OUT], cascades, seed=0)
        write_cascades(recorded, [*learnt, *(one for one in everything if event_of(one) in HELD_OUT)])
        urns.main(["--out", str(invented)])
        urns.main(["--like", str(recorded), "--times", "1", "--not-like", ",".join(HELD_OUT),
                   "--concentration", str(urns.CONCENTRATION),
                   "--out", str(copied)])  # fmt: skip
    return _tune(invented, out / "reading", (), *urns.LESSON, *more) or _tune(
        copied, out / "policy", HELD_OUT, "--summarizer", "tally,llm", "--texts", "--text-weight", "0.05",
        "--batch", "4", "--learning-rate", "5e-4", "--steps", str(policy_steps), "--every", str(policy_steps),
        "--policy-adapter", str(out / "reading" / "adapters" / "policy"), *more,
    ) or _tune(
        recorded, out / "summarizer", HELD_OUT, "--summarizer", "llm", "--stages", "summarizer", "--batch", "2",
        "--policy-adapter", str(out / "policy" / "adapters" / "policy"), "--learning-rate", "3e-4",
        "--steps", str(summarizer_steps), "--every", str(summarizer_steps), *more,
    )  # fmt: skip


def _tune(data: Path, out: Path, held_out: Sequence[str], *how: str) -> int:
    if out.exists():
        return 0
    resume = ["--resume"] if out.with_name(f"{out.name}.partial").exists() else []
    held = ["--held-out", *held_out] if held_out else []
    return command(["tune", "--data", str(data), *held, "--out", str(out), *BOTH, *how, *resume])


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="rumoureval2017/train.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="gets both runs")
    parser.add_argument("--cascades", type=int, default=60, help="to learn from, of all events alike (default 60)")
    parser.add_argument("--policy-steps", type=int, default=50, help="of 4 ticks (default 50)")
    parser.add_argument("--summarizer-steps", type=int, default=25, help="of 2 ticks (default 25)")
    parser.add_argument("more", metavar="OPTION", nargs="*", help="behind --: any of mesa-meanfield tune, for each")
    given = parser.parse_args(arguments)
    return make(
        given.data,
        given.out,
        cascades=given.cascades,
        policy_steps=given.policy_steps,
        summarizer_steps=given.summarizer_steps,
        more=given.more,
    )


if __name__ == "__main__":
    sys.exit(main())
