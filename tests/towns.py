"""The smallest story that tests of the town need, and a model that tells what it was asked."""

from __future__ import annotations

from pathlib import Path

from mesa_meanfield import ScriptedBackend
from mesa_meanfield.protocols import Request
from mesa_meanfield_models.town import Scenario, read_scenario

STORY = """
title = "The bridge"
topic = "The bridge is closed."
ticks = 4

[decision]
dimension = "view"
post = "What do you post?"

[decision.labels]
good = "I am glad of it"
bad = "I am against it"

[rules]
share = 0.0
threshold = [0.5, 0.5]

[personas.mood]
glad = {weight = 3, says = "You are glad."}
sad = {weight = 1, says = "You are sad."}

[[community]]
name = "North"
share = 1

[[community]]
name = "South"
share = 1
"""


def story(folder: Path, text: str = STORY) -> Scenario:
    """A scenario from a file of one's own."""
    file = folder / "bridge.toml"
    file.write_text(text, encoding="utf-8")
    return read_scenario(file)


class Asked(ScriptedBackend):
    """Every label is as probable, every post is another one, and all that was asked is kept."""

    def __init__(self) -> None:
        super().__init__(lambda request: f"post-{request.seed}.", lambda request, candidate: 1.0)
        self.choices: list[Request] = []
        self.texts: list[Request] = []

    def score(self, requests, candidates):
        self.choices += requests
        return super().score(requests, candidates)

    def generate(self, requests):
        self.texts += requests
        return super().generate(requests)
