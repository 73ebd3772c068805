"""Parse XML and keep the byte position of each element, so that an edit changes nothing else.

Document types are refused, and with them entities, so nothing is expanded or fetched.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn
from xml.parsers import expat

from autotag.metadata.budget import Budget, check_depth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_START_TAG = re.compile(rb"<(?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+>")
_DECLARED_ENCODING = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"\xef\xbb\xbf", "utf-8"),
)
_XML_NAMESPACE = "http://www.w3.org/XML/1998/namespace"
_NAMESPACES_PER_PART = 16  # that are copied
_MOST_NAMESPACES = 100  # in force at one place; each element that declares one copies those around it
_ENCODINGS = ("utf-", "iso8859-", "cp125", "ascii")  # codecs of other names can take quadratic time
_SPACE = b" \t\r\n"

Edit = tuple[int, int, bytes]  # start, end and what goes there instead


@dataclass(slots=True)
class Node:
    """An XML element and its place in the document.

    Attributes:
        name: ``"{namespace}local"``.
        attributes: by ``"{namespace}local"``, or ``"local"`` without a namespace.
        scope: prefix -> namespace, inside the element.
        start: byte offset of its start tag in ``Document.body``.
        inner: offset of the byte after the start tag.
        children: the elements directly inside, in order.
        text: the text directly inside, joined.
        inner_end: offset of its end tag; equal to ``end`` for an element like ``<a/>``.
        end: offset of the byte after the element.
    """

    name: str
    attributes: dict[str, str]
    scope: dict[str, str]
    start: int
    inner: int
    children: list[Node] = field(default_factory=list)
    text: str = ""
    inner_end: int = 0
    end: int = 0

    @property
    def closed_at_once(self) -> bool:
        """Return whether the element is written ``<a/>``."""
        return self.inner_end == self.end

    def prefix_of(self, namespace: str) -> str | None:
        """Return a prefix of the namespace inside this element; None without one."""
        return next((prefix for prefix, uri in self.scope.items() if uri == namespace and prefix), None)

    def walk(self) -> Iterator[Node]:
        """Yield this element and all elements inside it, in document order."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.children)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document.

    Attributes:
        body: the document as UTF-8; offsets are positions in it.
        root: its outermost element.
        encoding: the encoding of the original bytes.
        head: the byte order mark before the document, or empty.
        tail: the zero bytes after the document, or empty.
    """

    body: bytes
    root: Node
    encoding: str
    head: bytes
    tail: bytes

    def edited(self, edits: Iterable[Edit]) -> bytes:
        """Return the document with parts replaced, in its own encoding. Parts must not overlap."""
        pieces, done = [], 0
        for start, end, instead in sorted(edits, key=lambda edit: edit[:2]):
            pieces += [self.body[done:start], instead]
            done = end
        body = b"".join((*pieces, self.body[done:])).decode()
        return self.head + body.encode(self.encoding, "xmlcharrefreplace") + self.tail

    def space_before(self, node: Node) -> bytes:
        """Return the white space directly before the element."""
        length = 64
        while True:
            before = self.body[max(0, node.start - length) : node.start]
            kept = before.rstrip(_SPACE)
            if kept or len(before) < length:
                return before[len(kept) :]
            length *= 4


def parse(xml: bytes, budget: Budget | None = None) -> Document:
    """Parse a document and keep the place of each element.

    Raises:
        ValueError: it is not well-formed XML, has a document type, is over the budget (a new one by default),
            or its encoding is unknown.
    """
    budget = budget or Budget()
    budget.take_xml(xml)
    head, content, encoding, tail = _split(xml)
    try:
        body = content.decode(_text_encoding(encoding)).encode()
    except (LookupError, UnicodeError) as error:
        raise ValueError(f"it is not text in {encoding}") from error
    builder = _Builder(body, budget)
    builder.parse()
    return Document(body, builder.root, encoding, head, tail)


def _text_encoding(name: str) -> str:
    """Return Python's name of an encoding of text.

    Raises:
        LookupError: the name is unknown, or belongs to a codec that is not an encoding of XML.
    """
    found = codecs.lookup(name).name
    if not found.startswith(_ENCODINGS):
        raise LookupError(f"{name} is not an encoding of XML")
    return found


def _split(xml: bytes) -> tuple[bytes, bytes, str, bytes]:
    """Split into byte order mark, document, encoding, and the zero bytes at the end."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if xml.startswith(mark):
            return mark, xml[len(mark) :], encoding, b""
    declared = _DECLARED_ENCODING.match(xml[:200])
    content = xml.rstrip(b"\0")
    encoding = declared[1].decode() if declared else "utf-8"
    return b"", content, encoding, xml[len(content) :]


class _Builder:
    """Build nodes from the events that expat reports."""

    def __init__(self, body: bytes, budget: Budget) -> None:
        self._body = body
        self._budget = budget
        self._open: list[Node] = []
        self._roots: list[Node] = []
        self._texts: list[list[str]] = []  # of each open element
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = _refuse_doctype

    @property
    def root(self) -> Node:
        return self._roots[0]

    def parse(self) -> None:
        try:
            self._parser.Parse(self._body, True)
        except expat.ExpatError as error:
            if not self._body.strip():
                raise ValueError("it is empty") from error
            raise ValueError(f"it is not well-formed XML: {error}") from error

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._budget.take_parts(1 + len(attributes))
        check_depth(len(self._open) + 1)
        outer = self._open[-1].scope if self._open else {"xml": _XML_NAMESPACE}
        scope = _scope(attributes, outer)
        if scope is not outer:
            self._budget.take_parts(len(outer) // _NAMESPACES_PER_PART)
        start = self._parser.CurrentByteIndex
        tag = _START_TAG.match(self._body, start)
        if tag is None:
            raise ValueError("it has a start tag that is not closed")
        named = {
            _resolved(key, scope, default=False): value
            for key, value in attributes.items()
            if key != "xmlns" and not key.startswith("xmlns:")
        }
        node = Node(_resolved(name, scope, default=True), named, scope, start, tag.end())
        (self._open[-1].children if self._open else self._roots).append(node)
        self._open.append(node)
        self._texts.append([])

    def _end(self, _name: str) -> None:
        node = self._open.pop()
        node.text = "".join(self._texts.pop())
        if self._body[node.inner - 2 : node.inner] == b"/>":
            node.inner_end = node.end = node.inner
        else:
            node.inner_end = self._parser.CurrentByteIndex
            node.end = self._body.index(b">", node.inner_end) + 1

    def _text(self, text: str) -> None:
        self._texts[-1].append(text)


def _refuse_doctype(*_: object) -> NoReturn:
    raise ValueError("it has a document type, which XMP never has")


def _scope(attributes: dict[str, str], outer: dict[str, str]) -> dict[str, str]:
    declared = {key[6:]: uri for key, uri in attributes.items() if key.startswith("xmlns:")}
    if "xmlns" in attributes:
        declared[""] = attributes["xmlns"]
    if len(outer) + len(declared) > _MOST_NAMESPACES:
        raise ValueError(f"it declares more than {_MOST_NAMESPACES} namespaces at one place")
    return {**outer, **declared} if declared else outer


def _resolved(name: str, scope: dict[str, str], *, default: bool) -> str:
    prefix, colon, local = name.rpartition(":")
    if not colon and not default:
        return name
    if prefix and prefix not in scope:
        raise ValueError(f"it does not declare the namespace prefix {prefix!r}")
    namespace = scope.get(prefix, "")
    return f"{{{namespace}}}{local}" if namespace else local
