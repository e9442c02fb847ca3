"""Recorded denials put back: what is found, cut, compared and counted, on cascades of our own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from worlds import action, cascade

from mesa_meanfield import NoField, RulePolicy
from mesa_meanfield.cascades.dimensions import space_of
from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.experiments.backtest import WITH, WITHOUT, backtest, occasion
from mesa_meanfield.seeds import derive, unit
from mesa_meanfield_models.cascade.model import CascadeModel

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "backtest"
LABELS = ("comment", "query", "deny", "support")
SPACE = space_of("stance", LABELS, "en", texts=False)


@pytest.fixture(scope="module")
def bench():
    """The benchmark's modules by name."""
    sys.path.insert(0, str(SCRIPTS))
    before = set(sys.modules)
    import backtest as command
    import backtest_figures
    import backtest_table
    import denials
    import outcomes
    import simulating

    found = (command, backtest_figures, backtest_table, denials, outcomes, simulating)
    yield {one.__name__: one for one in found}
    sys.path.remove(str(SCRIPTS))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(SCRIPTS)):
            del sys.modules[name]


def record(letters, key="c1", event=None):
    """A cascade whose n-th action has the label that begins with the n-th letter."""
    label = {one[0]: one for one in LABELS}
    actions = [
        action(f"{key}-{i}", label[letter], f"Remark {i}.", author=f"u{i}", after=i)
        for i, letter in enumerate(letters)
    ]
    return replace(cascade(actions=actions, key=key), event=event)


# --- One post out of its cascade -------------------------------------------------------------------


def test_a_post_between_two_ticks_is_heard_at_the_end_of_the_first():
    of = occasion(record("ccccccccdqqqqq"), 8, warm_up=0.3, per_tick=4)
    assert [len(tick) for tick in of.ticks] == [4, 4, 4, 1]
    assert (of.at, of.split, list(of.before), list(of.after)) == (1, False, [0, 1], [2, 3])
    assert of.post.id == "c1-8"
    assert of.recorded("stance", LABELS) == ((8, 0, 0, 0), (0, 5, 0, 0))


def test_the_tick_that_a_post_falls_into_counts_on_neither_side():
    of = occasion(record("ccccccdssqqqq"), 6, warm_up=0.31, per_tick=4)
    assert (of.at, of.split, list(of.before), list(of.after)) == (1, True, [0], [2])
    assert [one.id for one in of.ticks[1]] == ["c1-4", "c1-5", "c1-7", "c1-8"]
    assert of.recorded("stance", LABELS) == ((4, 0, 0, 0), (0, 4, 0, 0))


def test_the_record_can_be_played_up_to_the_post():
    of = occasion(record("ccccccdqqqqqq"), 6, warm_up=0.2, per_tick=4, until_post=True)
    assert round(of.warm_up * len(of.cascade.actions)) == 6
    assert [len(tick) for tick in of.ticks] == [4, 2, 4, 2]
    assert (of.at, of.split) == (1, False)
    assert of.recorded("stance", LABELS) == ((6, 0, 0, 0), (0, 6, 0, 0))


def test_a_horizon_keeps_the_first_actions_that_come_after():
    of = occasion(record("ccccccccdqqqss"), 8, warm_up=0.3, per_tick=4, horizon=3)
    assert of.recorded("stance", LABELS) == ((8, 0, 0, 0), (0, 3, 0, 0))
    assert len(of.cascade.actions) == 11


def test_replies_to_the_post_answer_what_it_answered():
    whole = record("ccccdqqq")
    actions = [*whole.actions]
    actions[4] = replace(actions[4], parent="c1-0")
    actions[5] = replace(actions[5], parent="c1-4")
    of = occasion(replace(whole, actions=tuple(actions)), 4, warm_up=0.5, per_tick=2)
    assert {one.id: one.parent for one in of.cascade.actions}["c1-5"] == "c1-0"


@pytest.mark.parametrize(
    ("place", "options", "said"),
    [
        (2, {}, "none of the first 4: 2"),
        (10, {}, "one of the 10 actions"),
        (9, {}, "Nothing stands after the tick of the post c1-9"),
        (0, {"warm_up": 0.0}, "Nothing stands before the post c1-0"),
        (5, {"horizon": 0}, "horizon must be at least 1, got 0"),
    ],
)
def test_a_post_without_a_before_and_an_after_is_refused(place, options, said):
    with pytest.raises(ValueError, match=said):
        occasion(record("cccccccccc"), place, **{"warm_up": 0.4, "per_tick": 4, **options})


