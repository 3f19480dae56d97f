"""What all unit tests have in common."""

from collections.abc import Iterator

import pytest
import scipy.linalg  # noqa: F401  # brings a BLAS of its own
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session", autouse=True)
def one_thread_of_blas() -> Iterator[None]:
    """Several workers share the cores, and the matrices are small: more threads spin for each
    other, which doubles the time of a Gaussian process. Processes that tests start are free."""
    with threadpool_limits(1, user_api="blas"):
        yield
