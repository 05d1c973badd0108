"""Requests of a Remote generator → replies, each stored in the folder before it is used: whoever resumes repeats no call."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from raysynth.layout import Facts
from raysynth.markers import canonical, digest
from raysynth.runs import Folder


@dataclass(frozen=True)
class StoredReplies:
    """`_raysynth/replies/<2 hex digits>/<hash of the request>.json`. The first reply that is stored counts, for every driver."""

    folder: Folder
    send: Callable[[Facts], Facts]

    def __call__(self, requests: list[Facts]) -> list[Facts]:
        known: dict[str, Facts] = {}
        for request in requests:
            key = digest(canonical(request))
            if key not in known:
                known[key] = self._reply(key, request)
        return [known[digest(canonical(request))] for request in requests]

    def _reply(self, key: str, request: Facts) -> Facts:
        url = self.folder.system_url("replies", key[:2], f"{key}.json")
        try:
            return cast("Facts", json.loads(self.folder.store.read(url)))
        except FileNotFoundError:
            reply = self.send(request)
            if self.folder.store.put(url, canonical(reply)):
                return reply
            return cast("Facts", json.loads(self.folder.store.read(url)))
