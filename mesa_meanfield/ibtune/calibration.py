"""One temperature per set of labels, fitted on held-out decisions; needs no torch, so servers can have it, too.

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
from mesa_meanfield.progress import report
from mesa_meanfield.protocols import Request, Scorer, Turn

CALIBRATION = "calibration.json"
_LIMITS = (math.log(0.05), math.log(20.0))

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


def fit_temperature(log_probabilities: Rows, answers: Sequence[int]) -> tuple[float, float, float]:
    """The temperature with the least negative log-likelihood, and that likelihood at 1 and there.

    Args:
        log_probabilities: Of each label's answer behind each prompt, shape (N, K), in nats.
        answers: Which label it was, shape (N,).

    Raises:
        DataError: There is no decision whose probabilities are all known.
    """
    rows = np.asarray(log_probabilities, dtype=np.float64)
    known = np.isfinite(rows).all(axis=1) if rows.size else np.zeros(0, dtype=bool)
    rows, which = rows[known], np.asarray(answers, dtype=np.int64)[known]
    if not len(rows):
        raise DataError("There is no held-out decision to fit a temperature on")

    def nll(log_temperature: float) -> float:
        scaled = rows / math.exp(log_temperature)
        return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(rows)), which]).mean())

    found = minimize_scalar(nll, bounds=_LIMITS, method="bounded", options={"xatol": 1e-6})
    best = min((float(found.x), 0.0), key=nll)
    return math.exp(best), nll(0.0), nll(best)


def calibrate(scorer: Scorer, items: Iterable[Item]) -> list[Calibration]:
    """A temperature for each set of labels, from what a backend says of recorded ticks.

    Args:
        scorer: Any backend that scores: local, with an adapter or without, or a server.
        items: Held-out ticks.

    Raises:
        DataError: Nothing can be fitted: no tick has a label.
        BackendError: The backend cannot be asked, or gives no probabilities.
    """
    rows: dict[tuple[str, tuple[str, ...]], list[Rows]] = {}
    answers: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    every = list(items)
    for number, item in enumerate(every):
        choice = item.space.choice
        if choice is not None and item.taught:
            key = choice.dimension, choice.options
            rows.setdefault(key, []).append(scorer.score(_requests(item), choice.answers))
            answers.setdefault(key, []).extend(
                choice.options.index(d.labels[choice.dimension]) for _, d in item.taught
            )
        report("ticks", number + 1, len(every))
    if not rows:
        raise DataError("There is no held-out decision to fit a temperature on")
    found = []
    for key, several in rows.items():
        temperature, before, after = fit_temperature(np.concatenate(several), answers[key])
        found.append(Calibration(*key, temperature, before, after, len(answers[key])))
    return found


def _requests(item: Item) -> list[Request]:
    turns = [Turn(state) for state, _ in item.taught]
    drafts = draft(turns, item.space, item.prompts, item.field, topic=item.topic, groups={}, instructions="")
    answers = item.space.choice.answers if item.space.choice else None
    return [Request(one.prompt.prefix, one.prompt.suffix, choices=answers) for one in drafts]


def write_calibrations(folder: Path, found: Sequence[Calibration]) -> Path:
    """Write them beside an adapter, replacing the old ones at once."""
    file = folder / CALIBRATION
    part = file.with_name(f"{CALIBRATION}.partial")
    part.write_text(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    os.replace(part, file)
    return file


def read_calibrations(folder: Path) -> list[Calibration]:
    """Those that lie in a folder; none where there is no such file.

    Raises:
        DataError: The file is not what it should be.
    """
    file = folder / CALIBRATION
    if not file.exists():
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
        if one.dimension == choice.dimension and set(one.labels) == set(choice.options):
            scaled = replace(choice, temperature=one.temperature)
            return scaled if isinstance(space, Choice) else replace(space, choice=scaled)
    return space
