"""A town hears a rumour. Run: python hello_crowd.py [BACKEND], by default "scripted"; try "embedded"."""

import sys

import mesa

from mesa_meanfield import Choice, LLMPolicy, MeanFieldAgent, MeanFieldScheduler, TallySummarizer, load_backend

MOODS = ("You trust what neighbours say.", "You doubt most news.", "You are busy with your shop.")


class Citizen(MeanFieldAgent):
    def observe(self):
        before = f" Last time you chose to {self.decision.labels['action']} it." if self.decision else ""
        return MOODS[self.unique_id % len(MOODS)] + before


class Town(mesa.Model):
    def __init__(self, backend="scripted", citizens=12, rng=42):
        super().__init__(rng=rng)
        Citizen.create_agents(self, citizens)
        self.crowd = MeanFieldScheduler(
            self,
            policy=LLMPolicy(load_backend(backend), Choice(("share", "doubt", "ignore"))),
            summarizer=TallySummarizer(),
            topic="A neighbour says that the old bridge will be closed tomorrow.",
        )

    def step(self):
        self.crowd.step(self.agents)  # everyone observes, one batch decides, everyone acts


if __name__ == "__main__":
    town = Town(*sys.argv[1:2])
    for _ in range(5):
        town.step()
        print(f"tick {town.crowd.tick}: {town.crowd.field.text}")
