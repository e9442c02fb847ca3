"""Citizens who decide whether they protest; everything else they do is Mesa's `Citizen`. The cops are Mesa's own."""

from mesa.examples.advanced.epstein_civil_violence.agents import Citizen, CitizenState, Cop

from mesa_meanfield import MeanFieldAgent


class Protester(MeanFieldAgent, Citizen):
    protests = None  # not decided: Mesa's rule decides

    def observe(self):
        if self.jail_sentence:
            return None  # who is in jail decides nothing
        self.update_neighbors()  # Mesa's own look around
        near = list(self.neighbors)  # Mesa's can be gone through only once
        cops = sum(isinstance(one, Cop) for one in near)
        active = sum(getattr(one, "state", None) is CitizenState.ACTIVE for one in near)
        # In a few words: agents who see the same are asked together, and the model answers once for them all.
        life = "good" if self.hardship < 1 / 3 else "hard" if self.hardship < 2 / 3 else "very hard"
        police = "no police" if not cops else "a little police" if cops < 4 else "much police"
        others = "Nobody protests" if not active else "A few people protest" if active < 4 else "Many people protest"
        daring = "You are careful." if self.risk_aversion > 0.5 else "You dare a lot."
        return f"Your life is {life}. {daring} There is {police} near you. {others} near you."

    def act(self, decision):
        super().act(decision)
        self.protests = decision.labels["action"] == "protest"

    def step(self):
        free = not self.jail_sentence  # a cop may have come first
        super().step()
        if free and self.protests is not None:
            self.state = CitizenState.ACTIVE if self.protests else CitizenState.QUIET
        self.protests = None  # a decision holds for one tick
