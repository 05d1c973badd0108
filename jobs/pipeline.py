"""A door for `ray job submit -- python jobs/pipeline.py RECIPE`: the command `raysynth run`, all stages."""

import sys

from raysynth.cli import main

sys.argv.insert(1, "run")
main()
