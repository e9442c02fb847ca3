"""Pure rendering: what is known -> what the model is asked. Inference and training use the same.

Every prompt has a shared prefix (instructions, topic, mean field, actions) and a private suffix
(the state and the question). The wording lives in template files, one folder per language; a folder
of one's own replaces any of them by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import SandboxedEnvironment

from mesa_meanfield.data import MeanField, Notice
from mesa_meanfield.errors import DataError
from mesa_meanfield.forms import json_form
from mesa_meanfield.protocols import ActionSpace
from mesa_meanfield.quota import in_proportion

_SHIPPED = Path(__file__).parent / "templates"
LANGUAGES = tuple(sorted(p.name for p in _SHIPPED.iterdir() if p.is_dir()))
"""The languages whose templates are shipped."""
TEMPLATES = {
    "policy_prefix": {"instructions", "topic", "field", "group_field", "notices", "choice", "form", "keys"},
    "policy_suffix": {"state", "choice", "text", "chosen", "form", "keys"},
    "summary_prefix": {"topic"},
    "summary_suffix": {"before", "shares", "latest", "lines", "shown", "total"},
    "tally": {"all", "counts", "latest", "latest_counts", "numbers"},
    "typical": {"all", "size"},
}
"""The templates that a folder of one's own can replace, each as NAME.j2, and what each may use."""
_TYPICAL = 20
"""How many labels stand for all: enough for twentieths."""


class Prompts:
    """The templates of one language.

    Args:
        language: One of `LANGUAGES`.
        folder: A folder with templates of one's own; what it lacks comes from the language.

    Raises:
        ValueError: The language has no templates.
        DataError: The folder is missing, holds no template, or one of its templates is broken.
    """

    def __init__(self, language: str = "en", folder: str | Path | None = None) -> None:
        if language not in LANGUAGES:
            raise ValueError(f"No templates for language {language!r}; there are {', '.join(LANGUAGES)}")
        self.language = language
        self.folder = None if folder is None else Path(folder)
        places = [_SHIPPED / language]
        if self.folder is not None:
            found = {file.stem for file in self.folder.glob("*.j2")}
            if not found or found - TEMPLATES.keys():
                wrong = [f"{name}.j2 is no template" for name in sorted(found - TEMPLATES.keys())]
                said = wrong[0] if wrong else "no template found there"
                raise DataError(f"{folder}: {said}; there can be {', '.join(f'{name}.j2' for name in TEMPLATES)}")
            places.insert(0, self.folder)
        # Sandboxed, since a template file may come with somebody else's data; texts are never compiled.
        self._environment = SandboxedEnvironment(
            loader=jinja2.FileSystemLoader(places),
            auto_reload=False,  # a run has one wording, and looking at the file's time takes as long as rendering it
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
        )
        for name, known in TEMPLATES.items():
            file = self._template(name).filename or name
            parsed = self._environment.parse(Path(file).read_text(encoding="utf-8"))
            used = meta.find_undeclared_variables(parsed)
            if name == "policy_prefix":
                self._notices_are_shown = "notices" in used
            if name == "policy_suffix":
                self._state_is_only_shown = _is_only_shown("state", parsed)
            if name == "policy_suffix" and "state" not in used:
                raise DataError(f"{file}: does not show the agent's state; write {{{{ state }}}} somewhere")
            if unknown := used - known:
                raise DataError(
                    f"{file}: {', '.join(sorted(unknown))} is unknown; it may use {', '.join(sorted(known))}"
                )

    def policy_prefix(
        self,
        space: ActionSpace,
        field: MeanField,
        *,
        topic: str,
        group_field: MeanField | None = None,
        instructions: str = "",
        notices: Sequence[Notice] = (),
    ) -> str:
        """What every agent of a tick (and group) is told, with the public statements that reach it.

        Raises:
            DataError: There are statements, and a template of one's own does not show them.
        """
        if notices and not self._notices_are_shown:
            raise DataError(
                f"{self._template('policy_prefix').filename}: does not show the statement by {notices[0].source}; "
                "write {% for notice in notices %}{{ notice.source }}: {{ notice.text }}{% endfor %} somewhere"
            )
        return self._render(
            "policy_prefix",
            instructions=instructions,
            topic=topic,
            field=self._shown(field, space),
            group_field=self._shown(group_field, space) if group_field else "",
            notices=notices,
            choice=space.choice,
            **_form_of(space),
        )

    def policy_suffix(self, space: ActionSpace, state: str, *, chosen: str | None = None) -> str:
        """What one agent is asked; with ``chosen``, for the text that fits the chosen label."""
        return self.policy_suffixes(space, chosen=chosen)(state)

    def policy_suffixes(self, space: ActionSpace, *, chosen: str | None = None) -> Callable[[str], str]:
        """A function from a state to its `policy_suffix`, for a crowd with one action space.

        Where the template shows the state as it is and does nothing else with it, as the shipped ones do,
        what stands around the state is rendered once; else the template is rendered for every state.
        """
        known = {"choice": space.choice, "text": space.text, "chosen": chosen, **_form_of(space)}
        if not self._state_is_only_shown:
            return lambda state: self._render("policy_suffix", state=state, **known)
        around = [""]
        for piece in self._pieces("policy_suffix", state=_PLACE, **known):
            if piece is _PLACE:
                around.append("")
            else:
                around[-1] += piece
        return lambda state: str(state).join(around).strip()

    def summary_prefix(self, *, topic: str) -> str:
        """The summarizer's instructions."""
        return self._render("summary_prefix", topic=topic)

    def summary_suffix(self, *, before: str, shares: str, latest: str, lines: Sequence[str], total: int) -> str:
        """What the summarizer is told about the newest of the crowd's actions."""
        return self._render(
            "summary_suffix",
            before=before,
            shares=shares,
            latest=latest,
            lines=lines,
            shown=len(lines),
            total=total,
        )

    def tally(self, field: MeanField, words: Mapping[tuple[str, str], str] | None = None) -> str:
        """The exact shares and numbers of a mean field as text.

        Args:
            field: Whose shares.
            words: Dimension and label -> the word to show for it.
        """
        return self._render(
            "tally",
            all=_worded(field.shares, words or {}),
            counts={d: sum(c.values()) for d, c in field.counts.items()},
            latest=_worded(field.latest, words or {}),
            latest_counts={d: sum(c.values()) for d, c in field.latest_counts.items()},
            numbers=field.numbers,
        )

    def typical(self, field: MeanField, words: Mapping[tuple[str, str], str] | None = None) -> str:
        """The shares of a mean field once more, as some labels in their proportion, one behind the other.

        Small models do not make probabilities of percentages, but they go on as the words before them do
        (docs/LOG.md).

        Args:
            field: Whose shares.
            words: Dimension and label -> the word to show for it.
        """
        shares = _worded(field.shares, words or {})
        apart = {dimension: _told_apart(in_proportion(of, _TYPICAL)) for dimension, of in shares.items()}
        return self._render("typical", all=apart, size=_TYPICAL)

    def _shown(self, field: MeanField, space: ActionSpace) -> str:
        """A mean field as agents see it: its text and, where it tells them, the exact shares."""
        if not field.tells_shares:
            return field.text
        words = words_of([space])
        told = self.tally(field, words)
        return "\n".join(filter(None, (field.text, told if told != field.text else "", self.typical(field, words))))

    def _template(self, name: str) -> jinja2.Template:
        try:
            return self._environment.get_template(f"{name}.j2")
        except UnicodeDecodeError as error:
            raise DataError(f"{name}.j2: a template must be UTF-8: {error}") from error
        except jinja2.TemplateSyntaxError as error:
            raise DataError(f"{error.filename}: line {error.lineno}: {error.message}") from error

    def _render(self, name: str, **known: Any) -> str:  # Any: whatever the template is told
        return "".join(self._pieces(name, **known)).strip()

    def _pieces(self, name: str, **known: Any) -> list[str]:
        """What the template's text is joined from; a value that it shows as it is is a piece of its own."""
        template = self._template(name)
        try:
            return list(template.generate(known))
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise DataError(f"{template.filename}: {error}; it may use {', '.join(sorted(known))}") from error


