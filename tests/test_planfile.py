"""Plan files: what stands in them becomes interventions and objectives, and what is wrong is one clear line."""

from __future__ import annotations

from dataclasses import fields

import pytest

from mesa_meanfield import AreaUnder, RulePolicy, ShareAt, TimeToReversal, most_influential
from mesa_meanfield.cli.planfile import INTERVENTIONS, OBJECTIVES, read_plan_file
from mesa_meanfield.cli.planparts import Functions, interventions_of, objective_of
from mesa_meanfield.data import Decision
from mesa_meanfield.errors import DataError
from mesa_meanfield.interventions import Announce, Inject, Mute, Persuade, Replace

OWN = """
from math import floor
def first(agents): return list(agents)[:1]
def shout(text): return text.upper()
def rule(agent, field): return "deny"
def nothing(scene): return scene
def silence(run): return 0.0
NUMBER = 3
"""
ANNOUNCE = 'kind = "announce"\nat = 3\ntext = "It is false."\nsource = "the mayor"\n'


@pytest.fixture
def read(tmp_path):
    (tmp_path / "own.py").write_text(OWN)

    def read(text):
        file = tmp_path / "p.toml"
        file.write_text(text, encoding="utf-8")
        return read_plan_file(file)

    return read


@pytest.fixture
def made(read, tmp_path):
    """The first intervention of a file with this table."""

    def made(table):
        plan = read(f"[model]\n[[intervention]]\n{table}")
        (one,) = interventions_of(plan.interventions, Functions(tmp_path), "followers")
        return one

    return made


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        (ANNOUNCE, Announce(3, "It is false.", "the mayor")),
        (ANNOUNCE + 'reach = 0.5\nuntil = 5\nchannel = "media"',
         Announce(3, "It is false.", "the mayor", reach=0.5, until=5, channel="media")),
        ('kind = "inject"\nat = 1\ntext = "No."\naccount = "bot"\nlabels = {stance = "deny"}\ncopies = 2',
         Inject(1, "No.", "bot", {"stance": "deny"}, copies=2)),
        ('kind = "replace"\nat = 2\nscript = {labels = {stance = "deny"}}\nwho = 0.1',
         Replace(2, Decision(labels={"stance": "deny"}), who=0.1)),
        ('kind = "replace"\nat = 2\nscript = [{text = "No."}, {}]', Replace(2, (Decision("No."), None))),
        ('kind = "mute"\nat = 2\nwho = "most_influential:3"', Mute(2, who=most_influential(3, "followers"))),
        ('kind = "mute"\nat = 2\nwho = "most_influential:3:rank"', Mute(2, who=most_influential(3, "rank"))),
        ('kind = "persuade"\nat = 2\nchange = "You: trust nobody."', Persuade(2, "You: trust nobody.")),
    ],
)  # fmt: skip
def test_a_table_is_the_intervention_of_its_fields(made, table, wanted):
    assert made(table) == wanted


def test_functions_are_found_beside_the_file(made):
    assert made('kind = "mute"\nat = 2\nwho = "own.py:first"').who("abc") == ["a"]
    assert made('kind = "persuade"\nat = 2\nchange = {function = "own.py:shout"}').change("ah") == "AH"
    script = made('kind = "replace"\nat = 2\nscript = "own.py:rule"').script
    assert isinstance(script, RulePolicy)
    assert script.rule(None, None) == "deny"
    assert made('kind = "function"\ncall = "own.py:nothing"')("a scene") == "a scene"
    assert made('kind = "function"\ncall = "builtins:abs"') is abs


@pytest.mark.parametrize(
    ("table", "wanted", "maximise"),
    [
        ('kind = "share_at"\nlabel = "deny"', ShareAt("deny"), True),
        ('kind = "share_at"\nlabel = "deny"\ntick = 4\ncumulative = true\nmaximise = false',
         ShareAt("deny", 4, cumulative=True), False),
        ('kind = "time_to_reversal"\nlabel = "deny"\nover = "support"\nmaximise = false',
         TimeToReversal("deny", "support"), False),
        ('kind = "area_under"\nlabel = "deny"\nsince = 3', AreaUnder("deny", 3), True),
    ],
)  # fmt: skip
def test_an_objective_is_the_class_of_its_fields(read, tmp_path, table, wanted, maximise):
    plan = read(f"[model]\n[objective]\n{table}")
    assert objective_of(plan.objective, Functions(tmp_path)) == wanted
    assert plan.maximise is maximise


def test_an_objective_can_be_a_function(read, tmp_path):
    plan = read('[model]\n[objective]\nkind = "function"\ncall = "own.py:silence"')
    assert objective_of(plan.objective, Functions(tmp_path))("a run") == 0


@pytest.mark.parametrize("kind", [*INTERVENTIONS.values(), *OBJECTIVES.values()])
def test_every_field_of_a_class_can_be_written(read, kind):
    name = next(name for name, one in {**INTERVENTIONS, **OBJECTIVES}.items() if one is kind)
    table = "[[intervention]]" if name in INTERVENTIONS else "[objective]"
    with pytest.raises(DataError) as error:
        read(f'[model]\n{table}\nkind = "{name}"\nsomething = 1')
    assert {one.name for one in fields(kind)} <= set(str(error.value).partition("there are ")[2].split(", "))


