"""Sweeps in one process, tidy tables as files, and the same model under Mesa's batch_run."""

from __future__ import annotations

import inspect
import re
import sys
from contextlib import closing
from pathlib import Path

import mesa
import numpy as np
import pandas as pd
import pytest
from arms import PROMPTS, all_at_once, chances, town
from crowds import YES_NO, Crowd
from fake_server import FakeServer, isolated  # noqa: F401  # a fixture
from logged import Noting
from mesa.datacollection import DataCollector

from mesa_meanfield import BatchingBackend, LLMPolicy, ScriptedBackend, TallySummarizer, load_backend
from mesa_meanfield.backends.budget import Budget
from mesa_meanfield.backends.calls import CallLog
from mesa_meanfield.backends.counting import CountingBackend
from mesa_meanfield.errors import DataError, MeanFieldError, ScoringUnsupported
from mesa_meanfield.experiments import tables
from mesa_meanfield.experiments.replicas import run_replicas
from mesa_meanfield.experiments.sweeps import sweep
from mesa_meanfield.experiments.tables import save
from mesa_meanfield.reporters import failures, field_text, share, usage

PAGE = (Path(__file__).parents[1] / "docs" / "sweeps.md").read_text(encoding="utf-8")
TICKS = 3


class Poll(Crowd):
    """A crowd as modelers write them for ``batch_run``."""

    def __init__(self, voters=2, backend="scripted", rng=None, weak=None):
        if weak is not None and weak == rng:
            raise MeanFieldError("The hall is closed")
        common = load_backend(backend) if isinstance(backend, str) else backend
        super().__init__(
            voters,
            policy=LLMPolicy(common, YES_NO, prompts=PROMPTS, on_failure="skip"),
            summarizer=TallySummarizer(prompts=PROMPTS),
            rng=rng,
        )
        self.datacollector = DataCollector(
            {
                "yes": share("yes", "action"),
                "latest": share("yes", latest=True),
                "field": field_text(),
                "calls": usage("calls"),
                "failures": failures(),
            }
        )

    def step(self):
        super().step()
        self.datacollector.collect(self)
        self.running = self.crowd.tick < TICKS


def swept(parameters=None, model=Poll, **given):
    asked = {"replicas": 2, "ticks": TICKS, "seed": 5, "backend": ScriptedBackend(), **given}
    return sweep(model, {"voters": [2, 3]} if parameters is None else parameters, **asked)


# --- In one process ----------------------------------------------------------------------------------


def test_a_table_has_one_row_for_each_cell_replica_tick_and_label():
    frame = swept({"voters": [2, 3], "weak": None}).frame()
    assert list(frame.columns) == [
        "voters", "weak", "replica", "tick", "dimension", "label", "share", "expected", "size",
    ]  # fmt: skip
    keys = [(v, r, t, label) for v in (2, 3) for r in (0, 1) for label in ("yes", "no") for t in range(TICKS)]
    assert list(frame[["voters", "replica", "tick", "label"]].itertuples(index=False, name=None)) == keys
    assert (frame["size"] == frame["voters"]).all()


def test_a_cell_is_what_its_replicas_are_alone():
    backend = ScriptedBackend(probability=chances())
    found = swept(backend=backend)
    for voters, (_, part) in zip((2, 3), found.frame().groupby("voters"), strict=True):
        alone = run_replicas(town(voters, backend), 2, TICKS, seed=5).frame().drop(columns="arm")
        pd.testing.assert_frame_equal(part.drop(columns="voters").reset_index(drop=True), alone)


def test_all_cells_share_batches():
    class Batches(ScriptedBackend):
        sizes: list[int]

        def score(self, requests, candidates):
            self.sizes.append(len(requests))
            return super().score(requests, candidates)

    batches = Batches()
    batches.sizes = []
    make = all_at_once(lambda given: Poll(**given), 4)
    swept(
        model=lambda seed, **given: make({"rng": seed, **given}),
        ticks=2,
        backend=BatchingBackend(batches, max_wait=30),
    )
    assert batches.sizes == [10, 10]


