"""Whether there is a GPU to train or sample on: what `auto` means, asked of the cluster rather than of the driver's own machine."""

from raysynth.cluster.capacity import look
from raysynth.cluster.session import is_embedded, session
from raysynth.errors import StoppedError


def has_gpu() -> bool:
    """On a cluster, whether a node that is there now has one: what an autoscaler could bring, nobody can ask Ray for. StoppedError where
    the head is silent."""
    if is_embedded():
        import torch

        return torch.cuda.is_available()
    with session():
        seen = look()
    if seen is None:  # to go on as without one would train another model
        raise StoppedError(
            "use_gpu: auto: Ray's head does not tell what its nodes have. Run the same command again, or say true or false"
        )
    return any(node.total.get("GPU", 0.0) >= 1 for node in seen.nodes)
