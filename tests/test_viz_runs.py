"""One thread steps a model under a page, whatever is asked for and whenever."""

from __future__ import annotations

import gc
import threading
import weakref

import mesa
import pytest
from crowds import Crowd, Voter

from mesa_meanfield import Announce, Inject, NoField, ScriptedBackend
from mesa_meanfield.errors import BackendUnavailable
from mesa_meanfield.viz.runs import Run


class Gate(ScriptedBackend):
    """Waits inside a tick, between two sub-batches, until it is opened."""

    def __init__(self):
        super().__init__(batch=1)
        self.inside, self.open = threading.Event(), threading.Event()
        self.threads = set()

    def score(self, requests, candidates):
        self.threads.add(threading.get_ident())
        self.inside.set()
        while not self.open.wait(0.01):
            self._report("choices", 1, 2)
        return super().score(requests, candidates)


class Moody(ScriptedBackend):
    """Is down until it is up."""

    up = False

    def score(self, requests, candidates):
        if not self.up:
            raise BackendUnavailable("down")
        return super().score(requests, candidates)


def made(backend=None, **crowd):
    """A run, its model made."""
    run = Run(lambda: Crowd(3, backend=backend, **crowd), lambda: None)
    run.build()
    run.join()
    return run


def test_a_run_makes_its_model_in_its_own_thread_and_goes_as_far_as_it_is_told():
    threads = []
    run = Run(lambda: threads.append(threading.current_thread()) or Crowd(3), lambda: None)
    assert run.model is None
    run.advance_to(3)
    run.join()
    assert (run.frame.steps, run.model.steps, run.frame.tick) == (3, 3, 3)
    assert threads != [threading.current_thread()]
    assert not run.status.busy


def test_play_pause_and_step_within_one_tick_leave_one_thread():
    gate = Gate()
    run = made(gate)
    run.play()
    gate.inside.wait()
    for _ in range(3):
        run.pause()
        run.play()
    run.pause()
    assert run.status.busy
    gate.open.set()
    run.join()
    assert run.frame.steps == 1
    assert len(gate.threads) == 1
    run.step()
    run.join()
    assert (run.frame.steps, run.frame.tick) == (2, 2)


def test_a_stopped_step_is_gone_on_with_and_nobody_acts_twice():
    gate = Gate()
    run = made(gate)
    run.step()
    gate.inside.wait()
    run.stop()
    run.join()
    status = run.status
    assert (status.unfinished, status.error, run.frame.tick) == (True, "", 0)
    gate.open.set()
    run.step()
    run.join()
    assert [len(voter.done) for voter in run.model.agents] == [1, 1, 1]
    assert (run.frame.steps, run.model.steps, run.frame.tick) == (1, 1, 1)
    plain = Crowd(3)
    plain.step()
    assert run.model.crowd.last == plain.crowd.last


def test_progress_inside_a_step_is_told():
    gate = Gate()
    told = []
    run = Run(lambda: Crowd(3, backend=gate), lambda: told.append(run.status))
    run.step()
    gate.inside.wait()
    while not any(status.what for status in told):
        gate.inside.wait(0.01)
    gate.open.set()
    run.join()
    status = next(status for status in told if status.what)
    assert (status.what, status.done, status.total, status.busy) == ("choices", 1, 2, True)
    assert told[-1].what == ""


def test_a_failing_backend_is_tried_again_as_often_as_one_likes_and_the_model_goes_on():
    backend = Moody()
    run = made(backend)
    for _ in range(2):
        run.play()
        run.join()
        assert (run.status.error, run.status.unfinished, run.frame.tick) == ("down", True, 0)
    backend.up = True
    run.step()
    run.join()
    assert run.status.error == ""
    run.advance_to(4)
    run.join()
    assert (run.frame.steps, run.model.steps, run.frame.tick) == (4, 4, 4)
    assert [len(voter.done) for voter in run.model.agents] == [4, 4, 4]


def test_an_error_of_a_modelers_own_code_is_told_with_its_place(capfd):
    class Clumsy(Voter):
        def act(self, decision):
            raise ZeroDivisionError("oh")

    def make():
        model = Crowd(0)
        Clumsy.create_agents(model, 1)
        return model

    run = Run(make, lambda: None)
    run.step()
    run.join()
    assert run.status.error.startswith("ZeroDivisionError: oh (test_viz_runs.py, line ")
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_model_that_cannot_be_made_is_told_and_made_at_the_next_try():
    tries = []

    def make():
        tries.append(0)
        if len(tries) == 1:
            raise BackendUnavailable("not yet")
        return Crowd(3)

    run = Run(make, lambda: None)
    run.build()
    run.join()
    assert (run.status.error, run.status.made) == ("not yet", False)
    run.step()
    run.join()
    assert (run.status.error, run.frame.steps) == ("", 1)


