"""One local Ray for all integration tests."""

import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    import ray

    from raysynth.cluster.session import runtime_env, session

    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp") as folder:
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=512 << 20,
            _temp_dir=folder,
            runtime_env=runtime_env(local=True),
        )
        with session():
            yield
        ray.shutdown()
