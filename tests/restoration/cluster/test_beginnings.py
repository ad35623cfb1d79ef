"""How a run comes by its Ray: what is too slow, too small or not there is said in words."""

import os

import pytest
from tests.restoration.cluster.handing import MARKS

from snowmelt.cli.errors import report
from snowmelt.restoration.cluster import _PATIENT, Cluster

pytestmark = MARKS
CPUS = {"CPU": 1.0, "memory": 1e9}


class FakeRay:
    """A Ray of some machines, or one that does not begin."""

    def __init__(self, *machines, error=None):
        self.machines, self.error, self.asked, self.ended = machines, error, {}, False

    def is_initialized(self):
        return False

    def init(self, **options):
        self.asked = options
        if self.error is not None:
            raise self.error

    def nodes(self):
        return [{"Resources": machine, "Alive": bool(machine)} for machine in self.machines]

    def cluster_resources(self):
        return {name: sum(machine.get(name, 0.0) for machine in self.machines) for name in ("CPU", "GPU")}

    def shutdown(self):
        self.ended = True


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """What a start sets is forgotten after each test."""
    for name in ("RAY_ADDRESS", "RAY_USAGE_STATS_ENABLED", "RAY_BACKEND_LOG_LEVEL", *_PATIENT):
        monkeypatch.setenv(name, "")  # that it may be put back
        monkeypatch.delenv(name)


@pytest.fixture
def meet(monkeypatch):
    def met(ray, cluster, device="cpu"):
        monkeypatch.setattr("snowmelt.restoration.cluster.required", lambda: ray)
        monkeypatch.setattr(Cluster, "_handed_out", lambda self, ray, errand, tasks, size, many, gpus: iter([str(many)]))
        with cluster.met(device) as workers:
            return int(*workers(None, [], 1))

    return met


@pytest.mark.parametrize("kind", [Exception, RuntimeError, AssertionError, ConnectionError, KeyError])
def test_a_ray_that_does_not_begin_is_no_bug_of_ours(kind, meet, capsys, monkeypatch):
    slow = FakeRay(error=kind("The current node timed out during startup."))
    way_out = r"try again, with fewer other programs running, or leave --engine ray out"
    with pytest.raises(OSError, match=rf"{way_out} \(.*timed out during startup") as told:
        meet(slow, Cluster())
    report(told.value)
    assert "a bug in snowmelt" not in capsys.readouterr().err
    monkeypatch.setenv("RAY_ADDRESS", "there:1")
    with pytest.raises(OSError, match="no Ray answers at RAY_ADDRESS=there:1: unset it"):
        meet(slow, Cluster())


def test_a_slow_machine_gets_time_unless_one_has_said_how_much(meet, monkeypatch):
    first, second = list(_PATIENT)[:2]
    monkeypatch.setenv(first, "7")
    meet(FakeRay(CPUS), Cluster())
    assert os.environ[first] == "7"
    assert int(os.environ[second]) >= 120
    for name in _PATIENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "there:1")
    meet(FakeRay(CPUS), Cluster())
    assert os.environ.keys().isdisjoint(_PATIENT)  # that one has begun


def test_the_ray_that_is_installed_reads_what_it_is_told():
    """The names of these settings are Ray's affair; one that it no longer knows would be without effect, and nobody would see it."""
    ray = pytest.importorskip("ray")
    place = os.path.dirname(ray.__file__)
    known = b""
    for part in ("core/src/ray/raylet/raylet", "_private/node.py"):
        with open(os.path.join(place, part), "rb") as file:
            known += file.read()
    assert [name for name in _PATIENT if name.encode() not in known] == []


@pytest.mark.parametrize(
    ("machines", "threads", "device", "many"),
    [
        ([CPUS, CPUS], 1, "cpu", 2),
        ([{"CPU": 3.0}, {"CPU": 5.0}, {}], 2, "cpu", 3),
        ([{"CPU": 4.0, "GPU": 2.0}, {"CPU": 16.0}], 1, "cuda", 2),
        ([{"CPU": 4.0, "GPU": 3.0}, {"CPU": 1.0, "GPU": 1.0}], 2, "cuda", 2),
    ],
)
def test_workers_are_as_many_as_the_machines_have_room_for_each(machines, threads, device, many, meet):
    assert meet(FakeRay(*machines), Cluster(threads=threads), device) == many
    assert meet(FakeRay(*machines), Cluster(1, threads=threads), device) == 1


@pytest.mark.parametrize(
    ("machines", "threads", "device", "why"),
    [
        ([CPUS, CPUS], 2, "cpu", "no machine of the cluster has 2 CPUs, which one worker takes: give fewer --threads"),
        ([{"CPU": 4.0}], 1, "cuda", "has 1 CPU and a GPU, which one worker takes: give fewer --threads, or another --device"),
    ],
)
def test_a_worker_that_fits_on_no_machine_is_not_waited_for(machines, threads, device, why, meet):
    ray = FakeRay(*machines)
    with pytest.raises(OSError, match=why):
        meet(ray, Cluster(threads=threads), device)
    assert ray.ended
