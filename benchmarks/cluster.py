"""Tag many photographs on a local Ray cluster, kill what can be killed, and compare with one process.

    python benchmarks/cluster.py --photos 5000 --actors 2
    python benchmarks/cluster.py --photos 400 --processes 1 2

Makes the photographs from the examples of the documentation, each with its own content. Does what ``autotag
tag --engine ray`` does in a program of its own, kills that with SIGKILL after a third, starts it again and
kills an actor half-way, then tags the same photographs in this process, and compares the rows. Prints the
seconds of each part and the most that the object store held. With ``--processes``, only tags the photographs
with that many processes of ``autotag tag --shard``, which share the cores, and prints the images per second.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from PIL import Image

import autotag
from autotag.distributed.ray_data import _LOCAL_SETTINGS, tag_images
from autotag.distributed.shards import Shard, ShardWriter, read_shards

EXAMPLES = sorted((Path(__file__).parents[1] / "docs" / "examples").glob("*.jpg"))


def make_photos(folder: Path, count: int, size: int) -> list[Path]:
    """Crops of the examples, each from another place."""
    made = []
    for number in range(count):
        with Image.open(EXAMPLES[number % len(EXAMPLES)]) as example:
            left, top = number * 7 % (example.width // 4), number * 5 % (example.height // 4)
            crop = example.convert("RGB").crop((left, top, example.width, example.height))
        crop.thumbnail((size, size))
        path = folder / f"{number:06}.jpg"
        crop.save(path, quality=90)
        made.append(path)
    return made


def store_peak(stop: threading.Event, peak: list[float]) -> None:
    """Ask Ray for the memory of its object store, until told to stop."""
    from ray._private.internal_api import memory_summary

    while not stop.wait(1):
        found = re.search(r"Plasma memory usage (\d+) MiB", memory_summary(stats_only=True))
        peak[0] = max(peak[0], float(found[1]) if found else 0)


def actor_pids() -> list[int]:
    """The processes of Ray that hold models."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            if command.startswith("ray::MapWorker") and "_ActorTagger" in command:
                found.append(int(process.name))
    return found


def words(result: autotag.records.Result) -> tuple[object, ...]:
    """A result without its scores, whose last digits depend on the batch."""
    return result.source, result.size, result.caption, result.tag_texts, result.prompt, result.error


def driver(photos: list[Path], tags: Path, args: argparse.Namespace) -> None:
    """One run: what is missing, on a cluster of this machine."""
    os.environ.update(_LOCAL_SETTINGS, RAY_memory_monitor_refresh_ms="0")
    import ray

    ray.init(
        num_cpus=args.actors + 2,
        object_store_memory=args.store * 2**20,
        include_dashboard=False,
        log_to_driver=False,
    )
    config = autotag.load(args.preset, device="cpu").to_config()
    writer = ShardWriter(tags, Shard(1, 1), config=config, block_size=args.block)
    missing = writer.missing(photos)
    print(f"{writer.done} done before, {len(missing)} to do", flush=True)
    stop, peak = threading.Event(), [0.0]
    watcher = threading.Thread(target=store_peak, args=(stop, peak), daemon=True)
    watcher.start()
    started, killed = time.perf_counter(), False
    for done, result in enumerate(tag_images(missing, config, actors=args.actors, batch_size=args.batch), 1):
        writer.write(result)
        if args.kill_actor and not killed and done > len(missing) // 2:
            killed = True
            [victim, *_] = actor_pids()
            os.kill(victim, signal.SIGKILL)
            print(f"actor {victim} killed after {done}", flush=True)
    writer.close()
    stop.set()
    seconds = time.perf_counter() - started
    print(
        f"{len(missing)} in {seconds:.1f} s, object store at most {peak[0]:.0f} MiB of {args.store}",
        flush=True,
    )


def in_processes(count: int, photos: Path, tags: Path, preset: str) -> float:
    """Images per second of ``count`` processes, one shard each; loading the models is not counted."""
    cores = len(os.sched_getaffinity(0))
    env = {**os.environ, "OMP_NUM_THREADS": str(max(1, cores // count))}
    program = "from autotag.cli.main import main; main()"
    command = [sys.executable, "-c", program, "tag", str(photos), "--preset", preset, "--device", "cpu"]
    running = [
        subprocess.Popen(  # noqa: S603
            [*command, "--output", str(tags), "--shard", f"{number}/{count}"],
            env=env, stderr=subprocess.PIPE, text=True,
        )
        for number in range(1, count + 1)
    ]  # fmt: skip
    said = [process.communicate()[1] for process in running]
    found = [re.search(r"(\d+) images? in ([\d.]+) s", text) for text in said]
    assert all(found), said
    done, seconds = zip(*((int(match[1]), float(match[2])) for match in found if match), strict=True)
    assert sum(done) == len(list(photos.iterdir())) == sum(1 for _ in read_shards(tags))
    return sum(done) / max(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--size", type=int, default=320, help="longest side in pixels")
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--block", type=int, default=1000, help="results per file")
    parser.add_argument("--store", type=int, default=200, help="MiB of the object store")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--processes", type=int, nargs="+", help="compare numbers of processes, without Ray")
    parser.add_argument("--folder", type=Path, help="keep photographs and rows here")
    parser.add_argument("--driver", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--kill-actor", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.driver:
        driver(sorted((args.folder / "photos").iterdir()), args.folder / "tags", args)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        (folder / "photos").mkdir(parents=True, exist_ok=True)
        photos = make_photos(folder / "photos", args.photos, args.size)
        if args.processes:
            for count in args.processes:
                rate = in_processes(count, folder / "photos", folder / f"tags-{count}", args.preset)
                print(f"{count} processes: {rate:.2f} images/s", flush=True)
            return
        options = [
            f"--{name}={getattr(args, name)}" for name in ("actors", "batch", "block", "store", "preset")
        ]
        command = [sys.executable, __file__, "--driver", f"--folder={folder}", *options]
        first = subprocess.Popen(command)  # noqa: S603
        while (
            first.poll() is None
            and sum(1 for _ in (folder / "tags").glob("*.parquet")) * args.block < args.photos / 3
        ):
            time.sleep(0.5)
        first.kill()
        first.wait()
        print("driver killed", flush=True)
        subprocess.run([*command, "--kill-actor"], check=True)  # noqa: S603
        rows = list(read_shards(folder / "tags"))
        counts = Counter(result.source for result in rows)
        assert counts == Counter(map(str, photos)), "a photograph is missing, or there twice"
        started = time.perf_counter()
        here = {result.source: result for result in autotag.load(args.preset, device="cpu").stream(photos)}
        print(f"one process: {time.perf_counter() - started:.1f} s", flush=True)
        same = [row for row in rows if here[row.source] == row]
        texts = [row for row in rows if words(here[row.source]) == words(row)]
        print(
            f"{len(rows)} rows, each photograph once; {len(same)} are as in one process to the last digit, "
            f"{len(texts)} in caption, tags and prompt"
        )


if __name__ == "__main__":
    main()
