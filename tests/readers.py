"""Who labels texts in tests, and what there is to label."""

from __future__ import annotations

import json

from worlds import action, cascade

from mesa_meanfield import ScriptedBackend
from mesa_meanfield.protocols import Request

MILD = {
    "rumour": "spread", "sentiment": "calm", "attitude": "neutral", "stance": "neutral",
    "belief": "doubt", "subjectivity": "objective", "intent": "question",
}  # fmt: skip
ANGRY = MILD | {"sentiment": "angry", "attitude": "negative", "stance": "oppose"}


def text_of(request: Request) -> str:
    """The text that a request is about: the line between its heading and the question."""
    return request.suffix.splitlines()[1]


class Reader(ScriptedBackend):
    """Answers by the text, and remembers what it was asked."""

    def __init__(self, says=lambda text: MILD, **settings):
        super().__init__(self._answer, **settings)
        self.says = says
        self.asked: list[Request] = []

    @property
    def texts(self) -> list[str]:
        return [text_of(request) for request in self.asked]

    def _answer(self, request):
        self.asked.append(request)
        said = self.says(text_of(request))
        wanted = json.loads(request.schema)["properties"]
        return json.dumps({d: said[d] for d in wanted}) if isinstance(said, dict) else said


def remarks(*texts, **settings):
    """A cascade of these texts without gold labels."""
    actions = [action(f"a{n}", None, text, after=n, author=f"u{n}") for n, text in enumerate(texts)]
    return cascade(actions=actions, **settings)


def named(found) -> dict[str, str]:
    return {f"annotated.{dimension}": label for dimension, label in found.items()}
