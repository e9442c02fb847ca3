"""One temperature per set of labels, fitted on recorded decisions; needs no torch, so servers can have it, too.

A model's distribution over labels is softmax(log p / T), see `Choice.temperature`. T minimises the negative
log-likelihood of what people did (temperature scaling: Guo et al. 2017, arXiv 1706.04599).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from mesa_meanfield.actions import Choice, ChoiceThenText
from mesa_meanfield.drafts import draft
from mesa_meanfield.errors import DataError
from mesa_meanfield.ibtune.items import Item
from mesa_meanfield.protocols import Request, Scorer, Turn

CALIBRATION = "calibration.json"
COLDEST, HOTTEST = 0.05, 20.0
"""Between these the temperature is looked for."""
FOLDS = 20
"""So many groups of events at most are left out in turn."""
_LIMITS = (math.log(COLDEST), math.log(HOTTEST))

Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """The temperature of one set of labels."""

    dimension: str
    labels: tuple[str, ...]
    temperature: float
    nll_before: float
    """At temperature 1, per decision in nats, on the decisions that it was fitted on."""
    nll_after: float
    decisions: int
    """How many those are."""

    def fits(self, choice: Choice) -> bool:
        """Whether it was fitted for these labels, in whatever order."""
        return self.dimension == choice.dimension and set(self.labels) == set(choice.options)


def fit_temperature(log_probabilities: Rows, answers: npt.ArrayLike) -> tuple[float, float, float]:
    """The temperature with the least negative log-likelihood, and that likelihood at 1 and there.

    Args:
        log_probabilities: Of each label's answer behind each prompt, shape (N, K), in nats.
        answers: Which label it was, shape (N,).

    Raises:
        DataError: There is no decision whose probabilities are all known.
    """
    rows = np.asarray(log_probabilities, dtype=np.float64)
    known = _known(rows)
    rows, which = rows[known], np.asarray(answers, dtype=np.int64)[known]
    if not len(rows):
        raise DataError("There is no recorded decision whose labels' probabilities are all known; nothing to fit")
    found = minimize_scalar(
        lambda log_temperature: _nll(rows, which, math.exp(log_temperature)),
        bounds=_LIMITS,
        method="bounded",
        options={"xatol": 1e-6},
    )
    best = min((math.exp(found.x), 1.0), key=lambda temperature: _nll(rows, which, temperature))
    return best, _nll(rows, which, 1.0), _nll(rows, which, best)


def _known(rows: Rows) -> npt.NDArray[np.bool_]:
    """Which decisions have all their probabilities, shape (N,)."""
    return np.asarray(np.isfinite(rows).all(axis=1), dtype=np.bool_)


def _nll(rows: Rows, answers: npt.NDArray[np.int64], temperature: float) -> float:
    """Per decision, in nats."""
    scaled = rows / temperature
    return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(rows)), answers]).mean())


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model says of recorded decisions over one set of labels."""

    dimension: str
    labels: tuple[str, ...]
    log_probabilities: Rows
    """Of each label's answer behind each prompt, shape (N, K), in nats; NaN where the model could not be asked."""
    answers: npt.NDArray[np.int64]
    """Which label it was, shape (N,)."""
    events: tuple[str, ...]
    """Of what event it was, N of them."""

    @property
    def known(self) -> int:
        """How many decisions have all their probabilities."""
        return int(_known(self.log_probabilities).sum())

    def fit(self) -> Calibration:
        """The temperature that fits all of them.

        Raises:
            DataError: There is no decision whose probabilities are all known.
        """
        found = fit_temperature(self.log_probabilities, self.answers)
        return Calibration(self.dimension, self.labels, *found, self.known)

    def nll_of_shares(self) -> float:
        """What it costs to know the labels' shares and nothing else: their entropy, per decision in nats."""
        shares = np.bincount(self.answers[_known(self.log_probabilities)]) / self.known
        return float(-sum(share * math.log(share) for share in shares if share))

    def events_left_out(self) -> list[LeftOut]:
        """How each event fares at the temperature of all others; nothing where there are no two events.

        More than `FOLDS` events are left out several at a time, in so many folds.
        """
        known = _known(self.log_probabilities)
        of = np.array(self.events)
        events = sorted(set(of[known].tolist()))
        if len(events) < 2:
            return []
        found = []
        for fold in (tuple(events[start::FOLDS]) for start in range(min(FOLDS, len(events)))):
            inside = np.isin(of, fold)
            here, others = known & inside, known & ~inside
            temperature, _, _ = fit_temperature(self.log_probabilities[others], self.answers[others])
            before, after = (
                _nll(self.log_probabilities[here], self.answers[here], one) for one in (1.0, temperature)
            )
            found.append(LeftOut(fold, temperature, before, after, int(here.sum())))
        return found


