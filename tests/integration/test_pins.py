"""What rows depend on is pinned before numpy is imported, in words that this numpy and this CPU know."""

import subprocess
import sys

LOOK = """
from raysynth.cluster.session import pin_cpu
pin_cpu()
import json
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
import torch
used = [name for name in __cpu_dispatch__ if __cpu_features__[name]]
print(json.dumps({"numpy": used, "torch": torch.backends.cpu.get_cpu_capability()}))
"""


def test_neither_numpy_nor_torch_uses_instructions_wider_than_avx2() -> None:
    looked = subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", LOOK], capture_output=True, text=True, timeout=60)
    assert looked.returncode == 0, looked.stderr
    assert "AVX512" not in looked.stdout
    assert "V4" not in looked.stdout
