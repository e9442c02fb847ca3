"""A description of a run: headings with facts and quoted texts, as a page or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NOT_RECORDED = "not recorded"
Facts = dict[str, Any]
"""Name -> a JSON value; None where it is not known."""


@dataclass(frozen=True, slots=True)
class Section:
    """One heading."""

    title: str
    facts: Facts
    texts: Mapping[str, str] = field(default_factory=dict)
    """What is quoted whole: name -> text."""


@dataclass(frozen=True)
class Description:
    """What is known of a run."""

    title: str
    sections: tuple[Section, ...]

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Heading -> name -> value; null where it is not known."""
        return {one.title: {**one.facts, **one.texts} for one in self.sections}

    def markdown(self) -> str:
        """The whole as a page."""
        lines = [f"# {_line(self.title)}", ""]
        for section in self.sections:
            lines += [f"## {section.title}", ""]
            lines += [f"- **{_line(name)}:** {_line(told(value))}" for name, value in section.facts.items()]
            for name, text in section.texts.items():
                fence = "`" * max(3, _longest_ticks(text) + 1)
                lines += ["", f"{_line(name)}:", "", f"{fence}text", text, fence]
            lines.append("")
        return "\n".join(lines)


def told(value: Any) -> str:  # Any: JSON
    """A JSON value on one line."""
    if value is None:
        return NOT_RECORDED
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {told(one)}" for name, one in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(f"({told(one)})" if isinstance(one, Mapping) else told(one) for one in value) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(text: str) -> str:
    return " ".join(text.split())


def _longest_ticks(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest
