"""Mesa's civil violence, where citizens decide under a mean field whether they protest."""

from agents import Protester
from mesa.datacollection import DataCollector
from mesa.examples.advanced.epstein_civil_violence import model as mesas
from mesa.examples.advanced.epstein_civil_violence.agents import Citizen, CitizenState
from stand_in import habit

from mesa_meanfield import Choice, LLMPolicy, MeanFieldScheduler, Prompts, ScriptedBackend, adopt
from mesa_meanfield.backends.kept import kept_backend
from mesa_meanfield.reporters import failures, field_text, share, usage
from mesa_meanfield.seeds import unit
from mesa_meanfield.summarizers import summarizer_named

PROTEST = Choice(("protest", "quiet"), question="Do you protest or stay quiet?")


def seeded(rng, width, height, **kwargs):
    """The arguments of Mesa's model: Mesa 3.5 takes most of them as a scenario, Mesa 3.3 one by one."""
    scenario = getattr(mesas, "EpsteinScenario", None)
    rest = {"seed": rng, **kwargs} if scenario is None else {"scenario": scenario(rng=rng, **kwargs)}
    return {"width": width, "height": height, **rest}


class DecidedViolence(mesas.EpsteinCivilViolence):
    """The country whose citizens decide.

    Args:
        backend: The language model, as for `load_backend`; ``scripted`` is the rule in stand_in.py.
        summarizer: Who writes the mean field: tally, none, recent, popular or llm.
        deciding: The share of the citizens who decide; the others follow Mesa's rule.
        legitimacy: How far the government is accepted, from 0 to 1; it goes into Mesa's rule and into the topic.
        width: Of the grid, in cells.
        height: Of the grid, in cells.
        rng: The seed.
        kwargs: Those of Mesa's model.
    """

    def __init__(
        self,
        backend="scripted",
        summarizer="tally",
        deciding=1.0,
        legitimacy=0.8,
        width=40,
        height=40,
        rng=None,
        **kwargs,
    ):
        super().__init__(**seeded(rng, width, height, legitimacy=legitimacy, **kwargs))
        citizens = self.agents.select(lambda one: unit(one.unique_id, "decides") < deciding, agent_type=Citizen)
        adopt(citizens, Protester)
        model = ScriptedBackend(probability=habit) if backend == "scripted" else kept_backend(backend)
        accepted = "hardly" if legitimacy < 1 / 3 else "only partly" if legitimacy < 2 / 3 else "widely"
        self.crowd = MeanFieldScheduler(
            self,
            policy=LLMPolicy(model, PROTEST, on_failure="skip"),  # without a usable reply one follows Mesa's rule
            summarizer=summarizer_named(summarizer, model, Prompts()),
            topic=f"The government is {accepted} accepted. People protest in the streets, and police arrest them.",
        )
        ours = {
            "protesting": share("protest", latest=True),
            "field": field_text(),
            "tokens": usage("tokens_asked"),
            "failures": failures(),
        }
        mesas_own = self.datacollector
        self.datacollector = DataCollector(mesas_own.model_reporters | ours, mesas_own.agent_reporters)
        self.datacollector.collect(self)

    def step(self):
        self.crowd.step(self.agents)  # first the citizens decide, on the same picture; cops are left alone
        super().step()  # then Mesa's own step, one agent after the other

    def _update_counts(self):
        super()._update_counts()  # counts the agents whose class is exactly Citizen
        states = [one.state for one in self.agents_by_type.get(Protester, ())]
        for state in CitizenState:
            setattr(self, state.name, getattr(self, state.name) + states.count(state))
