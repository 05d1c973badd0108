"""The interface by its address: what gloo is told, so that hosts meet where Ray meets."""

from raysynth.cluster.meeting import interface_of


def test_an_address_has_its_interface() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("203.0.113.77") is None, "an address of nobody"
