"""The panel that changes a run: announcements, posts from outside, and the twin without them."""

from __future__ import annotations

from typing import Any

import solara

from mesa_meanfield.viz import words
from mesa_meanfield.viz.frames import Frame
from mesa_meanfield.viz.session import Session
from mesa_meanfield.viz.stepping import Status

_CHANNELS = {"official statement": "official", "media report": "media"}
_NO_LABEL = "(none)"


@solara.component
def Interventions(
    session: Session, status: Status, frame: Frame, twin: Frame | None, follows: Status | None, refused: str
) -> None:
    """What may be added to the run, what was, and the twin without it."""
    with solara.Card("Intervene"):
        tab, set_tab = solara.use_state(0)
        with solara.lab.Tabs(value=tab, on_value=set_tab, dark=False):
            solara.lab.Tab("Announcement")
            solara.lab.Tab("Post")
        if tab == 0:
            Announcement(session)
        else:
            Injection(session, frame)
        if refused:
            solara.v.Alert(type="warning", outlined=True, dense=True, children=[refused])
        if not status.over:
            when = "the tick after the one under way" if status.busy or status.unfinished else f"tick {frame.tick}"
            waiting = f" ({status.waiting} waiting)" if status.waiting else ""
            solara.Text(f"It acts from {when} on{waiting}.", classes=["mf-dim"])
        for one in frame.interventions:
            with solara.Div(classes=["mf-added"]):
                solara.Text(words.intervention_text(one))
                at, until = getattr(one, "at", None), getattr(one, "until", None)
                live = not status.over and at is not None and (at >= frame.tick or hasattr(one, "until"))
                if live and (until is None or until > frame.tick):
                    solara.Button(
                        "Withdraw", on_click=lambda one=one: session.withdraw(one), small=True, text=True,
                        disabled=status.busy,
                    )  # fmt: skip
        Fork(session, frame, twin, follows)


@solara.component
def Announcement(session: Session) -> None:
    """An announcement in the making."""
    text, source = solara.use_reactive(""), solara.use_reactive("")
    reach, ticks = solara.use_reactive(100), solara.use_reactive(0)
    channel = solara.use_reactive(next(iter(_CHANNELS)))

    def add() -> None:
        given = _CHANNELS[channel.value]
        if session.announce(text.value, source.value, reach=reach.value / 100, channel=given, ticks=ticks.value):
            text.set("")

    _words("What is said", text)
    with solara.Div(classes=["mf-two"]):
        solara.InputText("Who says it", value=source, continuous_update=True)
        solara.Select("Shown as", values=list(_CHANNELS), value=channel)
        _slider(f"Reaches {reach.value} %", "Reach", reach, 0, 100, 5)
        _slider(f"For {ticks.value} ticks" if ticks.value else "For all ticks to come", "Ticks", ticks, 0, 20)
    solara.Button("Announce", on_click=add, color="primary", class_="mt-3 mb-1")


def _words(label: str, value: Any) -> None:
    """A field for a few lines, whose label stays."""
    solara.v.Textarea(
        label=label,
        v_model=value.value,
        on_v_model=value.set,
        rows=2,
        auto_grow=True,
        outlined=True,
        dense=True,
        hide_details=True,
        class_="mt-3 mb-1",
    )


def _slider(says: str, name: str, value: Any, low: int, high: int, step: int = 1) -> None:
    """A slider with its words above it, where they have room."""
    with solara.Div(classes=["mf-slider"]):
        solara.Text(says, classes=["mf-dim"])
        solara.v.Slider(
            v_model=value.value,
            on_v_model=value.set,
            min=low,
            max=high,
            step=step,
            dense=True,
            hide_details=True,
            attributes={"aria-label": name},
        )


@solara.component
def Injection(session: Session, frame: Frame) -> None:
    """A post from outside in the making."""
    text, account = solara.use_reactive(""), solara.use_reactive("")
    copies, labels = solara.use_reactive(1), solara.use_reactive({})

    def add() -> None:
        given = {d: label for d, label in labels.value.items() if label != _NO_LABEL}
        if session.inject(text.value, account.value, labels=given, copies=copies.value):
            text.set("")

    _words("The post", text)
    with solara.Div(classes=["mf-two"]):
        solara.InputText("Account", value=account, continuous_update=True)
        for dimension, known in frame.labels.items():
            solara.Select(
                f"Counts as ({dimension})",
                values=[_NO_LABEL, *known],
                value=labels.value.get(dimension, _NO_LABEL),
                on_value=lambda label, dimension=dimension: labels.set({**labels.value, dimension: label}),
            )
        _slider(
            "From one account" if copies.value == 1 else f"From {copies.value} accounts", "Accounts", copies, 1, 50
        )
    solara.Button("Post", on_click=add, color="primary", class_="mt-3 mb-1")


@solara.component
def Fork(session: Session, frame: Frame, twin: Frame | None, status: Status | None) -> None:
    """The twin: the same run without what was added."""
    with solara.Div(style={"border-top": "1px solid #e3e6ea", "margin-top": "10px", "padding-top": "8px"}):
        if twin is None or status is None:
            solara.Button(
                "Compare with the untouched twin", on_click=session.fork, outlined=True, disabled=frame.steps == 0
            )
            solara.Text(
                " Runs the same model again from its start with the same seed and without what was added here. "
                "It asks the language model all of it once more.",
                classes=["mf-dim"],
                style={"display": "block"},
            )
            return
        at = f"The twin is at step {twin.steps} of {frame.steps}."
        solara.Text(
            f"{at} {words.progress_text(status)}", classes=["mf-dim", "mf-twin-at"], style={"display": "block"}
        )
        if status.error:
            solara.v.Alert(type="error", outlined=True, dense=True, children=[status.error])
            solara.Button("Try again", on_click=session.retry_twin, small=True, outlined=True)
        solara.Button("Drop the twin", on_click=session.unfork, small=True, outlined=True)
