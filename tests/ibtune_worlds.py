"""Cascades and models small enough to train on in a test. Every text is invented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from worlds import STANCES, action, cascade

from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.data import Cascade, Profile
from mesa_meanfield.ibtune.items import Recipe, items_of
from mesa_meanfield.prompts import Prompts
from mesa_meanfield.summarizers import NoField, TallySummarizer

RECIPE = Recipe("stance", STANCES, warm_up=(0.3, 0.3))
CONTEXT = 2048
"""The shipped prompts are long in the tokens of a tiny model."""

TERSE = {
    "policy_prefix": "{{ topic }}\n{{ field }}",
    "policy_suffix": "{{ state }}{% if chosen %} {{ choice.word(chosen) }}:{% endif %}",
    "summary_prefix": "sum {{ topic }}",
    "summary_suffix": "{{ before }}{% for line in lines %}{{ line }} {% endfor %}",
}


def terse(folder) -> Prompts:
    """Prompts of a few words, so that training steps take milliseconds."""
    folder.mkdir(exist_ok=True)
    for name, words in TERSE.items():
        (folder / f"{name}.j2").write_text(words, encoding="utf-8")
    return Prompts("en", folder)


def crowd(n: int = 12, key: str = "c1", event: str | None = "e1", **settings) -> Cascade:
    """A cascade of five authors, who take turns."""
    actions = [
        action(
            f"{key}-{i}",
            STANCES[i % 3],
            f"Remark {i} &amp; more.",
            author=f"u{i % 5}",
            after=i,
        )
        for i in range(n)
    ]
    actions = [
        replace(a, author=Profile(a.author.key, description="Baker" if i % 2 else None, followers=10 ** (i % 5)))
        for i, a in enumerate(actions)
    ]
    return replace(cascade(actions=actions, key=key, **settings), event=event)


def model(kind: str = "llama", **settings):
    """A new tiny model that takes the shipped prompts."""
    import tiny_models  # here, since cascades and items need no torch

    return tiny_models.model(kind, max_position_embeddings=CONTEXT, **settings)


def items(cascades, recipe: Recipe = RECIPE, prompts: Prompts | None = None, tally: bool = True):
    """Items with tallies, or without any field."""
    words = prompts or Prompts("en")
    return items_of(cascades, recipe, {"en": TallySummarizer(words) if tally else NoField()}, {"en": words})


def numbers(rows, name: str) -> Iterator[float]:
    """One column of the curves' training lines."""
    return (row[name] for row in rows if row["split"] == "train")


def folder_of(folder, cascades=5):
    """The folder, with a model, prompts and data of three events in it."""
    from tiny_models import tokenizer

    model().save_pretrained(folder / "model")
    tokenizer("llama").save_pretrained(folder / "model")
    terse(folder / "words")
    write_cascades(folder / "data.jsonl", [crowd(12, f"c{i}", f"e{i % 3}") for i in range(cascades)])
    return folder
