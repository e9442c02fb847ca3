"""Mesa's virus on a network, where people decide under a mean field whether they go out."""

import inspect
import random
from contextlib import contextmanager

from agents import Person
from mesa.datacollection import DataCollector
from mesa.examples.basic.virus_on_network.model import VirusOnNetwork
from stand_in import habit

from mesa_meanfield import Choice, LLMPolicy, MeanFieldScheduler, Prompts, ScriptedBackend, adopt
from mesa_meanfield.backends.kept import kept_backend
from mesa_meanfield.reporters import failures, field_text, share, usage
from mesa_meanfield.seeds import unit
from mesa_meanfield.summarizers import summarizer_named

GO_OUT = Choice(("out", "home"), question="Where are you today?")
SEED = "rng" if "rng" in inspect.signature(VirusOnNetwork).parameters else "seed"  # Mesa 3.5, Mesa 3.3


class CautiousVirus(VirusOnNetwork):
    """The virus among people who decide.

    Args:
        backend: The language model, as for `load_backend`; ``scripted`` is the rule in stand_in.py.
        summarizer: Who writes the mean field: tally, none, recent, popular or llm.
        deciding: The share of the people who decide; the others are Mesa's own, and always out.
        rng: The seed.
        kwargs: Those of Mesa's model.
    """

    def __init__(self, backend="scripted", summarizer="tally", deciding=1.0, rng=None, **kwargs):
        with network_of(rng):
            super().__init__(**kwargs, **{SEED: rng})
        adopt(self.agents.select(lambda agent: unit(agent.unique_id, "decides") < deciding), Person)
        model = ScriptedBackend(probability=habit) if backend == "scripted" else kept_backend(backend)
        self.crowd = MeanFieldScheduler(
            self,
            policy=LLMPolicy(model, GO_OUT, on_failure="skip"),  # without a usable reply one does as the day before
            summarizer=summarizer_named(summarizer, model, Prompts()),
            topic="A flu goes around in town. Who goes out can catch it and pass it on.",
        )
        ours = {
            "out": share("out", latest=True),
            "field": field_text(),
            "tokens": usage("tokens_asked"),
            "failures": failures(),
        }
        self.datacollector = DataCollector(self.datacollector.model_reporters | ours)
        self.datacollector.collect(self)

    def step(self):
        self.crowd.step(self.agents)  # first all decide, on the same picture of the town
        super().step()  # then Mesa's own step, one agent after the other


@contextmanager
def network_of(seed):
    """Let Mesa's model draw its network by the seed: it takes Python's own generator, whatever its ``rng``."""
    before = random.getstate()
    random.seed(None if seed is None else str(seed))
    try:
        yield
    finally:
        random.setstate(before)
