"""Where the ranks of a training meet: on the network that Ray itself uses, whatever a host's own name resolves to."""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ray.train.torch import TorchConfig


def bind_to_rays_network() -> None:
    """On a worker: gloo would take the interface that the host's name resolves to, on Debian a loopback that no other host can reach. What
    the user has set stays."""
    import ray

    if (name := interface_of(ray.util.get_node_ip_address())) is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def interface_of(address: str) -> str | None:
    """The network interface that has this IPv4 address; None where none has (IPv6, or no Linux)."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                reply = fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, name.encode().ljust(40, b"\0"))
                if socket.inet_ntoa(reply[20:24]) == address:
                    return name
    return None


_SIOCGIFADDR = 0x8915  # of netdevice(7)


@dataclass
class MeetingConfig(TorchConfig):
    """Ray Train's, and before it each worker binds to Ray's network."""

    @property
    def backend_cls(self) -> Any:
        return _bound(super().backend_cls)


def _bound(backend: Any) -> Any:
    class Bound(backend):
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            if len(worker_group) > 1:
                worker_group.execute(bind_to_rays_network)
            super().on_start(worker_group, backend_config)

    return Bound
