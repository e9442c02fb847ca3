"""People who decide whether they give; everything else they do is Mesa's `MoneyAgent`."""

from mesa.examples.basic.boltzmann_wealth_model.agents import MoneyAgent

from mesa_meanfield import MeanFieldAgent


class Giver(MeanFieldAgent, MoneyAgent):
    gives = None  # not decided: as Mesa has it, one gives

    def observe(self):
        if self.wealth == 0:
            return None  # nothing to decide about, so nobody is asked
        # In a few words: agents who see the same are asked together, and the model answers once for them all.
        have = "one coin, as everybody had at first" if self.wealth == 1 else "a few coins"
        return f"You have {'many coins' if self.wealth > 3 else have}."

    def act(self, decision):
        super().act(decision)
        self.gives = decision.labels["action"] == "give"

    def give_money(self):
        if self.gives is not False:
            super().give_money()

    def step(self):
        super().step()
        self.gives = None  # a decision holds for one tick
