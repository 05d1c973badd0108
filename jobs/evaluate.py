"""A door for `ray job submit -- python jobs/evaluate.py RECIPE`: the command `raysynth evaluate`."""

import sys

from raysynth.cli import main

sys.argv.insert(1, "evaluate")
main()