@dataclass(frozen=True)
class LeftOut:
    """Some events at the temperature that was fitted on all others: what calibration does for new events."""

    events: tuple[str, ...]
    temperature: float
    nll_before: float
    """At temperature 1, per decision in nats."""
    nll_after: float
    decisions: int


def score_items(scorer: Scorer, items: Iterable[Item]) -> list[Scored]:
    """What a backend says of recorded ticks, by sets of labels.

    Args:
        scorer: Any backend that scores: local, with an adapter or without, or a server.
        items: The ticks, each with the mean field that was seen then.

    Raises:
        DataError: No tick has a label.
        BackendError: The backend cannot be asked, or gives no probabilities.
    """
    sets: dict[tuple[str, frozenset[str]], list[tuple[Choice, Item]]] = {}
    for item in items:
        choice = item.space.choice
        if choice is not None and item.taught:
            sets.setdefault((choice.dimension, frozenset(choice.options)), []).append((choice, item))
    if not sets:
        raise DataError("There is no recorded decision with a label; nothing can be fitted")
    return [_scored(scorer, several) for several in sets.values()]


def _scored(scorer: Scorer, items: Sequence[tuple[Choice, Item]]) -> Scored:
    """What a backend says of ticks with the same labels, in one call for all that are answered alike."""
    dimension, labels = items[0][0].dimension, items[0][0].options
    asked: dict[tuple[str, ...], list[tuple[Choice, Item]]] = {}
    for choice, item in items:
        asked.setdefault(choice.answers, []).append((choice, item))
    rows, said, events = [], [], []
    for answers, several in asked.items():
        scores = scorer.score([one for _, item in several for one in _requests(item, answers)], answers)
        places = [list(map(choice.options.index, labels)) for choice, item in several for _ in item.taught]
        rows.append(np.take_along_axis(scores, np.array(places), axis=1))  # (N, K), all labels in one order
        said += [labels.index(d.labels[dimension]) for _, item in several for _, d in item.taught]
        events += [item.event for _, item in several for _ in item.taught]
    return Scored(dimension, labels, np.concatenate(rows), np.array(said), tuple(events))


def calibrate(scorer: Scorer, items: Iterable[Item]) -> list[Calibration]:
    """A temperature for each set of labels, from what a backend says of recorded ticks; see `score_items`."""
    return [one.fit() for one in score_items(scorer, items)]


def _requests(item: Item, answers: tuple[str, ...]) -> list[Request]:
    turns = [Turn(state) for state, _ in item.taught]
    drafts = draft(turns, item.space, item.prompts, item.field, topic=item.topic, groups={}, instructions="")
    return [Request(one.prompt.prefix, one.prompt.suffix, choices=answers) for one in drafts]


def write_calibrations(folder: Path, found: Sequence[Calibration]) -> Path:
    """Write them beside an adapter, replacing the old ones at once."""
    file = folder / CALIBRATION
    part = file.with_name(f"{CALIBRATION}.partial")
    part.write_text(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    os.replace(part, file)
    return file


def read_calibrations(path: Path, *, required: bool = False) -> list[Calibration]:
    """Those in a file, or in the one that lies in a folder (of an adapter, or of ``calibrate``).

    Args:
        path: The file or the folder.
        required: Whether it is an error that there are none; else the list is empty then.

    Raises:
        DataError: The file is not what it should be, or not there and required.
    """
    file = path / CALIBRATION if path.is_dir() else path
    if not file.exists():
        if required:
            raise DataError(f"{file}: there is no calibration; `mesa-meanfield calibrate` fits one")
        return []
    try:
        found = [
            Calibration(**{**one, "labels": tuple(one["labels"])})
            for one in json.loads(file.read_text(encoding="utf-8"))
        ]
        if not all(one.temperature > 0 for one in found):
            raise ValueError("a temperature must be above 0")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{file} is no calibration: {error}") from error
    return found


def calibrated(space: Choice | ChoiceThenText, found: Iterable[Calibration]) -> Choice | ChoiceThenText:
    """The action space at the temperature that was fitted for its labels; as it is where there is none."""
    choice = space.choice
    for one in found:
        if one.fits(choice):
            scaled = replace(choice, temperature=one.temperature)
            return scaled if isinstance(space, Choice) else replace(space, choice=scaled)
    return space
