"""Lines of container logs: what the drivers `k8s-file` and `json-file` keep, one text line for each piece of output.

Shape:
    k8s-file   2022-11-24T18:41:01.123456789+00:00 stdout F the text     F: a full line; P: a part, its line goes on
    json-file  {"log":"the text\\n","stream":"stdout","time":"2022-11-24T18:41:01.123456789Z"}
               a part has no line feed in "log"
Each is one line of the file. A program's bytes come back as they were: in json-file, which is text, what is not UTF-8
is written as a lone surrogate (PEP 383), which other readers show as U+FFFD.

Source: the log format of the Kubernetes CRI (kubernetes/design-proposals-archive, kubelet-cri-logging);
        docker's json-file driver (docs.docker.com/config/containers/logging/json-file)
"""

from __future__ import annotations

from rootless.spec import jsontext
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STDOUT, STDERR = 1, 2
_NAMES = {STDOUT: b"stdout", STDERR: b"stderr"}
_STREAMS = {b"stdout": STDOUT, b"stderr": STDERR}
_JSON_STREAMS = {"stdout": STDOUT, "stderr": STDERR}
_FULL, _PART = b"F", b"P"


@record
class Line:
    """One line of a log file, taken apart.

    Shape: *time* is the text as it stands in the file; *data* has no line feed; *partial* when its line goes on
    """

    time: str
    stream: int
    partial: bool
    data: bytes


def stamp(seconds: tuple[int, ...], nanoseconds: int, offset_seconds: int) -> str:
    """Return RFC 3339 text of the local time *seconds* (year, month, day, hour, minute, second, ...).

    Units: *offset_seconds* east of UTC
    """
    year, month, day, hour, minute, second = seconds[:6]
    sign = "-" if offset_seconds < 0 else "+"
    zone = abs(offset_seconds) // 60
    return (
        f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}"
        f"{sign}{zone // 60:02}:{zone % 60:02}"
    )


def encode_k8s(time: str, stream: int, data: bytes) -> bytes:
    """Return the lines of k8s-file for the piece of output *data*."""
    head = b"%s %s " % (time.encode("ascii"), _NAMES[stream])
    end = data.rfind(b"\n")
    block = b""
    if end >= 0:
        full = head + b"F "
        # One replacement for all lines of the piece: this is what 10,000 lines a second cost.
        block = full + data[:end].replace(b"\n", b"\n" + full) + b"\n"
    rest = data[end + 1 :]
    if rest:
        block += b"%sP %s\n" % (head, rest)
    return block


def encode_json(time: str, stream: int, data: bytes) -> bytes:
    """Return the lines of json-file for the piece of output *data*."""
    tail = f',"stream":"{_NAMES[stream].decode()}","time":{jsontext.dumps(time)}}}\n'
    text = data.decode("utf-8", "surrogateescape")
    return "".join(['{"log":' + jsontext.dumps(piece) + tail for piece in _kept(text)]).encode("ascii")


def _kept(text: str) -> list[str]:
    """Split at line feeds, which stay (str.splitlines knows other ends of lines too)."""
    pieces = text.split("\n")
    return [piece + "\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def decode_k8s(line: bytes) -> Line | None:
    """Take one line of k8s-file apart, its line feed removed; None when it is not one."""
    parts = line.split(b" ", 3)
    if len(parts) < 4:
        return None
    time, name, kind, data = parts
    stream = _STREAMS.get(name)
    if stream is None or kind[:1] not in (_FULL, _PART) or not time.isascii():
        return None
    return Line(time.decode("ascii"), stream, kind[:1] == _PART, data)


def decode_json(line: bytes) -> Line | None:
    """Take one line of json-file apart; None when it is not one."""
    try:
        value: Any = jsontext.loads(line)
    except ValueError:
        return None
    if not _is_object(value):
        return None
    text, stream, time = value.get("log"), _JSON_STREAMS.get(str(value.get("stream"))), value.get("time")
    if not isinstance(text, str) or stream is None or not isinstance(time, str):
        return None
    partial = text[-1:] != "\n"
    return Line(time, stream, partial, _bytes(text if partial else text[:-1]))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte: another program wrote the file
        return text.encode("utf-8", "surrogatepass")
