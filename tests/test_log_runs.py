"""Whole runs with a call log: killed and gone on with, and replayed."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from logged import Noting, killed, logged, replay, results, run, simulated
from worlds import cascade, tick

from mesa_meanfield import BatchingBackend, Choice, LLMPolicy, MeanField, NoField, ScriptedBackend, Usage
from mesa_meanfield.backends.calls import CALLS, CallLog
from mesa_meanfield.errors import BackendUnavailable, DataError
from mesa_meanfield.protocols import Reply, Request
from mesa_meanfield.store import RunDirectory, first_difference
from mesa_meanfield_models.cascade.model import CascadeModel

NEEDS_SIGKILL = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="optional: kill -9 is not known here")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, and what its model was asked."""
    model = Noting()
    return run(tmp_path_factory.mktemp("whole") / "run", model), model.asked


def test_a_run_leaves_its_log_as_one_file_in_its_directory(whole):
    assert sorted(os.listdir(whole[0])) == [CALLS, "config.json", "decisions.jsonl", "fields.jsonl", "result.json"]
    contents = CallLog(whole[0] / CALLS, writable=False).contents()
    asked = {what: [one for kind, requests in whole[1] if kind == what for one in requests] for what, _ in whole[1]}
    prompts = {(one.prefix, one.suffix) for one in asked["choices"]}  # readers of one tick see the same
    assert contents.calls == {"choice": len(prompts), "reply": len(asked["replies"])}


def test_a_log_changes_nothing_of_a_run(tmp_path, whole):
    bare = simulated(ScriptedBackend(), RunDirectory(tmp_path / "bare", {"seed": 0}, dimension="stance"))
    assert first_difference(bare, whole[0]) is None


def test_a_replay_has_the_same_results_byte_for_byte(tmp_path, whole):
    again = replay(whole[0], tmp_path / "again")
    assert results(again) == results(whole[0])
    assert not (again / CALLS).exists()


@NEEDS_SIGKILL
@pytest.mark.parametrize(("place", "number"), [("call", 0), ("call", 1), ("call", 5), ("row", 4), ("row", 11)])
def test_a_killed_run_is_gone_on_with_to_the_same_results_and_pays_for_what_is_missing(
    tmp_path, whole, place, number
):
    done, asked = whole
    child = killed(tmp_path / "run", place, number)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert os.listdir(tmp_path) == ["run.partial"]
    model = Noting()
    resumed = run(tmp_path / "run", model, resume=True)
    assert results(resumed) == results(done)
    kept = len(asked) - len(model.asked)
    assert model.asked == asked[kept:]  # the same calls, from the one that was under way
    if place == "call":
        assert kept == number
    else:
        assert sum(len(requests) for _, requests in asked[: kept + 1]) > number
    assert results(replay(resumed, tmp_path / "again")) == results(done)


@NEEDS_SIGKILL
def test_a_run_can_be_killed_again_and_again(tmp_path, whole):
    children = [killed(tmp_path / "run", "call", 3)]
    children += [killed(tmp_path / "run", "call", 2, resume=True) for _ in range(2)]
    assert [child.returncode for child in children] == [-signal.SIGKILL] * 3
    model = Noting()
    assert results(run(tmp_path / "run", model, resume=True)) == results(whole[0])
    assert len(model.asked) == len(whole[1]) - 3 - 2 - 2


def test_a_run_whose_server_went_away_is_gone_on_with_as_if_it_had_not(tmp_path, whole):
    class Dying(Noting):
        """Fails a summary and its repetitions, then answers nobody."""

        def _note(self, what, requests):
            if len(self.asked) > 13 and len(requests) > 1:
                raise BackendUnavailable("gone")
            super()._note(what, requests)

    model = Dying(lambda request: Reply(failure="no answer") if len(model.asked) > 13 else said([request])[0])
    said = ScriptedBackend().generate
    with pytest.raises(BackendUnavailable, match="gone"):
        run(tmp_path / "run", model)
    assert model.asked[13:16] == [whole[1][13], *model.asked[14:16]]
    assert len((tmp_path / "run.partial" / "fields.jsonl").read_text().splitlines()) == 5
    resumed = run(tmp_path / "run", Noting(), resume=True)
    assert first_difference(resumed, whole[0]) is None


