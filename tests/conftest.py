"""Shared by all tests: 8 forced CPU devices, one compilation cache, where real data may lie.

Set before jax starts; real data are looked for in $CAPAX_DATA (default ../shared/data).
"""

import os
import pathlib
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Unoptimised programs compile sooner, and a test runs what it compiles a few times at most.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
CACHE = pathlib.Path(
    os.environ.setdefault("CAPAX_TEST_CACHE", f"{tempfile.gettempdir()}/capax-test-cache")
)
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE / "xla")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
os.environ["XDG_CACHE_HOME"] = str(CACHE)  # shapes and features are built once for the suite

import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = pathlib.Path(os.environ.get("CAPAX_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data():
    """real_data("flickr8k") → its folder, or the test is skipped with a reason."""

    def find(*parts: str) -> pathlib.Path:
        path = DATA.joinpath(*parts)
        if not path.exists():
            pytest.skip(f"real data {'/'.join(parts)} not present (set CAPAX_DATA)")
        return path

    return find
