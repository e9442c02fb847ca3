"""Tiny random language models, built in memory: every architecture the tests name, and no download."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.backends.local.sampling import sample_tokens
from mesa_meanfield.protocols import Reply, Request
from mesa_meanfield.seeds import noise

KINDS = ("llama", "qwen2", "gemma", "gpt_neox")
"""Two with a ChatML template, one whose template knows no system message, and one without any template."""
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
HEADER = "<|header|>"
"""A special token without a role, as most chat models have: in no list but that of the added tokens."""
CONTEXT = 192
"""How many tokens every model takes."""

_CHATML = """{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
_NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + _CHATML
)
_TEMPLATES = {"gemma": _NO_SYSTEM, "gpt_neox": None}
_TEXT = """system
user
assistant
share
doubt
ignore
share it
doubt it
You live in a small town by the sea. A rumour says that the old bridge will be closed.
Most people share the rumour, some doubt it, and a few ignore it.
I am a baker, I am a teacher, I am a fisher, and I heard it at the market in the morning.
What do you do with the rumour? Say share, doubt or ignore."""


@cache
def tokenizer(kind: str) -> Any:
    """A byte-level BPE tokenizer of 400 tokens, with the chat template of its kind."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=1,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_TEXT.splitlines(), trainer)
    core.add_special_tokens([HEADER])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        chat_template=_TEMPLATES.get(kind, _CHATML),
    )


def model(kind: str, **settings: Any) -> Any:
    """A new random model; weights far from zero, so that what a prompt says changes what comes next."""
    words = tokenizer(kind)
    usual: dict[str, Any] = {} if kind == "gpt_neox" else {"num_key_value_heads": 2, "head_dim": 8}
    usual |= {
        "vocab_size": len(words),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    config = transformers.AutoConfig.for_model(kind, **usual | settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@cache
def _kept(kind: str) -> Any:
    return model(kind)


def backend(kind: str, batch: int = 16) -> LocalBackend:
    """A backend of its own around the one model of its kind."""
    return LocalBackend(_kept(kind), tokenizer(kind), name=f"tiny {kind}", batch=batch)


def prompt(kind: str, request: Request) -> str:
    """A request as the model reads it, written out by hand."""
    if kind == "gpt_neox":
        return f"{request.prefix}\n\n{request.suffix}\n"
    if kind == "gemma":
        return f"{START}user\n{request.prefix}\n\n{request.suffix}{END}\n{START}assistant\n"
    system, user = f"{START}system\n{request.prefix}{END}\n", f"{START}user\n{request.suffix}{END}\n"
    return f"{system}{user}{START}assistant\n"


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    """What comes next behind every token of one unpadded prompt, shape (T, V), without any cache."""
    with torch.inference_mode():
        return model(torch.tensor([ids]), use_cache=False).logits[0].double()


def log_probability(model: Any, words: Any, text: str, candidate: str) -> float:
    """The log-probability of a candidate behind a prompt, token by token, in nats."""
    before = words(text, add_special_tokens=False)["input_ids"]
    after = words(candidate, add_special_tokens=False)["input_ids"]
    rows = logits(model, before + after)[len(before) - 1 : -1].log_softmax(-1)  # (T, V)
    return float(rows[range(len(after)), after].sum())


def brute_force(model: Any, kind: str, requests: Sequence[Request], candidates: Sequence[str]) -> Any:
    """What a backend has to score, every prompt with every candidate alone: shape (B, K)."""
    words = tokenizer(kind)
    return np.array([[log_probability(model, words, prompt(kind, r), c) for c in candidates] for r in requests])


def write_alone(model: Any, kind: str, request: Request) -> Reply:
    """What a backend has to reply, every token from the whole text before it."""
    words, finished = tokenizer(kind), False
    before = words(prompt(kind, request), add_special_tokens=False)["input_ids"]
    after: list[int] = []
    for number in noise(request.seed, request.sampling.max_tokens):
        row = logits(model, before + after)[-1:]
        (token,) = sample_tokens(row, torch.tensor([number]), request.sampling).tolist()
        if finished := token == words.eos_token_id:
            break
        after.append(token)
    text = words.decode(after, skip_special_tokens=True)
    return Reply(text if finished else text.rstrip("\N{REPLACEMENT CHARACTER}"), finished=finished)


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrices this small are computed a thousand times slower by threads that wait for a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_gguf(file: Path, kind: str = "qwen2") -> Path:
    """Write the model and tokenizer of a kind as a GGUF file, unquantised."""
    own, words = model(kind), tokenizer(kind)
    writer = gguf.GGUFWriter(str(file), kind)
    writer.add_block_count(own.config.num_hidden_layers)
    writer.add_context_length(own.config.max_position_embeddings)
    writer.add_embedding_length(own.config.hidden_size)
    writer.add_feed_forward_length(own.config.intermediate_size)
    writer.add_head_count(own.config.num_attention_heads)
    writer.add_head_count_kv(own.config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(own.config.rms_norm_eps)
    writer.add_rope_freq_base(own.config.rope_parameters["rope_theta"])
    writer.add_vocab_size(own.config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words.convert_ids_to_tokens(range(len(words))))
    types = (
        gguf.TokenType.CONTROL if n in words.all_special_ids else gguf.TokenType.NORMAL for n in range(len(words))
    )
    writer.add_token_types(list(types))
    merges = json.loads(words.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(words.eos_token_id)
    writer.add_pad_token_id(words.pad_token_id)
    writer.add_chat_template(words.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[kind.upper()], own.config.num_hidden_layers)
    for name, weight in own.state_dict().items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
