"""What one tab of the page has: its run, the run's untouched twin, and what can be asked of both."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, final
from weakref import WeakSet

from mesa_meanfield.data import Counts
from mesa_meanfield.errors import DataError, MeanFieldError
from mesa_meanfield.interventions import Announce, Inject
from mesa_meanfield.protocols import Intervention
from mesa_meanfield.viz.frames import Watcher
from mesa_meanfield.viz.parameters import Parameters
from mesa_meanfield.viz.runs import Run
from mesa_meanfield.viz.space import Portrayal, SpacePicture

if TYPE_CHECKING:
    import mesa

Values = Mapping[str, Any]  # Any: a model's own parameters
Real = Callable[[Values], Sequence[Counts]]
"""The parameters -> what was recorded in each tick: dimension -> label -> how often."""

PACE = 0.3
"""Seconds that a step takes at least while it plays, so that one can follow."""
OPEN: WeakSet[Session] = WeakSet()
"""The sessions of this process, so that a server that ends can stop them."""


@dataclass(frozen=True)
class Subject:
    """What a page shows: how its model is made, and how it looks. It holds no model."""

    make: Callable[..., mesa.Model]
    """A model class, or a function that makes a model; called with the parameters by name."""
    parameters: Parameters
    name: str
    crowd: str | None = None
    """The model's attribute that holds the scheduler, where it has several."""
    portrayal: Portrayal | None = None
    legend: Mapping[str, str] | None = None
    """What the space's colours mean, name -> colour; None for those of the decisions."""
    components: tuple[Any, ...] = ()
    """Mesa's, or a modeler's own: functions of the model that give a Solara component."""
    real: Real | None = None


