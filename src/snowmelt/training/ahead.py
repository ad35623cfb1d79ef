"""One batch ahead: what a step is fed is prepared while the network works on the step before.

Worth a thread where the network computes on another device than the one that draws. Where both share a CPU's cores it is not, and the
loop leaves it off. A batch is a function of its sample numbers alone, so the results are the same with and without.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """A function of ranges of sample numbers, called for the next range in a thread of its own: ``with Ahead(make, end) as made: made(numbers)``.

    Args:
        make: what is called; its exceptions are raised where the result is asked for.
        end: the first number that will never be asked for.

    Example:
        >>> with Ahead(sum, 6) as made:
        ...     made(range(0, 3)), made(range(3, 6))
        (3, 12)
    """

    def __init__(self, make: Callable[[range], T], end: int) -> None:
        self._make, self._end = make, end
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead")
        self._begun: dict[range, Future[T]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)  # what it works on is a batch: soon done

    def __call__(self, numbers: range) -> T:
        """What `make` returns for these numbers; the as many that follow are begun."""
        begun = self._begun.pop(numbers, None)
        for stale in self._begun.values():  # of another order than was expected, nothing is kept
            stale.cancel()
        self._begun.clear()
        now = begun or self._thread.submit(self._make, numbers)
        following = range(numbers.stop, min(numbers.stop + len(numbers), self._end))
        if following:
            self._begun[following] = self._thread.submit(self._make, following)
        return now.result()
