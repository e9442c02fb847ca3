"""Residents who decide themselves whether they move away; everything else they do is Mesa's `SchellingAgent`."""

from mesa.examples.basic.schelling.agents import SchellingAgent

from mesa_meanfield import MeanFieldAgent

GROUPS = ("blue", "orange")


def alike(agent):
    """The share of an agent's neighbours who are of its type; None where it has no neighbours."""
    neighbours = list(agent.cell.get_neighborhood(radius=agent.radius).agents)
    return sum(one.type == agent.type for one in neighbours) / len(neighbours) if neighbours else None


class Resident(MeanFieldAgent, SchellingAgent):
    def observe(self):
        group, share = GROUPS[self.type], alike(self)
        if share is None:
            return f"You are {group}. You have no neighbours."
        # In five words: agents who see the same are asked together, and the model answers once for them all.
        how_many = ("None", "Few", "About half", "Most", "All")[0 if share == 0 else 1 + min(3, int(3 * share))]
        return f"You are {group}. {how_many} of your neighbours are {group}, too."

    def act(self, decision):
        super().act(decision)
        self.happy = decision.labels["action"] == "stay"  # Mesa's step() moves those who are not happy