def test_as_a_post_it_is_heard_first_where_as_a_statement_it_is_read_first():
    of = occasion(record("cccccccdqqqqq"), 7, warm_up=0.3, per_tick=4)
    assert of.inject("No.", {"stance": "deny"}).at == of.at
    assert of.announce("No.", "A reader").at == of.after[0]


# --- Simulated with it and without -----------------------------------------------------------------


def factory(rule):
    """Occasion -> seed -> its model, in which a rule decides."""

    def of(one):
        return lambda seed: CascadeModel(
            one.cascade,
            policy=RulePolicy(rule, SPACE),
            summarizer=NoField(),
            dimension="stance",
            warm_up=one.warm_up,
            per_tick=one.per_tick,
            rng=seed,
        )

    return of


def follows(agent, field):
    """Deny as soon as anybody did."""
    return "deny" if field.counts["stance"].get("deny") else "comment"


def moved(agent, field):
    """A coin that the number of posts so far tosses: the post changes what is done, but never to any side."""
    return "deny" if unit(derive(agent.key, field.size), "coin") < 0.5 else "comment"


def test_what_was_planted_is_found_and_the_rest_stays():
    of = occasion(record("cccccccdqqqqqqqq"), 7, warm_up=0.3, per_tick=4)
    made = backtest(
        of,
        factory(follows)(of),
        of.inject("No.", {"stance": "deny"}),
        dimension="stance",
        labels=LABELS,
        replicas=2,
        seed=0,
        others={"other": of.inject("Hm.", {"stance": "query"})},
    )
    assert (of.at, of.split) == (1, True)  # ticks of 4, 4, 4 and 3, of which 4 are played
    assert made.arms[WITHOUT] == made.arms["other"] == (((4, 0, 0, 0), (7, 0, 0, 0)),) * 2
    assert made.arms[WITH] == (((4, 0, 0, 0), (0, 0, 7, 0)),) * 2
    assert made.failures == 0


def test_a_replica_that_fails_in_one_arm_counts_in_none():
    of, seeds = occasion(record("cccccccdqqqqqqqq"), 7, warm_up=0.3, per_tick=4), []

    def fails_once(scene):
        seeds.append(scene.seed)
        if scene.seed == seeds[0]:
            raise RuntimeError("down")
        return scene

    said = {"dimension": "stance", "labels": LABELS, "replicas": 3, "seed": 0}
    made = backtest(of, factory(moved)(of), of.inject("No.", {}), others={"other": fails_once}, **said)
    assert {name: len(runs) for name, runs in made.arms.items()} == {WITHOUT: 2, WITH: 2, "other": 2}
    assert made.arms["other"] == made.arms[WITHOUT]

    def fails(scene):
        raise RuntimeError("down")

    with pytest.raises(RuntimeError, match="down"):
        backtest(of, factory(moved)(of), of.inject("No.", {}), others={"other": fails}, **said)


def outcomes_of(bench, rule, cascades):
    """Each cascade's denial, tested as the command does."""
    denials, simulating = bench["denials"], bench["simulating"]
    rules = denials.Rules("label", "stance", 3, denials.cutting(0.3, 4, False, None))
    how = simulating.How("stance", LABELS, False, 2, 0, factory(rule), None)
    found = [rules.denial(one, LABELS) for one in cascades]
    by_id = {one.id: one for one in cascades}
    tasks = simulating.tasks_of(
        found, lambda of: rules.placebo(by_id[of.cascade.id], LABELS, 0), lambda of: rules.instead(of, 0)
    )
    return [simulating.one_outcome(one, how) for one in tasks]


def crowd(n, after):
    """Cascades of as many events without a denial but one, after which ``after`` follows."""
    return [record("ccqcccscd" + after + "c" * (i % 3), f"c{i}", f"e{i}") for i in range(n)]


def effects(outcomes, kind, arm):
    return [one.effect("deny", arm) for one in outcomes if one.kind == kind]


def test_a_planted_effect_stands_in_every_figure(bench):
    outcomes = outcomes_of(bench, follows, crowd(6, "dddddddd"))
    assert effects(outcomes, "denial", WITH) == [1.0] * 6
    assert effects(outcomes, "denial", "other") == effects(outcomes, "placebo", WITH) == [0.0] * 6
    denials = [one for one in outcomes if one.kind == "denial"]
    by_name = {one.name: one for one in bench["backtest_table"].scores_of(denials, "deny", 0)}
    best = by_name["with the post"]
    assert (best.signs.agree, best.signs.of) == (6, 6)
    assert best.signs.ci == (pytest.approx(0.025 ** (1 / 6)), 1.0)  # Clopper and Pearson where all agree
    assert best.error < by_name["without it"].error
    assert best.below_no_change > 0


