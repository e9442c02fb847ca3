"""Write a folder with a model of 1.5 billion random weights, where none can be downloaded; for speed it serves.

    python benchmarks/speed/random_model.py FOLDER
    python benchmarks/speed/run.py --backend hf:FOLDER

The architecture is that of Qwen2 1.5B, the tokenizer that of the embedded model: it knows a third of the model's
tokens, so replies look shorter than they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from mesa_meanfield.backends.local.embedded import fetch


def main() -> None:
    """Write the model and its tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to")
    parser.add_argument("--tokenizer", help="a folder with another tokenizer")
    parser.add_argument("--layers", type=int, default=28, help="fewer make a smaller model")
    parser.add_argument("--width", type=int, default=1536, help="a multiple of 128")
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.tokenizer or str(fetch()))
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=given.width,
        intermediate_size=given.width * 35 // 6,
        num_hidden_layers=given.layers,
        num_attention_heads=given.width // 128,
        num_key_value_heads=min(2, given.width // 128),
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(given.folder)
    tokenizer.save_pretrained(given.folder)
    print(f"{given.folder}: {sum(p.numel() for p in model.parameters()) / 1e9:.2f} billion weights")


if __name__ == "__main__":
    main()