def test_a_closed_run_stops_at_its_next_sub_batch_and_says_nothing_more():
    gate = Gate()
    told = []
    run = Run(lambda: Crowd(3, backend=gate), lambda: told.append(0))
    run.play()
    gate.inside.wait()
    run.close()
    count = len(told)
    run.join()
    assert run.frame.steps == 0
    run.play()
    run.join()
    assert (run.frame.steps, len(told)) == (0, count)


def test_a_run_that_is_over_makes_no_more_steps():
    class Short(Crowd):
        def step(self):
            super().step()
            self.running = self.crowd.tick < 2

    run = Run(lambda: Short(3), lambda: None)
    run.play()
    run.join()
    assert (run.frame.steps, run.status.over) == (2, True)
    run.step()
    run.join()
    assert run.frame.steps == 2


def test_what_is_added_during_a_tick_acts_in_the_next_one():
    gate = Gate()
    run = made(gate)
    run.step()
    gate.inside.wait()
    run.add(lambda at: Inject(at, "Hello.", "guest"))
    assert run.status.waiting == 1
    gate.open.set()
    run.join()
    assert [one.at for one in run.frame.interventions] == [1]
    assert [post.kind for post in run.frame.posts] == ["", "", ""]
    run.step()
    run.join()
    assert [post.who for post in run.frame.posts if post.kind == "injected"] == ["guest"]


def test_what_is_withdrawn_before_it_acts_is_gone_and_an_announcement_ends():
    run = made()
    run.add(lambda at: Announce(at, "Stay.", "mayor"))
    run.add(lambda at: Inject(at, "Hello.", "guest"))
    announced, injected = run.frame.interventions
    run.withdraw(injected)
    run.step()
    run.join()
    assert all(post.kind == "" for post in run.frame.posts)
    run.withdraw(announced)
    assert run.frame.interventions == (Announce(0, "Stay.", "mayor", until=1),)
    assert run.model.crowd.interventions == [Announce(0, "Stay.", "mayor", until=1)]


def test_an_intervention_that_cannot_be_applied_can_be_withdrawn():
    run = made()
    run.add(lambda at: Inject(at, "Hello.", "guest", {"action": "perhaps"}))
    run.step()
    run.join()
    assert "'perhaps' is not one of yes, no" in run.status.error
    run.withdraw(run.frame.interventions[0])
    run.step()
    run.join()
    assert (run.status.error, run.frame.tick) == ("", 1)


def test_frames_show_the_crowd_as_it_is():
    run = made(summarizer=NoField(), group=lambda voter: f"ward {voter.unique_id % 2}")
    run.advance_to(2)
    run.join()
    frame, crowd = run.frame, run.model.crowd
    assert frame.field is crowd.field
    assert frame.before.size == 3
    assert set(frame.fields) == {"ward 0", "ward 1"}
    assert frame.labels == {"action": ("yes", "no")}
    assert frame.usage == crowd.usage
    assert [post.tick for post in frame.posts] == [1, 1, 1, 0, 0, 0]
    assert frame.posts[0].who == "Voter 3"
    assert sum(tick.counts["action"]["yes"] for tick in frame.ticks) == crowd.field.counts["action"]["yes"]


def test_a_model_is_collected_once_its_run_is_gone():
    run = made()
    run.step()
    run.join()
    model = weakref.ref(run.model)
    run.close()
    assert len(model().agents) == 0
    getattr(mesa.Agent, "_ids", {}).pop(model(), None)  # Mesa 3.3 counts agents there, and forgets no model
    del run
    gc.collect()
    assert model() is None


@pytest.mark.parametrize("crowds", [0, 2])
def test_a_model_whose_scheduler_is_not_clear_is_told(crowds):
    def make():
        model = Crowd(2)
        model.others = None
        if crowds == 0:
            del model.crowd
        else:
            from mesa_meanfield import MeanFieldScheduler

            model.other = MeanFieldScheduler(model, policy=model.crowd.policy, summarizer=NoField(), name="b")
        return model

    run = Run(make, lambda: None)
    run.build()
    run.join()
    assert "scheduler" in run.status.error.lower()
