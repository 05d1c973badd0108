"""A door for `ray job submit -- python jobs/generate.py RECIPE`: the command `raysynth generate`."""

import sys

from raysynth.cli import main

sys.argv.insert(1, "generate")
main()