def test_the_rest_of_a_plan(read):
    plan = read(
        'question = "Why?"\nticks = 9\nreplicas = 3\nfork_at = 2\nseed = 4\nconfidence = 0.9\nlabel = "deny"\n'
        f'[model]\nid = "c1"\nsummarizer = "tally"\n[budget]\ntokens = 5\n[[control]]\n{ANNOUNCE}'
        f"[candidates]\nnone = []\n[[candidates.early]]\n{ANNOUNCE}"
    )
    assert (plan.question, plan.ticks, plan.replicas, plan.fork_at, plan.seed) == ("Why?", 9, 3, 2, 4)
    assert (plan.confidence, plan.label, plan.budget_tokens, plan.model.id) == (0.9, "deny", 5, "c1")
    assert {name: len(parts) for name, parts in plan.candidates.items()} == {"none": 0, "early": 1}
    assert (len(plan.control), plan.interventions, plan.objective) == (1, (), None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "p.toml: the table [model] is missing"),
        ("a = [", "p.toml: is no TOML: "),
        ("a = 1\na = 2", "p.toml: is no TOML: "),
        ("replica = 3\n[model]", "p.toml: 'replica' is no field; did you mean 'replicas'? there are model, "),
        ("replicas = 0\n[model]", "p.toml: replicas: Input should be greater than or equal to 1, got 0"),
        ('replicas = "3"\n[model]', "p.toml: replicas: Input should be a valid integer, got '3'"),
        ("confidence = 1.0\n[model]", "p.toml: confidence: Input should be less than 1"),
        ("[model]\nreplicas = 3", "[model]: replicas belongs to the whole plan: write it above the first table"),
        ('[model]\nsumarizer = "llm"', "[model]: 'sumarizer' is no field; did you mean 'summarizer'?"),
        ('[model]\nsummarizer = "tallyy"', "[model]: summarizer: 'tallyy' is no summarizer; did you mean 'tally'?"),
        ('[model]\npersona = "full"', "[model]: persona: 'full' is no persona; there are graded, none"),
        ("[model]\nfactory = 3", '[model]: factory must be a function as "module:name" or "file.py:name", got 3'),
        ("[model]\n[intervention]", "intervention must be a list of tables, each below a line [[intervention]]"),
        ("[model]\n[[intervention]]\nat = 3", "[[intervention]] number 1: kind is missing; there are announce, "),
        (f"[model]\n[[intervention]]\n{ANNOUNCE}[[intervention]]\nkind = 'anounce'",
         "[[intervention]] number 2: 'anounce' is no kind of intervention; did you mean 'announce'?"),
        (f"[model]\n[[intervention]]\n{ANNOUNCE}reech = 1",
         "number 1 (announce): 'reech' is no field; did you mean 'reach'? there are kind, at, text, source,"),
        (f"[model]\n[[intervention]]\n{ANNOUNCE}reach = [1]", "(announce): reach must be a share from 0 to 1,"),
        (f"[model]\n[[intervention]]\n{ANNOUNCE}channel = 'radio'", "channel: Input should be 'official' or 'media'"),
        ("[model]\n[[intervention]]\nkind = 'announce'\ntxt = 'a'", "'txt' is no field; did you mean 'text'?"),
        ("[model]\n[[intervention]]\nkind = 'announce'", "(announce): at is missing"),
        ("[model]\n[[candidates.a]]\nkind = 'mute'\nat = '1'", "[[candidates.a]] number 1 (mute): at: Input"),
        ("[model]\n[candidates.a]\nkind = 'mute'", "candidates must be lists of tables, each below a line"),
        ("[model]\n[objective]\nkind = 'share'", "[objective]: 'share' is no kind of objective; did you mean"),
        ("[model]\n[objective]\nkind = 'share_at'", "[objective] (share_at): label is missing"),
        ("[model]\n[objective]\nkind = 'share_at'\nlabel = 'a'\nmaximise = 1", "maximise must be true or false"),
        ("[model]\n[budget]\ntokens = 0", "budget.tokens: Input should be greater than or equal to 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(read, text, told):
    with pytest.raises(DataError) as error:
        read(text)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.toml: cannot be read: No such file"):
        read_plan_file(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b'question = "\xe9"')
    with pytest.raises(DataError, match=r"latin\.toml: is no TOML"):
        read_plan_file(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (ANNOUNCE.replace("3", "-1"), "at must be a tick, a whole number from 0 on"),
        (ANNOUNCE + "reach = 1.5", "reach must be a share from 0 to 1"),
        ('kind = "mute"\nat = 1\nwho = "most_influential"', "who: write 'most_influential:N' or"),
        ('kind = "mute"\nat = 1\nwho = "most_influential:0"', "who: write 'most_influential:N' or"),
        ('kind = "mute"\nat = 1\nwho = "everyone"', "who: 'everyone' names no function; write"),
        ('kind = "mute"\nat = 1\nwho = "own.py:second"', "own.py has no 'second'; there are first, shout"),
        ('kind = "mute"\nat = 1\nwho = "own.py:NUMBER"', "own.py:NUMBER is no function but 3"),
        ('kind = "mute"\nat = 1\nwho = "gone.py:first"', "gone.py cannot be imported: FileNotFoundError"),
        ('kind = "mute"\nat = 1\nwho = "no_such_module:f"', "cannot be imported: ModuleNotFoundError"),
        ('kind = "replace"\nat = 1\nscript = []', "script must be a policy, a Decision, or"),
    ],
)
def test_values_that_cannot_be_are_told_with_their_place(made, table, told):
    with pytest.raises(DataError) as error:
        made(table)
    assert "p.toml: [[intervention]] number 1 (" in str(error.value)
    assert told in str(error.value)


def test_a_module_that_breaks_is_one_line(made, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(DataError, match=r"broken\.py cannot be imported: ZeroDivisionError: division by zero"):
        made('kind = "mute"\nat = 1\nwho = "broken.py:first"')