@final
class Session:
    """One tab: a model of its own, and a twin where it was asked for.

    Args:
        subject: What the page shows.
        changed: Called whenever there is anything new to show, in whichever thread made it.
    """

    def __init__(self, subject: Subject, changed: Callable[[], None]) -> None:
        self.subject = subject
        self.values: dict[str, Any] = dict(subject.parameters.values)
        """The parameters of the next model."""
        self.real: Sequence[Counts] | None = None
        self.wrong = ""
        """Why no model could be made of the parameters."""
        self.refused = ""
        """Why the last intervention was not added."""
        self.twin: Run | None = None
        self._changed = changed
        self._lock = threading.Lock()
        self.pace = PACE
        self.run = self._new_run()
        OPEN.add(self)

    @property
    def used(self) -> Values:
        """The parameters that the run was made with."""
        return self._used

    # --- The run -----------------------------------------------------------------------------------

    def reset(self) -> None:
        """Stop the run and its twin for good, and make a new model of the parameters as they are now."""
        try:
            with self._lock:
                new = self._new_run()
                self.run.close()
                self._drop_twin()
                self.run, self.wrong, self.refused = new, "", ""
        except DataError as error:
            self.wrong = str(error)
            self._changed()
        else:
            self.run.build()

    def build(self) -> None:
        """Try again to make the model."""
        self.run.build()

    def step(self) -> None:
        """One more step of the run that is there when one clicks: the page may still show the one before."""
        self.run.step()

    def play(self) -> None:
        """Step until it is paused or over."""
        self.run.play()

    def pause(self) -> None:
        """Make no more steps after the one under way."""
        self.run.pause()

    def stop(self) -> None:
        """Stop the step under way at its next sub-batch."""
        self.run.stop()

    def set(self, name: str, value: Any) -> None:
        """Choose a parameter of the next model."""
        self.values, self.wrong = {**self.values, name: value}, ""
        self._changed()

    def set_pace(self, seconds: float) -> None:
        """Choose how many seconds a step takes at least while it plays."""
        self.pace = self.run.pace = seconds

    def close(self) -> None:
        """Stop everything."""
        with self._lock:
            self.run.close()
            self._drop_twin()
        OPEN.discard(self)

    # --- Interventions -----------------------------------------------------------------------------

    def announce(self, text: str, source: str, *, reach: float, channel: str, ticks: int = 0) -> bool:
        """Add a public statement from the next tick on.

        Args:
            text: What is said.
            source: Who says it.
            reach: The share of agents who see it.
            channel: ``official`` or ``media``.
            ticks: For how many ticks; 0 for always.

        Returns:
            Whether it could be added; else `refused` says why not.
        """
        if not text.strip() or not source.strip():
            return self._refuse("An announcement needs a text and a source.")
        said, by, shown = text.strip(), source.strip(), _channel(channel)
        return self._add(lambda at: Announce(at, said, by, reach, at + ticks if ticks else None, shown))

    def inject(self, text: str, account: str, *, labels: Mapping[str, str], copies: int = 1) -> bool:
        """Have accounts outside the population post something in the next tick.

        Args:
            text: The post.
            account: Whose; no agent's key.
            labels: Dimension -> the post's label.
            copies: How many accounts post it.

        Returns:
            Whether it could be added; else `refused` says why not.
        """
        if not account.strip() or not (text.strip() or labels):
            return self._refuse("A post needs an account, and a text or a label.")
        if account.strip() in self.run.frame.names:
            return self._refuse(f"{account.strip()!r} is an agent of the model; give the account another name.")
        return self._add(lambda at: Inject(at, text.strip(), account.strip(), dict(labels), copies))

    def withdraw(self, one: Intervention) -> None:
        """Take an intervention back, as far as it has not acted."""
        self.run.withdraw(one)

    # --- The twin ----------------------------------------------------------------------------------

    def fork(self) -> None:
        """Run the same model again from its start, without what was added here, and keep it abreast."""
        with self._lock:
            if self.twin is None:
                self.twin = Run(self._maker(), self._changed, crowd=self.subject.crowd)
        self._follow()

    def unfork(self) -> None:
        """Have no twin any more."""
        with self._lock:
            self._drop_twin()
        self._changed()

    def _follow(self) -> None:
        twin = self.twin
        if twin is not None and not twin.status.error and twin.frame.steps < self.run.frame.steps:
            twin.advance_to(self.run.frame.steps)

    def retry_twin(self) -> None:
        """Go on with a twin that stopped at an error."""
        if self.twin is not None:
            self.twin.advance_to(self.run.frame.steps)

    def twin_trouble(self) -> str:
        """Why the twin cannot be compared with; empty where it can, as far as that can be seen."""
        twin = self.twin
        if twin is None:
            return ""
        if None not in (a := self.run.entropy, b := twin.entropy) and a != b:
            return "The twin has other random numbers: give the model a parameter rng, and hand it to Mesa."
        starts = [at for one in self.run.frame.interventions if isinstance(at := getattr(one, "at", None), int)]
        fork = min(starts, default=len(twin.frame.ticks))
        for mine, other in zip(self.run.frame.ticks[:fork], twin.frame.ticks, strict=False):
            if mine.counts != other.counts:
                return (
                    f"The twin decides otherwise in tick {mine.number}, before anything was added: a decision failed "
                    "in one of the two, or something draws random numbers that are not the seed's."
                )
        return ""

    # --- How it is done ----------------------------------------------------------------------------

    def _new_run(self) -> Run:
        parameters = self.subject.parameters
        values = parameters.read(self.values)
        if parameters.seeded and values.get(parameters.seeded) is None:
            values[parameters.seeded] = secrets.randbelow(2**31)  # so that a twin can have the same
        self._used: dict[str, Any] = values
        picture = SpacePicture(self.subject.portrayal)

        def draw(model: mesa.Model, watcher: Watcher) -> bytes | None:
            labels = next(iter(watcher.labels(model).items()), ("", ()))
            return picture(model, lambda key: watcher.latest(key).get(labels[0]), labels[1])

        run = Run(
            self._maker(),
            self._run_changed,
            crowd=self.subject.crowd,
            draw=draw,
            seen=bool(self.subject.components),
        )
        run.pace = self.pace
        return run

    def _maker(self) -> Callable[[], mesa.Model]:
        return partial(make_model, self.subject, dict(self._used), self._note_real)

    def _note_real(self, real: Sequence[Counts] | None) -> None:
        self.real = real

    def _run_changed(self) -> None:
        self._follow()
        self._changed()

    def _drop_twin(self) -> None:
        if self.twin is not None:
            self.twin.close()
            self.twin = None

    def _add(self, make: Callable[[int], Intervention]) -> bool:
        if self.run.status.over:
            return self._refuse("The run is over; Reset begins a new one.")
        try:
            make(0)
        except ValueError as error:
            return self._refuse(str(error))
        self.refused = ""
        self.run.add(make)
        return True

    def _refuse(self, why: str) -> bool:
        self.refused = why
        self._changed()
        return False


def make_model(subject: Subject, values: Values, note_real: Callable[[Sequence[Counts] | None], None]) -> mesa.Model:
    """A model of these parameters.

    Raises:
        MeanFieldError: It is none.
    """
    note_real(None if subject.real is None else subject.real(values))
    model = subject.make(**values)
    if not hasattr(model, "agents") or not hasattr(model, "step"):
        raise MeanFieldError(f"{subject.name} gives no Mesa model but {type(model).__name__}")
    return model


def _channel(name: str) -> Any:  # Any: a literal that Announce checks
    return name
