"""The methods appendix of a run: its description after the ODD protocol, and what studies with language models need.

The headings are those of Grimm et al. (2020), Journal of Artificial Societies and Social Simulation 23(2) 7, with
four behind them for the language model. Everything is read from the run's directory, or holds of every run of its
command; what neither tells is "not recorded", for the author to fill in.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mesa_meanfield import odd
from mesa_meanfield.description import NOT_RECORDED, Description, Facts, Section, told
from mesa_meanfield.protocols import Usage
from mesa_meanfield.records import Record, read_record

_COST = ("calls", "tokens_asked", "tokens_computed", "retries", "seconds")


def describe(path: str | Path) -> Description:
    """Describe what a command left in its directory, whether it ended or not.

    Args:
        path: The directory of ``run``, ``evaluate``, ``compare`` or ``plan``.

    Raises:
        DataError: There is none, or one of its files cannot be read.
    """
    record = read_record(path)
    # A modeler's own Mesa model may do anything; of a recorded cascade it is known what is done.
    cascade = record.command in odd.PURPOSES and "factory" not in record.config
    parts = (
        _purpose(record),
        _entities(record, cascade),
        Section("3. Process overview and scheduling", dict(odd.PROCESS) if cascade else {"schedule": None}),
        _concepts(record, cascade),
        _initialization(record),
        _input(record),
        _submodels(record, cascade),
        _models(record),
        _prompts(record),
        _interventions(record),
        _costs(record),
        _reproduction(record),
    )
    return Description(f"Description of {record.path.name} after the ODD protocol", parts)


# --- The seven elements of ODD --------------------------------------------------------------------


def _purpose(record: Record) -> Section:
    facts: Facts = {
        "question": record.config.get("question") or None,
        "what was done": odd.PURPOSES.get(record.command or ""),
        "patterns": None,
    }
    if dimension := record.config.get("dimension"):
        facts["patterns"] = f"shares of the labels of {dimension} over the ticks"
    return Section("1. Purpose and patterns", facts)


def _entities(record: Record, cascade: bool) -> Section:
    facts: Facts = dict(odd.ENTITIES) if cascade else {"entities": None}
    config, decided = record.config, record.decided
    facts["labels that agents decide"] = config.get("labels")
    facts["texts"] = _yes_no(config.get("texts"))
    if decided is not None:
        counted = f"{decided.played} were played, {decided.simulated} simulated."
        facts["agents"] = f"{facts['agents']} {counted}" if cascade else counted
        facts["ticks"] = f"{decided.ticks}, the first {decided.ticks_played} of them played"
    else:
        facts["ticks"] = config.get("ticks")
        facts["cascades"] = record.result.get("cascades")
    if cascade and "per_tick" in config:
        facts["actions per tick"] = config["per_tick"] or "max(4, a 20th of all actions, rounded up)"
    return Section("2. Entities, state variables, and scales", facts)


def _concepts(record: Record, cascade: bool) -> Section:
    facts: Facts = dict(odd.CONCEPTS) if cascade else {"basic principles": None}
    groups = () if record.decided is None else record.decided.groups
    facts["collectives"] = f"groups with mean fields of their own: {', '.join(groups)}" if groups else None
    if cascade and not groups:
        facts["collectives"] = "none beside the whole crowd"
    facts["observation"] = f"files: {', '.join(record.files)}"
    return Section("4. Design concepts", facts)


def _initialization(record: Record) -> Section:
    config = record.config
    facts: Facts = {"seed": config.get("seed"), "replicas": config.get("replicas")}
    if record.command == "run":
        facts["replicas"] = 1
    if record.command == "evaluate":
        facts["seeds"] = "that of the first replica; the next ones have the next numbers"
    facts["warm-up (share of the actions that is played)"] = config.get("warm_up")
    facts["at most so many actions after it"] = config.get("agents") or ("all" if "agents" in config else None)
    facts["mean field at the start"] = "empty" if record.command in odd.PURPOSES else None
    return Section("5. Initialization", facts)


def _input(record: Record) -> Section:
    config = record.config
    shipped = "the cascades that come with the package" if "data" in config and not config["data"] else None
    facts: Facts = {
        "data": config.get("data") or shipped,
        "SHA-256 of the data": config.get("data_sha256"),
        "cascade": config.get("id") or config.get("cascade"),
        "training data of the rivals": config.get("train") or ("none" if "train" in config else None),
        "SHA-256 of the training data": config.get("train_sha256") or ("none" if "train" in config else None),
    }
    left_out = record.result.get("left_out")
    if left_out:
        facts["left out"] = left_out
    texts = {} if record.plan is None else {"Plan file": record.plan}
    return Section("6. Input data", facts, texts)


def _submodels(record: Record, cascade: bool) -> Section:
    config = record.config
    asked = config.get("summarizers") or ([config["summarizer"]] if "summarizer" in config else [])
    personas = config.get("persona")
    personas = personas if isinstance(personas, list) else [personas] if personas else []
    scored = None if record.decided is None else f"{record.decided.scored} of {record.decided.simulated}"
    facts: Facts = {
        "policy": "a language model; each label's probability is that of its answer" if cascade else None,
        "decisions drawn from a known distribution": scored,
        "summarizer": {name: odd.SUMMARIZERS.get(name) for name in asked} or None,
        "persona": {name: odd.PERSONAS.get(name) for name in personas} or None,
        "summary length (tokens at most)": config.get("summary_tokens"),
        "objective": record.result.get("objective"),
    }
    always = ("policy", "summarizer")
    return Section("7. Submodels", {name: one for name, one in facts.items() if one is not None or name in always})


# --- What language models need beside -------------------------------------------------------------


def _models(record: Record) -> Section:
    config, calls = record.config, record.calls
    backends = config.get("models") or {config.get("backend") or NOT_RECORDED: config.get("model")}
    facts: Facts = {
        "models (as asked for: name)": backends,
        "weights": _weights(config.get("weights")),
        "adapters": _none_for_null(config.get("adapters")),
        "temperatures of labels": _none_for_null(config.get("calibrations")),
        "models in the call log": None if calls is None else list(calls.models),
        "adapters in the call log (name: SHA-256 of weights, beginning of that of settings)": (
            None if calls is None else {name: list(hashes) for name, hashes in calls.adapters.items()} or "none"
        ),
        "requests per batch": config.get("batch") or ("the usual number" if "batch" in config else None),
    }
    if "adapters" in config and "calibrations" not in config:  # those of one policy have their place beside it
        del facts["temperatures of labels"]
    return Section("8. Language models", facts)


def _weights(told_: Any) -> Any:  # Any: JSON
    """What is known of the weights; of a server's, or of none, nothing is."""
    if not isinstance(told_, Mapping):
        return None
    return {name: one if one != {} else NOT_RECORDED for name, one in told_.items()} or None


