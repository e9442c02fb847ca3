"""People who decide each day whether they go out; everything else they do is Mesa's `VirusAgent`."""

from mesa.examples.basic.virus_on_network.agents import State, VirusAgent

from mesa_meanfield import MeanFieldAgent

HEALTH = {
    State.SUSCEPTIBLE: "You are well and could catch the flu.",
    State.INFECTED: "You have the flu.",
    State.RESISTANT: "You had the flu and are immune.",
}


class Person(MeanFieldAgent, VirusAgent):
    at_home = False  # until the first decision; adopted agents have class attributes only

    def observe(self):
        known = list(self.cell.neighborhood.agents)
        ill = sum(person.state is State.INFECTED for person in known)
        # In a few words: agents who see the same are asked together, and the model answers once for them all.
        some = "Nobody you know has" if not ill else "Somebody you know has"
        if ill and 2 * ill >= len(known):
            some = "At least half of those you know have"
        return f"{HEALTH[self.state]} {some} the flu."

    def act(self, decision):
        super().act(decision)
        self.at_home = decision.labels["action"] == "home"

    def try_to_infect_neighbors(self):
        if not self.at_home:  # who stays at home passes nothing on
            super().try_to_infect_neighbors()

    @property
    def state(self):
        return vars(self)["state"]

    @state.setter
    def state(self, new):  # Mesa's agents set each other's state: who stays at home catches nothing
        caught = new is State.INFECTED and vars(self).get("state") is State.SUSCEPTIBLE
        if not (caught and self.at_home):
            vars(self)["state"] = new
