"""What the three ways cost when everyone posts, without waiting for a language model.

    python benchmarks/seeing/seeing_cost.py [--citizens 30] [--ticks 4]

Tokens do not depend on what the weights are. Here they are random and few, so that this takes a minute; posts are
words without sense and always as long as they may be, and all else is asked and computed as for a real model.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from seeing_runs import run
from seeing_tables import COST, NAMES, cost_row, table

from mesa_meanfield.backends.load import load_backend
from mesa_meanfield.protocols import Backend

_WAYS = (  # name, see, summarizer, posts shown
    ("nothing of the others", "global", "none", 5),
    (f"{NAMES['global']}, exact shares", "global", "tally", 5),
    (f"{NAMES['global']}, in words", "global", "llm", 5),
    (f"{NAMES['community']}, exact shares", "community", "tally", 5),
    (f"{NAMES['community']}, in words", "community", "llm", 5),
    (f"{NAMES['neighbours']}, at most 2", "neighbours", "none", 2),
    (f"{NAMES['neighbours']}, at most 5", "neighbours", "none", 5),
    (f"{NAMES['neighbours']}, at most 10", "neighbours", "none", 10),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--story", default="health")
    parser.add_argument("--citizens", type=int, default=30)
    parser.add_argument("--ticks", type=int, default=4)
    parser.add_argument("--network", default="communities")
    given = parser.parse_args(arguments)
    given.texts = True
    with tempfile.TemporaryDirectory() as folder:
        backend = random_model(Path(folder))
        rows = []
        for name, see, given.summarizer, given.shown in _WAYS:
            rows.append(cost_row(name, [run(given.story, see, 0, backend, given)]))
    print("\n".join(table(COST, rows)))
    return 0


def random_model(folder: Path) -> Backend:
    """A model of the embedded one's kind and tokenizer, small and untrained."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    from mesa_meanfield.backends.local.embedded import fetch

    tokenizer = AutoTokenizer.from_pretrained(str(fetch()))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return load_backend(f"hf:{folder}")


if __name__ == "__main__":
    raise SystemExit(main())