def test_values_of_an_array_are_plain_numbers_and_a_function_is_named():
    seen = []

    def one(seed, **given):
        seen.append(given["voters"])
        return Poll(given["voters"], given["backend"], rng=seed)

    found = swept({"voters": np.arange(1, 3), "how": one}, model=one, replicas=1)
    assert {type(voters) for voters in seen} == {int}
    assert set(found.frame()["how"]) == {f"{__name__}.{one.__qualname__}"}


def test_a_replica_that_failed_is_told_and_is_no_data():
    found = swept({"voters": [2, 3], "weak": [6, None]})
    assert found.failed().drop(columns="weak").values.tolist() == [
        [2, 1, 6, 0, "The hall is closed"],
        [3, 1, 6, 0, "The hall is closed"],
    ]
    assert found.frame().groupby(["voters", "weak", "replica"], dropna=False).ngroups == 6
    assert found.notes == (
        "2 replicas failed and are left out; the first, replica 1 of voters=2, weak=6, in its tick 0: "
        "The hall is closed",
    )
    assert found.missing == 0


def test_the_first_error_is_raised_where_no_replica_ran():
    with pytest.raises(MeanFieldError, match="The hall is closed"):
        swept({"weak": 5}, replicas=1)


def test_a_spent_budget_keeps_what_is_done_and_the_log_goes_on_with_it(tmp_path):
    whole, first, rest = Noting(), Noting(), Noting()
    budget = Budget(calls=12)
    with closing(CallLog(tmp_path / "whole.sqlite")) as log:
        wanted = swept(backend=whole, log=log, workers=1)
    with closing(CallLog(tmp_path / "calls.sqlite")) as log:
        part = swept(backend=first, log=log, budget=budget, workers=1)
        again = swept(backend=rest, log=log, budget=Budget(calls=100), workers=1)
    assert sum(first.sizes) == budget.paid.calls <= 12
    assert 0 < len(part.ensemble.runs) == 4 - part.missing < 4
    assert "The budget of 12 calls is spent" in part.notes[-1]
    rows = wanted.frame().merge(part.frame())
    assert len(rows) == len(part.frame()) == len(part.ensemble.runs) * TICKS * 2
    assert again.stopped is None
    pd.testing.assert_frame_equal(again.frame(), wanted.frame())
    assert sum(first.sizes) + sum(rest.sizes) == sum(whole.sizes)


def test_a_budget_too_small_for_anything_is_no_error():
    found = swept(budget=Budget(calls=1), workers=1)
    assert found.missing == 4
    assert found.frame().empty
    assert found.failed().empty
    assert next(iter(found.frame().columns)) == "voters"


def test_a_dry_run_counts_what_is_then_paid(tmp_path):
    dry, model = CountingBackend("scripted"), Noting()
    swept(backend=dry, workers=1)
    with closing(CallLog(tmp_path / "calls.sqlite")) as log:
        swept(backend=model, log=log, workers=1)
    assert dry.usage.calls == sum(model.sizes) > 0


def test_progress_is_told_on_stderr(capsys):
    swept(progress=True)
    told = capsys.readouterr()
    assert "100%" in told.err
    assert not told.out


@pytest.mark.parametrize(
    ("parameters", "given", "told"),
    [
        ({"tick": 1}, {}, "'tick' is a column"),
        ({"rng": 1}, {}, "'rng' is a column"),
        ({"backend": "scripted"}, {}, "'backend' is a column"),
        ({"voters": []}, {}, "at least one value"),
        ({"voters": [2, 2]}, {}, "both voters=2"),
        ({}, {"backend": None, "budget": Budget(calls=1)}, "needs the backend"),
        ({}, {"backend": BatchingBackend(ScriptedBackend()), "budget": Budget(calls=1)}, "go inside"),
        ({}, {"replicas": 0}, "replicas must be at least 1"),
    ],
)
def test_what_cannot_be_swept_is_refused(parameters, given, told):
    with pytest.raises(ValueError, match=told):
        swept(parameters, **given)


# --- Tables as files ---------------------------------------------------------------------------------

TABLE = pd.DataFrame({"houses": [4, 8], "label": ["yes", "no"], "share": [0.25, np.nan]})


