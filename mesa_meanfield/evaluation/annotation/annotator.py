"""Labels for texts that have none: a language model fills in one form per text, real and simulated alike."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mesa_meanfield.cascades.dimensions import annotated_dimensions, is_bare, known_labels
from mesa_meanfield.cascades.known import ANNOTATED, BEHAVIOUR
from mesa_meanfield.data import Action, Cascade
from mesa_meanfield.errors import DataError, ReplyError
from mesa_meanfield.evaluation.annotation.label_cache import LabelCache, Labels, question_key
from mesa_meanfield.evaluation.annotation.label_form import LabelForm
from mesa_meanfield.evaluation.scorecard import Agreement, Annotation, Spent
from mesa_meanfield.progress import report
from mesa_meanfield.prompts import LANGUAGES
from mesa_meanfield.protocols import Backend, Request, Usage
from mesa_meanfield.schema import Schema
from mesa_meanfield.seeds import derive


@dataclass(frozen=True, slots=True)
class _Question:
    key: str
    request: Request
    action: Schema


class Annotator:
    """Labels what people and agents wrote, in the dimensions of MF-LLM (arXiv 2504.21582) but for `BEHAVIOUR`.

    Labels have the names of their dimensions behind `ANNOTATED`, so that they never take the place of gold
    ones; nor do they of a label that an agent decided itself. A text whose labels cannot be read, after being
    asked again, has none; so have bare reposts and failed decisions, of which `BEHAVIOUR` says all there is.

    A text's labels depend on its topic, its words and the seed, not on who else is asked or in what order.
    Equal texts under equal topics are asked once. What failed is not kept, so it is asked again next time.

    Args:
        backend: The model. The cache knows it by its name alone.
        dimensions: Which of `annotated_dimensions()`.
        cache: A file in which labels are kept from run to run.
        seed: Of the sampling.
        retries: How often an unreadable reply is asked for again, each time with a fresh seed.
        batch: How many texts are asked together, after which they are in the cache.

    Raises:
        ValueError: A dimension is not among them, or a number is out of its range.
        DataError: The cache cannot be used.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        dimensions: Iterable[str] = annotated_dimensions(),
        cache: str | Path | None = None,
        seed: int = 0,
        retries: int = 2,
        batch: int = 128,
    ) -> None:
        self.backend = backend
        self.dimensions = _checked(dimensions)
        self.seed = seed
        self.retries = retries
        if batch < 1 or retries < 0:
            raise ValueError(f"batch must be at least 1 and retries at least 0, got {batch} and {retries}")
        self.batch = batch
        self.usage = Usage()
        """What the labels cost."""
        self.cached = 0
        """How many of the texts were known from earlier runs."""
        self.failed: dict[str, str] = {}
        """The texts that have no labels, as the cache would name them, each with the reason."""
        self._cache = LabelCache(cache)
        self._seen: set[str] = set()
        self._forms: dict[str, LabelForm] = {}

    @property
    def texts(self) -> int:
        """How many different texts were to be labelled."""
        return len(self._seen)

    @property
    def asked(self) -> int:
        """How many of them the model was asked about."""
        return self.texts - self.cached

    def annotate(self, cascade: Cascade) -> Cascade:
        """The same cascade with labels added.

        Raises:
            BackendError: The model cannot be asked; what it said before is in the cache.
        """
        (labelled,) = self.annotate_all([cascade])
        return labelled

    def annotate_all(self, cascades: Iterable[Cascade]) -> Iterator[Cascade]:
        """The same cascades with labels added, in order; those with few texts are asked together."""
        for group in self._groups(cascades):
            self._answer({q.key: q for _, questions in group for q in questions if q is not None})
            yield from (self._labelled(cascade, questions) for cascade, questions in group)

    def annotation(self, agreement: Iterable[Agreement] = ()) -> Annotation:
        """What was done so far, for a scorecard."""
        return Annotation(
            model=self.backend.name,
            texts=self.texts,
            failures=len(self.failed),
            agreement=tuple(agreement),
            spent=Spent.of(self.usage),
        )

    # --- Questions ----------------------------------------------------------------------------------

    def _groups(self, cascades: Iterable[Cascade]) -> Iterator[list[tuple[Cascade, list[_Question | None]]]]:
        """Cascades with their questions, as many as make a batch."""
        group: list[tuple[Cascade, list[_Question | None]]] = []
        open_: set[str] = set()
        for cascade in cascades:
            questions = self._questions(cascade)
            group.append((cascade, questions))
            open_ |= {q.key for q in questions if q is not None and self._cache.get(q.key) is None}
            if len(open_) >= self.batch:
                yield group
                group, open_ = [], set()
        if group:
            yield group

    def _questions(self, cascade: Cascade) -> list[_Question | None]:
        """One question per action, in order; None where there is nothing to label."""
        language = cascade.language if cascade.language in LANGUAGES else "en"
        if language not in self._forms:
            self._forms[language] = LabelForm(language, self.dimensions)
        form, topic, name = self._forms[language], _plain(cascade.topic.text), self.backend.name
        prefix = form.prefix(topic)
        known: dict[str, _Question] = {}
        questions: list[_Question | None] = []
        for action in cascade.actions:
            text = _text_of(action)
            if text is not None and text not in known:
                seed, schema = derive(self.seed, "annotation", topic, text), form.schema
                request = Request(prefix, form.suffix(text), seed, schema.sampling, schema=schema.schema)
                known[text] = _Question(question_key(name, request), request, schema)
            questions.append(None if text is None else known[text])
        return questions

    # --- Answers ------------------------------------------------------------------------------------

    def _answer(self, questions: Mapping[str, _Question]) -> None:
        """Ask what is not known yet, and keep it batch by batch."""
        self._cache.refresh()
        open_ = [question for key, question in questions.items() if self._cache.get(key) is None]
        self.cached += len(questions.keys() - self._seen - {question.key for question in open_})
        self._seen |= questions.keys()
        for start in range(0, len(open_), self.batch):
            asked = open_[start : start + self.batch]
            self._cache.add(self._ask(asked), self.backend.name)
            report("texts labelled", start + len(asked), len(open_))
        for key in questions.keys() & self.failed.keys():
            if self._cache.get(key) is not None:  # this time, or by another process
                del self.failed[key]

    def _ask(self, questions: Sequence[_Question]) -> dict[str, Labels]:
        """Labels by key; a text whose reply stays unreadable is in `failed` instead."""
        found: dict[str, Labels] = {}
        for attempt in range(self.retries + 1):
            left = [question for question in questions if question.key not in found]
            if not left:
                break
            requests = [question.request for question in left]
            if attempt:
                self.usage += Usage(retries=len(left))
                requests = [replace(one, seed=derive(one.seed, "attempt", attempt)) for one in requests]
            before = self.backend.usage
            replies = self.backend.generate(requests)
            self.usage += self.backend.usage - before
            for question, reply in zip(left, replies, strict=True):
                try:
                    if reply.failure is not None:
                        raise ReplyError(reply.failure)
                    found[question.key] = question.action.read(reply.text).labels
                except ReplyError as error:
                    self.failed[question.key] = str(error)
        self.usage += Usage(failures=len(questions) - len(found))
        return found

    def _labelled(self, cascade: Cascade, questions: Sequence[_Question | None]) -> Cascade:
        pairs = zip(cascade.actions, questions, strict=True)
        return replace(cascade, actions=tuple(self._with_labels(action, question) for action, question in pairs))

    def _with_labels(self, action: Action, question: _Question | None) -> Action:
        """The action with its labels, in the place of those that another annotator may have given."""
        labels = {} if question is None else self._labels(question)
        mine = {f"{ANNOTATED}{d}": labels.get(d) for d in self.dimensions if not _decided(action, f"{ANNOTATED}{d}")}
        kept = {dimension: label for dimension, label in action.labels.items() if dimension not in mine}
        return replace(action, labels=kept | {d: label for d, label in mine.items() if label is not None})

    def _labels(self, question: _Question) -> Labels:
        found = self._cache.get(question.key)
        if found is None:
            return {}
        options = question.action.labels
        if found.keys() != options.keys() or any(label not in options[d] for d, label in found.items()):
            raise DataError(f"{self._cache.path}: the labels of {question.key} are none of ours; remove that line")
        return found


def _checked(dimensions: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(dimensions))
    known = annotated_dimensions()
    if BEHAVIOUR in chosen:
        raise ValueError(f"{BEHAVIOUR} is known by rule from every text and need not be asked")
    if not chosen or not set(chosen) <= set(known):
        raise ValueError(f"Dimensions are some of {', '.join(known)}; got {', '.join(chosen) or 'none'}")
    return chosen


def _plain(text: str) -> str:
    """On one line, without HTML entities, as all texts are shown to models."""
    return " ".join(html.unescape(text).split())


def _text_of(action: Action) -> str | None:
    """The text to be labelled; None where there is none."""
    if action.failed:
        return None
    text = _plain(action.text)
    return None if is_bare(text) else text


def _decided(action: Action, dimension: str) -> bool:
    """Whether an agent decided this label itself, instead of having its text labelled."""
    distribution = action.trace.distribution if action.trace is not None else None
    return (
        dimension in action.labels
        and distribution is not None
        and distribution.keys() == set(known_labels(dimension))
    )
