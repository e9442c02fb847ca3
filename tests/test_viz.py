"""Pages without a browser: what they show, what they take, and what they leave behind."""

from __future__ import annotations

import gc
import importlib.util
import sys
import threading
import weakref
from pathlib import Path

import mesa
import pytest
from crowds import Crowd
from page_models import HOSTILE, Demanding, Watched
from worlds import cascade

solara = pytest.importorskip("solara", reason="needs the viz extra")

from mesa_meanfield.data import MeanField  # noqa: E402
from mesa_meanfield.experiments.runs import TickCounts  # noqa: E402
from mesa_meanfield.protocols import Usage  # noqa: E402
from mesa_meanfield.viz import backend_choice, page_of, recorded_counts  # noqa: E402
from mesa_meanfield.viz.curves import Curves, draw, ends  # noqa: E402
from mesa_meanfield.viz.frames import Frame, Post  # noqa: E402
from mesa_meanfield.viz.parameters import parameters_of  # noqa: E402
from mesa_meanfield.viz.session import OPEN, Session, Subject  # noqa: E402
from mesa_meanfield.viz.space import SpacePicture  # noqa: E402
from mesa_meanfield.viz.words import changed_words, feed_html, field_html, rows, usage_html  # noqa: E402

EXAMPLES = Path(__file__).parents[1] / "examples"


def session(make, params=None, **subject):
    """A tab without a page, its model made."""
    one = Session(Subject(make, parameters_of(make, params), "a model", **subject), lambda: None)
    one.run.build()
    one.run.join()
    return one


def stepped(one, steps):
    one.run.advance_to(steps)
    one.run.join()
    if one.twin is not None:
        one.twin.join()
    return one


