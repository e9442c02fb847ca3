"""What stops a tick, and how it goes on."""

from __future__ import annotations

import threading

import pytest
from crowds import Crowd, Voter

from mesa_meanfield import LLMSummarizer, NoField, ScriptedBackend
from mesa_meanfield.errors import BackendError, BackendUnavailable, Cancelled, MeanFieldError, ReentryError
from mesa_meanfield.protocols import Reply


def test_act_must_not_step_the_same_scheduler():
    class Impatient(Voter):
        def act(self, decision):
            self.model.crowd.step(self.model.agents)

    model = Crowd(0)
    Impatient.create_agents(model, 1)
    with pytest.raises(ReentryError, match="inside a tick"):
        model.step()


def test_two_threads_step_one_after_the_other():
    inside = threading.Event()
    overlap = []

    class Slow(Voter):
        def act(self, decision):
            overlap.append(inside.is_set())
            inside.set()
            super().act(decision)
            inside.clear()

    model = Crowd(0)
    Slow.create_agents(model, 5)
    threads = [threading.Thread(target=model.crowd.step, args=(model.agents,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model.crowd.tick == 4
    assert not any(overlap)
    assert all(len(v.done) == 4 for v in model.agents)


def test_cancel_stops_before_anyone_acts_and_the_tick_can_be_stepped_again():
    backend = ScriptedBackend(batch=2)
    model = Crowd(6, backend=backend)
    plain = Crowd(6)
    original = backend.score

    def cancelling(requests, candidates):
        model.crowd.cancel()
        return original(requests, candidates)

    backend.score = cancelling
    with pytest.raises(Cancelled):
        model.step()
    assert (model.crowd.tick, [v.done for v in model.agents]) == (0, [[]] * 6)
    with pytest.raises(Cancelled):
        model.crowd.step(model.agents)
    backend.score = original
    model.crowd.resume()
    model.crowd.step(model.agents)
    plain.step()
    assert model.crowd.last == plain.crowd.last


def test_a_cancelled_summary_is_made_up_for_without_deciding_again():
    backend = ScriptedBackend()
    model = Crowd(3, backend=backend, summarizer=LLMSummarizer(backend))
    original = backend.generate

    def cancelling(requests):
        model.crowd.cancel()
        return original(requests)

    backend.generate = cancelling
    with pytest.raises(Cancelled):
        model.step()
    backend.generate = original
    model.crowd.resume()
    model.crowd.step(model.agents)
    assert (model.crowd.tick, model.crowd.field.size, [len(v.done) for v in model.agents]) == (1, 3, [1, 1, 1])


@pytest.mark.parametrize("failing", [lambda r: "", lambda r: Reply(failure="HTTP 500")])
def test_a_failed_summary_keeps_the_old_text_with_new_shares_and_is_counted(failing):
    good = ScriptedBackend(lambda r: "People nod.")
    summarizer = LLMSummarizer(good)
    model = Crowd(3, summarizer=summarizer)
    model.step()
    summarizer.backend = ScriptedBackend(failing)
    model.step()
    assert model.crowd.field.text == "People nod."
    assert model.crowd.field.size == 6
    assert model.crowd.usage.failures == 1


def test_a_server_that_is_down_for_the_summary_keeps_the_old_text_and_is_counted():
    class Down(NoField):
        def update(self, field, tick, **known):
            raise BackendUnavailable("down")

    model = Crowd(3, summarizer=Down())
    model.step()
    assert (model.crowd.field.size, model.crowd.usage.failures, model.crowd.tick) == (3, 1, 1)


def test_a_summarizer_that_cannot_be_used_at_all_is_an_error():
    class Wrong(NoField):
        def update(self, field, tick, **known):
            raise BackendError("no such model")

    with pytest.raises(BackendError, match="no such model"):
        Crowd(3, summarizer=Wrong()).step()


def test_after_an_error_in_act_those_who_have_acted_do_not_act_again():
    class Shy(Voter):
        def act(self, decision):
            if self.unique_id == 3 and not getattr(self, "brave", False):
                self.brave = True
                raise RuntimeError("not yet")
            super().act(decision)

    model, calm = Crowd(0), Crowd(4)
    Shy.create_agents(model, 4)
    with pytest.raises(RuntimeError, match="not yet"):
        model.crowd.step(model.agents)
    model.crowd.step(model.agents)
    calm.step()
    assert [len(v.done) for v in model.agents] == [1, 1, 1, 1]
    assert (model.crowd.tick, model.crowd.last.decisions) == (1, calm.crowd.last.decisions)


def test_a_missing_summary_is_made_first_however_the_tick_was_decided():
    class Failing(NoField):
        broken = True

        def update(self, field, tick, **known):
            if self.broken:
                raise BackendError("no such model")
            return super().update(field, tick, **known)

    summarizer = Failing()
    model = Crowd(3, summarizer=summarizer)
    with pytest.raises(BackendError):
        model.crowd.decide(model.agents, advance=True)
    with pytest.raises(MeanFieldError, match=r"still lacks its summary: call update\(\)"):
        model.crowd.decide(model.agents)
    summarizer.broken = False
    model.crowd.decide(model.agents, advance=True)
    assert (model.crowd.tick, model.crowd.field.size, [len(v.done) for v in model.agents]) == (1, 3, [1, 1, 1])


def test_a_tick_that_cannot_be_recorded_is_not_over():
    class Full:
        space = 1

        def record(self, tick, field, groups):
            if not self.space:
                raise OSError("disk full")
            self.space -= 1

    model = Crowd(2, recorder=Full())
    model.step()
    with pytest.raises(OSError, match="disk full"):
        model.step()
    assert model.crowd.tick == 1
    model.crowd.recorder.space = 1
    model.crowd.step(model.agents)
    assert (model.crowd.tick, model.crowd.field.size, [len(v.done) for v in model.agents]) == (2, 4, [2, 2])


def test_a_models_step_made_again_after_an_error_lets_nobody_act_twice():
    down = [True]

    def probability(request, candidate):
        if down[0] and "voter 3" in request.suffix:
            raise BackendUnavailable("server down")
        return 1.0

    def step(model):
        leader, *followers = model.agents
        model.crowd.decide([leader])
        model.crowd.decide(followers)
        return model.crowd.update()

    model, calm = (Crowd(4, backend=ScriptedBackend(probability=probability)) for _ in range(2))
    with pytest.raises(BackendUnavailable):
        step(model)
    down[0] = False
    assert step(model) == step(calm)
    assert [len(v.done) for v in model.agents] == [1, 1, 1, 1]
    assert step(model) == step(calm)
