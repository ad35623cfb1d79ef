"""A collection on a cluster: Ray Data hands out the jobs, and each worker does what one process would.

What is handed out is the plan, a line of text for each file (:mod:`snowmelt.restoration.errands`), not pixels: workers read the inputs and write
the results themselves, so every machine needs both folders under one path. The work, model and all, goes once to every worker. Random numbers are
keyed by the path below the input, so whoever restores a picture restores it to the same bits; but a worker has one thread unless told, and the last
digits of a network may depend on the number of threads.

The first process plans, skips what is there, keeps the journal and speaks, as it does alone. A worker that dies takes with it what it was at; that is
handed out again, file by file, at last to a worker of its own, and what that dies of, too, is a failure like any other.

Moritz et al., *Ray: a distributed framework for emerging AI applications*, OSDI 2018.
"""

import contextlib
import dataclasses
import logging
import math
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snowmelt import processes, registry
from snowmelt._version import __version__
from snowmelt.restoration.errands import Errand, Outcome, job_text, line, outcome_of
from snowmelt.restoration.plan import Failure, Job

if TYPE_CHECKING:
    from snowmelt.restoration.loop import Loop
    from snowmelt.restoration.work import Work

_ADDRESS = "RAY_ADDRESS"
_PIECES, _MOST = 2000, 64  # a piece is what a worker gets at once: one file where there are few, some where Ray itself would cost more than they do
_FEW = 8  # that may be handed out one after the other, each to a worker that begins for it
LOST = "the worker that had it died, and so did those that were given it again: is there memory enough?"
_FAILED = "!"
Errands = Callable[[Sequence[str]], Iterator[str]]
Workers = Callable[[Errands, Sequence[str], int | None], Iterator[str]]
# What Ray gives its own parts to begin in is half a minute, which is not enough where other programs take the machine.
_PATIENT = {
    "RAY_gcs_server_port_wait_time_s": "180",
    "RAY_raylet_start_wait_time_s": "180",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_worker_register_timeout_seconds": "600",
}


