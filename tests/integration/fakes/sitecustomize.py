"""Puts this folder on the shelf of generators in every process that has it in PYTHONPATH: the driver's and the workers'."""

from pathlib import Path

import raysynth.generators

raysynth.generators.__path__.append(str(Path(__file__).parent))