def app(folder):
    """An example's app, imported as Solara does it."""
    sys.path.insert(0, str(EXAMPLES / folder))
    try:
        spec = importlib.util.spec_from_file_location("app", EXAMPLES / folder / "app.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def ticks(*counts, dimension="action"):
    return [TickCounts(i, {dimension: one}, {dimension: one}, 0, 0, False, Usage()) for i, one in enumerate(counts)]


# --- The page --------------------------------------------------------------------------------------


def test_an_apps_page_holds_no_model_and_a_closed_tab_stops_its_own():
    page = app("hello_crowd").page
    before = set(OPEN)
    _, context = solara.render(page, handle_error=False)
    (tab,) = set(OPEN) - before
    tab.run.join()
    stepped(tab, 2)
    model = weakref.ref(tab.run.model)
    context.close()
    tab.run.join()
    assert tab not in OPEN
    assert not [thread for thread in threading.enumerate() if thread.name == "meanfield-run"]
    getattr(mesa.Agent, "_ids", {}).pop(model(), None)  # Mesa 3.3 counts agents there, and forgets no model
    del tab, context
    gc.collect()
    assert model() is None


def test_a_model_made_beside_a_page_is_collected_as_mesas_own_suite_asks():
    module = app("hello_crowd")
    assert module.page is not None
    model = module.Town()
    for _ in range(3):
        model.step()
    known = weakref.ref(model)
    model.remove_all_agents()
    getattr(mesa.Agent, "_ids", {}).pop(model, None)
    del model
    gc.collect()
    assert known() is None


def test_mesas_own_components_are_drawn_after_every_step():
    from mesa.visualization import make_plot_component

    class Counted(Crowd):
        def __init__(self, rng=1):
            super().__init__(3, rng=rng)
            self.datacollector = mesa.DataCollector({"tick": lambda model: model.crowd.tick})

        def step(self):
            super().step()
            self.datacollector.collect(self)

    drawn = []

    def note(model):
        drawn.append(model.crowd.tick)
        return solara.Text(f"at tick {model.crowd.tick}")

    before = set(OPEN)
    _, context = solara.render(page_of(Counted, components=[make_plot_component("tick"), note]), handle_error=False)
    (tab,) = set(OPEN) - before
    tab.run.join()
    stepped(tab, 3)
    context.close()
    assert drawn[-1] == 3
    assert {1, 2} <= set(drawn)


# --- A tab -----------------------------------------------------------------------------------------


def test_reset_makes_a_new_model_of_the_parameters_as_they_are_now():
    one = stepped(session(Watched), 2)
    one.set("voters", 7)
    first = one.run
    one.reset()
    one.run.join()
    assert one.run is not first
    assert (one.run.frame.steps, len(one.run.model.agents), one.used["voters"]) == (0, 7, 7)


def test_a_parameter_that_is_no_number_is_told_and_the_run_stays():
    one = stepped(session(Watched, {"rng": {"type": "InputText", "value": "3"}}), 1)
    one.set("rng", "three")
    one.reset()
    assert (one.wrong, one.run.frame.steps) == ("rng must be a number, not 'three'", 1)
    one.set("rng", "4")
    one.reset()
    one.run.join()
    assert (one.wrong, one.used["rng"], one.run.frame.steps) == ("", 4, 0)


def test_the_twin_is_the_run_without_what_was_added():
    one = stepped(session(Watched), 2)
    assert one.announce("Say no.", "The mayor", reach=1.0, channel="official")
    assert one.inject("No!", "guest", labels={"action": "no"}, copies=2)
    one.fork()
    stepped(one, 4)
    one.twin.join()
    run, twin = one.run.frame, one.twin.frame
    assert twin.steps == 4
    assert [a.counts == b.counts for a, b in zip(run.ticks, twin.ticks, strict=True)][:2] == [True, True]
    assert one.twin_trouble() == ""
    plain = Watched()
    for _ in range(4):
        plain.step()
    assert twin.field == plain.crowd.field
    assert run.field.size == 18
    assert [post.who for post in run.posts if post.kind == "injected"] == ["guest 2", "guest 1"]


def test_a_model_without_a_seed_gets_one_so_that_its_twin_can_have_the_same():
    def free(rng=None):
        return Crowd(5, rng=rng)

    one = stepped(session(free), 2)
    assert isinstance(one.used["rng"], int)
    one.fork()
    stepped(one, 3)
    assert one.twin_trouble() == ""
    assert one.twin.entropy == one.run.entropy


def test_a_twin_with_other_random_numbers_is_told():
    def careless():
        return Crowd(5, rng=None)

    one = stepped(session(careless), 2)
    one.fork()
    one.twin.join()
    assert "other random numbers" in one.twin_trouble()


def test_what_cannot_be_added_is_refused_with_a_reason():
    one = session(Watched)
    assert not one.announce("", "mayor", reach=1.0, channel="official")
    assert "needs a text and a source" in one.refused
    assert not one.announce("Hm.", "mayor", reach=3.0, channel="official")
    assert "reach must be a share from 0 to 1" in one.refused
    assert not one.inject("Hm.", "1", labels={})
    assert "is an agent of the model" in one.refused
    assert one.run.frame.interventions == ()


def test_nothing_is_added_to_a_run_that_is_over():
    class Short(Watched):
        def step(self):
            super().step()
            self.running = False

    one = stepped(session(Short), 1)
    assert not one.announce("Too late.", "mayor", reach=1.0, channel="official")
    assert one.refused == "The run is over; Reset begins a new one."


def test_a_subject_that_makes_no_model_is_told():
    one = session(lambda: "nothing")
    assert one.run.status.error == "a model gives no Mesa model but str"


# --- Parameters ------------------------------------------------------------------------------------


def test_a_signature_becomes_inputs():
    def make(backend="scripted", summarizer="tally", people=3, share=0.5, loud=True, note="hm", rng=None, other=()):
        return None

    found = parameters_of(make, None)
    assert {name: one["type"] for name, one in found.inputs.items()} == {
        "backend": "Select",
        "summarizer": "Select",
        "people": "InputInt",
        "share": "InputFloat",
        "loud": "Checkbox",
        "note": "InputText",
        "rng": "InputText",
    }
    assert found.inputs["backend"]["values"][0] == "scripted"
    assert "llm" in found.inputs["summarizer"]["values"]
    assert found.read({**found.values, "rng": " 7 ", "note": "12"})["rng"] == 7
    assert found.read({"note": "12"}) == {"note": "12"}
    assert found.read({"rng": ""}) == {"rng": None}


def test_mesas_slider_and_fixed_values_are_taken():
    from mesa.visualization import Slider

    found = parameters_of(Watched, {"voters": Slider("Voters", 4, 1, 9, 1), "mood": "plain"})
    assert found.inputs["voters"]["type"] == "SliderInt"
    assert found.fixed == {"mood": "plain"}
    assert found.values == {"mood": "plain", "voters": 4}


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (Watched, {"people": 3}, "Watched has no parameter 'people'; it has mood, voters, rng"),
        (Demanding, None, "Demanding needs 'people': give it in params"),
        (Watched, {"voters": {"type": "Knob", "value": 3}}, "there is no input 'Knob'"),
    ],
)
def test_parameters_that_cannot_be_are_told(make, given, message):
    with pytest.raises(ValueError, match=message):
        page_of(make, given)


