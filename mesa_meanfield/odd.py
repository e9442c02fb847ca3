"""What holds of every recorded cascade that this package simulates, in the words of the ODD protocol.

ODD: Grimm et al. (2020), The ODD protocol for describing agent-based and other simulation models: a second update,
Journal of Artificial Societies and Social Simulation 23(2) 7.
"""

from __future__ import annotations

from collections.abc import Mapping

PURPOSES: Mapping[str, str] = {
    "run": "One recorded cascade is played up to the end of its warm-up and simulated from there on; the simulated "
    "shares of labels are compared with the recorded ones.",
    "evaluate": "Recorded cascades are played up to the end of their warm-up and simulated from there on in several "
    "ways; how close each way comes to the record is compared.",
    "compare": "An intervention is compared with its paired counterfactual: both arms share their random numbers.",
    "plan": "Candidate interventions are ranked for an objective, by successive halving over replicas that share "
    "their random numbers.",
}
"""Command -> what it does."""

ENTITIES: Mapping[str, str] = {
    "agents": "Readers, one in the place of each recorded action; each acts once, in the recorded order. A reader's "
    "state is its persona: what it hears of itself, made from the author's recorded profile.",
    "collective": "One mean field: a short text, the exact shares of the labels of all actions so far, and those of "
    "the latest tick.",
    "environment": "None: there is neither space nor network.",
    "time scale": "A tick is a fixed number of actions in the recorded order, not a span of time.",
}
"""Entity -> what it is."""

PROCESS: Mapping[str, str] = {
    "a tick": "The active readers say their states; all are asked in one batch under the same mean field; then all "
    "act (simultaneous activation); then the summarizer writes the next mean field.",
    "warm-up": "The recorded actions are played instead of being asked for; the mean field is written as ever.",
}

CONCEPTS: Mapping[str, str] = {
    "basic principles": "A population under a mean field, MF-LLM (arXiv 2504.21582): each decision is drawn from the "
    "policy given the agent's state and the mean field (eq. 1), each mean field from the summarizer given the last "
    "one and the latest states and actions (eq. 2).",
    "emergence": "The labels' shares over the ticks: no rule prescribes them.",
    "adaptation": "A reader's decision depends on its prompt alone, which changes with the mean field.",
    "objectives": "None is computed; what the prompt tells readers is below.",
    "learning": "None during a run: the weights do not change.",
    "prediction": "None that is modelled: whatever the language model does with its prompt.",
    "sensing": "A reader knows the topic, its persona and the mean field. Of the recorded actions after the warm-up "
    "nothing but who acts, and when in the order, is used; prompts made from more are refused.",
    "interaction": "Indirect, through the mean field.",
    "stochasticity": "Labels are drawn from the model's distribution over them, texts are sampled. The seed of each "
    "call follows from the run's seed, the tick, the agent and the purpose.",
}
"""Design concept -> how it is met."""

SUMMARIZERS: Mapping[str, str] = {
    "llm": "a language model rewrites the text each tick; the exact shares are in its prompt",
    "tally": "the exact shares as text, without a model",
    "none": "no text: readers see nothing of each other",
    "recent": "the last actions as text",
    "popular": "the actions with most replies so far as text",
}
"""Summarizer -> what it writes."""

PERSONAS: Mapping[str, str] = {
    "graded": "the author's profile in words, its counts in grades",
    "none": "no profile",
}
"""Persona -> what a reader hears of its author."""
