"""Three ways to see the others: by a mean field, by that and one's community's, or by what neighbours did last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesa_meanfield.data import Decision, MeanField, normalise
from mesa_meanfield.seeds import derive, entropy_of, unit
from mesa_meanfield.summarizers import action_line

if TYPE_CHECKING:
    from mesa_meanfield_models.town.agents import Resident

SEE = ("global", "community", "neighbours")
"""The ways: the mean field of the whole town; that and the one of one's own community; the neighbours' last posts
in the agent's own state, and no mean field."""


@dataclass(frozen=True, slots=True)
class Words:
    """What stands around an agent's own history and its neighbours' posts, in one language."""

    chose: str
    wrote: str
    neighbours: str


_WORDS = {
    "en": Words("Last time you chose: {}.", ' You wrote: "{}"', "What people you know did last:"),
    "zh": Words("上一次你选择了：{}。", "你写道：“{}”", "你认识的人最近的做法："),
}


def words_in(language: str) -> Words:
    """The words of a language; English where there are none."""
    return _WORDS.get(language, _WORDS["en"])


def own_history(agent: Resident) -> str:
    """What an agent did last, told to itself; empty before it did anything."""
    if agent.decision is None or agent.label is None:
        return ""
    scenario = agent.model.story
    words = words_in(scenario.language)
    said = words.chose.format(scenario.choice.word(agent.label))
    return said + words.wrote.format(" ".join(agent.decision.text.split())) if agent.decision.text else said


def neighbours_posts(agent: Resident, most: int) -> str:
    """What the people next to an agent did last, a line each; empty where nobody did anything yet.

    Accounts outside the town, which a timeline brings in, are followed by everyone whom they reach: their posts of
    the last tick are among those shown.

    Args:
        agent: Who looks.
        most: How many are shown at most, drawn anew for each agent and tick, in the order of the agents.
    """
    seen = [(str(other.unique_id), other.decision) for other in agent.neighbours() if other.decision is not None]
    seen += _outside(agent)
    if len(seen) > most:
        draw = derive(entropy_of(agent.model), "shown", agent.model.crowd.tick, agent.unique_id)
        kept = sorted(range(len(seen)), key=lambda i: unit(draw, seen[i][0]))[:most]
        seen = [seen[i] for i in sorted(kept)]
    if not seen:
        return ""
    lines = (f"- {action_line(decision, (agent.model.story.choice,))}" for _, decision in seen)
    return "\n".join((words_in(agent.model.story.language).neighbours, *lines))


def shares_seen(agent: Resident, field: MeanField) -> Mapping[str, float]:
    """What the others did last, as shares of the labels, by the agent's way of seeing; empty where nobody did.

    Args:
        agent: Who looks.
        field: The mean field that everybody sees.
    """
    model, dimension = agent.model, agent.model.story.choice.dimension
    if model.see == "neighbours":
        labels = [other.label for other in agent.neighbours()]
        labels += [decision.labels.get(dimension) for _, decision in _outside(agent)]
        return normalise(Counter(label for label in labels if label is not None))
    shown = model.crowd.fields.get(agent.community, MeanField()) if model.see == "community" else field
    return shown.latest.get(dimension, {})


def _outside(agent: Resident) -> list[tuple[str, Decision]]:
    """The last tick's posts of accounts outside the town that reach an agent."""
    last = agent.model.crowd.last
    if last is None:
        return []
    pairs = zip(last.states, last.decisions, strict=True)
    return [(s.agent, d) for s, d in pairs if d.injected and s.group in (None, agent.community)]
