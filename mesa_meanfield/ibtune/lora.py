"""LoRA adapters by peft on one base model, whose own weights never change."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from mesa_meanfield.errors import BackendError
from mesa_meanfield.ibtune.config import Lora
from mesa_meanfield.seeds import derive

_LINEAR = (nn.Linear, Conv1D)  # GPT-2's own, which is a linear layer
_RECURRENT = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
_FUSED = {"out_proj"}  # of those a kernel takes the bare weight, past any adapter; peft refuses it
_WEIGHTS = "adapter_model.safetensors"


def with_adapters(model: Any, names: Iterable[str], lora: Lora, seed: int) -> Any:  # Any: transformers' and peft's
    """A model with new adapters, which change nothing until they are trained; the model is changed in place.

    Args:
        model: A causal language model of transformers.
        names: The adapters' names.
        lora: Their settings.
        seed: Of their first weights; each adapter has its own.

    Raises:
        BackendError: The model has no linear layers that could be adapted, or fewer blocks than asked for.
    """
    targets, others = target_modules(model)
    blocks = [module for name, module in model.named_modules() if name.rsplit(".", 1)[-1] in targets]
    last: dict[str, Any] = {} if lora.layers is None else _last_blocks(model, lora.layers)
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        exclude_modules=others or None,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in blocks),
        task_type="CAUSAL_LM",
        **last,
    )
    found = None
    for name in dict.fromkeys(names):
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft's own, of names that transformers gives up
            torch.manual_seed(derive(seed, "adapter", name))
            if found is None:
                found = peft.get_peft_model(model, config, adapter_name=name)
            else:
                found.add_adapter(name, config)
    if found is None:
        raise ValueError("There must be at least one adapter")
    return found


def target_modules(model: Any) -> tuple[list[str], list[str]]:
    """The names of all linear layers inside the model's blocks, and where else such names stand.

    The blocks are the longest list of modules; the head, embeddings and projections around them stay as
    they are.

    Raises:
        BackendError: There are none.
    """
    inside = tuple(f"{name}." for name, _ in blocks_of(model))
    linear = [name for name, module in model.named_modules() if isinstance(module, _LINEAR)]
    recurrent = getattr(getattr(model, "config", None), "model_type", "") in _RECURRENT
    targets = sorted(
        {name.rsplit(".", 1)[-1] for name in linear if name.startswith(inside)} - (_FUSED if recurrent else set())
    )
    if not inside or not targets:
        raise BackendError(
            f"{type(model).__name__} has no blocks with linear layers; no adapter can be trained on it"
        )
    others = [n for n in linear if not n.startswith(inside) and n.rsplit(".", 1)[-1] in targets]
    return targets, others


def blocks_of(model: Any) -> list[tuple[str, Any]]:
    """A model's blocks: its longest list of modules with its name, several where several are as long."""
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    longest = max((len(module) for _, module in lists), default=0)
    return [(name, module) for name, module in lists if len(module) == longest]


def _last_blocks(model: Any, count: int) -> dict[str, Any]:
    """What tells peft to adapt the last so many blocks only."""
    found = blocks_of(model)
    size = len(found[0][1])
    if count > size:
        raise BackendError(f"{type(model).__name__} has {size} blocks; there are no last {count} to adapt")
    names = sorted({name.rsplit(".", 1)[-1] for name, _ in found})
    return {"layers_to_transform": list(range(size - count, size)), "layers_pattern": names}


def compute_again_instead_of_keeping(model: Any) -> None:
    """Let a transformers model keep fewer activations for its gradients (gradient checkpointing)."""
    new = getattr(model, "activation_checkpointing_enable", None)  # the old name is deprecated in transformers 5.23
    (new or model.gradient_checkpointing_enable)({"use_reentrant": False})
    model.disable_input_require_grads()  # which enables them, and would carry gradients below the first adapter


def weights_of(model: Any, name: str) -> dict[str, torch.Tensor]:
    """A copy of an adapter's weights, on the CPU."""
    state = peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return {key: value.detach().to("cpu", copy=True) for key, value in state.items()}


def put_back(model: Any, name: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Give an adapter these weights."""
    peft.set_peft_model_state_dict(model, dict(weights), adapter_name=name)


def begin_with(model: Any, name: str, folder: Path) -> None:
    """Give an adapter the weights of one that was saved.

    Raises:
        BackendError: It is not there, or not of the same shape.
    """
    try:
        saved = load_file(folder / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise BackendError(f"{folder}: no adapter can be read there: {error}") from error
    own = weights_of(model, name)
    if {key: tensor.shape for key, tensor in own.items()} != {key: tensor.shape for key, tensor in saved.items()}:
        raise BackendError(f"{folder}: this adapter has another shape; give the --rank and --layers that it has")
    put_back(model, name, saved)


def save_adapter(model: Any, name: str, folder: Path, card: str = "", base: str | None = None) -> Path:
    """Write an adapter as peft safetensors of 16 bits; a folder that is there already is replaced.

    The model's adapter becomes what was written, so that what is measured next is what will be loaded.

    Args:
        model: The model with its adapters.
        name: Which of them.
        folder: Where peft, `LocalBackend.adapted` and ``--adapter`` will find it.
        card: The README.md.
        base: The base model's name on the hub; None for one that is not there, or peft would look for it. The
            folder that it was loaded from is a matter of this machine and never written.
    """
    part = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(part, ignore_errors=True)
    # Embeddings are never trained; "auto" would ask the hub whether they were.
    model.save_pretrained(str(part), selected_adapters=[name], safe_serialization=True, save_embedding_layers=False)
    inner = part / name  # where peft puts adapters that are not called "default"
    if inner.is_dir():
        for file in inner.iterdir():
            os.replace(file, part / file.name)
        inner.rmdir()
    config = json.loads((part / "adapter_config.json").read_text(encoding="utf-8"))
    said = json.dumps(config | {"base_model_name_or_path": base}, indent=2, sort_keys=True)
    (part / "adapter_config.json").write_text(f"{said}\n", encoding="utf-8")
    (part / "README.md").write_text(card, encoding="utf-8", errors="backslashreplace")
    put_back(model, name, shrink(part))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    return folder


def shrink(folder: Path) -> dict[str, torch.Tensor]:
    """Rewrite a saved adapter's weights in 16 bits, half of what training keeps; returns them.

    Of the two kinds of 16 bits fp16 has the finer steps, and an adapter's weights are far below its limit
    of 65504; a tensor that is not stays as it is. peft and `LocalBackend` compute with them in fp32.

    Raises:
        OSError: The folder holds no ``adapter_model.safetensors``, or cannot be written.
    """
    file = folder / _WEIGHTS
    weights = {name: _halved(weight) for name, weight in load_file(file).items()}
    part = file.with_name(f"{_WEIGHTS}.partial")
    save_file(weights, part, metadata={"format": "pt"})
    part.chmod(0o644)  # safetensors keeps its file to its owner
    os.replace(part, file)
    return weights


def _halved(weight: torch.Tensor) -> torch.Tensor:
    half = weight.to(torch.float16)
    return half if torch.equal(half.isfinite(), weight.isfinite()) else weight