def test_backends_are_offered_in_the_order_in_which_they_are_named():
    assert backend_choice("embedded", "scripted", "embedded")["values"] == ["embedded", "scripted"]
    assert backend_choice()["value"] == "scripted"


# --- What is said ----------------------------------------------------------------------------------


def test_everybodys_words_are_escaped():
    frame = Frame(
        tick=1,
        field=MeanField(text=HOSTILE, counts={HOSTILE: {HOSTILE: 1}}),
        before=MeanField(text="Well."),
        fields={HOSTILE: MeanField(text=HOSTILE, counts={HOSTILE: {HOSTILE: 1}})},
        posts=(Post(0, HOSTILE, {HOSTILE: HOSTILE}, HOSTILE), Post(0, "a", {}, HOSTILE, "failed")),
        labels={HOSTILE: (HOSTILE,)},
        reasons=((HOSTILE, 2),),
    )
    for html in (field_html(frame), feed_html(frame), usage_html(frame)):
        assert "<script" not in html
        assert "<img" not in html
        assert "<b>" not in html
        assert "&lt;script&gt;" in html


def test_what_changed_in_a_text_is_marked_unless_nearly_all_did():
    assert changed_words("It is 20% so far.", "It is 30% so far.") == [
        (False, "It is "), (True, "30%"), (False, " so far.")
    ]  # fmt: skip
    assert changed_words("", "All new.") == [(False, "All new.")]
    assert changed_words("One thing.", "Something else altogether, friends.") == [
        (False, "Something else altogether, friends.")
    ]


def test_changes_of_shares_are_in_percentage_points():
    before, now = MeanField(counts={"d": {"a": 1, "b": 3}}), MeanField(counts={"d": {"a": 4, "b": 4}})
    a, b = rows(Frame(labels={"d": ("a", "b")}), now, before, "d")
    assert (a.share, a.change, b.change) == (0.5, 25.0, -25.0)


def test_curves_of_a_tick_and_of_all_so_far():
    run = ticks({"a": 1, "b": 3}, {"a": 4, "b": 0}, {})
    each = Curves("action", ("a", "b"), run)
    assert each.of_run(run)[:2].tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert str(each.of_run(run)[2, 0]) == "nan"
    far = Curves("action", ("a", "b"), run, twin=ticks({"a": 2, "b": 2}), cumulative=True)
    assert far.of_run(run)[1].tolist() == [5 / 8, 3 / 8]
    assert ends(far) == {"a": (0.25, 0.5), "b": (0.75, 0.5)}


