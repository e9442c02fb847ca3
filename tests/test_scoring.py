import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import case, drawn, rule, steady
from worlds import action

from mesa_meanfield.evaluation.cases import guess_of
from mesa_meanfield.evaluation.intervals import mean_interval, paired
from mesa_meanfield.evaluation.metrics import noise_floor
from mesa_meanfield.evaluation.scorecard import Scorecard, Spent
from mesa_meanfield.evaluation.scoring import card, figures, rows
from mesa_meanfield.seeds import derive

EVEN = {"a": 0.5, "b": 0.5}
# Real shares of a: 1/2, 1/4, 1, 3/4.
CASES = [
    case("ab", "abab", key="c1"),
    case("b", "abbb", key="c2"),
    case("a", "aaaa", key="c3", domain="sports"),
    case("ba", "aaba", key="c4", domain="sports"),
]
MORE = [*CASES, *(replace(case, cascade=f"c{i}", event=f"c{i}") for i, case in enumerate(CASES, 5))]
UNIFORM = [steady([0.5, 0.5], 4)] * 4
ORACLE = [drawn(letters, letters, exact=True) for letters in ("abab", "abbb", "aaaa", "aaba")]


def scored(guesses, cases=CASES, **known):
    even = dict.fromkeys(cases[0].labels, 1 / len(cases[0].labels))
    return card(cases, guesses, priors=[even] * len(cases), **known)


def entry(guesses, cases=CASES, **known):
    return scored({"one": guesses}, cases, **known).entries[0]


def values(guesses, figure, cases=CASES):
    found = [figures(case, guess) for case, guess in zip(cases, guesses, strict=True)]
    return [getattr(one, figure) for one in found if one is not None]


def test_the_figures_of_one_guess_have_their_values():
    found = figures(CASES[1], steady([0.5, 0.5], 4), {"a": 0, "b": 3})
    assert found.shares == EVEN
    assert found.kl == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert found.wasserstein == pytest.approx(0.75)
    assert found.nll == pytest.approx(math.log(2))
    assert figures(CASES[1], steady([0.5, 0.5], 4)).wasserstein == pytest.approx(0.25)


def test_counts_alone_are_smoothed_and_have_no_likelihood():
    found = figures(CASES[2], drawn("aaaa", "aaaa"))
    assert found.shares == {"a": 8.5 / 9, "b": 0.5 / 9}
    assert found.kl == pytest.approx(math.log(9 / 8.5))
    assert found.nll is None


def test_an_entry_is_the_mean_over_its_cascades():
    found = entry(UNIFORM)
    kls = [0, 0.25 * math.log(0.5) + 0.75 * math.log(1.5), math.log(2), 0.75 * math.log(1.5) + 0.25 * math.log(0.5)]
    assert found.kl == pytest.approx(sum(kls) / 4)
    assert found.wasserstein == pytest.approx((0 + 0.25 + 0.5 + 0.25) / 4)
    assert found.js == pytest.approx(sum(values(UNIFORM, "js")) / 4)
    assert found.dtw == pytest.approx(sum(values(UNIFORM, "dtw")) / 4)
    assert (found.kind, found.cascades, found.failures, found.coverage) == ("rival", 4, 0, None)
    assert found.nll == pytest.approx(math.log(2))


def test_a_perfect_guess_is_perfect():
    found = entry(ORACLE)
    assert (found.kl, found.js, found.wasserstein, found.dtw) == (0, 0, 0, 0)
    assert (found.f1_macro, found.f1_micro, found.nll, found.calibration_error) == (1, 1, 0, 0)
    assert found.kind == "simulation"
    assert found.coverage.covered == found.coverage.of == 4


def test_each_domain_has_its_own_mean():
    news, sports = entry(UNIFORM).by_domain
    kls = values(UNIFORM, "kl")
    assert (news.domain, news.cascades, sports.domain, sports.cascades) == ("news", 2, "sports", 2)
    assert news.kl == pytest.approx(sum(kls[:2]) / 2)
    assert sports.kl == pytest.approx(sum(kls[2:]) / 2)