def test_where_nothing_is_planted_the_interval_holds_zero(bench):
    outcomes = outcomes_of(bench, moved, crowd(24, "cqcccqccdccccccc"))
    found = effects(outcomes, "denial", WITH)
    assert np.std(found) > 0.05  # the arms do differ
    mean, (low, high), n = bench["backtest_figures"].compared(found, [0.0] * 24, [f"e{i}" for i in range(24)], 0)
    assert n == 24
    assert low < 0 < high
    assert abs(mean) < 0.1


# --- Which posts -----------------------------------------------------------------------------------


def test_the_first_denial_after_the_warm_up_with_enough_around_it_is_taken(bench):
    denials = bench["denials"]
    rules = denials.Rules("label", "stance", 4, denials.cutting(0.2, 4, False, None))
    whole = record("cdccdccccdcccccccccc")  # the warm-up is of 4
    assert rules.denial(whole, LABELS).post.id == "c1-4"
    assert replace(rules, around=5).denial(whole, LABELS).post.id == "c1-9"
    assert replace(rules, around=9).denial(whole, LABELS) is None
    assert rules.denial(record("cdcccccccccc"), LABELS) is None
    placebos = {rules.placebo(whole, LABELS, seed).post.id for seed in range(8)}
    assert len(placebos) > 1
    assert placebos.isdisjoint({"c1-1", "c1-4", "c1-9"})


@pytest.mark.parametrize(
    ("text", "language", "denies"),
    [
        ("这是假的，早已辟谣。", "zh", True),
        ("真的假的", "zh", False),
        ("这是谣言吗", "zh", False),
        ("求辟谣", "zh", False),
        ("好可怕。", "zh", False),
        ("This is FALSE, folks: a hoax.", "en", True),
        ("Is it a hoax?", "en", False),
    ],
)
def test_words_tell_denials_from_questions(bench, text, language, denies):
    rules = bench["denials"].Rules("words", "behaviour", 1, None)
    assert rules.denies(action(text=text), language) is denies


# --- Figures ---------------------------------------------------------------------------------------


def outcome(bench, event, before, after, kind="denial"):
    """An outcome with (denials, others) recorded before and after, and nothing simulated."""
    real = (tuple(map(float, before)), tuple(map(float, after)))
    return bench["outcomes"].Outcome(
        f"c-{event}", event, kind, "p", None, ("deny", "comment"), 4, 1, 4, real, {WITHOUT: (), WITH: ()}, 0, 0, 0.0
    )


def test_rivals_know_the_other_events_alone(bench):
    outcomes = [outcome(bench, "a", (1, 3), (2, 2)), outcome(bench, "b", (2, 2), (4, 0)),
                outcome(bench, "c", (0, 4), (0, 4))]  # fmt: skip
    found = bench["backtest_figures"].rivals(outcomes, "deny")
    assert found["no change"] == [0, 0, 0]
    assert found["mean change of other events"] == pytest.approx([0.25, 0.125, 0.375])
    assert found["mean level of other events"] == pytest.approx([0.5 - 0.25, 0.25 - 0.5, 0.75 - 0])


def test_chance_alone_is_computed_by_hand(bench):
    floor, chance = bench["backtest_figures"].by_chance(1, 1, 0, 1)  # two tosses of a fair coin
    assert (floor, chance) == (pytest.approx(0.5), pytest.approx(0.5))
    _, likely = bench["backtest_figures"].by_chance(5, 10, 5, 10)
    assert likely == pytest.approx(1)
    _, unlikely = bench["backtest_figures"].by_chance(0, 20, 20, 20)
    assert unlikely < 1e-6


def test_signs_that_are_none_are_left_out(bench):
    found = bench["backtest_figures"].agreement([0.1, 0.2, -0.1, 0.0, 0.3], [0.2, -0.2, -0.4, 0.1, 0.0])
    assert (found.agree, found.of) == (2, 3)
    assert found.ci == pytest.approx((0.0943, 0.9916), abs=1e-4)  # 2 of 3, from tables


def test_the_correlation_resamples_events(bench):
    correlated = bench["backtest_figures"].correlated
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    events = [f"e{i % 6}" for i in range(30)]
    value, (low, high) = correlated(x, y, events, 0)
    assert value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert low < value < high
    assert correlated(x, 2 * x, events, 0)[1] == pytest.approx((1, 1))
    assert correlated(x, y, ["a", "b"] * 15, 0)[1] == (None, None)
    assert correlated(x, [0.1] * 30, events, 0) == (None, (None, None))


