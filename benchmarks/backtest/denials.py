"""Which post of a cascade is put to the test: a transparent rule, and a placebo that the rule did not choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mesa_meanfield.cascades.dimensions import label_of
from mesa_meanfield.data import Action, Cascade
from mesa_meanfield.experiments.backtest import Occasion, occasion
from mesa_meanfield.seeds import derive

DENYING = ("deny", "counter", "oppose", "doubt")
"""The labels, of whichever dimension, that say that the topic is wrong."""

WORDS = {
    "zh": (
        "辟谣", "是谣言", "个谣言", "种谣言", "老谣言", "造谣", "谣传", "误传", "假的", "假消息", "假新闻", "不实",
        "不是真的",
    ),
    "en": (
        "not true", "isn't true", "untrue", "is false", "is fake", "fake news", "hoax", "debunked", "misinformation",
    ),
}  # fmt: skip
"""Language -> what a denial says. The lists are ours, made by reading the posts of CED's training part."""

NOT = {
    "zh": (
        "?", "？", "吗", "么", "求", "真的假的", "还是假的", "真假", "是不是", "是否", "不是谣言", "不是假", "度假的",
        "造假的", "虚的假的", "如果", "要是", "希望", "即使", "不知", "会不会", "可能", "应该", "估计", "貌似",
        "觉得", "假的吧", "辟谣的吧", "出来辟谣", "等",
    ),
    "en": ("?", "if ", "hope", "maybe", "perhaps", "not a hoax", "not fake", "may be"),
}  # fmt: skip
"""Language -> what those say who ask, wish, wait or hedge: a text with any of these is no denial."""

DENIAL, PLACEBO = "denial", "placebo"
"""What the tested post is: one that the rule found, or another of the same cascade."""


@dataclass(frozen=True)
class Rules:
    """How posts are found."""

    rule: str
    """``label``: the record's own label denies; ``words``: the text has a word of `WORDS` and none of `NOT`."""
    dimension: str
    around: int
    """How many labelled actions there must be before the post and after its tick."""
    cut: Callable[[Cascade, int], Occasion]
    """Cascade and place -> the occasion."""

    def denies(self, action: Action, language: str) -> bool:
        """Whether an action is a denial by the rule."""
        if self.rule == "label":
            return label_of(action, self.dimension) in DENYING
        text, known = action.text.lower(), language if language in WORDS else "en"
        return any(word in text for word in WORDS[known]) and not any(word in text for word in NOT[known])

    def usable(self, cascade: Cascade, place: int, labels: Sequence[str]) -> Occasion | None:
        """The occasion of a post, if it has a text and enough stands around it."""
        if not cascade.actions[place].text.strip():
            return None
        try:
            found = self.cut(cascade, place)
        except ValueError:  # it is played, or at the very end
            return None
        enough = min(map(sum, found.recorded(self.dimension, labels))) >= self.around
        return found if enough else None

    def denial(self, cascade: Cascade, labels: Sequence[str]) -> Occasion | None:
        """The first denial at or after the warm-up that is usable."""
        for place, action in enumerate(cascade.actions):
            if self.denies(action, cascade.language) and (found := self.usable(cascade, place, labels)):
                return found
        return None

    def placebo(self, cascade: Cascade, labels: Sequence[str], seed: int) -> Occasion | None:
        """A random post of the same cascade that is no denial, as usable as one."""
        order = np.random.default_rng(derive(seed, "placebo", cascade.id)).permutation(len(cascade.actions))
        for place in order.tolist():
            if not self.denies(cascade.actions[place], cascade.language):
                found = self.usable(cascade, place, labels)
                if found is not None:
                    return found
        return None

    def instead(self, of: Occasion, seed: int) -> Action | None:
        """A random post from before the occasion that is no denial, to be put in at the denial's place."""
        earlier = [action for tick in of.before for action in of.ticks[tick]]
        fit = [one for one in earlier if one.text.strip() and not self.denies(one, of.cascade.language)]
        if not fit:
            return None
        return fit[np.random.default_rng(derive(seed, "instead", of.cascade.id)).integers(len(fit))]


def cutting(
    warm_up: float, per_tick: int | None, until_post: bool, horizon: int | None
) -> Callable[[Cascade, int], Occasion]:
    """How occasions are cut."""
    return partial(occasion, warm_up=warm_up, per_tick=per_tick, until_post=until_post, horizon=horizon)
