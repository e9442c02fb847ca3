"""Mesa's Boltzmann economy, where people decide under a mean field whether they give."""

from agents import Giver
from mesa.datacollection import DataCollector
from mesa.examples.basic.boltzmann_wealth_model import model as mesas
from stand_in import habit

from mesa_meanfield import Choice, LLMPolicy, MeanFieldScheduler, Prompts, ScriptedBackend, adopt
from mesa_meanfield.backends.kept import kept_backend
from mesa_meanfield.reporters import failures, field_text, share, usage
from mesa_meanfield.seeds import unit
from mesa_meanfield.summarizers import summarizer_named

GIVE = Choice(("keep", "give"), question="Do you give a coin away or keep it?")


def seeded(rng, **kwargs):
    """The arguments of Mesa's model: Mesa 3.5 takes them as a scenario, Mesa 3.3 one by one."""
    scenario = getattr(mesas, "BoltzmannScenario", None)
    return {"seed": rng, **kwargs} if scenario is None else {"scenario": scenario(rng=rng, **kwargs)}


class DecidedWealth(mesas.BoltzmannWealth):
    """The economy whose people decide.

    Args:
        backend: The language model, as for `load_backend`; ``scripted`` is the rule in stand_in.py.
        summarizer: Who writes the mean field: tally, none, recent, popular or llm.
        deciding: The share of the people who decide; the others are Mesa's own, and always give.
        rng: The seed.
        kwargs: Those of Mesa's model.
    """

    def __init__(self, backend="scripted", summarizer="tally", deciding=1.0, rng=None, **kwargs):
        super().__init__(**seeded(rng, **kwargs))
        adopt(self.agents.select(lambda agent: unit(agent.unique_id, "decides") < deciding), Giver)
        model = ScriptedBackend(probability=habit) if backend == "scripted" else kept_backend(backend)
        self.crowd = MeanFieldScheduler(
            self,
            policy=LLMPolicy(model, GIVE, on_failure="skip"),  # without a usable reply one gives, as Mesa has it
            summarizer=summarizer_named(summarizer, model, Prompts()),
            topic="Everybody in town began with one coin. Every day people meet, and can give each other a coin.",
        )
        ours = {
            "giving": share("give", latest=True),
            "field": field_text(),
            "tokens": usage("tokens_asked"),
            "failures": failures(),
        }
        mesas_own = self.datacollector
        self.datacollector = DataCollector(mesas_own.model_reporters | ours, mesas_own.agent_reporters)
        self.datacollector.collect(self)

    def step(self):
        self.crowd.step(self.agents)  # first all decide, on the same picture of the town
        super().step()  # then Mesa's own step, one agent after the other
