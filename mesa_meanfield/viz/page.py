"""A page for any Mesa model that holds a `MeanFieldScheduler`.

It looks like Mesa's SolaraViz and takes its ``model_params`` and components, but steps models in its own way:
see runs.py for why. It shows frozen frames alone, so that nothing on it waits for a tick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import solara
import solara.lab

from mesa_meanfield.viz import forms, panels
from mesa_meanfield.viz.mesa_parts import force_update, update_counter
from mesa_meanfield.viz.painter import Painter
from mesa_meanfield.viz.parameters import parameters_of
from mesa_meanfield.viz.session import Real, Session, Subject
from mesa_meanfield.viz.space import Portrayal

if TYPE_CHECKING:
    import mesa


def page_of(
    make: Callable[..., mesa.Model],
    params: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    crowd: str | None = None,
    portrayal: Portrayal | None = None,
    legend: Mapping[str, str] | None = None,
    components: Sequence[Any] = (),
    real: Real | None = None,
) -> Any:
    """Show a model in the browser.

    An ``app.py`` that says ``page = page_of(Town)`` is run by ``solara run app.py``. Each tab that opens the page
    makes a model of its own, and stops it when it is closed.

    Args:
        make: The model class, or a function that makes a model; called with the parameters by name.
        params: Mesa's ``model_params``: ``{"citizens": Slider(...), "rng": {"type": "InputInt", "value": 42}}``, and
            fixed values. Without them inputs for all parameters with a default that is a number, text or truth
            value. See also `backend_choice`.
        name: Above the page; by default the model's.
        crowd: The model's attribute that holds the scheduler, where it has several.
        portrayal: Agent -> Mesa's ``AgentPortrayalStyle``; by default points in the colours of their decisions.
        legend: What the portrayal's colours mean: name -> colour.
        components: More to show: what ``make_plot_component`` gives, or functions of the model.
        real: The parameters -> what was recorded in each tick, to be drawn beside the curves, as
            `recorded_counts` gives it.

    Raises:
        ValueError: A parameter is not the model's, is missing, or has an input that there is not.
    """
    subject = Subject(
        make=make,
        parameters=parameters_of(make, params),
        name=name or getattr(make, "__name__", "Model"),
        crowd=crowd,
        portrayal=portrayal,
        legend=legend if portrayal is None else legend or {},
        components=tuple(one[0] if isinstance(one, tuple) else one for one in components),
        real=real,
    )
    return Page(subject)


@solara.component
def Page(subject: Subject) -> None:
    """One tab."""
    version = solara.use_reactive(0)
    painter = solara.use_memo(lambda: Painter(lambda number: _paint(version, number)), [])
    session = solara.use_memo(lambda: Session(subject, painter.changed), [])
    number = version.get()
    solara.use_effect(lambda: _opened(session, painter), [])
    solara.use_effect(lambda: painter.drawn(number), [number])
    run, frame, status = session.run, session.run.frame, session.run.status
    twin = session.twin
    solara.Title(subject.name)
    solara.Style(_style())
    with solara.AppBar():
        solara.AppBarTitle(subject.name)
    other, follows = (None, None) if twin is None else (twin.frame, twin.status)
    with solara.Div(classes=["mf-app"]):
        with solara.Div(classes=["mf-side"]):
            panels.Controls(session, status, frame)
            if status.error:
                panels.Trouble(session, status)
            panels.Choices(session, subject.parameters.inputs, session.values, session.used, session.wrong)
            panels.Cost(frame)
        with solara.Div(classes=["mf-main"]):
            with solara.Div(classes=["mf-topic"]):
                solara.v.Html(tag="small", children=["What it is about"])
                solara.Text(frame.topic or "...")
            panels.Shares(session, frame, other, session.twin_trouble())
            with solara.Div(classes=["mf-columns"]):
                with solara.Div(classes=["mf-column"]):
                    panels.Field(frame)
                    panels.Feed(frame)
                with solara.Div(classes=["mf-column"]):  # nothing above its buttons changes its height with a tick
                    if frame.space is not None:
                        panels.Space(frame, subject.legend)
                    forms.Interventions(session, status, frame, other, follows, session.refused)
            if subject.components and run.model is not None:
                Components(session, run.model, frame.steps).key(f"run-{id(run)}")


@solara.component
def Components(session: Session, model: Any, steps: int) -> None:
    """Mesa's components, which look at the model itself: drawn after a step, before the next one is made."""
    solara.use_effect(force_update, [steps])
    drawn = update_counter.get()
    solara.use_effect(lambda: session.run.see(steps), [drawn, steps])
    with solara.Div(classes=["mf-columns"]):
        for component in session.subject.components:
            with solara.Card():
                panels.Further(component, model)


def _opened(session: Session, painter: Painter) -> Callable[[], None]:
    painter.start()
    session.run.build()

    def close() -> None:
        painter.close()
        session.close()

    return close


def _paint(version: Any, number: int) -> None:  # Any: a Solara reactive
    """Have the page drawn, in the calling thread, while no event of its browser is being handled.

    Solara draws and hears in several threads at once, and to draw is to set all that an input holds to what the page
    knows: a letter that has just been typed would be gone.
    """
    server = sys.modules.get("solara.server.kernel_context")  # not there without a server, nor its locks
    context = server.get_current_context() if server is not None and server.has_current_context() else None
    with nullcontext() if context is None else context.lock:
        version.set(number)


@cache
def _style() -> str:
    return (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
