"""The ASGI application in the test's own process, without Ray."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from silent import SilentMeters

from raysynth import formats
from raysynth.keys import Key, Keyring
from raysynth.serving.api import AskJob, Job, not_found
from raysynth.serving.jobs import JobStore
from raysynth.serving.registry import Published, Registry, Served
from raysynth.serving.routes import make_app
from raysynth.serving.service import Service
from raysynth.serving.settings import Settings


class Server:
    """The application with a key, in this process; `model`: of the samples that it is asked for."""

    def __init__(self, run: str, folder: Path, model: str = "shop", **limits: Any) -> None:
        self.model = model
        self.keyring = Keyring(str(folder / "keys.json"))
        self.token = self.keyring.new("tests")[1]
        self.jobs = JobStore(str(folder / "jobs"))
        asked = Settings.model_validate({"runs": (run,), **limits})
        loaded: dict[str, Served] = {}

        async def load(published: Published) -> Served:
            if published.key not in loaded:
                loaded[published.key] = Served(published)
            return loaded[published.key]

        self.service = Service(asked, Registry(asked.runs, asked.refresh_seconds), load, SilentMeters())
        self.app = make_app(self.service, self.jobs, self._start_job, self.keyring.checked)

    async def _start_job(self, key: Key, idempotency_key: str, ask: AskJob) -> tuple[Job, bool]:
        raise not_found("jobs need Ray: see tests/integration")

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token or self.token}"}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url="http://here", headers=headers
        )

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            async with self.client() as client:
                return await client.request(method, path, **more)

        return asyncio.run(asked())

    def sample(self, ask: Mapping[str, Any], format: str = "arrow") -> httpx.Response:
        return self.ask("POST", f"/v1/models/{self.model}/sample", json=dict(ask), headers={"accept": formats.FORMATS[format]})
