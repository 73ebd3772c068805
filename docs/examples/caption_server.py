"""A server for autotag's remote captioner. Standard library only, and Python 3.7 is enough.

It speaks the protocol of ``autotag/models/captioners/caption_options.py``: POST /caption with a JSON object
that holds an image (PNG in base64) and options, answered by JSON with captions, or with an error. Give it any
function that captions an image::

    serve(lambda image, options: [{"text": "a cat"}], model="mine")

``ofa_server.py`` beside this file does so with OFA.
"""

import base64
import binascii
import hmac
import json
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BYTES = 64 * 1024 * 1024
PATH = "/caption"


class RefusedError(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


def serve(caption, *, model, host="127.0.0.1", port=8118, token=None):
    """Serves until it is interrupted; see ``make_server``."""
    server = make_server(caption, model=model, host=host, port=port, token=token)
    print(f"{model} captions at http://{host}:{server.server_address[1]}{PATH}", flush=True)
    try:
        server.serve_forever()
    finally:
        server.server_close()


def make_server(caption, *, model, host="127.0.0.1", port=8118, token=None):
    """A server that is bound but not serving yet.

    Args:
        caption: called with an image file's bytes and the options as a dict; answers
            ``[{"text": ..., "score": a number or None}, ...]``, best first. A ``ValueError`` refuses the
            request. Called by one thread at a time.
        model: what captions name as their source.
        host: the address to listen at; the default is reached from this machine only.
        port: 0 for any that is free.
        token: what a request must bring as ``Authorization: Bearer <token>``; None for nothing.
    """
    one_at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        timeout = 60  # seconds without a byte from a client

        def do_POST(self):
            try:
                body = read_body(self.headers, self.rfile)
                check_asked(self.path, self.headers, token)
                image, options = parts_of(body)
                with one_at_a_time:
                    captions = called(caption, image, options)
            except RefusedError as refusal:
                self.answer(refusal.status, {"error": str(refusal)})
            else:
                self.answer(200, {"captions": captions, "model": model})

        def answer(self, status, told):
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Says nothing for each request."""

    return ThreadingHTTPServer((host, port), Handler)


def read_body(headers, stream):
    """All of it, also of what will be refused: a client that is cut off while it sends reads no answer."""
    length = headers.get("Content-Length", "")
    if not length.isdigit():
        raise RefusedError(411, "a Content-Length is needed")
    if int(length) > MAX_BYTES:
        raise RefusedError(413, f"{length} bytes are more than {MAX_BYTES}")
    return stream.read(int(length))


def check_asked(path, headers, token):
    """Refuses another path, and a request that does not bring the token."""
    if path.partition("?")[0] != PATH:
        raise RefusedError(404, f"only {PATH} is served")
    brought = headers.get("Authorization", "")
    if token is not None and not hmac.compare_digest(brought.encode(), f"Bearer {token}".encode()):
        raise RefusedError(401, "the token is missing or wrong")


def parts_of(body):
    """The image and the options of a request."""
    try:
        options = json.loads(body)
        image = base64.b64decode(options.pop("image"), validate=True)
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise RefusedError(400, f"not a request of the protocol ({type(error).__name__}: {error})") from error
    return image, options


def called(caption, image, options):
    """The captions, or a refusal that says why there are none."""
    try:
        return caption(image, options)
    except ValueError as error:
        raise RefusedError(422, str(error)) from error
    except Exception as error:
        traceback.print_exc()
        raise RefusedError(500, f"{type(error).__name__}: {error}") from error
