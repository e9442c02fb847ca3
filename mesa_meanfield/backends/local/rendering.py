"""Requests -> token ids, by the model's own chat template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jinja2

from mesa_meanfield.protocols import Request


class Renderer:
    """Renders prompts for one tokenizer.

    The prefix is the system message and the suffix the user's, where the template knows a system
    message; else both are the user's. Without a chat template (base models) they are plain text.
    """

    def __init__(self, tokenizer: Any) -> None:  # Any: transformers leaves its tokenizers' class open
        self.tokenizer = tokenizer
        # All that are cut out before the text is split, not only those with a role: headers, tool and thought marks.
        added = {*tokenizer.all_special_tokens, *map(str, tokenizer.added_tokens_decoder.values())}
        special = sorted({t for t in added if len(t.strip()) > 1}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special))) if special else None
        self._system = bool(tokenizer.chat_template) and self._knows_system()

    def text(self, request: Request) -> str:
        """The whole prompt as text, up to where the reply begins."""
        prefix, suffix = self._defuse(request.prefix), self._defuse(request.suffix)
        if not self.tokenizer.chat_template:
            return f"{prefix}\n\n{suffix}\n"
        if self._system:
            return self._chat([{"role": "system", "content": prefix}, {"role": "user", "content": suffix}])
        return self._chat([{"role": "user", "content": f"{prefix}\n\n{suffix}"}])

    def ids(self, text: str) -> list[int]:
        """The token ids of a rendered prompt."""
        special = not self.tokenizer.chat_template  # a chat template writes its own special tokens
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def candidates(self, text: str, candidates: Sequence[str]) -> list[list[int]]:
        """The token ids of replies as they stand behind a prompt."""
        before = self.ids(text)
        found = []
        for candidate in map(self._defuse, candidates):
            whole = self.ids(text + candidate)
            if whole[: len(before)] != before or len(whole) == len(before):  # the border is not stable
                whole = before + list(self.tokenizer(candidate, add_special_tokens=False)["input_ids"])
            found.append(whole[len(before) :])
        return found

    def _defuse(self, text: str) -> str:
        """Special tokens inside somebody's text must not act as special tokens."""
        if self._special is None:
            return text
        return self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def _chat(self, messages: Sequence[dict[str, str]]) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )

    def _knows_system(self) -> bool:
        try:
            rendered = self._chat([{"role": "system", "content": "(a)"}, {"role": "user", "content": "(b)"}])
        except jinja2.TemplateError:  # Gemma's template raises on purpose
            return False
        return "(a)" in rendered