def test_intervals_are_over_cascades_and_null_where_there_are_too_few():
    found = entry(UNIFORM * 2, MORE, seed=7)
    assert found.kl_ci == mean_interval(values(UNIFORM * 2, "kl", MORE), seed=7)
    assert found.kl_ci[0] < found.kl < found.kl_ci[1]
    assert [(one.cascades, one.kl_ci) for one in found.by_domain] == [(4, (None, None))] * 2


def test_the_card_says_how_much_was_compared_and_how_low_a_distance_can_be():
    cases = [case("a", "ab.b", key="c2"), case("a", "aaaa", key="c1")]
    priors = [EVEN, {"a": 0.9, "b": 0.1}]
    found = card(cases, {"uniform": UNIFORM[:2]}, priors=priors, seed=5)
    assert (found.dimension, found.labels, found.cascades, found.actions) == ("letter", ("a", "b"), 2, 7)
    floors = [
        noise_floor(counts, prior, seed=derive(5, "noise floor", key))
        for counts, prior, key in zip(({"a": 1, "b": 2}, {"a": 4, "b": 0}), priors, ("c2", "c1"), strict=True)
    ]
    assert found.noise_floor == pytest.approx(sum(floors) / 2)


def test_rivals_stand_in_their_order_and_simulations_in_that_given():
    simulations, rivals = ["llm", "oracle", "none"], ["sir", "persistence_shrunk", "mine", "prior", "degroot"]
    guesses = dict.fromkeys(simulations[:1], ORACLE) | dict.fromkeys(rivals, UNIFORM)
    guesses |= dict.fromkeys(simulations[1:], ORACLE) | dict.fromkeys(["uniform", "persistence"], UNIFORM)
    found = scored(guesses)
    rivals = ["uniform", "prior", "persistence", "persistence_shrunk", "degroot", "sir", "mine"]
    assert [one.name for one in found.entries] == [*rivals, *simulations]
    assert [one.kind for one in found.entries] == ["rival"] * 7 + ["simulation"] * 3


def test_every_simulation_is_paired_with_every_rival_and_every_other_simulation():
    found = scored({"uniform": UNIFORM, "prior": UNIFORM, "x": ORACLE, "y": ORACLE})
    pairs = [("x", "uniform"), ("x", "prior"), ("x", "y"), ("y", "uniform"), ("y", "prior")]
    assert [(one.a, one.b, one.metric) for one in found.paired] == [
        (a, b, metric) for a, b in pairs for metric in ("kl", "js", "wasserstein", "nll")
    ]


def by_metric(found):
    return {one.metric: one for one in found.paired}


def test_a_paired_difference_is_that_of_the_same_cascades():
    simulation = [
        drawn("abab"),
        drawn("bbbb"),
        drawn("aaaa"),
        drawn("baba"),
        drawn("abab"),
        None,
        drawn("...."),
        None,
    ]
    found = by_metric(scored({"uniform": UNIFORM * 2, "sim": simulation}, MORE))
    first, second = values(simulation, "kl", MORE), values(UNIFORM * 2, "kl", MORE)[:5]
    difference, ci = paired(first, second, seed=0)
    assert (found["kl"].cascades, found["kl"].difference, found["kl"].ci) == (5, difference, ci)
    assert difference == pytest.approx(sum(first) / 5 - sum(second) / 5)
    assert None not in ci
    assert "nll" not in found  # the simulation has no probabilities


def many(n=12):
    return [case("ab", "aaab", key=f"c{i:02}") for i in range(n)]