def _worded(
    shares: Mapping[str, Mapping[str, float]], words: Mapping[tuple[str, str], str]
) -> dict[str, dict[str, float]]:
    """The shares of dimensions that have any, by the labels' words."""
    return {d: {words.get((d, label), label): s for label, s in of.items()} for d, of in shares.items() if of}


def _told_apart(words: Sequence[str]) -> str:
    """Words behind each other, with commas where one of them is several."""
    return (", " if any(" " in word for word in words) else " ").join(words)


class _Place(str):
    """Stands for a value while a template is rendered, and is found again by its identity."""

    def __str__(self) -> str:  # what jinja calls on every value; a plain str would be a copy
        return self


_PLACE = _Place()


def _is_only_shown(variable: str, template: nodes.Template) -> bool:
    """Whether a template does nothing with a variable but show it as it is, so that the rest is the same for all.

    Each mention must be the whole of a ``{{ }}``. Statements other than ``if`` and ``for`` count as doing
    something: they may include, inherit, rename, escape or collect.
    """
    shown = [
        part for output in template.find_all(nodes.Output) for part in output.nodes if isinstance(part, nodes.Name)
    ]
    mentions = sum(name.name == variable for name in template.find_all(nodes.Name))
    return (
        sum(name.name == variable for name in shown) == mentions
        and all(isinstance(node, nodes.Output | nodes.If | nodes.For) for node in template.find_all(nodes.Stmt))
        and not any(loop.recursive for loop in template.find_all(nodes.For))  # they collect their output
    )


def words_of(actions: Iterable[ActionSpace]) -> dict[tuple[str, str], str]:
    """Dimension and label -> the label's word in prompts."""
    return {(c.dimension, label): c.word(label) for a in actions if (c := a.choice) for label in c.options}


def prompt_hash(prefix: str, suffix: str) -> str:
    """A short name for a prompt, equal for equal prompts."""
    return hashlib.sha256(f"{prefix}\x00{suffix}".encode(errors="surrogatepass")).hexdigest()[:16]


def _form_of(space: ActionSpace) -> dict[str, Any]:
    """What templates are told of the JSON object that is to be written; empty where there is none."""
    schema = space.text.schema if space.text else None
    form, keys = json_form(schema) if schema else ("", ())
    return {"form": form, "keys": keys}
