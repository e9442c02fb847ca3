"""The panels of a page: Solara components that show one thing each and know nothing of models."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import solara

from mesa_meanfield.viz import words
from mesa_meanfield.viz.curves import Curves
from mesa_meanfield.viz.frames import Frame
from mesa_meanfield.viz.mesa_parts import update_counter
from mesa_meanfield.viz.parameters import Input
from mesa_meanfield.viz.session import Session
from mesa_meanfield.viz.stepping import Status

_FOLLOWS = "each tick", "all so far"


@solara.component
def Controls(session: Session, status: Status, frame: Frame) -> None:
    """Reset, Play and Step, with what is going on."""
    with solara.Card("Controls", classes=["mf-controls"]):
        with solara.Div(classes=["mf-buttons"]):
            solara.Button("Reset", on_click=session.reset, color="primary", outlined=True)
            _play_button(session, status)
            solara.Button("Step", on_click=session.step, color="primary", disabled=status.busy or status.over)
        solara.Text(words.status_text(status, frame), classes=["mf-status"], style={"display": "block"})
        known = bool(status.busy and status.total)
        solara.v.ProgressLinear(
            value=100 * status.done / status.total if known else 0,
            indeterminate=status.busy and not known,
            active=status.busy,
            height=6,
            rounded=True,
        )
        solara.Text(words.progress_text(status), classes=["mf-progress"], style={"display": "block"})
        Slide("Seconds per step, at least", session.pace, session.set_pace, 0, 3, 0.1)


def _play_button(session: Session, status: Status) -> None:
    if status.busy and status.playing:
        solara.Button("Pause", on_click=session.pause, color="primary")
    elif status.busy:
        solara.Button("Stop", on_click=session.stop, color="primary", disabled=status.stopping)
    else:
        solara.Button("Play", on_click=session.play, color="primary", disabled=status.over)


@solara.component
def Trouble(session: Session, status: Status) -> None:
    """What went wrong, with how to go on."""
    with solara.v.Alert(type="error", outlined=True, dense=True):
        solara.Text(status.error, style={"display": "block", "overflow-wrap": "anywhere"})
        where = "the step; what agents have done already stays done" if status.made else "making the model"
        solara.Text(f"Trying again goes on with {where}.", style={"display": "block", "font-size": ".85rem"})
        again = session.step if status.made else session.build
        solara.Button("Try again", on_click=again, color="error", outlined=True, small=True, class_="mt-2")


@solara.component
def Choices(
    session: Session, inputs: Mapping[str, Input], values: Mapping[str, Any], used: Mapping[str, Any], wrong: str
) -> None:
    """The parameters of the next model."""
    with solara.Card("Model parameters", classes=["mf-params"]):
        for name, one in inputs.items():
            _input(name, one, values.get(name), lambda value, name=name: session.set(name, value))
        if wrong:
            solara.v.Alert(type="warning", outlined=True, dense=True, children=[wrong])
        elif session.subject.parameters.differ(values, used):
            solara.Text("Reset makes a model of these.", classes=["mf-dim"])
        seed = session.subject.parameters.seeded
        if seed is not None and values.get(seed) in (None, ""):
            solara.Text(f"Seed of this run: {used.get(seed)}", classes=["mf-dim"], style={"display": "block"})


def _input(name: str, one: Input, value: Any, on_value: Any) -> None:
    label = one.get("label", name)
    match one["type"]:
        case "SliderInt" | "SliderFloat" as kind:
            Slide(label, value, on_value, one["min"], one["max"], one.get("step") or 1, whole=kind == "SliderInt")
        case "Select":
            solara.Select(label, values=list(one["values"]), value=value, on_value=on_value)
        case "Checkbox":
            solara.Checkbox(label=label, value=value, on_value=on_value)
        case _:  # a number, too, is read when it is used
            text = "" if value is None else str(value)
            solara.InputText(label, value=text, on_value=on_value, continuous_update=True)


@solara.component
def Slide(
    label: str,
    value: float,
    on_value: Callable[[Any], None],
    low: float,
    high: float,
    step: float,
    *,
    whole: bool = False,
) -> None:
    """A slider that says its value, above it where there is room."""
    held = solara.use_reactive(value, on_value)
    with solara.Div(classes=["mf-slider"]):
        solara.Text(f"{label}: {held.value:g}", classes=["mf-dim"])
        solara.v.Slider(
            v_model=held.value,
            on_v_model=lambda moved: held.set(int(moved) if whole else round(float(moved), 6)),
            min=low,
            max=high,
            step=step,
            dense=True,
            hide_details=True,
            attributes={"aria-label": label},
        )


@solara.component
def Shares(session: Session, frame: Frame, other: Frame | None, trouble: str) -> None:
    """The share curves, real ones and the twin's beside them."""
    real = session.real
    follows, set_follows = solara.use_state(_FOLLOWS[1] if session.subject.real is not None else _FOLLOWS[0])
    chosen, choose = solara.use_state("")
    dimensions = list(frame.labels)
    dimension = chosen if chosen in dimensions else next(iter(dimensions), "")
    curves = Curves(
        dimension=dimension,
        labels=frame.labels.get(dimension, ()),
        run=frame.ticks,
        real=real,
        twin=None if other is None else other.ticks,
        marks=sorted({at for one in frame.interventions if isinstance(at := getattr(one, "at", None), int)}),
        cumulative=follows == _FOLLOWS[1],
    )
    drawn = (frame, other, dimension, follows, real is None)
    html = solara.use_memo(lambda: words.curves_html(curves), list(drawn))
    with solara.Card("What the agents decide", classes=["mf-wide"]):
        with solara.Row(gap="18px", style={"align-items": "center", "flex-wrap": "wrap"}):
            solara.ToggleButtonsSingle(
                follows, values=list(_FOLLOWS), on_value=set_follows, dense=True, mandatory=True
            )
            if len(dimensions) > 1:
                solara.Select("Dimension", values=dimensions, value=dimension, on_value=choose, dense=True)
        if html:
            solara.HTML(unsafe_innerHTML=html, classes=["mf-curves"])
        else:
            solara.Text("The curves begin with the first tick.", classes=["mf-dim"])
        if other is not None:
            ticks = min(len(frame.ticks), len(other.ticks))
            solara.HTML(unsafe_innerHTML=words.twin_html(curves, trouble, ticks), classes=["mf-twin"])


