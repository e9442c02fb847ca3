"""How a temperature does on events that it was not fitted on, and what it is compared with."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from ibtune_worlds import crowd, items
from worlds import STANCES

from mesa_meanfield.backends.scripted import ScriptedBackend
from mesa_meanfield.errors import DataError
from mesa_meanfield.ibtune.calibration import FOLDS, Scored, calibrate, read_calibrations, score_items


def scored(answers, events, row=(0.0, -1.0)):
    return Scored("mood", ("a", "b"), np.tile(row, (len(answers), 1)), np.array(answers), tuple(events))


def test_an_event_never_decides_its_own_temperature():
    # e1 takes the first label in three of four, e2 in two of three: exp(1 / T) is the odds of the others.
    found = scored([0, 0, 0, 1, 0, 0, 1], ["e1"] * 4 + ["e2"] * 3).events_left_out()
    assert [(one.events, one.decisions) for one in found] == [(("e1",), 4), (("e2",), 3)]
    first, second = found
    assert math.exp(1 / first.temperature) == pytest.approx(2, rel=1e-3)
    assert math.exp(1 / second.temperature) == pytest.approx(3, rel=1e-3)
    assert first.nll_after == pytest.approx(-0.75 * math.log(2 / 3) - 0.25 * math.log(1 / 3), rel=1e-4)
    assert second.nll_before == pytest.approx(math.log(1 + math.exp(-1)) + 1 / 3)


def test_nothing_is_left_out_of_a_single_event():
    assert scored([0, 1], ["e1", "e1"]).events_left_out() == []


def test_an_event_without_a_known_decision_is_none():
    lost = scored([0, 0, 1], ["e1", "e2", "e2"])
    lost.log_probabilities[0] = np.nan
    assert lost.events_left_out() == []
    assert lost.known == lost.fit().decisions == 2


def test_many_events_are_left_out_in_few_folds_each_once():
    events = [f"e{i:03}" for i in range(3 * FOLDS + 1)]
    found = scored([0, 1] * len(events), [event for event in events for _ in "ab"]).events_left_out()
    assert len(found) == FOLDS
    assert sorted(event for one in found for event in one.events) == events
    assert sum(one.decisions for one in found) == 2 * len(events)


def test_the_shares_alone_cost_their_entropy():
    assert scored([0, 0, 0, 1], "wxyz").nll_of_shares() == pytest.approx(
        -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    )
    assert scored([0, 0], "wx").nll_of_shares() == 0


def test_every_decision_keeps_its_event_and_its_row():
    recorded = items([crowd(12, "c1", "e1"), crowd(9, "c2", "e2", topic="An owl in the attic.")])
    owl = ScriptedBackend(
        probability=lambda request, answer: 9 if ("owl" in request.prefix) == (answer == STANCES[0]) else 1
    )
    (found,) = score_items(owl, recorded)
    assert len(found.events) == len(found.answers) == len(found.log_probabilities)
    first = found.log_probabilities[:, 0] == found.log_probabilities.max(axis=1)
    assert [event == "e2" for event in found.events] == first.tolist()
    said = [found.labels[answer] for answer in found.answers]
    assert said == [d.labels["stance"] for item in recorded for _, d in item.taught]


def test_labels_that_stand_in_another_order_are_the_same_labels():
    def turned(item):
        choice = item.space.choice
        return replace(item, space=replace(choice, options=choice.options[::-1]))

    recorded = items([crowd(12)])

    def by_place(request, answer):
        places = sorted(STANCES, key=lambda label: request.prefix.index(f"- {label}: "))
        return 4 - places.index(answer)

    (found,) = score_items(ScriptedBackend(probability=by_place), [recorded[0], turned(recorded[1])])
    first = len(recorded[0].taught)
    assert found.labels == recorded[0].space.choice.options
    assert np.exp(found.log_probabilities[0]) == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert np.exp(found.log_probabilities[first]) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    said = [d.labels["stance"] for item in recorded[:2] for _, d in item.taught]
    assert [found.labels[answer] for answer in found.answers] == said


def test_all_ticks_are_asked_in_one_call():
    calls = []

    class Counting(ScriptedBackend):
        def score(self, requests, candidates):
            calls.append(len(requests))
            return super().score(requests, candidates)

    recorded = items([crowd(20)])
    (found,) = calibrate(Counting(), recorded)
    assert len(recorded) > 1
    assert calls == [found.decisions]


def test_without_a_label_there_is_nothing_to_fit():
    with pytest.raises(DataError, match="no recorded decision with a label"):
        score_items(ScriptedBackend(), [])


def test_a_calibration_that_is_asked_for_must_be_there(tmp_path):
    assert read_calibrations(tmp_path / "nowhere.json") == []
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(DataError, match="there is no calibration"):
            read_calibrations(path, required=True)
