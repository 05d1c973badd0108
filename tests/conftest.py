"""Pins what rows depend on before anything imports torch, numpy or Arrow."""

from raysynth.cluster.session import pin_cpu

pin_cpu()