def test_a_csv_is_read_as_it_was_written(tmp_path):
    pd.testing.assert_frame_equal(pd.read_csv(save(TABLE, tmp_path / "t.csv")), TABLE)
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_a_parquet_is_read_as_it_was_written(tmp_path):
    pytest.importorskip("pyarrow")
    pd.testing.assert_frame_equal(pd.read_parquet(save(TABLE, tmp_path / "t.parquet")), TABLE)
    with pytest.raises(DataError, match=r"mixed.parquet: the table cannot be written"):
        save(pd.DataFrame({"houses": [4, "eight"]}), tmp_path / "mixed.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["t.parquet"]


def test_what_cannot_be_written_is_told_on_one_line(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"as .csv or .parquet, got 't.xlsx'"):
        save(TABLE, tmp_path / "t.xlsx")
    with pytest.raises(DataError, match=r"t.csv: the table cannot be written: .*"):
        save(TABLE, tmp_path / "nowhere" / "t.csv")
    monkeypatch.setattr(tables, "_ENGINES", ())
    with pytest.raises(DataError, match="Parquet needs pyarrow"):
        save(TABLE, tmp_path / "t.parquet")


# --- Under batch_run ---------------------------------------------------------------------------------


def batch_run(backend, processes):
    """All voters and seeds, as a table; `Step` is left out, as Mesa's versions count it differently."""
    parameters, seeds = {"voters": [2, 3], "backend": backend}, {"rng": [5, 6]}
    by_name = "rng" in inspect.signature(mesa.batch_run).parameters
    given = {"parameters": parameters, **seeds} if by_name else {"parameters": parameters | seeds}
    rows = mesa.batch_run(Poll, **given, number_processes=processes, data_collection_period=1, display_progress=False)
    return pd.DataFrame(rows).sort_values(["voters", "rng", "Step"], ignore_index=True)


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_replay_what_a_sweep_recorded(tmp_path, processes):
    with closing(CallLog(tmp_path / "calls.sqlite")) as log:
        backend = ScriptedBackend(probability=chances(before=0.3))  # not that of the spec "scripted"
        sampled = swept(backend=backend, log=log).frame().query("label == 'yes'")
    sampled = sampled.sort_values(["voters", "replica", "tick"], ignore_index=True)
    frame = batch_run(f"replay:{tmp_path / 'calls.sqlite'}", processes)
    np.testing.assert_allclose(frame["latest"], sampled["share"])
    means = sampled.groupby(["voters", "replica"])["share"].transform(lambda shares: shares.expanding().mean())
    np.testing.assert_allclose(frame["yes"], means)
    assert (frame["failures"] == 0).all()
    assert frame["field"].str.contains("yes").all()


def test_processes_share_a_server():
    with FakeServer(words=("yes", "no")) as fake:
        frame = batch_run(f"{fake.url}#tiny", 2)
    assert frame["calls"].groupby([frame["voters"], frame["rng"]]).max().tolist() == [6, 6, 9, 9]
    assert len(fake.asked) >= 30
    assert (frame["failures"] == 0).all()


def test_a_model_is_loaded_by_its_spec_in_every_run():
    frame = batch_run("scripted", 1)
    assert frame[["voters", "rng"]].drop_duplicates().values.tolist() == [[2, 5], [2, 6], [3, 5], [3, 6]]
    assert len(frame) == 4 * TICKS


def test_questions_without_a_usable_reply_are_reported():
    class Mute(ScriptedBackend):
        def score(self, requests, candidates):
            raise ScoringUnsupported("only texts")

    model = Poll(2, Mute(lambda request: "Hm."), rng=1)
    model.step()
    (row,) = model.datacollector.get_model_vars_dataframe().to_dict("records")
    assert row["failures"] == 2
    assert np.isnan(row["yes"])


def test_usage_is_asked_by_its_name():
    with pytest.raises(ValueError, match="no 'token'; it has calls, tokens_asked"):
        usage("token")


# --- The page ----------------------------------------------------------------------------------------


def test_the_python_of_the_page_runs(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "street", raising=False)  # of other tests
    model, *scripts = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "street.py").write_text(model, encoding="utf-8")
    known: dict[str, object] = {"__name__": "__main__"}
    for script in scripts:
        exec(script, known)
    assert len(pd.read_csv("street.csv")) == 2 * 2 * 3 * 3 * 3
    assert len(known["rows"]) == 2 * 2 * 3 * 3
