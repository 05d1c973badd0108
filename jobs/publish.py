"""A door for `ray job submit -- python jobs/publish.py RECIPE`: the command `raysynth publish`."""

import sys

from raysynth.cli import main

sys.argv.insert(1, "publish")
main()
