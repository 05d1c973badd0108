"""Doors for Ray Serve: `build`, args of a Serve configuration → the application, and `app`, the one that config.yaml beside this file
describes: `serve build serve.app:app` and `serve run serve.app:app` want an application, not its builder."""

from pathlib import Path

from ray.serve import Application

from raysynth.serving.app import build as build_application
from raysynth.serving.settings import Settings
from raysynth.yaml_text import read_yaml

CONFIG = Path(__file__).with_name("config.yaml")


def build(args: Settings) -> Application:
    return build_application(args)


def __getattr__(name: str) -> Application:
    """`app` is made when it is asked for: whoever wants `build` alone needs no config.yaml."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    described = read_yaml(CONFIG.read_text(encoding="utf-8"), str(CONFIG))
    return build(Settings.model_validate(described["applications"][0]["args"]))
