"""A story that a town reacts to, read from a file: topic, people, labels, timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesa_meanfield.actions import Choice, ChoiceThenText, FreeText
from mesa_meanfield.choosers import MostInfluential, Who
from mesa_meanfield.errors import DataError
from mesa_meanfield.interventions import check_ticks
from mesa_meanfield.plain import Plain
from mesa_meanfield.prompts import LANGUAGES
from mesa_meanfield.protocols import Intervention, Sampling
from mesa_meanfield.tomlfile import unknown
from mesa_meanfield_models.town.personas import Community, Trait, Value, impossible
from mesa_meanfield_models.town.tables import (
    FORM,
    TIMELINE,
    CommunityTable,
    DecisionTable,
    NamesTable,
    RulesTable,
    ValueTable,
    Whole,
)

FOLDER = Path(__file__).parent / "scenarios"
"""Where the shipped ones lie; copy one of them and change it."""
SCENARIOS = tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))
"""The scenarios that are shipped, one for each domain."""
COLUMNS = ("field", "calls", "tokens_asked", "tokens_computed", "seconds", "failures")
"""What a town collects beside the shares of the labels."""
_POST = Sampling(max_tokens=40)


@dataclass(frozen=True)
class Scenario:
    """A story and the people who hear it."""

    name: str
    title: str
    domain: str
    topic: str
    language: str
    ticks: int
    choice: Choice
    """What can be decided."""
    post: str
    """What is asked for the text that goes with a label."""
    silent: tuple[str, ...]
    """Labels that carry no text."""
    traits: tuple[Trait, ...]
    communities: tuple[Community, ...]
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    timeline: tuple[Intervention, ...]
    """What happens, tick by tick."""
    rules: float
    """The share of rule-based agents."""
    threshold: tuple[float, float]
    """The lowest and the highest threshold of rule-based agents."""

    def actions(self, *, texts: bool = True) -> Choice | ChoiceThenText:
        """The action space: a label, and with ``texts`` a short post that fits it."""
        return ChoiceThenText(self.choice, FreeText(_POST, question=self.post), self.silent) if texts else self.choice


@dataclass(frozen=True, slots=True, repr=False)
class InCommunity(Plain):
    """Chooses the people of a community."""

    name: str

    def __call__(self, agents: Sequence[Any]) -> list[Any]:  # Any: a modeler's own agents may be among them
        """Those who live there."""
        return [agent for agent in agents if getattr(agent, "community", None) == self.name]


def read_scenario(given: str | Path) -> Scenario:
    """Read a scenario file.

    Args:
        given: One of `SCENARIOS`, or the path of a file of one's own.

    Raises:
        DataError: There is none, it is no TOML, or has a field or a value that cannot be: says file, table and
            field, and what is allowed.
    """
    if str(given) in SCENARIOS:
        path = FOLDER / f"{given}.toml"
    else:
        path = Path(given).expanduser()
        if path.suffix != ".toml" and not path.exists():
            raise unknown("story", "scenario and no file ending in .toml", str(given), SCENARIOS)
    _, values = FORM.read(path)
    whole = FORM.checked(Whole, values, f"{path}")
    if whole.language not in LANGUAGES:
        raise unknown(f"{path}: language", "language of prompts", whole.language, LANGUAGES)
    decision = FORM.checked(DecisionTable, whole.decision, f"{path}: [decision]")
    choice = _choice(decision, f"{path}: [decision]")
    rules = FORM.checked(RulesTable, whole.rules, f"{path}: [rules]")
    low, high = rules.threshold
    if not 0 <= low <= high <= 1:
        raise DataError(f"{path}: [rules]: threshold must be {FORM.expected['threshold']}, got {rules.threshold}")
    names = FORM.checked(NamesTable, whole.names, f"{path}: [names]")
    traits = _traits(whole.personas, path)
    communities = _communities(whole.community, traits, path)
    return Scenario(
        name=path.stem,
        title=whole.title,
        domain=whole.domain,
        topic=" ".join(whole.topic.split()),
        language=whole.language,
        ticks=whole.ticks,
        choice=choice,
        post=decision.post,
        silent=tuple(decision.silent),
        traits=traits,
        communities=communities,
        first_names=tuple(names.first),
        last_names=tuple(names.last),
        timeline=_timeline(whole, choice, [one.name for one in communities], path),
        rules=rules.share,
        threshold=(low, high),
    )


def _choice(table: DecisionTable, where: str) -> Choice:
    for label in table.silent:
        if label not in table.labels:
            raise unknown(f"{where}: silent", "label", label, table.labels)
    if taken := [label for label in table.labels if label in COLUMNS]:
        raise DataError(f"{where}: labels: {taken[0]!r} is the name of a column of the data; take another word")
    try:
        return Choice(
            tuple(table.labels),
            dimension=table.dimension,
            meanings=table.labels,
            question=table.question,
            letters=table.letters,
        )
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


def _traits(tables: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> tuple[Trait, ...]:
    traits: dict[str, Trait] = {}
    for name, lines in tables.items():
        values = []
        for value, line in lines.items():
            where = f"{path}: [personas.{name}] {value}"
            read = FORM.checked(ValueTable, line, where)
            for earlier, which in read.only.items():
                if earlier not in traits:
                    raise unknown(f"{where}: only", "trait above this one", earlier, traits or ["none"])
                known = [one.name for one in traits[earlier].values]
                for one in which:
                    if one not in known:
                        raise unknown(f"{where}: only", f"value of {earlier}", one, known)
            only = {earlier: tuple(which) for earlier, which in read.only.items()}
            values.append(Value(value, read.weight, read.says, only))
        traits[name] = Trait(name, tuple(values))
    return tuple(traits.values())


def _communities(tables: Sequence[Mapping[str, Any]], traits: tuple[Trait, ...], path: Path) -> tuple[Community, ...]:
    known = {trait.name: [value.name for value in trait.values] for trait in traits}
    found: dict[str, Community] = {}
    for number, values in enumerate(tables, 1):
        where = f"{path}: [[community]] number {number}"
        table = FORM.checked(CommunityTable, values, where)
        if table.name in found:
            raise DataError(f"{where}: there is a community {table.name!r} above; give each its own name")
        for trait, weights in table.weights.items():
            if trait not in known:
                raise unknown(f"{where}: weights", "trait of [personas]", trait, known)
            for value, weight in weights.items():
                if value not in known[trait]:
                    raise unknown(f"{where}: weights", f"value of {trait}", value, known[trait])
                if weight < 0:
                    raise DataError(f"{where}: weights.{trait}.{value} must be at least 0, got {weight}")
        found[table.name] = Community(table.name, table.share, table.says, table.weights)
    communities = tuple(found.values()) or (Community("town"),)
    for community in communities:
        if (lacking := impossible(traits, community)) is not None:
            trait, person = lacking
            who = ", ".join(f"{name} {value}" for name, value in person.items())
            raise DataError(
                f"{path}: [personas.{trait}]: no value is possible for {who or 'anybody'} in {community.name!r}; "
                "give one a weight above 0 that goes with them"
            )
    return communities


def _timeline(whole: Whole, choice: Choice, communities: Sequence[str], path: Path) -> tuple[Intervention, ...]:
    found = []
    for number, values in enumerate(whole.timeline, 1):
        left, where = dict(values), f"{path}: [[timeline]] number {number}"
        kind = left.pop("kind", None)
        if kind is None:
            raise DataError(f"{where}: kind is missing; there are {', '.join(TIMELINE)}")
        if kind not in TIMELINE:
            raise unknown(where, "kind of happening", str(kind), TIMELINE)
        where = f"{where} ({kind})"
        made, form = TIMELINE[kind]
        table = FORM.checked(form, left, where, "kind")
        given = {name: getattr(table, name) for name in left}
        for dimension, label in given.get("labels", {}).items():
            if dimension != choice.dimension:
                raise unknown(f"{where}: labels", "dimension of this scenario", dimension, [choice.dimension])
            if label not in choice.options:
                raise unknown(f"{where}: labels", "label", label, choice.options)
        if (group := given.get("group")) is not None and group not in communities:
            raise unknown(f"{where}: group", "community", group, communities)
        for name in given.keys() & {"reach", "who"}:
            given[name] = _who(given[name], communities, f"{where}: {name}")
        try:
            one: Intervention = made(**given)
            check_ticks([one], whole.ticks)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
        found.append(one)
    return tuple(found)


def _who(given: float | str, communities: Sequence[str], where: str) -> Who:
    if not isinstance(given, str):
        return given
    kind, _, which = given.partition(":")
    if kind == "community":
        if which not in communities:
            raise unknown(where, "community", which, communities)
        return InCommunity(which)
    if kind != "most_influential" or not which.isdecimal() or int(which) < 1:
        raise DataError(f"{where} must be {FORM.expected['reach']}, got {given!r}")
    return MostInfluential(int(which), "friends")
