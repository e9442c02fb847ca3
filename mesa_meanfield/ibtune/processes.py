"""Several processes that train together, by the configuration of accelerate: who computes what.

The adapters are whole in every process, so checkpoints and saved adapters are those of one. Usually the base
model is, too, and each process computes a part of every batch. Where FSDP is asked for, the weights of the
base model's blocks are divided among the processes and gathered block by block. How many passes a part takes
depends on its prompts and summaries, and whoever gathers waits for all: so each process computes every part
then, for the memory's sake and no faster.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, reduce
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard

from mesa_meanfield.errors import BackendError
from mesa_meanfield.ibtune.lora import blocks_of

_REFUSED = {
    DistributedType.DEEPSPEED: "DeepSpeed",
    DistributedType.MEGATRON_LM: "Megatron-LM",
    DistributedType.XLA: "XLA",
}


class Processes:
    """All processes of a training, as one of them sees them.

    Args:
        accelerator: Of accelerate.

    Raises:
        BackendError: It is configured for something that this training does not know.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        kind = _REFUSED.get(accelerator.distributed_type)
        if kind is None and getattr(accelerator, "parallelism_config", None) is not None:
            kind = "a parallelism_config"
        if kind is not None:
            raise BackendError(f"tune does not train by {kind}; configure accelerate for plain processes or FSDP 2")
        precision, device = accelerator.mixed_precision, accelerator.device.type
        if precision not in ("no", "bf16", "fp16") or (precision != "no" and not accelerator.native_amp):
            raise BackendError(f"tune does not train in mixed precision {precision} on {device}; take bf16 or no")
        self._accelerator = accelerator
        self._fsdp = _fsdp(accelerator)
        self.main = bool(accelerator.is_main_process)
        """Whether this is the one that writes."""
        self.index, self.count = accelerator.process_index, accelerator.num_processes
        """This process among those that divide the work among themselves."""
        if self.sharded:
            self.index, self.count = 0, 1

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the base model's weights."""
        return self._fsdp is not None

    def place(self, model: Any, dtype: str | None = None) -> None:  # Any: transformers' own
        """Bring a base model to this process's device, or share its blocks among all; once is enough.

        Args:
            model: The model, which is changed in place.
            dtype: What its weights become, by torch's name; None leaves them.
        """
        if dtype is not None:
            model.to(getattr(torch, dtype))
        if self._fsdp is not None and not any(isinstance(module, FSDPModule) for module in model.modules()):
            model.requires_grad_(False)  # before, or gradients of what is gathered would be kept, too
            mesh = init_device_mesh(self._accelerator.device.type, (self._accelerator.num_processes,))
            for _, blocks in blocks_of(model):
                for block in blocks:  # each gathers for itself, so that the model may be called in any way
                    fully_shard(block, mesh=mesh, reshard_after_forward=True)
            model.to(self._accelerator.device)
            with torch.no_grad():  # what is gathered in inference mode first could never be trained through
                model(torch.tensor([[0, 0]], device=self._accelerator.device), use_cache=False)
        model.to(self._accelerator.device)

    def prepared(self, optimizer: torch.optim.Optimizer) -> Any:  # Any: accelerate's wrapper, no torch optimizer
        """The optimizer, which steps as the precision wants it."""
        return optimizer if self.sharded else self._accelerator.prepare(optimizer)

    def add_gradients(self, weights: Iterable[torch.Tensor]) -> None:
        """Give every process the sum of all gradients."""
        if self._accelerator.num_processes == 1:
            return
        weights = list(weights)
        own = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        whole = self._all(torch.cat([one.flatten() for one in own]))
        sizes = [weight.numel() for weight in weights]
        for weight, part in zip(weights, torch.split(whole, sizes), strict=True):
            weight.grad = part.view_as(weight)

    def total(self, *values: float) -> list[float]:
        """Values added up over all who divide the work."""
        if self._accelerator.num_processes == 1:
            return list(values)
        exact = torch.float32 if self._accelerator.device.type == "mps" else torch.float64
        found: Sequence[float] = self._all(
            torch.tensor(values, dtype=exact, device=self._accelerator.device)
        ).tolist()
        return list(found)

    def check_same(self, value: int, otherwise: str) -> None:
        """See that all have the same number.

        Raises:
            BackendError: They do not.
        """
        together = self._all(torch.tensor([value, value * value], dtype=torch.float64), "mean").tolist()
        if together[1] != together[0] ** 2:
            raise BackendError(otherwise)

    def _all(self, tensor: torch.Tensor, how: str = "") -> torch.Tensor:
        """Sums over all who divide the work; where all do the same, the mean, so that none drifts off."""
        if self._accelerator.num_processes == 1:
            return tensor
        whole: torch.Tensor = reduce(tensor.to(self._accelerator.device), how or ("mean" if self.sharded else "sum"))
        return whole


def _fsdp(accelerator: Accelerator) -> FullyShardedDataParallelPlugin | None:
    """The settings of FSDP, where it is asked for.

    Raises:
        BackendError: It cannot be as they say.
    """
    if accelerator.distributed_type == DistributedType.FSDP:
        found = accelerator.state.fsdp_plugin
    elif accelerator.num_processes > 1 and os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        found = FullyShardedDataParallelPlugin()  # accelerate itself passes FSDP over on CPUs
    else:
        return None
    wrong = None
    if found.fsdp_version != 2:
        wrong = "set fsdp_version: 2"
    elif found.cpu_ram_efficient_loading:
        wrong = "set fsdp_cpu_ram_efficient_loading: false, since mean fields are written before the training"
    elif isinstance(found.cpu_offload, CPUOffloadPolicy):
        wrong = "set fsdp_offload_params: false"
    elif accelerator.mixed_precision == "fp16":
        wrong = "take --precision bf16 or no"
    if wrong is not None:
        raise BackendError(f"FSDP cannot be used as it is configured: {wrong}")
    return found
