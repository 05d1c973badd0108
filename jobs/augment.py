"""A door for `ray job submit -- python jobs/augment.py RECIPE`: the command `raysynth augment`."""

import sys

from raysynth.cli import main

sys.argv.insert(1, "augment")
main()
