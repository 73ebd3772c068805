"""A small Immich: the endpoints, permissions, shapes and errors that tagging needs, over HTTP on loopback.

Written after the controllers, services and the error filter of immich-app/immich, version 2.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import NAMESPACE_URL, uuid5

from PIL import Image

ME, ANOTHER = (str(uuid5(NAMESPACE_URL, name)) for name in ("me", "another"))
KEY = "a-key-of-immich"
EVERYTHING = frozenset(
    (
        "user.read", "album.read", "asset.read", "asset.view", "asset.update",
        "tag.read", "tag.create", "tag.asset",
    )
)  # fmt: skip


def picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "JPEG")
    return buffer.getvalue()


@dataclass
class Asset:
    id: str
    name: str
    preview: bytes | None
    owner: str = ME
    taken: str = "2024-05-01T12:00:00.000Z"
    kind: str = "IMAGE"
    albums: frozenset[str] = frozenset()
    tags: set[str] = field(default_factory=set)

    def row(self) -> dict[str, Any]:
        return {
            "id": self.id, "ownerId": self.owner, "originalFileName": self.name, "type": self.kind,
            "fileCreatedAt": self.taken, "checksum": "q0w=", "thumbhash": None, "visibility": "timeline",
        }  # fmt: skip


class _RefusalError(Exception):
    def __init__(self, status: int, message: object, **headers: str) -> None:
        self.status, self.message, self.headers = status, message, headers


@dataclass
class FakeImmich:
    """What the server holds, and how it misbehaves.

    Attributes:
        permissions: of the key.
        version: as GET /server/version gives it.
        page: assets in a page of a search, at most.
        troubles: statuses and headers that the next requests are answered with, first to last.
        answers: replaces the answer to "METHOD /path"; a callable of the true one.
        before, after: called around every change, with "METHOD /path" and the body.
        asked: "METHOD /path" of every request.
    """

    permissions: frozenset[str] = EVERYTHING
    version: tuple[int, int, int] = (2, 4, 1)
    page: int = 2
    troubles: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    answers: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    before: Callable[[str, Any], None] = lambda _what, _body: None
    after: Callable[[str, Any], None] = lambda _what, _body: None
    asked: list[str] = field(default_factory=list)
    assets: dict[str, Asset] = field(default_factory=dict)
    albums: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fake = self
        self._lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else head and body, in two writes, wait 40 ms for each other

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                sent = self.rfile.read(length)
                url = urlsplit(self.path)
                body = json.loads(sent) if sent else None
                headers: dict[str, str] = {}
                try:
                    found = fake.answer(self.command, url.path, parse_qs(url.query), body, self.headers)
                    status = 200
                except _RefusalError as refusal:
                    status, headers = refusal.status, refusal.headers
                    found = {"message": refusal.message, "error": "x", "statusCode": status}
                content = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - the library's names

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    # What tests say and see

    def add(self, name: str, colour: str | None = "red", **options: Any) -> Asset:
        asset = Asset(_id(name), name, None if colour is None else picture(colour), **options)
        self.assets[asset.id] = asset
        return asset

    def tag(self, name: str, *values: str) -> None:
        """What a person does."""
        self.assets[_id(name)].tags |= {self._upserted(value) for value in values}

    def values(self) -> dict[str, set[str]]:
        """The tags of each photograph that has any."""
        return {
            asset.name: {self.tags[tag] for tag in asset.tags} for asset in self.assets.values() if asset.tags
        }

    # What the server does

    def answer(self, method: str, path: str, query: Any, body: Any, headers: Any) -> Any:
        what = f"{method} {path}"
        self.asked.append(what)
        if self.troubles:
            status, extra = self.troubles.pop(0)
            raise _RefusalError(status, "trouble", **extra)
        changes = method in {"PUT", "DELETE"}
        if changes:
            self.before(what, body)
        with self._lock:
            found = self._routed(method, path.removeprefix("/api/").split("/"), query, body, headers)
        if changes:
            self.after(what, body)
        return self.answers[what](found) if what in self.answers else found

    def _routed(self, method: str, path: list[str], query: Any, body: Any, headers: Any) -> Any:
        match method, path:
            case "GET", ["server", "ping"]:
                return {"res": "pong"}
            case "GET", ["server", "version"]:
                return dict(zip(("major", "minor", "patch"), self.version, strict=True))
        if headers.get("x-api-key") != KEY:
            raise _RefusalError(401, "Invalid API key")
        match method, path:
            case "GET", ["users", "me"]:
                self._need("user.read")
                return {"id": ME, "email": "me@example.org"}
            case "GET", ["albums"]:
                self._need("album.read")
                return [{"id": one, "albumName": name} for one, name in self.albums.items()]
            case "POST", ["search", "metadata"]:
                self._need("asset.read")
                return self._search(body)
            case "GET", ["assets", one]:
                self._need("asset.read")
                asset = self._asset(one, "asset.read")
                return {**asset.row(), "tags": [self._tag(tag) for tag in sorted(asset.tags)]}
            case "GET", ["assets", one, "thumbnail"]:
                self._need("asset.view")
                assert query == {"size": ["preview"]}
                preview = self._asset(one, "asset.view").preview
                if preview is None:
                    raise _RefusalError(404, "Asset media not found")
                return preview
            case "GET", ["tags"]:
                self._need("tag.read")
                return [self._tag(tag) for tag in self.tags]
            case "PUT", ["tags"]:
                self._need("tag.create")
                return [self._tag(self._upserted(value)) for value in body["tags"]]
            case "PUT", ["tags", "assets"]:
                self._need("tag.asset")
                return {"count": self._tag_assets(body["assetIds"], body["tagIds"])}
            case "DELETE", ["tags", one, "assets"]:
                self._need("tag.asset")
                if one not in self.tags:
                    raise _RefusalError(400, "Not found or no tag.asset access")
                return [self._untagged(one, asset) for asset in body["ids"]]
        raise _RefusalError(404, f"Cannot {method} /api/{'/'.join(path)}")

    def _need(self, permission: str) -> None:
        if permission not in self.permissions:
            raise _RefusalError(403, f"Missing required permission: {permission}")

    def _asset(self, one: str, permission: str) -> Asset:
        if one not in self.assets:
            raise _RefusalError(400, f"Not found or no {permission} access")
        return self.assets[one]

    def _search(self, wanted: Any) -> Any:
        assert set(wanted) <= {"type", "order", "size", "page", "albumIds", "takenAfter"}
        found = [
            asset.row()
            for asset in sorted(self.assets.values(), key=lambda asset: asset.taken)
            if asset.kind == wanted["type"]
            and set(wanted.get("albumIds", ())) <= asset.albums
            and asset.taken >= wanted.get("takenAfter", "")
        ]
        size, start = min(wanted["size"], self.page), (wanted["page"] - 1) * min(wanted["size"], self.page)
        items = found[start : start + size]
        following = str(wanted["page"] + 1) if len(found) > start + size else None
        nothing: dict[str, Any] = {"total": 0, "count": 0, "items": [], "facets": []}
        assets = {
            "total": len(items),
            "count": len(items),
            "items": items,
            "facets": [],
            "nextPage": following,
        }
        return {"albums": nothing, "assets": assets}

    def _tag(self, tag: str) -> dict[str, str]:
        value = self.tags[tag]
        return {"id": tag, "name": value.rpartition("/")[2], "value": value}

    def _upserted(self, value: str) -> str:
        parts = value.split("/")
        for depth in range(1, len(parts) + 1):
            whole = "/".join(parts[:depth])
            if whole not in self.tags.values():
                self.tags[_id(f"tag {whole} {len(self.tags)}")] = whole
        return next(tag for tag, known in self.tags.items() if known == value)

    def _tag_assets(self, assets: list[str], tags: list[str]) -> int:
        """As ``bulkTagAssets`` has it: what the user may not change is left out without a word."""
        count = 0
        for asset in (self.assets[one] for one in assets if one in self.assets):
            new = set(tags) & set(self.tags) - asset.tags if asset.owner == ME else set()
            asset.tags |= new
            count += len(new)
        return count

    def _untagged(self, tag: str, one: str) -> dict[str, Any]:
        if one not in self.assets or tag not in self.assets[one].tags:
            return {"id": one, "success": False, "error": "not_found"}
        self.assets[one].tags.remove(tag)
        return {"id": one, "success": True}


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))
