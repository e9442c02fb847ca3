"""The pages, pictures, stand-ins and commands of examples/adopt hold what they say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from adopted import ADOPT, EXAMPLES, FOLDERS, adopted, modules

from mesa_meanfield.protocols import Request


@pytest.mark.parametrize("folder", FOLDERS)
def test_run_makes_the_picture_and_says_what_agents_saw(folder, tmp_path):
    picture = tmp_path / "both.png"
    command = [sys.executable, "-W", "error", ADOPT / folder / "run.py", "--runs=2", "--ticks=2", f"--out={picture}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "What its agents saw in the last tick" in done.stdout
    assert re.search(r"^ +\d+  You.*%$", done.stdout, re.MULTILINE)
    assert " 0 failed" in done.stdout


def test_the_models_need_nothing_of_mesas_visualization():
    script = "".join(
        f"sys.path.insert(0, {str(ADOPT / folder)!r})\nimport model\n"
        "for name in ('model', 'agents', 'stand_in'):\n    del sys.modules[name]\n"
        for folder in FOLDERS
    )
    script = f"import sys\n{script}print(sorted({{'solara', 'altair', 'torch', 'matplotlib'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_changed_is_shown_in_forty_lines_that_stand_in_the_files(folder):
    page = (ADOPT / folder / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```diff\n(.*?)```", page, re.DOTALL)
    assert len(shown.splitlines()) <= 40
    for file, part in re.findall(r"^ (\w+\.py)\n((?:\+.*\n)+)", shown, re.MULTILINE):
        lines = iter((ADOPT / folder / file).read_text(encoding="utf-8").splitlines())
        for line in part.splitlines():
            if not line.startswith("+        ..."):
                assert line[1:] in lines, f"{folder}/{file}: not there, or not in this order: {line[1:]}"


def test_links_and_pictures_of_the_examples_lead_somewhere():
    pages = [*EXAMPLES.glob("README.md"), *ADOPT.glob("**/README.md")]
    assert len(pages) == 6
    broken = []
    for page in pages:
        links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8"))
        broken += [f"{page}: {link}" for link in links if not (page.parent / link).exists()]
    assert broken == []


def test_the_index_names_every_example():
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    folders = {page.parent.relative_to(EXAMPLES).as_posix() for page in EXAMPLES.glob("*/**/[Rr]*.md")}
    assert folders > {"hello_crowd", "intervention", "adopt"}
    assert [folder for folder in sorted(folders) if f"({folder}/" not in index] == []


ASKED = {
    "virus_on_network": ("home", "home 60%, out 40%. Latest 9: home 40%, out 60%."),
    "schelling": ("move", "stay 60%, move 40%. Latest 9: stay 50%, move 50%."),
    "boltzmann_wealth_model": ("give", "keep 60%, give 40%. Latest 9: keep 60%, give 40%."),
    "epstein_civil_violence": ("protest", "protest 60%, quiet 40%. Latest 9: protest 25%, quiet 75%."),
}
BY_HAND = [
    ("virus_on_network", "You are well and could catch the flu. Nobody you know has the flu.", 0.05, 0.1375),
    ("virus_on_network", "You had the flu and are immune. Somebody you know has the flu.", 0.35, 0.3625),
    ("virus_on_network", "You have the flu. Nobody you know has the flu.", 0.9, 0.775),
    ("schelling", "You are blue. Few of your neighbours are blue, too.", 0.6, 0.6),
    ("schelling", "You are orange. You have no neighbours.", 0.3, 0.3),
    ("boltzmann_wealth_model", "You have one coin, as everybody had at first.", 0.15, 0.2125),
    ("boltzmann_wealth_model", "You have many coins.", 0.8, 0.7),
    (
        "epstein_civil_violence",
        "Your life is hard. You are careful. There is a little police near you. A few people protest near you.",
        0.144,
        0.144,
    ),
    (
        "epstein_civil_violence",
        "Your life is very hard. You dare a lot. There is no police near you. Many people protest near you.",
        0.98,
        0.98,
    ),
]


@pytest.mark.parametrize(("folder", "state", "alone", "under_a_field"), BY_HAND)
def test_the_stand_in_goes_by_the_state_and_by_the_mean_field(folder, state, alone, under_a_field):
    habit = modules(folder).stand_in.habit
    label, field = ASKED[folder]
    (other,) = set(modules(folder).model.__dict__[CHOICES[folder]].options) - {label}
    for prefix, expected in (("The topic.", alone), (f"The topic.\n\naction, all 99 so far: {field}", under_a_field)):
        request = Request(prefix, state)
        assert habit(request, label) == pytest.approx(expected)
        assert habit(request, other) == pytest.approx(1 - expected)


CHOICES = {
    "virus_on_network": "GO_OUT",
    "schelling": "MOVE",
    "boltzmann_wealth_model": "GIVE",
    "epstein_civil_violence": "PROTEST",
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_stand_in_knows_all_that_agents_can_say(folder):
    model = adopted(folder)
    for _ in range(8):
        model.step()  # it raises where it does not know what was said
    assert model.crowd.tick == 8


@pytest.mark.model
def test_an_adopted_model_runs_with_the_embedded_model_by_one_argument(embedded_model):
    model = adopted("schelling", backend="embedded", width=4, height=4)
    model.step()
    decisions = model.crowd.last.decisions
    assert len(decisions) == len(model.agents)
    assert all(sum(d.distribution.values()) == pytest.approx(1) for d in decisions)
    assert model.datacollector.model_vars["tokens"][-1] > 0