@solara.component
def Field(frame: Frame) -> None:
    """The mean field."""
    html = solara.use_memo(lambda: words.field_html(frame), [frame])
    with solara.Card("Mean field: what everybody sees of all"):
        solara.HTML(unsafe_innerHTML=html, classes=["mf-field"])


@solara.component
def Feed(frame: Frame) -> None:
    """The latest posts."""
    html = solara.use_memo(lambda: words.feed_html(frame), [frame])
    with solara.Card("Latest posts"):
        solara.HTML(unsafe_innerHTML=html, classes=["mf-scroll"])


@solara.component
def Cost(frame: Frame) -> None:
    """Usage and failures."""
    html = solara.use_memo(lambda: words.usage_html(frame), [frame])
    with solara.Card("Usage and failures", classes=["mf-cost"]):
        solara.HTML(unsafe_innerHTML=html)


@solara.component
def Space(frame: Frame, legend: Mapping[str, str] | None) -> None:
    """The model's space."""

    def html() -> str:
        assert frame.space is not None
        uri = "data:image/png;base64," + base64.b64encode(frame.space).decode("ascii")
        return words.space_html(frame, uri, legend)

    shown = solara.use_memo(html, [frame.space])
    with solara.Card("Who decided what" if legend is None else "The agents in their space"):
        solara.HTML(unsafe_innerHTML=shown, classes=["mf-space"])


@solara.component
def Further(component: Any, model: Any) -> Any:  # Any: Mesa's components, and models
    """One of Mesa's own components, or a modeler's, drawn anew after each step."""
    update_counter.get()
    return component(model)
