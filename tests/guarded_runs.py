"""A record with a warm-up, and a model that goes on from it."""

from __future__ import annotations

import dataclasses

from worlds import STANCES, cascade

from mesa_meanfield import Choice, LLMPolicy, NoField, ScriptedBackend
from mesa_meanfield.data import Popularity
from mesa_meanfield_models.cascade.model import CascadeModel

STANCE = Choice(STANCES, dimension="stance")


def record():
    """Twenty actions, of which a1 to a6 are the warm-up, in ticks 0 and 1; a7 is the first of tick 2."""
    plain = cascade(20)
    popular = (dataclasses.replace(a, popularity=Popularity(likes=900)) for a in plain.actions)
    return dataclasses.replace(plain, actions=tuple(popular), veracity="false")


class Asked(ScriptedBackend):
    """Keeps every prompt."""

    def __init__(self):
        super().__init__(self._reply, probability=lambda request, _: self.prompts.append(request) or 1.0)
        self.prompts = []

    def _reply(self, request):
        self.prompts.append(request)
        return "People nod."


def model(of=None, *, backend=None, policy=None, summarizer=None, **known):
    policy = policy or LLMPolicy(backend or ScriptedBackend(), STANCE)
    return CascadeModel(
        of or record(), policy=policy, summarizer=summarizer or NoField(), dimension="stance", **known
    )


def run(one):
    while one.running:
        one.step()
    return one
