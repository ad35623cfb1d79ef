"""Batches ahead: what a step is fed is prepared by threads while the network works on the step before.

Worth a thread where the network computes on another device than the one that draws. Where both share a CPU's cores it is not, and the
loop leaves it off. A batch is a function of its sample numbers alone, so the results are the same with and without, whatever the number of threads.
They are threads, not processes: none can vanish unseen, and what goes wrong in one is raised in the loop, at the batch that it would have made.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """A function of ranges of sample numbers, called for the next ranges in threads: ``with Ahead(make, following) as made: made(numbers)``.

    Args:
        make: what is called; its exceptions are raised where the result is asked for.
        following: which range will be asked for after another; None at the end.
        workers: threads, and ranges begun ahead.

    Example:
        >>> with Ahead(sum, lambda numbers: range(3, 6) if numbers.start == 0 else None) as made:
        ...     made(range(0, 3)), made(range(3, 6))
        (3, 12)
    """

    def __init__(self, make: Callable[[range], T], following: Callable[[range], range | None], workers: int = 1) -> None:
        self._make, self._following, self._workers = make, following, workers
        self._thread = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="ahead")
        self._begun: dict[range, Future[T]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)  # what it works on is a batch: soon done

    def __call__(self, numbers: range) -> T:
        """What `make` returns for these numbers; those that follow are begun."""
        coming: list[range] = []
        after = self._following(numbers)
        while after is not None and len(coming) < self._workers:
            coming.append(after)
            after = self._following(after)
        now = self._begun.pop(numbers, None)
        for stale in self._begun.keys() - set(coming):  # of another order than was expected, nothing is kept
            self._begun.pop(stale).cancel()
        now = now or self._thread.submit(self._make, numbers)
        for one in coming:
            if one not in self._begun:
                self._begun[one] = self._thread.submit(self._make, one)
        return now.result()


@contextlib.contextmanager
def feeding(make: Callable[[range], T], following: Callable[[range], range | None], workers: int) -> Iterator[Callable[[range], T]]:
    """While this lasts, a function that returns what `make` does, prepared ahead by so many threads; `make` itself where there are none."""
    if not workers:
        yield make
        return
    with Ahead(make, following, workers) as made:
        yield made