def test_a_drawing_says_what_it_shows_and_draws_what_it_is_compared_with():
    real = [{"action": {"a": 1, "b": 1}}, {"action": {"a": 0, "b": 2}}]
    plain = draw(Curves("action", ("a", "b"), ticks({"a": 1, "b": 3})))
    compared = draw(Curves("action", ("a", "b"), ticks({"a": 1, "b": 3}), real=real, twin=ticks({"a": 2, "b": 2})))
    assert "after tick 1: this run a 25%, b 75%." in plain.alt
    assert "recorded a 50%, b 50%; untouched twin a 50%, b 50%." in compared.alt
    assert compared.svg.count('<g id="axes_') == 2
    assert plain.svg.count('<g id="axes_') == 1


def test_more_labels_than_colours_are_drawn_by_their_weight():
    labels = tuple(f"label {i}" for i in range(12))
    counts = {label: i for i, label in enumerate(labels)}
    picture = draw(Curves("action", labels, ticks(counts), twin=ticks(counts)))
    assert "label 11" in picture.alt
    assert "label 0" not in picture.alt


def test_a_record_is_counted_tick_by_tick_as_the_model_cuts_it():
    counted = recorded_counts(cascade(10), "stance", ("support", "deny", "query", "comment"), warm_up=0.4)
    assert [sum(tick["stance"].values()) for tick in counted] == [4, 4, 2]
    assert counted[2]["stance"] == {"support": 1, "deny": 1, "query": 0, "comment": 0}


# --- The space -------------------------------------------------------------------------------------


def space_model(kind):
    from mesa.discrete_space import CellAgent, Network, OrthogonalMooreGrid

    class Neighbour(CellAgent):
        pass

    model = mesa.Model(rng=1)
    if kind == "grid":
        model.grid = OrthogonalMooreGrid((3, 3), random=model.random)
    else:
        import networkx as nx

        graph = nx.path_graph(4)
        nx.set_node_attributes(graph, {n: (n, 0.5 * n) for n in graph} if kind == "placed" else {}, "pos")
        if kind == "named":
            graph = nx.relabel_nodes(graph, {0: "a", 1: "b", 2: "c", 3: "d"})
        model.grid = Network(graph, random=model.random)
    for cell in list(model.grid.all_cells)[:3]:
        Neighbour(model).cell = cell
    return model


@pytest.mark.parametrize(("kind", "drawn"), [("grid", True), ("network", True), ("placed", True), ("named", False)])
def test_a_space_is_drawn_in_the_colours_of_decisions(kind, drawn):
    picture, model = SpacePicture(), space_model(kind)
    png = picture(model, {"1": "yes", "2": "no"}.get, ("yes", "no"))
    assert (png is not None) == drawn
    if drawn:
        other = picture(model, {"1": "no", "2": "no"}.get, ("yes", "no"))
        assert png.startswith(b"\x89PNG")
        assert other != png
        assert picture(model, {"1": "yes", "2": "no"}.get, ("yes", "no")) == png


def test_a_network_is_drawn_where_its_nodes_are():
    picture = SpacePicture()
    placed = picture._placed(space_model("placed").grid)
    assert placed == {n: (n, 0.5 * n) for n in range(4)}
    first, again = (SpacePicture()._placed(space_model("network").grid) for _ in range(2))
    assert set(first) == {0, 1, 2, 3}
    if not hasattr(next(iter(space_model("network").grid.all_cells)), "position"):  # Mesa 3.5 draws its own by lot
        assert all((first[n] == again[n]).all() for n in first)


def test_a_model_without_space_or_with_an_empty_one_has_no_picture():
    model = space_model("grid")
    model.remove_all_agents()
    assert SpacePicture()(model, {}.get, ()) is None
    assert SpacePicture()(mesa.Model(rng=1), {}.get, ()) is None


def test_a_portrayal_of_ones_own_is_drawn():
    from mesa.visualization.components import AgentPortrayalStyle

    seen = []

    def portray(agent):
        seen.append(agent.unique_id)
        return AgentPortrayalStyle(color="red", size=30)

    assert SpacePicture(portray)(space_model("grid"), {}.get, ()) is not None
    assert seen == [1, 2, 3]
