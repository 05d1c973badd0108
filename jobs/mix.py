"""A door for `ray job submit -- python jobs/mix.py RECIPE`: the command `raysynth mix`."""

import sys

from raysynth.cli import main

sys.argv.insert(1, "mix")
main()
