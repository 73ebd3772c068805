"""What do 10^8 photographs cost on 1 to 64 machines, and what binds? A model, checked by a simulation.

    python benchmarks/cluster_cost.py [--photos 100000000] [--nodes 1 8 64] [--gpu-rates 300 1000 3000]

The model is a few lines of arithmetic: the slowest of GPU, decoding, network and storage binds, and failures
take machines away. The simulation knows nothing of that: it moves blocks of photographs through queues, kills
machines at random and puts their unfinished blocks back. The table has both. No GPU was measured for this;
images per second of a GPU are an input. ``ASSUMPTIONS`` has each number and where it is from.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from reporting import options, report

if TYPE_CHECKING:
    from collections.abc import Callable

ASSUMPTIONS = {
    "GPUs per machine": "8, AWS p5.48xlarge (meta-pytorch/torchx, named_resources_aws.py)",
    "decode cores per GPU": "12: the 192 vCPUs of that machine, two to a core, for 8 GPUs; Ray takes some",
    "decoding": "1.51 ms (500 x 375) and 27.5 ms (12 megapixels) on a core: benchmarks/results/decode.json",
    "bytes of a photograph": "100 kB (500 x 375) and 4 MB (12 megapixels): assumed",
    "network of a machine": "12.5 GB/s: 100 Gbit/s from S3 to one machine (AWS study group, lab 000068)",
    "storage": "10 GB/s together: assumed; AWS says that FSx for Lustre scales to terabytes a second",
    "failures": "419 in 54 days of 16,384 H100 (Llama 3, data by Meta): one in 6,335 hours of a machine",
    "repair": "one hour until another machine is there, and five minutes to load models: assumed",
    "lost by a failure": "the blocks in hand, of 1,000 photographs: what --shard and --engine ray write",
    "price": "6.88 dollars an hour of an H100: p5.48xlarge on demand, us-east-1 (data-receipts, 2026-11-09)",
    "GPU images per second": "not measured, no published figure for this pipeline found: 300, 1,000, 3,000",
    "ceiling": "BLIP base's image tower takes 111 GFLOP (docs/performance.md), an H100 has 989 TFLOP/s dense",
}
HOUR = 3600.0
Bound = Literal["GPU", "decoding", "network", "storage"]


@dataclass(frozen=True)
class Cluster:
    """Machines of one kind that take blocks of photographs from one list, over one storage.

    Attributes:
        nodes: machines.
        gpus: of each machine, each with a process that has its own cores.
        gpu_rate: images per second of a GPU that never waits.
        decode_cores: cores per GPU that decode.
        decode_s: processor seconds to decode an image.
        image_bytes: of a file, on average.
        link: bytes per second of a machine's network.
        storage: bytes per second of the storage, for all machines together.
        mean_life_s: mean seconds between failures of one machine; infinite for none.
        repair_s: seconds until a failed machine is replaced.
        start_s: seconds to load the models, at the beginning and after each failure.
        block: images per block.
        ahead: blocks that a process has in hand; 4 keep storage, network, cores and GPU busy.
    """

    nodes: int = 1
    gpus: int = 8
    gpu_rate: float = 1000.0
    decode_cores: float = 12.0
    decode_s: float = 1.51e-3
    image_bytes: float = 1e5
    link: float = 12.5e9
    storage: float = 10e9
    mean_life_s: float = 16384 / 8 * 54 * 24 * HOUR / 419
    repair_s: float = HOUR
    start_s: float = 300.0
    block: int = 1000
    ahead: int = 4


@dataclass(frozen=True)
class Estimate:
    """Seconds from the first start to the last result, and what was paid for and what binds."""

    seconds: float
    images_per_s: float
    gpu_hours: float
    bound_by: Bound


def limits(cluster: Cluster) -> dict[Bound, float]:
    """Return images per second that each part allows, all machines together and none failed."""
    return {
        "GPU": cluster.nodes * cluster.gpus * cluster.gpu_rate,
        "decoding": cluster.nodes * cluster.gpus * cluster.decode_cores / cluster.decode_s,
        "network": cluster.nodes * cluster.link / cluster.image_bytes,
        "storage": cluster.storage / cluster.image_bytes,
    }


def estimate(cluster: Cluster, images: int) -> Estimate:
    """Return time and GPU hours of a run, in closed form.

    Holds for runs that are long beside repairs. A machine lives and is repaired independently of the others,
    so the number that works is binomial; storage that binds leaves more for the others. A failure loses what
    was spent at the bottleneck: half a block per GPU on average, or all reads in hand if the storage binds.
    """
    allowed = limits(cluster)
    bound_by = min(allowed, key=lambda part: allowed[part])
    of_node = min(rate for part, rate in allowed.items() if part != "storage") / cluster.nodes
    down_s = cluster.repair_s + cluster.start_s
    works = 1.0 if math.isinf(cluster.mean_life_s) else cluster.mean_life_s / (cluster.mean_life_s + down_s)

    def useful(working: int) -> float:
        reads = working * of_node > allowed["storage"]
        lost = cluster.gpus * cluster.block * (cluster.ahead if reads else 0.5)
        return max(0.0, min(working * of_node, allowed["storage"]) - working * lost / cluster.mean_life_s)

    rate = sum(_binomial(count, cluster.nodes, works) * useful(count) for count in range(cluster.nodes + 1))
    seconds = cluster.start_s + images / rate
    return Estimate(seconds, images / seconds, cluster.nodes * cluster.gpus * seconds / HOUR, bound_by)


def _binomial(count: int, of: int, chance: float) -> float:
    return math.comb(of, count) * chance**count * (1 - chance) ** (of - count)


@dataclass(frozen=True)
class Simulated:
    """One run: its seconds, the failures, and the images that were worked on twice."""

    seconds: float
    gpu_hours: float
    failures: int
    repeated: int


def simulate(cluster: Cluster, images: int, *, seed: int = 0) -> Simulated:
    """Run a cluster event by event until each image is done.

    A process takes a block from the list, waits for the storage, then for its machine's network, decodes and
    gives it to its GPU; each of these does one block at a time, in order. A machine that fails gives its
    unfinished blocks back to the list; reads that it waited for are done in vain.

    Args:
        cluster: what to run on.
        images: how many, rounded up to whole blocks.
        seed: of the failures.
    """
    return _Run(cluster, math.ceil(images / cluster.block), random.Random(seed)).until_done()  # noqa: S311


class _Machine:
    """A machine that works: when its network, its cores and its GPUs are free, and what is in hand."""

    def __init__(self, gpus: int, now: float) -> None:
        self.link_free = now
        self.decode_free = [now] * gpus
        self.gpu_free = [now] * gpus
        self.in_hand = [0] * gpus


class _Run:
    """The state of a simulation, and what happens to it."""

    def __init__(self, cluster: Cluster, blocks: int, chance: random.Random) -> None:
        self.cluster, self.chance = cluster, chance
        self.waiting = self.left = blocks
        self.now = self.storage_free = 0.0
        self.failures = self.repeated = 0
        self.machines: list[_Machine | None] = [None] * cluster.nodes
        self.order = itertools.count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        size = cluster.block * cluster.image_bytes
        self.storage_s, self.link_s = size / cluster.storage, size / cluster.link
        self.decode_s = cluster.block * cluster.decode_s / cluster.decode_cores
        self.gpu_s = cluster.block / cluster.gpu_rate

    def until_done(self) -> Simulated:
        for node in range(self.cluster.nodes):
            self.at(self.cluster.start_s, partial(self.starts, node))
        while self.left:
            self.now, _, happens = heapq.heappop(self.events)
            happens()
        gpu_hours = self.cluster.nodes * self.cluster.gpus * self.now / HOUR
        return Simulated(self.now, gpu_hours, self.failures, self.repeated)

    def at(self, when: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(self.order), happens))

    def starts(self, node: int) -> None:
        machine = self.machines[node] = _Machine(self.cluster.gpus, self.now)
        if not math.isinf(self.cluster.mean_life_s):
            life = self.chance.expovariate(1 / self.cluster.mean_life_s)
            self.at(self.now + life, partial(self.fails, node, machine))
        self.fill(node, machine)

    def fails(self, node: int, machine: _Machine) -> None:
        self.machines[node] = None
        self.failures += 1
        self.waiting += sum(machine.in_hand)
        self.repeated += sum(machine.in_hand) * self.cluster.block
        self.at(self.now + self.cluster.repair_s + self.cluster.start_s, partial(self.starts, node))
        for other, idle in enumerate(self.machines):  # at the end of the list there are some
            if idle:
                self.fill(other, idle)

    def fill(self, node: int, machine: _Machine) -> None:
        """Give each process what it may have in hand, in turns."""
        for _ in range(self.cluster.ahead):
            for gpu in range(self.cluster.gpus):
                self.takes(node, machine, gpu)

    def takes(self, node: int, machine: _Machine, gpu: int) -> None:
        """Let a process take one block, if it may; each step serves the first that came."""
        if not self.waiting or machine.in_hand[gpu] >= self.cluster.ahead:
            return
        self.waiting -= 1
        machine.in_hand[gpu] += 1
        self.storage_free = max(self.now, self.storage_free) + self.storage_s
        machine.link_free = max(self.storage_free, machine.link_free) + self.link_s
        machine.decode_free[gpu] = max(machine.link_free, machine.decode_free[gpu]) + self.decode_s
        machine.gpu_free[gpu] = max(machine.decode_free[gpu], machine.gpu_free[gpu]) + self.gpu_s
        self.at(machine.gpu_free[gpu], partial(self.finishes, node, machine, gpu))

    def finishes(self, node: int, machine: _Machine, gpu: int) -> None:
        if self.machines[node] is machine:  # it did not fail meanwhile
            self.left -= 1
            machine.in_hand[gpu] -= 1
            self.takes(node, machine, gpu)


PHOTOGRAPHS = {
    "500 x 375": Cluster(decode_s=1.51e-3, image_bytes=1e5),
    "12 megapixels": Cluster(decode_s=27.5e-3, image_bytes=4e6),
}
DOLLARS = 6.88
PEAK, TOWER = 989e12, 111e9
STRESS = 24 * HOUR
COLUMNS = [
    "photographs", "GPU images/s", "machines", "binds", "images/s", "hours", "GPU hours", "simulated",
    "$ per million", "failures",
]  # fmt: skip


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--photos", type=int, default=10**8)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--gpu-rates", type=float, nargs="+", default=[300, 1000, 3000])
    parser.add_argument("--seeds", type=int, default=3, help="simulated runs per row")
    given = parser.parse_args()
    rows = [
        row(name, replace(kind, nodes=nodes, gpu_rate=rate), given)
        for name, kind in PHOTOGRAPHS.items()
        for rate in given.gpu_rates
        for nodes in given.nodes
    ]
    stressed = {
        str(nodes): against(Cluster(nodes=nodes, gpu_rate=given.gpu_rates[0], mean_life_s=STRESS), given)
        for nodes in given.nodes
    }
    worst = max(abs(cells[6] / cells[7] - 1) for cells in rows)
    findings = {
        "model and simulation differ by at most": worst,
        "the same with a failure a day on each machine": max(stressed.values()),
        "a failure a day, by machines": stressed,
        "cores per GPU that decode as fast as it tags": {
            name: {f"{rate:g} images/s": rate * kind.decode_s for rate in given.gpu_rates}
            for name, kind in PHOTOGRAPHS.items()
        },
        "dollars per million, 12 megapixels, 8 machines, 1,000 images/s": by_cores_and_storage(given.photos),
        "ceiling of an H100, images/s": PEAK / TOWER,
        "GPU hours at that ceiling": given.photos / (PEAK / TOWER) / HOUR,
        "assumptions": ASSUMPTIONS,
    }
    report("cluster_cost", given, COLUMNS, rows, findings=findings)


def row(name: str, cluster: Cluster, given: Any) -> list[Any]:
    guess, runs = estimate(cluster, given.photos), simulated(cluster, given)
    return [
        name,
        cluster.gpu_rate,
        cluster.nodes,
        guess.bound_by,
        guess.images_per_s,
        guess.seconds / HOUR,
        guess.gpu_hours,
        fmean(run.gpu_hours for run in runs),
        DOLLARS * guess.gpu_hours / given.photos * 1e6,
        fmean(run.failures for run in runs),
    ]


def by_cores_and_storage(photos: int) -> dict[str, dict[str, float]]:
    """How the cost of large photographs depends on decode cores per GPU, and on the storage."""
    return {
        f"{cores} cores per GPU": {
            f"{storage} GB/s": DOLLARS * estimate(cluster, photos).gpu_hours / photos * 1e6
            for storage in (1, 10, 100)
            for cluster in [
                replace(PHOTOGRAPHS["12 megapixels"], nodes=8, decode_cores=cores, storage=storage * 1e9)
            ]
        }
        for cores in (4, 12, 24, 48)
    }


def against(cluster: Cluster, given: Any) -> float:
    """How far the model is from the mean of the simulated runs, as a share."""
    runs = simulated(cluster, given)
    return abs(estimate(cluster, given.photos).seconds / fmean(run.seconds for run in runs) - 1)


def simulated(cluster: Cluster, given: Any) -> list[Simulated]:
    return [simulate(cluster, given.photos, seed=seed) for seed in range(given.seeds)]


if __name__ == "__main__":
    main()
