"""Connects to Ray: the cluster that RAY_ADDRESS names (a submitted job has one), or an embedded one; and pins what rows depend on."""

import atexit
import os
import re
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any, TypeVar, cast

from raysynth.errors import RaysynthError, RecipeError, StoppedError

AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "ARROW_USER_SIMD_LEVEL": "AVX2",
}
"""AVX2 and AVX-512 differ in the last bits; with these every x86-64 CPU of the last decade gives the same rows (design, section 6).
numpy and OpenCV have switches of their own, since they complain of what a CPU has not: OPENCV_FEATURES and NUMPY_FEATURES, whose words
depend on the version."""

OPENCV_FEATURES = "OPENCV_CPU_DISABLE"
NUMPY_FEATURES = "NPY_DISABLE_CPU_FEATURES"
_WIDE = "X86_V4 AVX512_ICL AVX512_SPR"
_WIDE_BEFORE_2_4 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
CONNECT_SECONDS = 5.0
HEAD_SECONDS = 30.0
ANSWER_SECONDS = 5.0
START_ATTEMPTS = 3
Answer = TypeVar("Answer")
ALIVE = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
}
"""A host that is cut off is dead after 10 s; with Ray's own values the work still hangs after minutes (cluster.yaml says the same)."""

UNASKED = {"RAY_prestart_worker_first_driver": "0"}
"""Ray would start a worker for each CPU at once, before it knows our pins: none of them could ever be used (ray 2.60)."""

FIXED_POOLS = {
    f"RAY_DATA_DEFAULT_CLUSTER_SCALING_UP_{name}_UTIL_THRESHOLD": "1e9" for name in ("CPU", "GPU", "MEMORY", "OBJECT_STORE_MEMORY")
}
"""Nodes are asked for by workers that wait for one. Ray Data would ask for more on its own, of any type, and a detached actor of its would
keep them for minutes after the driver's death (ray 2.60, cluster_autoscaler/)."""

QUIET = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # by default two seconds pass before it sees that workers have begun, died or ended
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process that tells of nodes about to go: every epoch is on the store already
}
S3_CHECKSUMS = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required"}


def pin_cpu() -> None:
    """To be called before torch, numpy or Arrow are first imported: they read these once."""
    _set_defaults({**pins(), **_alive()})


def _alive() -> dict[str, str]:
    """For the Ray that is started here alone: on a cluster whose nodes do not have these values, one that pings so often is cut off (Too
    many pings). A driver there takes its node's own, which a job inherits."""
    return {} if "RAY_ADDRESS" in os.environ else {**ALIVE, **UNASKED}


def _set_defaults(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def pins() -> dict[str, str]:
    """The environment of whatever makes rows."""
    return {**AVX2, **_wide_features(), **ONE_THREAD, **QUIET, **FIXED_POOLS, **S3_CHECKSUMS}


def is_embedded() -> bool:
    """Whether `session` would start a Ray of its own on this machine."""
    return "RAY_ADDRESS" not in os.environ and not is_initialised()


class _Kept:
    """How many blocks of one_session are open: the Ray that is started inside stays until the last one ends."""

    blocks = 0


@contextmanager
def one_session() -> Generator[None]:
    """Every `session` inside is one and the same; Ray is only started if there is one."""
    if is_initialised():
        yield
        return
    _Kept.blocks += 1
    try:
        yield
    finally:
        _Kept.blocks -= 1
        if not _Kept.blocks and is_initialised():
            _disconnect()


def is_initialised() -> bool:
    """Asked without importing Ray, which takes seconds."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


@contextmanager
def session() -> Generator[Any]:
    """A connected Ray; an embedded one ends with the block. Workers get the same pins as the driver."""
    _set_defaults({**_alive(), **FIXED_POOLS})  # Ray reads them when it is imported, and its own processes when they start
    import ray

    connected = ray.is_initialized()
    if not connected:
        _connect(local="RAY_ADDRESS" not in os.environ)
    _quiet_data()
    try:
        with _ended_by_sigterm():
            yield ray
    finally:
        if not connected and not _Kept.blocks:
            _disconnect()


@contextmanager
def _ended_by_sigterm() -> Generator[None]:
    """As Ctrl+C ends it: what stops a service or a pod sends SIGTERM, at which Ray would abort the driver and leave its own processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _connect(*, local: bool) -> None:
    """StoppedError where this machine is too busy for a Ray of its own: a node has 30 s to start, and Ray knows no setting for that."""
    import ray

    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "runtime_env": runtime_env(local)}
    if not local:
        _check_answers(os.environ["RAY_ADDRESS"])
        os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # a job's own variables stay beside the pins
        ray.init(**options)
        return
    for _ in range(START_ATTEMPTS):
        try:
            ray.init(address="local", include_dashboard=False, object_store_memory=1 << 30, **options)
            return
        except Exception as error:
            if "timed out during startup" not in str(error):  # ray 2.60, _private/node.py: it has no class of its own
                raise
            ray.shutdown()
    raise StoppedError(
        f"Ray did not start on this machine in {START_ATTEMPTS} attempts: it is too busy. Run the same command again to go on"
    )