@dataclass(frozen=True)
class Cluster:
    """Where the jobs go: to the Ray at RAY_ADDRESS, or, without one, to a Ray of this machine that ends with the run.

    Attributes:
        workers: how many at once; None is all that the CPUs are enough for, or the GPUs.
        threads: of each worker. Results are those of one process with as many threads, bit for bit.

    Raises:
        ValueError: one of them lies under 1.
    """

    workers: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        for name, value in (("workers", self.workers), ("threads", self.threads)):
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value} lies under 1: leave it out")

    def take(self, loop: "Loop[Any]") -> None:
        """Let the jobs of a loop be carried out here."""
        errand = Errand(portable(loop.work), loop.plan.kind, loop.batch)
        loop.elsewhere = lambda jobs: self.outcomes(errand, jobs, loop.work.device, len(loop.sentences))
        loop.watch = type(loop.watch)(None, loop.work.device)  # of networks elsewhere it knows nothing

    def outcomes(self, errand: Errand, jobs: Sequence[Job], device: str, sentences: int) -> Iterator[Outcome]:
        """What becomes of the jobs, as it becomes known; of each it is told once.

        Raises:
            OSError: there is no cluster, or its workers cannot begin.
            ValueError: Ray is not installed.
        """
        left, numbers = {job.number: job for job in jobs}, {job.source: job.number for job in jobs}
        if not left:
            return
        most = None if errand.batch is None else max(min(_MOST, len(left) // _PIECES), errand.batch)
        with self.met(device) as workers:
            for text in handed_again(workers, errand, lambda: [job_text(job) for job in left.values()], most):
                told = outcome_of(text, left)
                for number in [*(job.number for job, _ in told.finished), *(numbers[failure.source] for failure in told.failed)]:
                    left.pop(number)
                yield told
        if left:
            yield Outcome([], [Failure(job.source, LOST) for job in left.values()], remarks=[0] * sentences)

    @contextlib.contextmanager
    def met(self, device: str) -> Iterator[Workers]:
        """What hands out tasks (a function, the tasks, and how many a worker gets at once) and gives back what is told of them, while this lasts.

        How many at once is as :func:`in_pieces` takes it.

        Raises:
            OSError: there is no cluster, or its workers cannot begin.
            ValueError: Ray is not installed.
        """
        ray = required()
        gpus = 1 if device.startswith("cuda") else 0
        own = not ray.is_initialized()
        if own:
            self._start(ray, gpus)
        try:
            room = sum(self._fit(node["Resources"], gpus) for node in ray.nodes() if node["Alive"])
            if room < 1:
                need, give = f"{self.threads} CPU{'s' if self.threads > 1 else ''}", "fewer --threads"
                need, give = (f"{need} and a GPU", f"{give}, or another --device") if gpus else (need, give)
                raise OSError(f"no machine of the cluster has {need}, which one worker takes: give {give}")
            many = min(self.workers or room, room)
            yield lambda errand, tasks, size: self._handed_out(ray, errand, tasks, size, many, gpus)
        finally:
            if own:
                with _deaf():
                    ray.shutdown()

    def _fit(self, whole: Mapping[str, float], gpus: int) -> int:
        """How many workers a machine has room for; none is spread over two."""
        room = int(whole.get("CPU", 0) // self.threads)
        return min(room, int(whole.get("GPU", 0))) if gpus else room

    def _start(self, ray: Any, gpus: int) -> None:
        """Join the cluster, or begin one; nothing is reported to anybody, and there is no page of it.

        Raises:
            OSError: there is none, or none can begin.
        """
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        address = os.environ.get(_ADDRESS)
        options: dict[str, Any] = {"address": address or "local"}  # "local", or Ray would join whatever cluster it finds on this machine
        if not address:
            options["num_cpus"] = self.threads * (self.workers or max(processes.cores() // self.threads, 1))
            options |= {} if gpus else {"num_gpus": 0}
            for name, value in _PATIENT.items():
                os.environ.setdefault(name, value)
        main = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGTERM)
        try:
            with warnings.catch_warnings(), _unheard():
                warnings.simplefilter("ignore")  # of Ray's own future
                ray.init(**options, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # of no class in particular, where the machine was too slow
            here = "Ray could not be started here: try again, with fewer other programs running, or leave --engine ray out"
            way_out = f"no Ray answers at {_ADDRESS}={address}: unset it for a Ray of this machine" if address else here
            raise OSError(f"{way_out} ({line(error)})") from error
        finally:
            if main:
                signal.signal(signal.SIGTERM, before)  # Ray takes it, and would end us without a word

    def _handed_out(self, ray: Any, errand: Errands, tasks: Sequence[str], size: int | None, many: int, gpus: int) -> Iterator[str]:
        import ray.data as data

        pieces = in_pieces(tasks, size, many)
        sent = [ray.put((__version__, _plugins())), ray.put(errand)]  # held until all are through
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            crew = min(many, len(pieces))
            # One at a time: what waits at a worker is lost with it.
            pool = data.ActorPoolStrategy(min_size=1, max_size=crew, initial_size=crew, max_tasks_in_flight_per_actor=1)
            rows = data.from_items([{"tasks": list(piece)} for piece in pieces], override_num_blocks=len(pieces))
            for name, value in _SETTINGS.items():
                setattr(rows.context, name, value)
            told = rows.map_batches(
                Worker,
                batch_size=1,
                batch_format="pyarrow",
                compute=pool,
                num_cpus=self.threads,
                num_gpus=gpus or None,
                fn_constructor_args=(sent, self.threads),
                ray_remote_args_fn=_fragile,
            )
            for batch in told.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for text in batch["told"].to_pylist():
                    if text.startswith(_FAILED):
                        raise OSError(f"the workers of the cluster cannot begin: {text.removeprefix(_FAILED)}")
                    yield text


def handed_again(workers: Workers, errand: Errands, left: Callable[[], list[str]], size: int | None) -> Iterator[str]:
    """What is told of the tasks that are left. Those that are lost with their worker are handed out again.

    A worker that dies takes some more with it, those that Ray gives it before it knows. So they go round again in the other order, and the few that
    are left at last get a worker each.

    Args:
        workers: of :meth:`Cluster.met`.
        errand: what is done with the tasks.
        left: asked again and again for those of which nothing has been told.
        size: how many a worker gets at once, at first.
    """
    yield from workers(errand, left(), size)
    for order in (-1, 1):
        if len(left()) > _FEW:
            yield from workers(errand, left()[::order], 1)
    if len(alone := left()) <= _FEW:
        for task in alone:
            yield from workers(errand, [task], 1)


def in_pieces(tasks: Sequence[str], size: int | None, workers: int) -> list[Sequence[str]]:
    """Tasks in pieces of a size; None shares them out evenly, at most 64 in a piece."""
    size = size or min(_MOST, math.ceil(len(tasks) / workers))
    return [tasks[i : i + size] for i in range(0, len(tasks), size)]


# A piece that is lost with its worker is none of Ray's affair: we hand it out again. And one picture may take hours.
_SETTINGS = {
    "max_errored_blocks": -1,
    "enable_progress_bars": False,
    "enable_operator_progress_bars": False,
    "print_on_execution_start": False,
    "target_max_block_size": 1,
    "execution_no_progress_timeout_s": -1,
}


def _fragile() -> dict[str, Any]:
    return {"max_restarts": -1, "max_task_retries": 0}


class Worker:
    """What runs on the cluster: the plug-ins, then the work, once; then piece after piece.

    Args:
        sent: two references: to the version of snowmelt and the plug-ins of the process that sends, and to its errand.
        threads: to compute with.
    """

    def __init__(self, sent: Sequence[Any], threads: int) -> None:
        self.why = ""
        try:
            self.errand = _unpacked(sent, threads)
        except Exception as error:  # whatever it is, it is told to who waits for the first piece
            self.why = f"{_FAILED}{line(error)}"

    def __call__(self, batch: Any) -> Iterator[dict[str, list[str]]]:
        """What is told of each piece of a batch, which is a table with a column of lists of tasks."""
        for tasks in batch["tasks"].to_pylist():
            if self.why:
                yield {"told": [self.why]}
            else:
                for text in self.errand(tasks):
                    yield {"told": [text]}


def _unpacked(sent: Sequence[Any], threads: int) -> Errands:
    import ray
    import torch

    theirs, plugins = ray.get(sent[0])
    if theirs != __version__:
        raise RuntimeError(f"a worker has snowmelt {__version__}, and the process that sends the work {theirs}: install the same on all machines")
    for plugin in plugins:
        registry.load_plugin(plugin)
    torch.set_num_threads(threads)
    errand: Errand = ray.get(sent[1])  # now, for only now the parts of plug-ins are known here
    return dataclasses.replace(errand, work=dataclasses.replace(errand.work, model=errand.work.model.to(errand.work.device)))


def portable(work: "Work") -> "Work":
    """The work for a process in another folder, or on another machine: its weights on the CPU, its paths whole."""
    return dataclasses.replace(work, model=work.model.to("cpu"), mask=None if work.mask is None else work.mask.absolute())


def required() -> Any:
    """Ray, with Ray Data.

    Raises:
        ValueError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
            import ray.data
    except ImportError as error:
        raise ValueError(f"--engine ray needs Ray, which is not installed: pip install 'snowmelt[ray]' ({line(error)})") from None
    return ray


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Who was asked to stop, and stops, is not to be stopped at that: some seconds, in which workers end."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.pthread_sigmask(signal.SIG_BLOCK, before)  # not ignored: Ray, as it ends, gives SIGTERM back its own effect, which is death
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)  # forgets what has come meanwhile
        signal.pthread_sigmask(signal.SIG_UNBLOCK, before)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Ray's C++ says on stderr that it was told to say nothing there."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data's own account of what it does is for its developers."""
    log = logging.getLogger("ray.data")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _plugins() -> list[str]:
    """Where the parts come from that are not snowmelt's: files, and names of modules."""
    modules = registry.plugins()
    return [str(module.__file__) if module.__name__.startswith("snowmelt_plugin_") else module.__name__ for module in modules]
