"""A model for pages under test, whose backend is slow, fails or is hostile, as files tell its process."""

from __future__ import annotations

import os
import time
from pathlib import Path

import mesa
from crowds import YES_NO, Voter

from mesa_meanfield import ChoiceThenText, FreeText, LLMPolicy, LLMSummarizer, MeanFieldScheduler, ScriptedBackend
from mesa_meanfield.errors import BackendUnavailable
from mesa_meanfield.progress import report

FOLDER = "MESA_MEANFIELD_TEST_FOLDER"
OPEN = "open"  # a slow backend goes on once this file is there
UP = "up"  # a failing one answers
REFUSED = "refused"
OVERLAP = "overlap"  # two threads were in one step
HOSTILE = "<script>window.hurt = 1</script><img src=x onerror='window.hurt = 1'> {{ 7 * 7 }} <b>bold</b>"


def file(name: str) -> Path:
    return Path(os.environ.get(FOLDER, ".")) / name


class Moody(ScriptedBackend):
    def __init__(self, mood: str) -> None:
        said = HOSTILE if mood == "hostile" else "Well."
        super().__init__(lambda request: said)
        self.mood = mood

    def score(self, requests, candidates):
        if self.mood == "failing" and not file(UP).exists():
            with file(REFUSED).open("a") as refused:
                refused.write(".")
            raise BackendUnavailable("the server is down <b>now</b>")
        while self.mood == "slow" and not file(OPEN).exists():
            report("choices", 1, len(requests))
            time.sleep(0.01)
        return super().score(requests, candidates)


class Watched(mesa.Model):
    def __init__(self, mood="plain", voters=4, rng=1):
        super().__init__(rng=rng)
        Voter.create_agents(self, voters)
        backend = Moody(mood)
        self.crowd = MeanFieldScheduler(
            self,
            policy=LLMPolicy(backend, ChoiceThenText(YES_NO, FreeText())),
            summarizer=LLMSummarizer(backend),
            topic=HOSTILE if mood == "hostile" else "Shall we?",
        )
        self.inside = False

    def step(self):
        if self.inside:
            file(OVERLAP).touch()
        self.inside = True
        try:
            self.crowd.step(self.agents)
        finally:
            self.inside = False


class Broken(mesa.Model):
    def __init__(self):
        super().__init__()
        raise RuntimeError("no agents today")


class Lonely(mesa.Model):
    """Has no scheduler."""


class Demanding(Watched):
    def __init__(self, people, rng=1):
        super().__init__(voters=people, rng=rng)
