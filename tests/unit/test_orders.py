"""An order: on which machines it may be filled."""

import platform

import pytest

from raysynth.errors import NondeterminismError
from raysynth.orders import check_fingerprint, fingerprint


def test_a_machine_that_would_make_other_bytes_is_named_with_what_differs() -> None:
    here = fingerprint("avx2")
    check_fingerprint(here)
    with pytest.raises(NondeterminismError) as refused:
        check_fingerprint({**here, "capability": "NONE"})
    assert platform.node() in str(refused.value)
    assert f"capability {here['capability']}, the plan's is NONE" in str(refused.value)
    assert "numpy" not in str(refused.value)
