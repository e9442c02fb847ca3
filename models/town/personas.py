"""People drawn from stated distributions: traits one after the other, each with a sentence."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Value:
    """One value of a trait."""

    name: str
    weight: float
    """How probable it is, relative to the other values that are possible."""
    says: str = ""
    """What the person is told about itself."""
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Earlier trait -> with which of its values alone this one goes."""

    def fits(self, known: Mapping[str, str]) -> bool:
        """Whether it goes with what a person is already."""
        return all(known[trait] in values for trait, values in self.only.items())


@dataclass(frozen=True)
class Trait:
    """What people differ in: age, work, trust."""

    name: str
    values: tuple[Value, ...]

    def possible(self, known: Mapping[str, str], weights: Mapping[str, float]) -> list[tuple[Value, float]]:
        """The values that go with what a person is already, each with its weight above 0."""
        fitting = [(value, weights.get(value.name, value.weight)) for value in self.values if value.fits(known)]
        return [(value, weight) for value, weight in fitting if weight > 0]


@dataclass(frozen=True)
class Community:
    """A part of the town, whose people may differ from the rest."""

    name: str
    share: float = 1.0
    """How many live there, relative to the other communities."""
    says: str = ""
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict, hash=False)
    """Trait -> value -> its weight here."""


@dataclass(frozen=True)
class Persona:
    """Who somebody is."""

    traits: Mapping[str, str] = field(hash=False)
    """Trait -> value."""
    text: str
    """The same as the sentences that the person is told about itself."""


def draw_persona(traits: Sequence[Trait], community: Community, rng: np.random.Generator) -> Persona:
    """Draw one person of a community: one uniform number for each trait, in their order."""
    known: dict[str, str] = {}
    says = [community.says]
    for trait in traits:
        possible = trait.possible(known, community.weights.get(trait.name, {}))
        ends = np.cumsum([weight for _, weight in possible])
        place = int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
        value = possible[min(place, len(possible) - 1)][0]  # the product may be rounded up to the end
        known[trait.name] = value.name
        says.append(value.says)
    return Persona(known, " ".join(one.strip() for one in says if one.strip()))


def impossible(traits: Sequence[Trait], community: Community) -> tuple[str, Mapping[str, str]] | None:
    """A trait that has no value for some who may be drawn, and who they are; None where there is none."""
    asked = {earlier for trait in traits for value in trait.values for earlier in value.only}
    people: list[dict[str, str]] = [{}]  # as far as later traits ask for it
    for trait in traits:
        after: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
        for known in people:
            possible = trait.possible(known, community.weights.get(trait.name, {}))
            if not possible:
                return trait.name, known
            for value, _ in possible:
                person = {**known, trait.name: value.name} if trait.name in asked else known
                after[tuple(person.items())] = person
        people = list(after.values())
    return None


def sizes(communities: Sequence[Community], people: int) -> list[int]:
    """How many live in each: their shares of the people, rounded by the largest remainders."""
    total = sum(community.share for community in communities)
    exact = [people * community.share / total for community in communities]
    found = [int(one) for one in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (found[i] - exact[i], i))
    for i in by_remainder[: people - sum(found)]:
        found[i] += 1
    return found


def draw_names(first: Sequence[str], last: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Names without end, each once before one comes again with a number behind it; numbers alone without names."""
    full = [f"{one} {other}".strip() for one in (first or [""]) for other in (last or [""])]
    order = rng.permutation(len(full)).tolist()
    for again in itertools.count(1):
        for i in order:
            yield f"{full[i] or 'Citizen'} {again}" if again > 1 or not full[i] else full[i]
