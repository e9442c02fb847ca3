"""How a language model is asked for the labels of a text: one JSON object, a field for each dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import Field, create_model

from mesa_meanfield.cascades.known import ANNOTATED, KNOWN
from mesa_meanfield.data import MeanField
from mesa_meanfield.prompts import Prompts
from mesa_meanfield.protocols import Sampling
from mesa_meanfield.schema import Schema

SAMPLING = Sampling(max_tokens=200, temperature=0.1)
"""How the labels are sampled: nearly always the most probable ones."""

_WORDS = {
    "en": {
        "instructions": (
            "You label posts from a social network for a study. You are shown the topic, a post that makes a claim, "
            "and one text that somebody wrote about it. Label what the text itself says, not whether the claim is "
            "true and not what you think of it. Where no label fits well, take the one that comes closest."
        ),
        "text": "The text:",
        "question": "Which labels fit the text?",
        "colon": ": ",
        "semicolon": "; ",
    },
    "zh": {
        "instructions": (
            "你在为一项研究给社交网络上的帖子做标注。你会看到话题（一条提出某种说法的帖子）和别人就此写下的一段文字。"
            "请只根据这段文字本身来标注，不要判断这个说法是真是假，也不要加入你自己的看法。"
            "如果没有完全合适的标签，请选最接近的一个。"
        ),
        "text": "文字：",
        "question": "哪些标签符合这段文字？",
        "colon": "：",
        "semicolon": "；",
    },
}


class LabelForm:
    """The question for the labels of texts, in one language.

    Args:
        language: One of `LANGUAGES`.
        dimensions: What is asked, in this order; each without `ANNOTATED`.
    """

    def __init__(self, language: str, dimensions: Sequence[str]) -> None:
        self._words = words = _WORDS[language]
        self._prompts = Prompts(language)
        fields: dict[str, Any] = {}  # Any: what pydantic takes
        for dimension in dimensions:
            options = KNOWN[f"{ANNOTATED}{dimension}", language].options
            told = (
                f"{label}{'' if word == label else f' {word}'}{words['colon']}{meaning}"
                for label, (word, meaning) in options.items()
            )
            meanings = Field(description=words["semicolon"].join(told))
            fields[dimension] = (Literal.__getitem__(tuple(options)), meanings)
        self.schema = Schema(create_model("Labels", **fields), sampling=SAMPLING, question=words["question"])
        """The action of filling it in."""
        self._suffix: Callable[[str], str] = self._prompts.policy_suffixes(self.schema)

    def prefix(self, topic: str) -> str:
        """What the texts of a topic have in common."""
        return self._prompts.policy_prefix(
            self.schema, MeanField(), topic=topic, instructions=self._words["instructions"]
        )

    def suffix(self, text: str) -> str:
        """A text with the question."""
        return self._suffix(f"{self._words['text']}\n{text}")