def test_a_winner_is_named_only_where_the_interval_excludes_zero():
    cases = many()
    good, bad = [drawn("aaab", exact=True)] * 12, [drawn("bbba", exact=True)] * 12
    uneven = [drawn("aaab" if i % 2 else "bbba", exact=True) for i in range(12)]
    halfway = [rule([0.375, 0.625], [0.375, 0.625], [0.375, 0.625], [0.375, 0.625])] * 12
    found = {(one.a, one.b): one for one in scored({"x": good, "y": bad}, cases).paired if one.metric == "js"}
    assert found["x", "y"].winner == "x"
    assert found["x", "y"].ci[1] < 0
    found = {(one.a, one.b): one for one in scored({"y": bad, "x": good}, cases).paired if one.metric == "js"}
    assert found["y", "x"].winner == "x"
    assert found["y", "x"].ci[0] > 0
    open_ = by_metric(scored({"sir": halfway, "sim": uneven}, cases))["wasserstein"]
    assert open_.ci[0] < 0 < open_.ci[1]
    assert open_.winner is None
    same = by_metric(scored({"x": good, "y": good}, cases))["kl"]
    assert (same.difference, same.winner) == (0, None)


def test_an_infinite_distance_is_null_and_so_is_what_it_is_part_of():
    guesses = [*UNIFORM[:3], steady([1, 0], 4)]
    found = scored({"uniform": UNIFORM, "sim": [drawn("aaaa", exact=True), *ORACLE[1:]], "rival": guesses})
    sure = {one.name: one for one in found.entries}
    assert (sure["rival"].kl, sure["rival"].kl_ci, sure["rival"].nll) == (None, (None, None), None)
    assert (sure["rival"].cascades, sure["rival"].js is not None) == (4, True)
    assert [one.kl for one in sure["rival"].by_domain][1] is None
    assert sure["rival"].by_domain[0].kl is not None
    pairs = {(one.b, one.metric): one for one in found.paired}
    for rival in ("uniform", "rival"):
        null = pairs[rival, "kl"]
        assert (null.cascades, null.difference, null.ci, null.winner) == (4, None, (None, None), None)
        assert pairs[rival, "js"].difference is not None


def test_cascades_that_failed_are_in_no_mean_and_the_entry_says_so():
    partly = [drawn("....", exact=True), ORACLE[1], None, drawn("b.b.", "....", exact=True)]
    found = entry(partly)
    assert found.cascades == 2
    assert found.kl is None  # a was real in c4, but impossible
    assert found.js == pytest.approx((0 + figures(CASES[3], partly[3]).js) / 2)
    assert found.failures == 4 + 0 + 6
    assert [(one.domain, one.cascades) for one in found.by_domain] == [("news", 1), ("sports", 1)]


def test_an_entry_that_failed_everywhere_has_no_figures_and_stops_nobody():
    for nothing in ([None] * 4, [drawn("....", exact=True)] * 4):
        found = scored({"uniform": UNIFORM, "sim": nothing})
        rival, sim = found.entries
        assert (sim.kind, sim.cascades, sim.by_domain, sim.reliability) == ("simulation", 0, (), ())
        for figure in ("kl", "js", "wasserstein", "dtw", "f1_macro", "f1_micro", "nll", "calibration_error"):
            assert getattr(sim, figure) is None
            assert getattr(rival, figure) is not None
        assert found.paired == ()


def test_what_was_spent_and_the_text_likelihood_are_passed_on():
    spent = Spent(calls=1, tokens_asked=2, tokens_computed=3, retries=0, seconds=0.5)
    found = scored({"uniform": UNIFORM, "sim": ORACLE}, spent={"sim": spent}, nll_token={"sim": 3.5})
    assert [(one.spent, one.nll_token) for one in found.entries] == [(None, None), (spent, 3.5)]


@settings(deadline=None, max_examples=5)
@given(st.permutations(range(8)))
def test_the_order_of_the_cascades_changes_nothing(order):
    simulation = [drawn("aaba", "ab.b", exact=True), None, ORACLE[2], drawn("bbbb", "aaaa"), *ORACLE]
    guesses = {"uniform": UNIFORM * 2, "sim": simulation}
    shuffled = {name: [given[i] for i in order] for name, given in guesses.items()}
    assert scored(shuffled, [MORE[i] for i in order]) == scored(guesses, MORE)


