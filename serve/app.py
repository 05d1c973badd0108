"""The door for Ray Serve: `args` of serve/config.yaml → the application. `serve deploy serve/config.yaml` from the checkout."""

from ray.serve import Application

from raysynth.serving.app import build as build_application
from raysynth.serving.settings import Settings


def build(args: Settings) -> Application:
    return build_application(args)
