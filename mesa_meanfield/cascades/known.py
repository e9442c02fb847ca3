"""The words of every dimension that this package knows: what agents choose from, and annotators too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BEHAVIOUR = "behaviour"
"""The dimension that a rule reads off any cascade: a bare repost, or a comment."""

ANNOTATED = "annotated."
"""What the dimensions begin with whose labels an annotator gave; those without it are the data's own."""


@dataclass(frozen=True, slots=True)
class Known:
    """One dimension in one language."""

    question: str
    options: Mapping[str, tuple[str, str]]
    """Label -> its word and its meaning."""
    silent: tuple[str, ...] = ()


# The order is that of the prompt. Small models like what stands first, so the commonest label does
# (docs/LOG.md); that of stance and behaviour was chosen on training data.
KNOWN: dict[tuple[str, str], Known] = {
    ("stance", "en"): Known(
        "What kind of reply do you write?",
        {
            "comment": ("comment", "a reply with a joke, a feeling or a remark"),
            "query": ("query", "a reply that asks for proof"),
            "deny": ("deny", "a reply that says the post is wrong"),
            "support": ("support", "a reply that believes the post"),
        },
    ),
    ("stance", "zh"): Known(
        "你会写哪一种回复？",
        {
            "comment": ("评论", "开玩笑、抒发感受或随口一说"),
            "query": ("质疑", "询问证据或真假"),
            "deny": ("否认", "说这条消息不对"),
            "support": ("支持", "相信这条消息"),
        },
    ),
    (BEHAVIOUR, "en"): Known(
        "What do you do with the post?",
        {
            "comment": ("comment", "write something of your own"),
            "share": ("share", "pass it on without a word of your own"),
        },
        silent=("share",),
    ),
    (BEHAVIOUR, "zh"): Known(
        "你会怎么处理这条消息？",
        {"comment": ("评论", "写下自己的话"), "share": ("转发", "直接转发，不写自己的话")},
        silent=("share",),
    ),
    # The dimensions in which MF-LLM (arXiv 2504.21582) has real and simulated comments labelled; the wording is ours.
    (f"{ANNOTATED}rumour", "en"): Known(
        "What do you do with the claim?",
        {
            "spread": ("spread", "passes the claim on or adds to it"),
            "counter": ("counter", "contradicts the claim or warns of it"),
        },
    ),
    (f"{ANNOTATED}rumour", "zh"): Known(
        "你会怎么对待这个说法？",
        {"spread": ("传播", "传播这个说法或添油加醋"), "counter": ("辟谣", "反驳这个说法或提醒别人不要信")},
    ),
    (f"{ANNOTATED}sentiment", "en"): Known(
        "What do you feel?",
        {
            "calm": ("calm", "no strong feeling"),
            "angry": ("angry", "anger, outrage or scorn"),
            "happy": ("happy", "joy, amusement or relief"),
            "sad": ("sad", "sorrow, grief or pity"),
            "fear": ("fear", "worry or fear"),
            "surprise": ("surprise", "astonishment"),
        },
    ),
    (f"{ANNOTATED}sentiment", "zh"): Known(
        "你有什么情绪？",
        {
            "calm": ("平静", "没有强烈的情绪"),
            "angry": ("愤怒", "生气、愤慨或鄙视"),
            "happy": ("高兴", "喜悦、好笑或松了一口气"),
            "sad": ("悲伤", "难过、哀悼或同情"),
            "fear": ("恐惧", "担心或害怕"),
            "surprise": ("惊讶", "吃惊、没想到"),
        },
    ),
    (f"{ANNOTATED}attitude", "en"): Known(
        "In what spirit do you write?",
        {
            "neutral": ("neutral", "neither approves nor disapproves"),
            "negative": ("negative", "disapproves, blames or mocks"),
            "positive": ("positive", "approves, praises or encourages"),
        },
    ),
    (f"{ANNOTATED}attitude", "zh"): Known(
        "你用什么态度来写？",
        {
            "neutral": ("中性", "不褒不贬"),
            "negative": ("负面", "不满、指责或嘲讽"),
            "positive": ("正面", "认可、称赞或鼓励"),
        },
    ),
    (f"{ANNOTATED}stance", "en"): Known(
        "Which side do you take?",
        {
            "neutral": ("neutral", "takes no side, or only asks"),
            "support": ("support", "takes the side of the claim"),
            "oppose": ("oppose", "takes the side against the claim"),
        },
    ),
    (f"{ANNOTATED}stance", "zh"): Known(
        "你站在哪一边？",
        {
            "neutral": ("中立", "不表态，或只是询问"),
            "support": ("支持", "赞同这个说法"),
            "oppose": ("反对", "不赞同这个说法"),
        },
    ),
    (f"{ANNOTATED}belief", "en"): Known(
        "Do you believe the claim?",
        {
            "believe": ("believe", "takes the claim for true"),
            "doubt": ("doubt", "takes the claim for false or uncertain"),
        },
    ),
    (f"{ANNOTATED}belief", "zh"): Known(
        "你相信这个说法吗？",
        {"believe": ("相信", "把这个说法当真"), "doubt": ("怀疑", "认为这个说法不实或不确定")},
    ),
    (f"{ANNOTATED}subjectivity", "en"): Known(
        "What do your words hold?",
        {
            "subjective": ("subjective", "feelings, opinions or jokes"),
            "objective": ("objective", "facts, news or sources"),
        },
    ),
    (f"{ANNOTATED}subjectivity", "zh"): Known(
        "你写的内容是哪一种？",
        {"subjective": ("主观", "感受、看法或玩笑"), "objective": ("客观", "事实、消息或出处")},
    ),
    (f"{ANNOTATED}intent", "en"): Known(
        "What is your message for?",
        {
            "opinion": ("opinion", "says what one thinks or feels"),
            "question": ("question", "wants to know something"),
            "promotion": ("promotion", "advertises something or calls for action"),
        },
    ),
    (f"{ANNOTATED}intent", "zh"): Known(
        "你写这条消息是为了什么？",
        {
            "opinion": ("表达观点", "说出想法或感受"),
            "question": ("提问", "想知道些什么"),
            "promotion": ("宣传", "推广什么或号召行动"),
        },
    ),
}

POSITIONS: dict[str, Mapping[str, float]] = {
    f"{ANNOTATED}attitude": {"negative": -1.0, "neutral": 0.0, "positive": 1.0},
    f"{ANNOTATED}stance": {"oppose": -1.0, "neutral": 0.0, "support": 1.0},
    f"{ANNOTATED}belief": {"doubt": 0.0, "believe": 1.0},
}
"""Dimension -> label -> its place on a line, where the labels have an order."""
