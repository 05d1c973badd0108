"""How the ranks of a training share one network: copies whose gradients are averaged (DDP), or shares of it (FSDP2), as the generator asks.

Plain torch.distributed on a process group that is there already: Ray Train's, or a test's own.
"""

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from raysynth.generators.base import Trained

Told = TypeVar("Told")


def share(generator: Trained, module: nn.Module) -> nn.Module:
    """`module` computes the generator's loss → what each rank calls instead of it."""
    blocks = generator.shards()
    return _sharded(blocks, module) if blocks else _copied(module)


def _copied(module: nn.Module) -> nn.Module:
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(module, find_unused_parameters=True)  # a head of one code has no gradient


def _sharded(blocks: list[nn.Module], module: nn.Module) -> nn.Module:
    """Blocks first, then what is left of the module: each block's weights are whole only while the block is at work."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = next(module.parameters()).device
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def from_first(told: Told, world: int, device: torch.device) -> Told:
    """Rank 0's word for all: its clock decides, and the checkpoint that it sees."""
    if world == 1:
        return told
    words = [told]
    dist.broadcast_object_list(words, src=0, device=device)
    return words[0]
