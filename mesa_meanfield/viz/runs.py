"""One model under a page: a single thread steps it, whatever the page asks for and whenever.

Mesa's own controls step a model in the thread of whoever clicks: a long tick freezes the page, an error takes its
place, and Pause and Play within one step leave two threads on one model. So a page here only ever says how far a
run is to go, and looks at frozen frames of it.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, final

from mesa_meanfield.errors import Cancelled, MeanFieldError
from mesa_meanfield.experiments.taps import crowd_of
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import Intervention
from mesa_meanfield.scheduler import MeanFieldScheduler
from mesa_meanfield.seeds import entropy_of
from mesa_meanfield.viz.additions import Additions, MakeIntervention
from mesa_meanfield.viz.frames import Frame, Watcher
from mesa_meanfield.viz.stepping import Status, registered, step_counted, step_once_more, told

if TYPE_CHECKING:
    import mesa

Draw = Callable[["mesa.Model", Watcher], bytes | None]
"""Draws a model's space, in the run's own thread."""

_EVERY = 0.2  # seconds between two pieces of news from inside a tick
_SEEN = 2.0  # seconds that a run waits for the page to have drawn a step


@final
class Run:
    """A model, made and stepped by one thread that lives only while there is something to do.

    No method waits for a step. Each can be called from any thread.

    Args:
        make: Makes the model.
        changed: Called in the run's thread, or the caller's, whenever `status` or `frame` are other ones.
        crowd: The model's attribute that holds the scheduler, where it has several.
        draw: Draws the model's space after each step.
        seen: Whether to wait, for a moment, until `see` was called for a step before making the next.
    """

    def __init__(
        self,
        make: Callable[[], mesa.Model],
        changed: Callable[[], None],
        *,
        crowd: str | None = None,
        draw: Draw | None = None,
        seen: bool = False,
    ) -> None:
        self.pace = 0.0
        """Seconds that a step takes at least while it plays."""
        self._make = make
        self._changed = changed
        self._name = crowd
        self._draw = draw
        self._wait_seen = seen
        self._lock = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._model: mesa.Model | None = None
        self._crowds: list[MeanFieldScheduler] = []
        self._watcher: Watcher | None = None
        self._frame = Frame()
        self._steps = 0
        self._goal = 0.0
        self._making = False
        self._stepping = self._unfinished = self._stopping = self._closed = False
        self._progress = ("", 0, 0)
        self._told_at = 0.0
        self._seen = 0
        self._error: Exception | None = None
        self._additions = Additions()

    # --- What a page reads -------------------------------------------------------------------------

    @property
    def frame(self) -> Frame:
        """The run after its last whole step."""
        return self._frame

    @property
    def status(self) -> Status:
        """What it is doing now."""
        with self._lock:
            what, done, total = self._progress
            return Status(
                made=self._model is not None,
                busy=self._thread is not None,
                playing=self._goal == math.inf,
                stopping=self._stopping and self._thread is not None,
                unfinished=self._unfinished,
                over=self._frame.over,
                what=what,
                done=done,
                total=total,
                waiting=len(self._additions.waiting),
                error="" if self._error is None else told(self._error),
                retryable=getattr(self._error, "retryable", True),
            )

    @property
    def model(self) -> mesa.Model | None:
        """The model itself, for components that draw it between two steps."""
        return self._model

    @property
    def entropy(self) -> str | None:
        """Where the model's random numbers come from; None before there is one."""
        return None if self._model is None else entropy_of(self._model)

    # --- What a page asks for ----------------------------------------------------------------------

    def build(self) -> None:
        """Make the model, and no step."""
        self._go(0)

    def step(self) -> None:
        """One more step, or the rest of an unfinished one."""
        self._go(self._steps + 1)

    def advance_to(self, steps: int) -> None:
        """Step until so many steps are over."""
        self._go(max(self._goal, steps))

    def play(self) -> None:
        """Step until it is paused or over."""
        self._go(math.inf)

    def pause(self) -> None:
        """Make no more steps after the one under way."""
        with self._lock:
            self._goal = self._steps + self._stepping
            self._lock.notify_all()
        self._tell()

    def stop(self) -> None:
        """Stop the step under way at its next sub-batch; the next step goes on with it, and nobody acts twice."""
        with self._lock:
            self._goal = self._steps
            if self._thread is not None:
                self._cancel()
            self._lock.notify_all()
        self._tell()

    def add(self, make: MakeIntervention) -> None:
        """Add an intervention from the next tick on: the first one of which nothing was asked yet."""
        with self._lock:
            self._additions.waiting.append(make)
            if self._thread is None and self._model is not None and not self._unfinished:
                self._additions.take(self._crowd(self._model))
                self._picture(anew=False)
        self._tell()

    def withdraw(self, one: Intervention) -> None:
        """Take an intervention away before it acts; an announcement also after that, from the next tick on."""
        with self._lock:
            if self._thread is None and self._model is not None and one in self._additions.added:
                self._additions.withdraw(one, self._crowd(self._model))
                self._picture(anew=False)
        self._tell()

    def see(self, steps: int) -> None:
        """Say that the page has drawn the run after so many steps."""
        with self._lock:
            self._seen = max(self._seen, steps)
            self._lock.notify_all()

    def close(self) -> None:
        """Stop for good; the thread ends at its next sub-batch."""
        with self._lock:
            self._closed = True
            self._goal = self._steps
            self._cancel()
            self._lock.notify_all()
            if self._thread is None:
                self._release()

    def join(self, timeout: float | None = None) -> None:
        """Wait until nothing is under way."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    # --- How it is done ----------------------------------------------------------------------------

    def _go(self, goal: float) -> None:
        with self._lock:
            if self._closed or self._frame.over:
                return
            self._goal, self._error = goal, None
            if self._thread is None:
                self._stopping = False
                self._making = self._model is None
                self._thread = threading.Thread(target=self._work, name="meanfield-run", daemon=True)
                self._thread.start()
        self._tell()

    def _cancel(self) -> None:
        self._stopping = True
        for crowd in self._crowds:
            crowd.cancel()

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._closed or not (self._making or self._due()):
                    self._thread, self._progress, self._stopping = None, ("", 0, 0), False
                    if self._closed:
                        self._release()
                    break
            start = time.monotonic()
            try:
                with watching(self._heard), registered(self._crowds):
                    self._build() if self._model is None else self._step()
            except Cancelled:  # asked for on the page; nothing is lost
                self._halt(None)
            except Exception as error:  # of a modeler's own code, too: the page says it
                if not isinstance(error, MeanFieldError):
                    traceback.print_exception(error)
                self._halt(error)
            self._tell()
            self._wait(start)
        self._tell()

    def _due(self) -> bool:
        return self._steps < self._goal and not self._frame.over and self._error is None

    def _halt(self, error: Exception | None) -> None:
        with self._lock:
            self._error, self._goal, self._making = error, self._steps, False

    def _build(self) -> None:
        model = self._make()
        crowd = self._crowd(model)
        with self._lock:
            self._watcher = Watcher(model, crowd)
            self._crowds = list(
                {id(one): one for one in vars(model).values() if isinstance(one, MeanFieldScheduler)}.values()
            )
            self._model, self._making = model, False
            self._additions.take(crowd)
        self._picture()

    def _step(self) -> None:
        model = self._model
        assert model is not None
        with self._lock:
            if self._stopping:
                raise Cancelled("stopped before the step began")
            self._stepping = True
            for crowd in self._crowds:
                crowd.resume()
        again, self._unfinished = self._unfinished, True
        try:
            step_once_more(model) if again else step_counted(model)
        finally:
            self._stepping = False
        with self._lock:
            self._unfinished = False
            self._steps += 1
            self._progress = ("", 0, 0)
            self._additions.take(self._crowd(model))
        self._picture()

    def _crowd(self, model: mesa.Model) -> MeanFieldScheduler:
        return crowd_of(model, self._name)

    def _picture(self, *, anew: bool = True) -> None:
        """A new frame: in the run's thread, or with the lock while there is none."""
        model, watcher = self._model, self._watcher
        if model is None or watcher is None:
            return
        space = self._draw(model, watcher) if anew and self._draw is not None else self._frame.space
        self._frame = watcher.frame(model, steps=self._steps, interventions=self._additions.added, space=space)

    def _release(self) -> None:
        """Let go of the model; of its agents, too, since Mesa 3.3 never forgets a model."""
        model, self._model, self._watcher, self._crowds = self._model, None, None, []
        if model is not None:
            with suppress(Exception):  # a modeler's own remove() may fail; nobody is left to be told
                model.remove_all_agents()

    def _heard(self, what: str, done: int, total: int) -> None:
        if self._stopping:
            raise Cancelled("stopped on the page")
        self._progress = (what, done, total)
        now = time.monotonic()
        if now - self._told_at >= _EVERY:
            self._told_at = now
            self._tell()

    def _wait(self, start: float) -> None:
        """Until the page has drawn the step, and for the rest of the time that it is to take."""
        with self._lock:
            if self._wait_seen:
                self._lock.wait_for(lambda: self._seen >= self._steps or self._closed, _SEEN)
            left = start + self.pace - time.monotonic()
            if self._goal == math.inf and left > 0:
                self._lock.wait_for(lambda: self._goal < math.inf or self._closed, left)

    def _tell(self) -> None:
        if not self._closed:
            self._changed()
