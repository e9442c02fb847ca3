"""The suffixes of a whole crowd are made at once only where that is the same as one by one."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesa_meanfield import Choice, ChoiceThenText, Prompts
from mesa_meanfield import prompts as prompts_module
from mesa_meanfield.prompts import LANGUAGES

CHOICE = Choice(("believe", "doubt"), meanings={"doubt": "you want proof"}, question="Is there a walrus?")
SHIPPED = Path(prompts_module.__file__).parent / "templates"
PROMPTS = {language: Prompts(language) for language in LANGUAGES}
HOSTILE = "{{ 7 * 191 }}{% for x in range(9) %}spam{% endfor %}{# gone #}${{ self }}"


def rendered(source, **known):
    """What jinja makes of a template's text, each time from the start."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(source).render(known).strip()


class Shouted(str):
    def __str__(self):
        return self.upper()


STATES = st.text() | st.sampled_from([HOSTILE, "", " \n", "{{ state }}", Shouted("loud")])


@pytest.mark.parametrize("language", LANGUAGES)
@settings(deadline=None, max_examples=50)
@given(states=st.lists(STATES, min_size=1, max_size=3), chosen=st.none() | st.sampled_from(CHOICE.options))
def test_suffixes_of_a_crowd_are_those_of_its_agents(language, states, chosen):
    space = ChoiceThenText(CHOICE)
    source = (SHIPPED / language / "policy_suffix.j2").read_text("utf-8")
    suffix_of = PROMPTS[language].policy_suffixes(space, chosen=chosen)
    for state in states:
        told = {"state": state, "choice": space.choice, "text": space.text, "chosen": chosen}
        assert suffix_of(state) == rendered(source, **told, form="", keys=())


@pytest.mark.parametrize(
    ("once", "template"),
    [
        (True, "{{ state }}"),
        (True, "{{ state }} {{ choice.question }} {{ state }}{% if chosen %}{{ state }}{% endif %}"),
        (True, "{% for label in choice.options %}{{ label }}: {{ state }}{{ loop.index }}\n{% endfor %}"),
        (False, "{{ state|upper }}"),
        (False, "{{ state ~ '!' }}"),
        (False, "{{ state }}{% if 'b' in state %}!{% endif %}"),
        (False, "{{ state }}{% for letter in state %}{{ letter }}-{% endfor %}"),
        (False, "{% set shown = state %}{{ shown }}"),
        (False, "{% set state = 'c' ~ state %}{{ state }}"),
        (False, "{% for state in [state, 'x'] %}{{ state }}{% endfor %}"),
        (False, "{% macro twice(state) %}{{ state }}{{ state }}{% endmacro %}{{ twice('y') }}{{ state }}"),
        (False, "{% filter upper %}{{ state }}{% endfilter %}"),
        (False, "{% set all %}{{ state }}{% endset %}{{ all|length }}"),
        (False, "{% with %}{{ state }}{% endwith %}"),
        (False, "{% autoescape true %}{{ state }}{% endautoescape %}"),
        (False, "{% block body %}{{ state }}{% endblock %}"),
        (
            False,
            "{% for x in [1, [2]] recursive %}{{ state }}{% if x is iterable %}{{ loop(x) }}{% endif %}{% endfor %}",
        ),
    ],
)
def test_a_template_that_does_more_with_the_state_than_show_it_is_rendered_for_each(tmp_path, once, template):
    (tmp_path / "policy_suffix.j2").write_text(template, encoding="utf-8")
    prompts, calls = Prompts("en", tmp_path), []
    render = prompts._pieces
    prompts._pieces = lambda name, **known: calls.append(name) or render(name, **known)
    suffix_of = prompts.policy_suffixes(CHOICE)
    states = ["a", "b <&>", "", "b"]
    told = {"choice": CHOICE, "text": None, "chosen": None, "form": "", "keys": ()}
    assert [suffix_of(s) for s in states] == [rendered(template, state=s, **told) for s in states]
    assert len(calls) == (1 if once else len(states))