def _none_for_null(told_: Any) -> Any:  # Any: JSON
    """What was chosen, where null says that nothing was."""
    if isinstance(told_, Mapping):
        return {name: "none" if one is None else one for name, one in told_.items()} or "none"
    return told_


def _prompts(record: Record) -> Section:
    config = record.config
    templates, examples = record.prompts.get("templates") or {}, record.prompts.get("examples") or []
    names = {f"{language}/{name}.j2": one for language, of in templates.items() for name, one in of.items()}
    facts: Facts = {
        "templates (SHA-256)": {name: one.get("sha256") for name, one in names.items()} or None,
        "templates of one's own": config.get("prompts") or ("none" if "prompts" in config else None),
    }
    texts = {f"Template {name}": str(one.get("text")) for name, one in names.items()}
    for number, one in enumerate(examples, 1):
        extra = {name: one.get(name) for name in ("model", "adapter", "seed", "sampling", "candidates")}
        said = "; ".join(f"{name} {told(value)}" for name, value in extra.items() if value is not None)
        texts[f"Example {number}, a question for a {one.get('kind')} ({said})"] = (
            f"{one.get('prefix')}\n\n{one.get('suffix')}"
        )
    if not examples:
        facts["example of a prompt"] = None
    return Section("9. Prompts", facts, texts)


def _interventions(record: Record) -> Section:
    result = record.result
    if record.command in ("run", "evaluate"):
        return Section("10. Interventions", {"interventions": "none: this command takes none"})
    keys = ("interventions", "control_interventions", "candidates", "fork_at")
    facts: Facts = {key.replace("_", " "): result[key] for key in keys if key in result}
    return Section("10. Interventions", facts or {"interventions": None})


def _costs(record: Record) -> Section:
    result, calls = record.result, record.calls
    entries = [one for one in result.get("entries", ()) if one.get("spent")]
    spent = result.get("usage")
    if entries:
        spent = {name: sum(one["spent"][name] for one in entries) for name in _COST}
    decided = None if record.decided is None else record.decided.failed
    facts: Facts = {
        "failed decisions": sum(one["failures"] for one in entries) if entries else result.get("failures", decided),
        "failed summaries": result.get("summary_failures"),
        "failed runs": result.get("failed"),
        "roll-outs": record.rollouts,
        "cost of the simulations": spent,
        "seconds in all": result.get("seconds"),
        "questions in the call log": None if calls is None else calls.calls,
        "of them without a usable answer": None if calls is None else calls.failures,
        "cost in the call log": None if calls is None else _cost(calls.usage),
        "first and last answer": None if calls is None else [str(calls.first), str(calls.last)],
    }
    return Section("11. Failures, cost, and time", facts)


def _reproduction(record: Record) -> Section:
    config = record.config
    facts: Facts = {
        "state": "finished" if record.finished else "unfinished",
        "command": record.command,
        "started": config.get("started"),
        "version of mesa_meanfield": config.get("mesa_meanfield"),
        "git revision": config.get("revision"),
        "Python": config.get("python"),
        "versions": config.get("versions"),
        "machine": config.get("machine"),
        "replay of": config.get("replay") or ("nothing" if "replay" in config else None),
        "again, without the model": None,
    }
    if record.calls is not None and record.command is not None:
        asked = ["mesa-meanfield", record.command, *([str(config.get("plan"))] if record.plan is not None else [])]
        facts["again, without the model"] = shlex.join([*asked, "--replay", str(record.path)])
    whole = json.dumps(record.config, ensure_ascii=False, indent=2)
    return Section("12. Reproduction", facts, {"All that was asked (config.json)": whole})


# --- Words ------------------------------------------------------------------------------------------


def _cost(usage: Usage) -> dict[str, float]:
    whole = asdict(usage)
    return {name: whole[name] for name in _COST}


def _yes_no(value: object) -> str | None:
    return None if value is None else "yes" if value else "no"
