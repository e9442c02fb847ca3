"""What a call costs can be counted by hand: beginnings once, twins once, every node and every token."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

import pytest

pytest.importorskip("torch")

from tiny_models import backend, one_thread, prompt, tokenizer

from mesa_meanfield.protocols import Request, Sampling

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]

TOWN = "You live in a small town by the sea. A rumour says that the old bridge will be closed."
HILL = "You live on a hill."
STATES = ("I am a baker.", "I am a teacher, and I heard it at the market.", "I fish.")
CROWD = [Request(TOWN, state, seed, Sampling(max_tokens=8)) for seed, state in enumerate(STATES)]
OTHERS = [replace(request, prefix=HILL) for request in CROWD]
ONE_EACH = ("share", "doubt")


@pytest.fixture(scope="module")
def _single():
    with one_thread():
        yield


def ids(request, kind="llama"):
    return tokenizer(kind)(prompt(kind, request), add_special_tokens=False)["input_ids"]


def read(requests):
    return sum(len(ids(request)) for request in requests)


def common(requests):
    columns = zip(*map(ids, requests), strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def own(requests, shared):
    return sum(len(ids(request)) - shared for request in requests)


def counted(backend):
    """Tokens in (prefix, prefill, decode); their sum is the usage's."""
    found = tuple(backend.phases[name].tokens for name in ("prefix", "prefill", "decode"))
    assert sum(found) == backend.usage.tokens_computed
    return found


def test_a_prefix_once_and_then_each_its_own():
    tiny, shared = backend("llama"), common(CROWD)
    tiny.score(CROWD, ONE_EACH)
    assert counted(tiny) == (shared, own(CROWD, shared), 0)
    assert tiny.usage.tokens_asked == read(CROWD)


def test_several_prefixes_behind_what_they_share():
    tiny, root = backend("llama"), common([*CROWD, *OTHERS])
    stems = [common(CROWD), common(OTHERS)]
    assert 0 < root < min(stems)
    tiny.score([*CROWD, *OTHERS], ONE_EACH)
    assert counted(tiny) == (
        root + sum(stem - root for stem in stems),
        own(CROWD, stems[0]) + own(OTHERS, stems[1]),
        0,
    )
    assert tiny.phases["prefix"].steps == 2  # the root, then both stems beside each other


def test_a_prefix_of_one_is_no_stem():
    tiny, root = backend("llama"), common([*CROWD, OTHERS[0]])
    tiny.score([*CROWD, OTHERS[0]], ONE_EACH)
    stem = common(CROWD)
    assert counted(tiny) == (stem, own(CROWD, stem) + own(OTHERS[:1], root), 0)


def test_a_crowd_too_large_for_one_batch_computes_its_prefix_once():
    tiny, shared = backend("llama", batch=2), common(CROWD)
    tiny.score(CROWD, ONE_EACH)
    assert counted(tiny) == (shared, own(CROWD, shared), 0)
    assert (tiny.phases["prefix"].steps, tiny.phases["prefill"].steps) == (1, 2 * 2)


def test_the_same_crowd_asked_again_has_its_prefix_still():
    tiny, shared = backend("llama"), common(CROWD)
    for _ in range(3):
        tiny.score(CROWD, ONE_EACH)
    assert counted(tiny) == (shared, 3 * own(CROWD, shared), 0)


def test_twins_are_computed_once_and_asked_twice():
    tiny, shared = backend("llama"), common(CROWD)
    tiny.score([*CROWD, CROWD[0], CROWD[2], CROWD[0]], ONE_EACH)
    assert counted(tiny) == (shared, own(CROWD, shared), 0)
    assert tiny.usage.tokens_asked == read(CROWD) + read([CROWD[0], CROWD[2], CROWD[0]])
    assert tiny.usage.calls == 6


def test_the_nodes_of_the_candidates_tree_are_computed_behind_each_row():
    words = ("share", "share it", "share the rumour", "never")
    share, share_it, the_rumour, never = (tuple(tokenizer("llama")(word)["input_ids"]) for word in words)
    beginnings = {word[:end] for word in (share, share_it, the_rumour, never) for end in range(1, len(word))}
    assert share in beginnings  # shared by two
    tiny, shared = backend("llama"), common(CROWD)
    tiny.score([*CROWD, CROWD[0]], words)
    assert counted(tiny) == (shared, own(CROWD, shared) + len(CROWD) * len(beginnings), 0)
    lasts = sum(len(word) - 1 for word in (share, share_it, the_rumour, never))
    assert tiny.usage.tokens_asked == read([*CROWD, CROWD[0]]) + 4 * lasts


def test_written_tokens_are_computed_once_each_but_for_the_last():
    tiny, limits = backend("llama"), (1, 8, 5)
    requests = [replace(r, sampling=Sampling(max_tokens=n)) for r, n in zip(CROWD, limits, strict=True)]
    assert not any(reply.finished for reply in tiny.generate(requests))
    assert counted(tiny) == (0, read(CROWD), 0 + 7 + 4)  # other samplings are other batches
    assert tiny.usage.tokens_asked == read(CROWD) + sum(limits)


def test_twins_are_read_once_and_write_each_their_own():
    tiny, shared = backend("llama"), common(CROWD)
    twins = [replace(request, seed=seed) for seed in range(4) for request in CROWD]
    replies = tiny.generate(twins)
    assert counted(tiny)[:2] == (shared, own(CROWD, shared))
    written = tiny.usage.tokens_asked - read(twins)
    ended = sum(not reply.finished for reply in replies)  # behind the last token of these nothing comes
    assert counted(tiny)[2] == written - ended
    assert len({reply.text for reply in replies}) == len(twins)


def test_scores_and_texts_add_up():
    tiny, shared = backend("llama"), common(CROWD)
    tiny.score(CROWD, ONE_EACH)
    scored = tiny.usage
    tiny.generate(CROWD)
    assert counted(tiny)[:2] == (shared, 2 * own(CROWD, shared))
    assert tiny.usage.calls == 2 * len(CROWD)
    assert (tiny.usage - scored).seconds > 0
    assert (tiny.usage - scored).tokens_computed == own(CROWD, shared) + counted(tiny)[2]


def test_one_request_alone_computes_what_is_asked():
    tiny = backend("gpt_neox", batch=1)
    tiny.score(CROWD[:1], ONE_EACH)
    assert tiny.usage.tokens_computed == tiny.usage.tokens_asked == len(ids(CROWD[0], "gpt_neox"))
