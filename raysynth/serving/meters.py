"""What a server does → Prometheus metrics of Ray's agent port (ray_raysynth_…), for deploy/monitoring."""

from ray.util.metrics import Counter, Gauge, Histogram

SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100]


class RayMeters:
    """One for each replica; Ray adds the node and the worker as tags."""

    def __init__(self) -> None:
        self._requests = Counter("raysynth_requests", "Requests answered", ("route", "status"))
        self._seconds = Histogram("raysynth_request_seconds", "From a request's first byte to its last", SECONDS, ("route",))
        self._rows = Counter("raysynth_rows_sampled", "Rows sampled", ("model",))
        self._sampling = Histogram("raysynth_sampling_seconds", "Waiting and sampling of up to 4,096 rows", SECONDS, ("model",))
        self._encoding = Histogram("raysynth_encoding_seconds", "Encoding of up to 4,096 rows", SECONDS, ("format",))
        self._waiting = Gauge("raysynth_rows_owed", "Rows asked for and not yet sent")
        self._refused = Counter("raysynth_requests_refused", "Requests refused for a limit", ("reason",))

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.inc(1, {"route": route, "status": str(status)})
        self._seconds.observe(seconds, {"route": route})

    def sampled(self, model: str, rows: int, seconds: float) -> None:
        self._rows.inc(rows, {"model": model})
        self._sampling.observe(seconds, {"model": model})

    def encoded(self, format: str, rows: int, seconds: float) -> None:
        self._encoding.observe(seconds, {"format": format})

    def waiting(self, rows: int) -> None:
        self._waiting.set(rows)

    def refused(self, reason: str) -> None:
        self._refused.inc(1, {"reason": reason})
