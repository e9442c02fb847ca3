"""The model as users of transformers run it: whole prompts, padded on the left, through ``generate``.

A model of its own, since ours changes the one it gets. Prompts are rendered as ours are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mesa_meanfield.backends.load import split_dtype
from mesa_meanfield.backends.local.embedded import fetch
from mesa_meanfield.backends.local.rendering import Renderer
from mesa_meanfield.protocols import Request, Sampling

LABEL = Sampling(max_tokens=8, temperature=1.0, top_k=0, top_p=1.0)
"""How a label is written: room for any of them, and nothing cut off, so that the model's own shares come out."""


class Plain:
    """One model with the plain ways to ask it.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:  # Any: transformers' own
        self.model = model
        self.tokenizer = tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._renderer = Renderer(tokenizer)

    @classmethod
    def load(cls, spec: str, device: str | None = None) -> Self:
        """Load what ``embedded`` or ``hf:NAME-OR-FOLDER`` names, in fp32 on CPUs and bf16 elsewhere if not said."""
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        spec, kind = split_dtype(spec)
        name = str(fetch()) if spec in ("embedded", "local") else spec.removeprefix("hf:")
        dtype = getattr(torch, kind or ("float32" if place == "cpu" else "bfloat16"))
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, use_safetensors=True)
        return cls(model.to(place).eval(), AutoTokenizer.from_pretrained(name))

    def write(self, requests: Sequence[Request], batch: int, sampling: Sampling | None = None) -> list[str]:
        """A text for each request, in batches; as its own sampling or the given one says."""
        texts: list[str] = []
        for start in range(0, len(requests), batch):
            part = requests[start : start + batch]
            texts += self._generate(part, sampling or part[0].sampling)
        return texts

    def score(self, requests: Sequence[Request], batch: int, labels: Sequence[str]) -> list[str]:
        """A label for each request, sampled by the probabilities of their first tokens after one whole forward."""
        first = [ids[0] for ids in self._renderer.candidates(self._renderer.text(requests[0]), labels)]
        if len(set(first)) < len(labels):
            raise ValueError(f"Two of {', '.join(labels)} begin with the same token for this model")
        chosen: list[str] = []
        for start in range(0, len(requests), batch):
            inputs = self._inputs(requests[start : start + batch])
            positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            with torch.inference_mode():
                logits = self.model(**inputs, position_ids=positions, use_cache=False, logits_to_keep=1).logits
            shares = logits[:, -1].float().log_softmax(-1)[:, first].exp()  # (B, K)
            chosen += [labels[index] for index in torch.multinomial(shares, 1)[:, 0].tolist()]
        return chosen

    def _generate(self, requests: Sequence[Request], sampling: Sampling) -> list[str]:
        inputs = self._inputs(requests)
        with torch.inference_mode():
            out = self.model.generate(
                **inputs,
                do_sample=True,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                max_new_tokens=sampling.max_tokens,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        new = out[:, inputs["input_ids"].shape[1] :]
        return [str(text) for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]

    def _inputs(self, requests: Sequence[Request]) -> Any:  # Any: a transformers BatchEncoding
        texts = [self._renderer.text(request) for request in requests]
        special = not self.tokenizer.chat_template  # a chat template writes its own special tokens
        encoded = self.tokenizer(
            texts, add_special_tokens=special, padding=True, padding_side="left", return_tensors="pt"
        )
        return {name: encoded[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
