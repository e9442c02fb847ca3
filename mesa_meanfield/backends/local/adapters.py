"""LoRA adapters on one base model: switched between batches, or side by side in a small one."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import safetensors
from peft.tuners.tuners_utils import BaseTunerLayer

from mesa_meanfield.errors import BackendError


class Adapters:
    """The adapters of one model.

    Args:
        model: A transformers model, or one with an adapter by peft, which then answers where none is named.
    """

    def __init__(self, model: Any) -> None:  # Any: transformers' own
        self._model = model
        self._peft: Any = model if isinstance(model, peft.PeftModel) else None
        self._bare: str | None = "default" if self._peft is not None else None
        self.active = self._bare
        """The adapter that is on, None for the bare model."""

    def add(self, name: str, folder: str | Path) -> Any:
        """Load an adapter under a name; returns the model with all adapters.

        Raises:
            BackendError: The name is taken, or the folder holds no adapter of this model.
        """
        if self._peft is not None and name in self._peft.peft_config:
            raise BackendError(f"There is an adapter {name!r} on this model already; take another name")
        try:
            self._peft = put_on(self._model if self._peft is None else self._peft, name, Path(folder))
        except Exception as error:  # peft and safetensors have a kind for each case
            self._take_off(name)
            if isinstance(error, BackendError):
                raise
            raise BackendError(
                f"adapter {folder} could not be loaded: {' '.join(str(error).split())[:300]}"
            ) from error
        self._switch(self._bare)
        return self._peft

    @contextmanager
    def using(self, names: Collection[str | None]) -> Iterator[None]:
        """Answer with this adapter inside the block; with several, the rows say which one.

        Raises:
            BackendError: There is no adapter of such a name.
        """
        there = set() if self._peft is None else set(self._peft.peft_config)
        if unknown := {name for name in names if name is not None} - there:
            known = ", ".join(sorted(there)) or "none"
            raise BackendError(f"There is no adapter {min(unknown)!r} on this model (there are: {known})")
        wanted = self._bare if not any(names) else max(name for name in names if name is not None)
        if wanted != self.active:
            self._switch(wanted)
        yield

    def named(self, names: Sequence[str | None]) -> list[str]:
        """What answers each row, as peft wants it named."""
        return [name or self._bare or "__base__" for name in names]

    def _take_off(self, name: str) -> None:
        """Whatever of an adapter was put on before it failed would change all answers."""
        if self._peft is not None:
            if name in self._peft.peft_config:
                self._peft.delete_adapter(name)
            return
        for path, layer in list(self._model.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                parent, _, child = path.rpartition(".")
                setattr(self._model.get_submodule(parent), child, layer.get_base_layer())
        vars(self._model).pop("peft_config", None)

    def _switch(self, name: str | None) -> None:
        if name is None:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.set_adapter(name)
        self.active = name


def put_on(model: Any, name: str, folder: Path) -> Any:
    """A model with one more adapter, of safetensors only.

    Raises:
        BackendError: The folder holds no adapter, or lacks weights of it.
    """
    if not (folder / "adapter_config.json").is_file():
        raise BackendError(f"{folder}: no peft adapter there (adapter_config.json is missing)")
    if not (folder / "adapter_model.safetensors").is_file():
        raise BackendError(f"{folder}: adapter_model.safetensors is missing; pickled weights are never loaded")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's own, of names that transformers gives up
        if isinstance(model, peft.PeftModel):
            model.load_adapter(str(folder), adapter_name=name, is_trainable=False)
        else:
            model = peft.PeftModel.from_pretrained(model, str(folder), adapter_name=name)
    with safetensors.safe_open(folder / "adapter_model.safetensors", "pt") as file:
        needed = set(peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False))
        check_complete(f"adapter {folder}", needed - set(file.keys()))
    return model.eval()


def check_complete(what: str, missing: Collection[str]) -> None:
    """Weights that a file lacks would be random numbers.

    Raises:
        BackendError: There are such.
    """
    if missing:
        some = ", ".join(sorted(missing)[:3])
        raise BackendError(f"{what} lacks {len(missing)} weights of this kind of model, such as {some}")
