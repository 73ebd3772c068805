"""A real Ray cluster on this machine: the same rows as one process, each once, whatever dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

import autotag
from autotag.distributed import ray_data
from autotag.distributed.shards import read_shards
from autotag.errors import ClusterError, ConfigError, StageBrokenError, UnknownNameError
from autotag.testing import make_image
from autotag.writers.arrow_rows import from_table, schema

HERE = Path(__file__).parent
CONFIG = {"encoder": "none", "stages": [{"stage": "pid_stages:SayProcess"}]}
IGNORED = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]  # Ray's own warnings are not our errors


def need_ray() -> None:
    if find_spec("ray") is None:
        pytest.skip("needs Ray; run: pip install 'autotag-images[ray]'")


@pytest.fixture(scope="module")
def ray():
    need_ray()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ray_data._LOCAL_SETTINGS.items():
            patch.setenv(name, value)
        patch.setenv(
            "RAY_memory_monitor_refresh_ms", "0"
        )  # other programs may fill the memory of this machine
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
        patch.syspath_prepend(HERE)
        import ray

        ray.init(
            num_cpus=4,
            object_store_memory=150 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            address="local",
        )
        yield ray
        ray.shutdown()


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    for number in range(40):
        Image.new("RGB", (20 + number, 30), (number, 0, 0)).save(tmp_path / f"{number:02}.png")
    (tmp_path / "39.png").write_bytes(b"no image")
    strange = os.fsdecode(b"caf\xe9.png")
    make_image("red").save(tmp_path / strange)
    return [str(path) for path in sorted(tmp_path.iterdir())]


def tag_command(
    folder: Path, photos: Path, tags: Path, *, seconds: float
) -> tuple[list[str], dict[str, str]]:
    """``autotag tag --engine ray`` with a stage that takes its time, and the environment for it."""
    preset = folder / "mine.toml"
    preset.write_text(f'encoder = "none"\n[[stages]]\nstage = "pid_stages:SayProcess"\nseconds = {seconds}\n')
    program = "from autotag.cli.main import main; main()"
    command = [sys.executable, "-c", program, "tag", str(photos), "--preset", str(preset)]
    command += ["--engine", "ray", "--output", str(tags), "--quiet"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    return command, {**env, "RAY_memory_monitor_refresh_ms": "0"}


def sources(tags: Path) -> list[str]:
    """The photographs in all files of results."""
    return [
        source
        for path in tags.glob("*.parquet")
        for source in pa.parquet.read_table(path)["source"].to_pylist()
    ]


class TestRoom:
    """What is refused before Ray would wait forever; no cluster is needed."""

    def test_actors_that_would_take_every_cpu(self) -> None:
        with pytest.raises(
            ConfigError, match="leave no CPU to read images: the cluster has 2, and 3 are needed"
        ):
            ray_data._check_room({"CPU": 2}, actors=2, num_cpus=1, num_gpus=0)
        ray_data._check_room({"CPU": 3}, actors=2, num_cpus=1, num_gpus=0)

    def test_gpus_that_are_not_there(self) -> None:
        with pytest.raises(ConfigError, match="need 2 GPUs, but the cluster has 1"):
            ray_data._check_room({"CPU": 64, "GPU": 1}, actors=2, num_cpus=1, num_gpus=1)
        ray_data._check_room({"CPU": 64, "GPU": 1}, actors=2, num_cpus=1, num_gpus=0.5)

    def test_columns_to_keep_with_names_that_are_in_use(self) -> None:
        for name in ("pixels", "failure", "encoded_source"):
            with pytest.raises(
                ConfigError, match=f"a column '{name}', so it cannot be kept; rename it first"
            ):
                ray_data._check_apart(["id", name])

    def test_without_ray_the_error_names_the_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(ConfigError, match=r"pip install 'autotag-images\[ray\]'"):
            ray_data.connect()

    def test_ray_client_is_refused_because_datasets_do_not_run_in_it(self) -> None:
        with pytest.raises(ConfigError, match="address of Ray Client.*ray job submit"):
            ray_data.connect("ray://cluster:10001")

    def test_a_cluster_that_is_not_there_is_told_with_the_way_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def init(**_: object) -> None:
            raise ConnectionError("Could not find any running Ray instance.")

        data = SimpleNamespace()
        fake = SimpleNamespace(is_initialized=lambda: False, init=init, data=data)
        monkeypatch.setitem(sys.modules, "ray", fake)
        monkeypatch.setitem(sys.modules, "ray.data", data)
        with pytest.raises(ConfigError, match="running Ray instance.; without an address, autotag starts"):
            ray_data.connect("auto")
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr(fake, "init", lambda **_: pytest.fail("Ray would try for a quarter of an hour"))
        with pytest.raises(ConfigError, match=f"cannot connect to Ray at '{address}': Connection refused"):
            ray_data.connect(address)

    def test_a_batch_size_that_is_no_number_of_rows(self) -> None:
        need_ray()
        for run in (ray_data.tag_dataset, ray_data.tag_images):
            with pytest.raises(ConfigError, match="batch_size is 0"):
                list(run([], CONFIG, batch_size=0))

    def test_a_worker_that_dies_while_it_loads_the_models(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

        def get(_task: object) -> None:
            raise RayError("out of memory")

        errors = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        fake = SimpleNamespace(
            exceptions=errors,
            is_initialized=lambda: True,
            cluster_resources=lambda: {"CPU": 4},
            remote=lambda **_: lambda _function: SimpleNamespace(remote=lambda *_: None),
            get=get,
        )
        monkeypatch.setattr(ray_data, "_ray", lambda: fake)
        blocks = SimpleNamespace(repartition=lambda **_: None)
        config = {"encoder": "clip-mini", "stages": [{"stage": "embed_images"}]}
        with pytest.raises(ClusterError, match="could not load the models: out of memory"):
            ray_data.tag_dataset(blocks, config)


class TestCluster:
    pytestmark = IGNORED

    def test_the_same_rows_as_one_process(self, ray) -> None:
        examples = HERE.parents[1] / "docs" / "examples"
        images = [*sorted(examples.glob("*.jpg"))[:5], Path("no such file.jpg")]
        pipeline = autotag.load(
            "mini", device="cpu", batch_size=3
        )  # the same batches, so the same last digits
        here = {result.source: result for result in pipeline.stream(images, on_error="record")}
        config = pipeline.to_config()
        there = list(ray_data.tag_images(images, config, actors=1, batch_size=3))
        assert len(there) == len(images)
        assert {result.source: result for result in there} == here

    def test_errors_are_rows_ids_stay_and_strange_names_come_back(self, ray, photos) -> None:
        table = pa.table({"path": photos[:40], "id": list(range(40))})
        tagged = ray_data.tag_dataset(ray.data.from_arrow(table), CONFIG, actors=1, keep=("id",))
        found = pa.concat_tables(tagged.iter_batches(batch_size=None, batch_format="pyarrow"))
        assert found.schema.remove_metadata() == schema().append(pa.field("id", pa.int64()))
        assert sorted(found.column("id").to_pylist()) == list(range(40))
        errors = {
            result.source: result.error for result in from_table(found.select(schema().names)) if result.error
        }
        assert list(errors) == [photos[39]]
        [strange] = ray_data.tag_images(photos[40:], CONFIG)
        assert (strange.source, strange.error) == (photos[40], None)

    def test_an_actor_that_is_killed_costs_no_row_and_repeats_none(self, ray, photos) -> None:
        config = {**CONFIG, "stages": [{"stage": "pid_stages:SayProcess", "seconds": 0.1}]}
        results = ray_data.tag_images(photos, config, actors=2, batch_size=2)
        found = [next(results)]
        killed = int(found[0].prompt.split()[0])
        os.kill(killed, signal.SIGKILL)
        found.extend(results)
        assert Counter(result.source for result in found) == dict.fromkeys(photos, 1)
        assert len({result.prompt.split()[0] for result in found if not result.error}) >= 2

    def test_decoding_is_not_fused_into_the_actors(self, ray, photos) -> None:
        dataset = ray.data.from_arrow(pa.table({"path": photos[:2]}))
        tagged = ray_data.tag_dataset(dataset, CONFIG).materialize()
        assert "MapBatches(_ImageReader)->" not in tagged.stats()
        assert "MapBatches(_ImageReader)" in tagged.stats()

    def test_rows_that_ray_reads_as_one_block_go_through_all_actors(self, ray, photos, tmp_path) -> None:
        (tmp_path / "paths").mkdir()
        for number, count in enumerate([90, 5, 5]):  # Ray reads small files as one block
            table = pa.table({"path": photos[:1] * count, "id": [f"{number}-{row}" for row in range(count)]})
            pa.parquet.write_table(table, tmp_path / "paths" / f"{number}.parquet")
        config = {**CONFIG, "stages": [{"stage": "pid_stages:SayProcess", "seconds": 0.02}]}
        dataset = ray.data.read_parquet(str(tmp_path / "paths"))
        tagged = ray_data.tag_dataset(dataset, config, actors=2, batch_size=10, keep=("id",)).materialize()
        rows = tagged.take_all()
        assert len({row["id"] for row in rows}) == len(rows) == 100
        assert len({row["prompt"].split()[0] for row in rows}) == 2
        assert "MapBatches(_ImageReader): 10 tasks" in tagged.stats()

    def test_what_does_not_fit_is_said_before_anything_runs(self, ray, photos) -> None:
        dataset = ray.data.from_arrow(pa.table({"url": ["a"]}))
        with pytest.raises(ConfigError, match="leave no CPU"):
            ray_data.tag_dataset(dataset, CONFIG, actors=4)
        with pytest.raises(UnknownNameError):
            ray_data.tag_dataset(dataset, {"stages": [{"stage": "merge_tag"}]})
        assert list(ray_data.tag_images([], CONFIG)) == []

    def test_a_broken_stage_ends_the_job_with_its_own_error(self, ray, photos) -> None:
        config = {**CONFIG, "stages": [{"stage": "pid_stages:Break"}]}
        with pytest.raises(StageBrokenError, match="NaN in the weights") as caught:
            list(ray_data.tag_images(photos[:4], config))
        assert caught.value.stage == "break"

    def test_no_rows_give_no_rows_and_keep_the_columns(self, ray) -> None:
        empty = pa.table({"path": pa.array([], pa.string()), "id": pa.array([], pa.int64())})
        tagged = ray_data.tag_dataset(ray.data.from_arrow(empty), CONFIG, keep=("id",))
        assert tagged.count() == 0
        assert tagged.take_all() == []

    def test_null_rows_are_errors_and_the_others_are_tagged(self, ray, photos) -> None:
        content = Path(photos[1]).read_bytes()
        tables = [
            pa.table({"path": pa.array([photos[0], None], pa.string()), "id": [0, 1]}),
            pa.table({"bytes": pa.array([None, content], pa.binary()), "id": [1, 0]}),
            pa.table(
                {
                    "path": pa.array(["a.png", "b.png", None], pa.string()),
                    "bytes": pa.array([content, None, None], pa.binary()),
                    "id": [0, 1, 1],
                }
            ),
            pa.table({"path": pa.nulls(2, pa.string()), "id": [1, 1]}),
        ]
        for table in tables:
            tagged = ray_data.tag_dataset(ray.data.from_arrow(table), CONFIG, keep=("id",))
            rows = tagged.take_all()
            assert len(rows) == table.num_rows
            assert [row["id"] == 1 for row in rows] == [row["error"] is not None for row in rows]
            assert all(row["prompt"] for row in rows if row["id"] == 0)


@pytest.mark.slow
def test_two_runs_into_one_folder_give_each_photograph_once(tmp_path: Path) -> None:
    need_ray()
    photos, tags = tmp_path / "photos", tmp_path / "tags"
    photos.mkdir()
    make_image("red", size=(8, 8)).save(photos / "0000.png")
    content = (photos / "0000.png").read_bytes()
    for number in range(1, 2100):
        (photos / f"{number:04}.png").write_bytes(content)
    command, env = tag_command(tmp_path, photos, tags, seconds=0.001)
    runs = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate(timeout=500)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    found = Counter(result.source for result in read_shards(tags))
    assert found == {str(photos / f"{number:04}.png"): 1 for number in range(2100)}


@pytest.mark.slow
def test_a_driver_that_is_killed_and_started_again_completes_each_photograph_once(tmp_path: Path) -> None:
    need_ray()
    photos, tags = tmp_path / "photos", tmp_path / "tags"
    photos.mkdir()
    make_image("red", size=(8, 8)).save(photos / "0000.png")
    content = (photos / "0000.png").read_bytes()
    for number in range(1, 2400):
        (photos / f"{number:04}.png").write_bytes(content)
    command, env = tag_command(tmp_path, photos, tags, seconds=0.002)
    first = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)
    until = time.monotonic() + 500
    while not list(tags.glob("*.parquet")):
        assert first.poll() is None, first.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)
    first.kill()
    first.communicate()
    before = sum(1 for _ in read_shards(tags))
    assert 1000 <= before < 2400
    again = subprocess.run(command[:-1], check=False, env=env, capture_output=True, text=True, timeout=500)
    assert again.returncode == 0, again.stderr
    assert f"{before} done before; {2400 - before} to do" in again.stderr
    assert Counter(sources(tags)) == {str(photos / f"{number:04}.png"): 1 for number in range(2400)}