# --- The command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six small cascades of six events."""
    file = tmp_path_factory.mktemp("data") / "data.jsonl"
    write_cascades(file, crowd(6, "qdcscccs"))
    return file


@pytest.fixture
def make(bench, data, capsys):
    """Tests what is in a folder: the exit status, what was said, and the figures."""

    def make(out, *options):
        usual = ["--data", data, "--backend", "scripted", "--replicas", 2, "--out", out]
        status = bench["backtest"].main([*map(str, [*usual, *options])])
        file = out / "figures.json"
        return status, capsys.readouterr().err, json.loads(file.read_text()) if status == 0 else None

    return make


def told(out):
    """The table without what another run takes other time for."""
    text = (out / "table.md").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if "tokens asked" not in line]


def test_the_command_writes_table_results_and_picture(make, tmp_path):
    status, err, figures = make(tmp_path / "a")
    assert status == 0, err
    assert [one["cascades"] for one in figures["scores"]["denial"]] == [6] * 6
    text = "\n".join(told(tmp_path / "a"))
    assert "6 of 6 cascades have a denial, 6 one after the warm-up with 5 labelled actions on either side; 6" in text
    for head in ("| really | 6 |", "| with the post | 6 |", "| a random other post | 6 |", "| deny |"):
        assert head in text
    assert (tmp_path / "a" / "changes.png").read_bytes().startswith(b"\x89PNG")
    lines = (tmp_path / "a" / "results.jsonl").read_text(encoding="utf-8")
    assert len(lines.splitlines()) == 12
    assert "Remark" not in lines


def test_a_killed_run_goes_on_to_the_same_table(make, data, tmp_path):
    assert make(tmp_path / "a")[0] == 0
    out = tmp_path / "b"
    run = [sys.executable, SCRIPTS / "backtest.py", "--data", data, "--backend", "scripted", "--replicas", "2"]
    run += ["--jobs", "1", "--out", out]
    with subprocess.Popen(run, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as one:
        while not (out / "results.jsonl").exists():
            assert one.poll() is None
            time.sleep(0.002)
        os.killpg(one.pid, signal.SIGKILL)
    kept = (out / "results.jsonl").read_bytes()
    (out / "results.jsonl").write_bytes(kept + b'{"cascade": "c')  # as if it had been cut within a line
    assert not (out / "table.md").exists()
    status, err, _ = make(out)
    assert status == 0, err
    assert (out / "results.jsonl").read_bytes().startswith(kept)
    assert told(out) == told(tmp_path / "a")


def test_when_the_time_is_over_nothing_is_begun(make, tmp_path):
    status, err, figures = make(tmp_path / "a", "--minutes", 0)
    assert status == 0
    assert "the same command goes on" in err
    assert figures["left"] == 12
    assert "Nothing is tested yet." in told(tmp_path / "a")


def test_more_cascades_go_on_with_what_is_there(make, tmp_path):
    assert make(tmp_path / "a", "--limit", 2, "--no-placebo")[0] == 0
    first = (tmp_path / "a" / "results.jsonl").read_bytes()
    status, err, figures = make(tmp_path / "a", "--no-placebo")
    assert status == 0, err
    assert (tmp_path / "a" / "results.jsonl").read_bytes().startswith(first)
    assert figures["scores"]["denial"][0]["cascades"] == 6
    assert figures["scores"]["placebo"] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--replicas", "0"], "--replicas must be at least 1, got 0"),
        (["--label", "mood"], "--label: 'mood' is none of comment, query, deny, support"),
        (["--around", "99"], "lower --around, or take another --rule"),
        (["--dimension", "behaviour", "--rule", "label"], "behaviour has none of the labels deny"),
        (["--adapter", "nowhere"], "An adapter needs a local model"),
        (["--data", "/nowhere.jsonl"], "cannot be read"),
    ],
)
def test_wrong_use_is_one_line(make, tmp_path, options, said):
    status, err, _ = make(tmp_path / "a", *options)
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("backtest: ")]
    assert said in line


def test_changed_settings_and_damaged_results_are_refused(make, tmp_path):
    assert make(tmp_path / "a", "--minutes", 0)[0] == 0
    status, err, _ = make(tmp_path / "a", "--seed", 1)
    assert status == 2
    assert "was begun with seed 0, not 1" in err
    (tmp_path / "a" / "results.jsonl").write_text("{}\n", encoding="utf-8")
    status, err, _ = make(tmp_path / "a")
    assert status == 2
    assert "results.jsonl line 1: is no outcome" in err
    with FileLock(tmp_path / "a" / ".lock"):
        status, err, _ = make(tmp_path / "a")
    assert status == 2
    assert "another call is at work there" in err