def within(seconds: float, ask: Callable[[], Answer]) -> Answer | None:
    """What Ray answers; None where it takes longer, or raises whatever its transport does. Its own deadlines are no upper bounds: without a
    head its calls wait until it ends the whole process."""
    answers: list[Answer] = []

    def run() -> None:
        with suppress(Exception):
            answers.append(ask())

    asking = threading.Thread(target=run, daemon=True, name="raysynth-ask")
    asking.start()
    asking.join(seconds)
    return answers[0] if answers else None


def _disconnect() -> None:
    """From a head that is silent one cannot take leave: Ray would end the process before it could say what happened."""
    import ray
    from ray._private import worker

    if "RAY_ADDRESS" in os.environ and within(ANSWER_SECONDS, ray.nodes) is None:
        atexit.unregister(worker.shutdown)
        atexit.register(_leave, _exit_code(sys.exception()))
        return
    ray.shutdown()


def _exit_code(error: BaseException | None) -> int:
    """The command's own, as the command line has it."""
    if isinstance(error, KeyboardInterrupt):
        return StoppedError.exit_code
    return 0 if error is None else getattr(error, "exit_code", 1)


def _leave(code: int) -> None:
    """At the process's end: Ray's threads, which still wait for the head, would crash it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _check_answers(address: str) -> None:
    """Ray itself would try for minutes, and with whoever is no head of Ray for ever, without a word."""
    if address.startswith(("http://", "https://")):
        raise RecipeError(
            f"RAY_ADDRESS '{address}': is a dashboard's URL. Give the head's own address, such as HOST:6379, or send the recipe there "
            "by `raysynth submit --address`"
        )
    found = re.fullmatch(r"(ray://)?\[?([^/]+?)\]?:(\d+)", address)
    if found is None:  # auto, or some service's own scheme
        return
    try:
        socket.create_connection((found[2], int(found[3])), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RaysynthError(
            f"RAY_ADDRESS '{address}': nobody answers there ({error}). Start Ray there, or unset RAY_ADDRESS"
        ) from None
    if not found[1] and within(HEAD_SECONDS, lambda: _asks_head(address)) is None:
        raise RaysynthError(
            f"RAY_ADDRESS '{address}': who listens there has not answered as Ray's head for {HEAD_SECONDS:g} s. Its port is 6379, if "
            "nobody changed it; the dashboard's is another"
        )


def _asks_head(address: str) -> bool:
    """Returns once it has answered, whatever it said: ray.init tells what is wrong then."""
    from ray import _raylet

    with suppress(Exception):
        cast("Any", _raylet).GcsClient(address=address).get_all_node_info(timeout=HEAD_SECONDS)
    return True


def runtime_env(local: bool) -> dict[str, Any]:
    """What Ray's workers start with: the driver's pins, and on this machine the driver's interpreter. Ray hands the interpreter's path to
    a shell as it is (ray 2.60, runtime_env/context.py): one with a space in it must come quoted, or no worker ever starts."""
    names = (*AVX2, NUMPY_FEATURES, OPENCV_FEATURES, *ONE_THREAD, *QUIET, *FIXED_POOLS, *S3_CHECKSUMS)
    pinned = {name: os.environ[name] for name in names if name in os.environ}
    quoted = shlex.quote(sys.executable)
    return {"env_vars": pinned, **({"py_executable": quoted} if local and quoted != sys.executable else {})}


def _quiet_data() -> None:
    """raysynth shows its own progress; of Ray Data only warnings are worth a line."""
    import logging

    from ray.data import DataContext

    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _wide_features() -> dict[str, str]:
    """What numpy and OpenCV must not use. They warn of features that this CPU or this version does not know, and then keep using the
    others."""
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123 (no Path yet: this runs before everything else)
            wide = "avx512f" in lines.read()
    except OSError:
        wide = False
    if not wide:
        return {}
    major, minor = (int(number) for number in version("numpy").split(".")[:2])
    return {NUMPY_FEATURES: _WIDE if (major, minor) >= (2, 4) else _WIDE_BEFORE_2_4, OPENCV_FEATURES: "AVX512-SKX"}
