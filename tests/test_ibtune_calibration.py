"""Temperatures are fitted on what people did, and used as at inference."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibtune_worlds import crowd, items
from worlds import STANCES

from mesa_meanfield.actions import Choice, ChoiceThenText
from mesa_meanfield.backends.scripted import ScriptedBackend
from mesa_meanfield.errors import DataError
from mesa_meanfield.ibtune.calibration import (
    Calibration,
    calibrate,
    calibrated,
    fit_temperature,
    read_calibrations,
    write_calibrations,
)
from mesa_meanfield.ibtune.cards import card
from mesa_meanfield.ibtune.config import Settings
from mesa_meanfield.ibtune.plots import draw_curves


def test_two_labels_by_hand():
    # log p = (0, -1); three of four chose the first: softmax gives 3/4 where 1 / T = ln 3.
    rows = np.tile([0.0, -1.0], (4, 1))
    temperature, before, after = fit_temperature(rows, [0, 0, 0, 1])
    assert temperature == pytest.approx(1 / np.log(3), rel=1e-4)
    assert before == pytest.approx(np.log(1 + np.exp(-1)) + 0.25)
    assert after == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))


@given(st.floats(0.3, 4), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_true_temperature_is_found_again(true, seed):
    generator = np.random.default_rng(seed)
    rows = generator.normal(0, 2, (4000, 3))
    weights = np.exp(rows / true)
    answers = [generator.choice(3, p=w / w.sum()) for w in weights]
    temperature, before, after = fit_temperature(rows, answers)
    assert temperature == pytest.approx(true, rel=0.25)
    assert after <= before


def test_rows_that_are_not_known_count_nowhere():
    rows = np.array([[0.0, -1.0]] * 4 + [[np.nan, np.nan]])
    assert fit_temperature(rows, [0, 0, 0, 1, 1]) == fit_temperature(rows[:4], [0, 0, 0, 1])
    with pytest.raises(DataError, match="no recorded decision"):
        fit_temperature(rows[4:], [0])


def test_a_backend_is_calibrated_as_it_is_asked_at_inference(tmp_path):
    recorded = items([crowd(40)])
    sure = ScriptedBackend(probability=lambda request, answer: 0.97 if answer == STANCES[0] else 0.01)
    (found,) = calibrate(sure, recorded)
    decisions = [d.labels["stance"] for item in recorded for _, d in item.taught]
    assert (found.dimension, found.labels, found.decisions) == ("stance", STANCES, len(decisions))
    assert found.temperature > 2  # it is far too sure
    space = calibrated(recorded[0].space, [found])
    shown = space.distribution(np.log([0.97, 0.01, 0.01, 0.01]))
    assert found.nll_after == pytest.approx(-np.mean([np.log(shown[label]) for label in decisions]), abs=1e-6)
    write_calibrations(tmp_path, [found])
    assert read_calibrations(tmp_path) == [found]
    assert [file.name for file in tmp_path.iterdir()] == ["calibration.json"]


def test_a_temperature_is_for_its_own_labels_only():
    found = Calibration("stance", ("a", "b"), 2.0, 1.0, 0.9, 5)
    choice = Choice(("b", "a"), dimension="stance")
    assert calibrated(choice, [found]).temperature == 2
    assert calibrated(ChoiceThenText(choice), [found]).choice.temperature == 2
    for other in (Choice(("a", "b", "c"), dimension="stance"), Choice(("a", "b"), dimension="mood")):
        assert calibrated(other, [found]) == other


@pytest.mark.parametrize("text", ["{", "[{}]", '[{"labels": []}]', "7"])
def test_a_broken_file_is_told(tmp_path, text):
    assert read_calibrations(tmp_path) == []
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(DataError, match="no calibration"):
        read_calibrations(tmp_path)


def test_a_card_says_data_settings_figures_and_limits():
    stages = [{"stage": "policy", "before": {"nll": 1.5, "rate": None}, "after": {"nll": 0.75, "rate": None}}]
    found = Calibration("stance", ("a", "b"), 2.0, 1.0, 0.9, 5)
    text = card("policy", 'hf:some/"model"', Settings(), {"files": {"x.jsonl": "abc"}}, stages, [found])
    assert text.startswith("---\nlibrary_name: peft\nbase_model: " + json.dumps('hf:some/"model"') + "\n---\n")
    for part in (
        "| policy | before | 1.5000 |",
        "| policy | after | 0.7500 |",
        "abc",
        '"rank": 8',
        "2.000",
        "Limits",
    ):
        assert part in text


def test_curves_are_drawn_for_what_there_is(tmp_path):
    rows = [
        {"step": n, "stage": "policy", "split": split, "nll": 1.0, "distortion": 1.0, "rate": None}
        for n in (1, 2)
        for split in ("train", "held out")
    ]
    draw_curves(rows, tmp_path / "curves.png")
    draw_curves([], tmp_path / "empty.png")
    assert (tmp_path / "curves.png").stat().st_size > (tmp_path / "empty.png").stat().st_size > 0
