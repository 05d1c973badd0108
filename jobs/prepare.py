"""A door for `ray job submit -- python jobs/prepare.py RECIPE`: the command `raysynth prepare`."""

import sys

from raysynth.cli import main

sys.argv.insert(1, "prepare")
main()
