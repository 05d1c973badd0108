"""What a server is told: runs, where jobs and keys lie, its limits. From the command line, or `args` of a Ray Serve configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raysynth.errors import RecipeError
from raysynth.yaml_text import read_yaml


class Settings(BaseModel):
    """Every number is a cap of one replica, unless it says otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runs: tuple[str, ...] = Field(min_length=1, description="URLs of published runs; a model's id is the name of its recipe")
    keys: str | None = Field(
        None, description="URL of the file with the hashed keys; by default what RAYSYNTH_KEYS names, or the user's own"
    )
    jobs: str | None = Field(None, description="URL below which jobs write; without it there are none")
    max_rows: int = Field(100_000, ge=1, description="of one sample; more is a job")
    max_picture_bytes: int = Field(
        1 << 28,
        ge=1,
        description="of one sample's pictures, as bare pixels: of a model with images it bounds the rows; more is a job",
    )
    max_waiting_rows: int = Field(1_000_000, ge=1, description="asked for and not yet sent; beyond it requests get 429")
    max_requests: int = Field(256, ge=1, description="answered at once; beyond it requests get 429")
    max_body_bytes: int = Field(65_536, ge=1)
    timeout_seconds: float = Field(60, gt=0, description="of one sample")
    models_per_replica: int = Field(4, ge=1, description="kept in memory; the least recently used goes")
    refresh_seconds: float = Field(5, gt=0, description="how often published.json is looked at for a newer version")
    replicas: int = Field(1, ge=1, description="that answer requests, at least")
    max_replicas: int = Field(4, ge=1, description="that answer requests, at most: Serve scales between the two")
    job_replicas: int = Field(1, ge=1, description="that write the parts of jobs")
    replica_cpus: float = Field(1, gt=0, description="of each replica that samples")


def read_settings(path: Path | None, told: Mapping[str, Any]) -> Settings:
    """A YAML file's keys, and over them those of `told` that are not None. RecipeError names what is wrong."""
    try:
        found: Any = read_yaml(path.read_text(), str(path)) if path is not None else {}
    except OSError as error:
        raise RecipeError(f"--settings {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"--settings {path}: it is not UTF-8 text") from None
    if not isinstance(found, dict):
        raise RecipeError(f"--settings {path}: must be keys and values, such as `max_rows: 1000000`")
    try:
        return Settings.model_validate({**found, **{key: value for key, value in told.items() if value is not None}})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise RecipeError(f"settings: {'; '.join(lines)}. Allowed: {', '.join(Settings.model_fields)}") from None
