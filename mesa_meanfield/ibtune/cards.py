"""The card of an adapter: what it was trained on and how, what it came to, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mesa_meanfield.directory import json_text
from mesa_meanfield.ibtune.calibration import Calibration
from mesa_meanfield.ibtune.config import Settings

_WHAT = {
    "policy": "decides for every agent under a mean field",
    "sft": "decides for every agent without any mean field (the baseline by supervised fine-tuning)",
    "summarizer": "writes the mean field: a short summary of what the crowd did",
}


def card(
    name: str,
    base: str,
    settings: Settings,
    data: Mapping[str, Any],  # Any: JSON
    stages: Sequence[Mapping[str, Any]],
    calibrations: Sequence[Calibration] = (),
) -> str:
    """The README.md of an adapter.

    Args:
        name: Of the adapter.
        base: The base model.
        settings: Of the training.
        data: Files with their hashes, events, cascades and ticks.
        stages: Each stage's figures before and after, on the held-out ticks.
        calibrations: The fitted temperatures.
    """
    lines = [
        "---",
        "library_name: peft",
        f"base_model: {json_text({'': base})[5:-1]}",
        "---",
        "",
        f"# {name}: a LoRA adapter for {base}",
        "",
        f"It {_WHAT.get(name, 'was trained by IB-Tune')}. Trained with mesa-meanfield by the information "
        "bottleneck of MF-LLM (arXiv 2504.21582).",
        "",
        "Load it with `--adapter FOLDER`, `load_backend(...).adapted(FOLDER)` or plain peft.",
        "",
        "## Figures",
        "",
        "On the held-out ticks, with recorded actions as history, in nats:",
        "",
        "| stage | | NLL per action | NLL per token | distortion | rate |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for one in stages:
        lines += [_row(one["stage"], when, one[when]) for when in ("before", "after")]
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
        "- The figures are those of the held-out events above, which also decided when to stop; other topics, "
        "languages and platforms were not measured.",
        "- They are of single ticks behind recorded ones: a roll-out feeds on its own decisions and drifts.",
        "- It is made for simulated crowds, not for writing to real people.",
        "",
    ]
    return "\n".join(lines)


def _row(stage: str, when: str, figures: Mapping[str, float | None]) -> str:
    names = ("nll", "nll_per_token", "distortion", "rate")
    values = (figures.get(name) for name in names)
    return f"| {stage} | {when} | " + " | ".join("" if v is None else f"{v:.4f}" for v in values) + " |"
