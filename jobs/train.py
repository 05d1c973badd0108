"""A door for `ray job submit -- python jobs/train.py RECIPE`: the command `raysynth train`."""

import sys

from raysynth.cli import main

sys.argv.insert(1, "train")
main()