def test_the_seed_changes_intervals_and_the_noise_floor_alone():
    guesses = [drawn("".join("ab"[i >> k & 1] for k in range(4))) for i in range(1, 9)]  # eight different distances
    first, second = (scored({"sim": guesses}, MORE, seed=seed) for seed in (1, 2))
    assert first.noise_floor != second.noise_floor
    assert first.entries[0].kl_ci != second.entries[0].kl_ci
    assert first.entries[0].model_copy(update={"kl_ci": second.entries[0].kl_ci}) == second.entries[0]
    assert scored({"sim": guesses}, MORE, seed=1) == first


def test_the_rows_say_everything_of_every_cascade():
    guesses = {"sim": [None, ORACLE[1], drawn("bbbb", exact=True), drawn("aaaa")], "uniform": UNIFORM}
    found = list(rows(CASES, guesses))
    assert [(one.cascade, one.name) for one in found[:3]] == [("c1", "uniform"), ("c1", "sim"), ("c2", "uniform")]
    assert len(found) == 8
    failed, perfect, impossible, counted = found[1::2]
    assert (failed.kl, failed.js, failed.nll, failed.shares, failed.n) == (None, None, None, None, 4)
    assert failed.real == EVEN
    assert (perfect.kl, perfect.nll, perfect.shares) == (0, 0, {"a": 0.25, "b": 0.75})
    assert (impossible.kl, impossible.nll, impossible.shares) == (None, None, {"a": 0, "b": 1})
    assert counted.shares == {"a": 0.9, "b": 0.1}
    assert counted.kl == pytest.approx(0.75 * math.log(0.75 / 0.9) + 0.25 * math.log(0.25 / 0.1))
    assert found[2].kl == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))


def test_a_card_can_be_written_and_read():
    found = scored({"uniform": UNIFORM, "sim": [None, *ORACLE[1:]]})
    assert type(found).model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(("change", "message"), [
    ({"cases": []}, "no case"),
    ({"cases": [case("a", "....", key="c9")]}, "'c9' has no label after its warm-up"),
    ({"cases": [CASES[0], replace(CASES[1], labels=("a", "c"))]}, "'c2' has other labels than 'c1'"),
    ({"priors": [EVEN, EVEN]}, "1 cases but 2 priors"),
    ({"guesses": {"uniform": UNIFORM[:2]}}, "1 cases but 2 guesses of 'uniform'"),
    ({"guesses": {"sir": [steady([0.5, 0.5], 3)]}}, r"'sir' at cascade 'c1': rows of \(3, 2\), expected \(4, 2\)"),
])  # fmt: skip
def test_what_does_not_fit_is_an_error(change, message):
    given = {"cases": [CASES[0]], "guesses": {"uniform": UNIFORM[:1]}, **change}
    priors = change.get("priors", [EVEN] * len(given["cases"]))
    with pytest.raises(ValueError, match=message):
        card(given["cases"], given["guesses"], priors=priors)


def test_figures_are_finite_for_whatever_was_drawn():
    rng = np.random.default_rng(0)
    for _ in range(20):
        letters = ["".join(rng.choice(list("abc"), 12)) for _ in range(3)]
        found = entry([drawn(*letters[1:], labels="abc")], [case("abc", letters[0], "abc")])
        for figure in ("kl", "js", "wasserstein", "dtw", "f1_macro", "f1_micro"):
            assert math.isfinite(getattr(found, figure))


def test_what_takes_long_to_import_is_imported_when_it_is_needed():
    code = "import sys, mesa_meanfield.evaluation.scoring; print({'sklearn', 'dtaidistance'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_documented_schema_is_that_of_the_scorecard():
    file = Path(__file__).parents[1] / "docs" / "scorecard.schema.json"
    assert json.loads(file.read_text()) == Scorecard.model_json_schema(), (
        "docs/scorecard.schema.json is not up to date: write json.dumps(Scorecard.model_json_schema(), indent=1)"
    )


def test_a_text_that_bears_no_label_is_no_failure():
    written = [
        action("a1", "deny", simulated=True),
        action("a2", None, simulated=True),
        action("a3", None, failure="x"),
    ]
    guess = guess_of("sim", [written], "stance", ("deny", "support"))
    assert (guess.failures, guess.without) == (1, 1)