def test_what_a_run_lacks_is_told_when_it_is_replayed(tmp_path, whole):
    other = RunDirectory(tmp_path / "other", {}, dimension="stance")
    backend = logged(whole[0] / CALLS)
    policy = LLMPolicy(backend, Choice(("yes", "no"), dimension="stance"), on_failure="skip")
    model = CascadeModel(cascade(24), policy=policy, summarizer=NoField(), dimension="stance", recorder=other, rng=1)
    for _ in model.cut.warm_up:
        model.step()
    with pytest.raises(DataError, match="no choice of scripted to the prompt"):
        model.step()


def test_replicas_in_threads_share_a_log_and_are_replayed_as_they_were(tmp_path):
    def simulate(backend, seed):
        with backend.replica():
            policy = LLMPolicy(backend, Choice(("support", "deny"), dimension="stance"))
            model = CascadeModel(cascade(16), policy=policy, summarizer=NoField(), dimension="stance", rng=seed)
            while model.running:
                model.step()
            return model.simulated, replace(model.crowd.usage, seconds=0.0)

    def every(backend):
        with ThreadPoolExecutor(3) as pool:
            return [done for done, _ in pool.map(lambda seed: simulate(backend, seed), range(6))]

    recorded = logged(tmp_path / "log", ScriptedBackend())
    done = every(BatchingBackend(recorded))
    alone = [simulate(BatchingBackend(ScriptedBackend(), max_wait=0), seed)[0] for seed in range(6)]
    assert done == alone
    replayed = logged(tmp_path / "log")
    assert every(BatchingBackend(replayed)) == done
    assert replayed.paid == Usage()
    assert replayed.usage == recorded.usage


# --- The run directory --------------------------------------------------------------------------


def test_paid_calls_keep_an_unfinished_run_even_before_its_first_tick(tmp_path):
    directory = RunDirectory(tmp_path / "run", {"seed": 1})
    logged(directory.partial / CALLS, ScriptedBackend()).generate([Request("a", "b")])
    assert len(directory.calls.contents().calls) == 1
    directory.drop_if_nothing_recorded()
    assert (tmp_path / "run.partial" / CALLS).is_file()
    empty = RunDirectory(tmp_path / "empty", {})
    assert empty.calls.contents().calls == {}
    empty.drop_if_nothing_recorded()
    assert os.listdir(tmp_path) == ["run.partial"]


def test_a_resumed_run_keeps_its_config_and_records_its_ticks_anew(tmp_path):
    first = RunDirectory(tmp_path / "run", {"seed": 1})
    first.calls.close()
    first.record(tick("deny"), MeanField("Calm."), {})
    resumed = RunDirectory(tmp_path / "run", {"seed": 2}, resume=True)
    resumed.record(tick("support"), MeanField("Calm."), {})
    resumed.drop_if_nothing_recorded()  # with a tick in it, it stays
    path = resumed.finish({})
    assert json.loads((path / "config.json").read_text()) == {"seed": 1}
    lines = (path / "decisions.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["support"]


def test_a_run_without_a_log_cannot_be_gone_on_with_and_loses_nothing(tmp_path):
    RunDirectory(tmp_path / "run", {"seed": 1}).record(tick("deny"), MeanField("Calm."), {})
    with pytest.raises(DataError, match=r"run\.partial: no calls\.sqlite is there"):
        RunDirectory(tmp_path / "run", {}, resume=True)
    assert (tmp_path / "run.partial" / "fields.jsonl").read_text()
    with pytest.raises(DataError, match="there is no unfinished work"):
        RunDirectory(tmp_path / "other", {}, resume=True)


def test_the_first_difference_of_two_runs_is_named(tmp_path):
    for name, texts in (("one", ["a", "b"]), ("two", ["a", "c"]), ("three", ["a"])):
        directory = RunDirectory(tmp_path / name, {})
        for number, text in enumerate(texts):
            directory.record(tick(number=number), MeanField(text), {})
        directory.finish({})
    assert first_difference(tmp_path / "one", tmp_path / "one") is None
    assert first_difference(tmp_path / "one", tmp_path / "two") == "fields.jsonl line 2"
    assert first_difference(tmp_path / "one", tmp_path / "three") == "fields.jsonl line 2"
    with pytest.raises(DataError, match=r"decisions\.jsonl: No such file"):
        first_difference(tmp_path / "one", tmp_path / "four")
