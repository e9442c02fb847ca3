"""Mesa's Schelling model, where residents decide under a mean field whether they move away."""

from agents import Resident
from mesa.datacollection import DataCollector
from mesa.examples.basic.schelling import model as mesas
from stand_in import habit

from mesa_meanfield import Choice, LLMPolicy, MeanFieldScheduler, Prompts, ScriptedBackend, adopt
from mesa_meanfield.backends.kept import kept_backend
from mesa_meanfield.reporters import failures, field_text, share, usage
from mesa_meanfield.seeds import unit
from mesa_meanfield.summarizers import summarizer_named

MOVE = Choice(("stay", "move"), question="Do you move away or stay?")


def seeded(rng, **kwargs):
    """The arguments of Mesa's model: Mesa 3.5 takes them as a scenario, Mesa 3.3 one by one."""
    scenario = getattr(mesas, "SchellingScenario", None)
    return {"seed": rng, **kwargs} if scenario is None else {"scenario": scenario(rng=rng, **kwargs)}


class DecidedSchelling(mesas.Schelling):
    """The town whose residents decide.

    Args:
        backend: The language model, as for `load_backend`; ``scripted`` is the rule in stand_in.py.
        summarizer: Who writes the mean field: tally, none, recent, popular or llm.
        deciding: The share of the residents who decide; the others follow Mesa's rule.
        rng: The seed.
        kwargs: Those of Mesa's model. Its homophily is still what counts as happy in the data.
    """

    def __init__(self, backend="scripted", summarizer="tally", deciding=1.0, rng=None, **kwargs):
        super().__init__(**seeded(rng, **kwargs))
        adopt(self.agents.select(lambda agent: unit(agent.unique_id, "decides") < deciding), Resident)
        model = ScriptedBackend(probability=habit) if backend == "scripted" else kept_backend(backend)
        self.crowd = MeanFieldScheduler(
            self,
            policy=LLMPolicy(model, MOVE, on_failure="skip"),  # without a usable reply one follows Mesa's rule
            summarizer=summarizer_named(summarizer, model, Prompts()),
            topic="Two groups live side by side in this town, the blue and the orange. "
            "Who moves away goes to an empty house anywhere in town.",
        )
        ours = {
            "moving": share("move", latest=True),
            "field": field_text(),
            "tokens": usage("tokens_asked"),
            "failures": failures(),
        }
        mesas_own = self.datacollector
        self.datacollector = DataCollector(mesas_own.model_reporters | ours, mesas_own.agent_reporters)
        self.datacollector.collect(self)

    def step(self):
        self.crowd.step(self.agents)  # first all decide, on the same picture of the town
        super().step()  # then Mesa's own step: those who are not happy move, one after the other
