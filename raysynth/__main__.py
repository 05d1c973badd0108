"""`python -m raysynth` is the command `raysynth`."""

from raysynth.cli import main

main()
