"""The server's log on stderr: one JSON object a line, whoever writes it."""

from __future__ import annotations

import json
import logging
import sys

REQUESTS = "autotag.server"
"""The logger of requests; its messages are JSON already."""


class JsonLines(logging.Formatter):
    """Format a record as one line of JSON: level, logger, message, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        message = record.getMessage().strip()
        if record.name == REQUESTS:
            return message
        row = {"level": record.levelname.lower(), "logger": record.name, "message": message}
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row)


def log_to_stderr() -> None:
    """Write requests, and the complaints of every library, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)
    logging.getLogger(REQUESTS).setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
