"""The tar decoder: cut anywhere it says the same, it agrees with tarfile, and nothing but TarError escapes."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.proto import tar
from rootless.proto.tar import Data, End, Header, NeedData, TarDecoder, TarError

Entry = tuple[Header, bytes]


def decode(archive: bytes, step: int = 1 << 20) -> list[Entry]:
    """Return every entry with its content, holes filled, when the archive is fed *step* bytes at a time."""
    decoder = TarDecoder()
    entries: list[tuple[Header, bytearray]] = []
    at = 0
    while True:
        match decoder.next_event():
            case Header() as header:
                entries.append((header, bytearray()))
            case Data(offset=offset, view=view):
                content = entries[-1][1]
                content.extend(bytes(max(0, offset + len(view) - len(content))))
                content[offset : offset + len(view)] = view
            case NeedData():
                if at >= len(archive):
                    decoder.close()
                else:
                    decoder.feed(archive[at : at + step])
                    at += step
            case End():
                break
    return [(h, bytes(c) + bytes(h.size_bytes - len(c) if h.sparse is not None else 0)) for h, c in entries]


names = st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), min_size=1)
paths = st.lists(names.map(lambda n: n.replace("/", "_")), min_size=1, max_size=8).map("/".join)


@st.composite
def members(draw: st.DrawFn, limit: int, sub_second: bool) -> tarfile.TarInfo:
    info = tarfile.TarInfo(draw(paths))
    info.type = draw(st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]))
    info.mode = draw(st.integers(0, 0o7777))
    info.uid, info.gid = draw(st.integers(0, limit)), draw(st.integers(0, limit))
    info.mtime = draw(st.integers(0, 1 << 33) if not sub_second else st.integers(0, 1 << 40).map(lambda t: t / 256))
    if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = draw(paths)
    return info


def written(infos: list[tuple[tarfile.TarInfo, bytes]], form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, content in infos:
            if info.type == tarfile.REGTYPE:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def read_back(archive: bytes) -> list[tuple[object, ...]]:
    """Return what tarfile, an independent reader, finds."""
    found: list[tuple[object, ...]] = []
    with tarfile.open(fileobj=io.BytesIO(archive)) as reader:
        for info in reader:
            content = reader.extractfile(info) if info.isreg() else None
            kind = tarfile.REGTYPE if info.isreg() else info.type
            name = info.name.encode("utf-8", "surrogateescape")
            link = info.linkname.encode("utf-8", "surrogateescape") if info.type in (b"1", b"2") else b""
            found.append((name, kind, info.mode, info.uid, info.gid, link, content.read() if content else b""))
    return found


def ours(archive: bytes, step: int) -> list[tuple[object, ...]]:
    return [
        (h.name.rstrip(b"/"), h.type, h.mode, h.uid, h.gid, h.linkname if h.type in (b"1", b"2") else b"", c)
        for h, c in decode(archive, step)
    ]


CONTENTS = st.one_of(st.binary(max_size=40), st.integers(0, 3).map(lambda n: bytes(range(256)) * n * 2))


@pytest.mark.parametrize(
    ("form", "limit"), [(tarfile.PAX_FORMAT, 1 << 31), (tarfile.GNU_FORMAT, 1 << 31)], ids=["pax", "gnu"]
)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_it_reads_what_tarfile_reads(form: int, limit: int, data: st.DataObject) -> None:
    infos = data.draw(st.lists(st.tuples(members(limit, form == tarfile.PAX_FORMAT), CONTENTS), max_size=5))
    archive = written(infos, form)
    expected = read_back(archive)
    assert ours(archive, 1 << 20) == expected
    assert ours(archive, 512) == expected


def test_ustar_splits_long_names_into_a_prefix() -> None:
    info = tarfile.TarInfo("d" * 90 + "/" + "e" * 90)
    assert decode(written([(info, b"x")], tarfile.USTAR_FORMAT))[0][0].name == info.name.encode()


@settings(max_examples=20, deadline=None)
@given(infos=st.lists(st.tuples(members(1 << 31, True), CONTENTS), max_size=3))
def test_how_the_input_is_cut_makes_no_difference(infos: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    archive = written(infos, tarfile.PAX_FORMAT)
    whole = decode(archive)
    assert decode(archive, 1) == whole
    assert decode(archive, 511) == whole
    assert decode(archive, 513) == whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"0", 0),
        (b"1700000000", 1700000000_000000000),
        (b"1700000000.5", 1700000000_500000000),
        (b"1700000000.123456789123", 1700000000_123456789),
        (b"-1.25", -1_250000000),
        (b".5", 500000000),
    ],
)
def test_pax_times_keep_every_nanosecond(text: bytes, expected: int) -> None:
    assert decode(pax({b"mtime": text}) + plain(b"f"))[0][0].mtime_ns == expected


def field(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def plain(name: bytes, content: bytes = b"", *, kind: bytes = b"0", size: int | None = None, **raw: bytes) -> bytes:
    """Return one entry as the format's tables have it, with a right checksum."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108], block[108:116], block[116:124] = field(0o644, 8), field(0, 8), field(0, 8)
    block[124:136] = field(len(content) if size is None else size, 12)
    block[136:148] = field(0, 12)
    block[156:157] = kind
    block[257:265] = raw.get("magic", b"ustar\x0000")
    for at, value in ((int(k[1:]), v) for k, v in raw.items() if k[0] == "_"):
        block[at : at + len(value)] = value
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content + bytes(-len(content) % 512)


def pax(records: dict[bytes, bytes], kind: bytes = b"x") -> bytes:
    text = b""
    for key, value in records.items():
        body = b" " + key + b"=" + value + b"\n"
        length = len(body)
        while len(str(length)) + len(body) != length:
            length = len(str(length)) + len(body)
        text += str(length).encode() + body
    return plain(b"PaxHeader", text, kind=kind)


def test_xattrs_are_bytes_of_any_kind() -> None:
    value = b"a=b\n\0\xff 12 x=y\n"
    header = decode(pax({b"SCHILY.xattr.user.x": value, b"SCHILY.xattr.security.capability": b"\1\0"}) + plain(b"f"))
    assert header[0][0].xattrs == ((b"user.x", value), (b"security.capability", b"\1\0"))


def test_global_records_hold_until_they_are_taken_back() -> None:
    archive = pax({b"uid": b"7", b"gid": b"8"}, b"g") + plain(b"a") + pax({b"uid": b"9"}) + plain(b"b") + plain(b"c")
    archive += pax({b"uid": b""}) + plain(b"d")
    assert [(h.uid, h.gid) for h, _ in decode(archive)] == [(7, 8), (9, 8), (7, 8), (0, 8)]


def test_base_256_numbers() -> None:
    big = (1 << 33) + 5
    header = decode(
        plain(b"f", kind=b"5", _136=b"\x80" + big.to_bytes(11, "big"), _108=b"\x80" + bytes(3) + b"\0\1\0\2")
    )
    assert (header[0][0].mtime_ns, header[0][0].uid) == (big * 1_000_000_000, 0x10002)
    negative = decode(plain(b"f", kind=b"5", _136=(-3).to_bytes(12, "big", signed=True)))
    assert negative[0][0].mtime_ns == -3_000_000_000


def test_star_has_a_shorter_prefix() -> None:
    archive = plain(b"f", _345=b"dir", _476=field(1, 12), _488=field(1, 12), _508=b"tar\0")
    assert decode(archive)[0][0].name == b"dir/f"


def test_gnu_headers_have_no_prefix() -> None:
    assert decode(plain(b"f", magic=b"ustar  \0", _345=b"14000000000"))[0][0].name == b"f"


def test_a_trailing_slash_makes_an_old_file_a_directory() -> None:
    assert decode(plain(b"d/", kind=b"\0", magic=bytes(8)))[0][0].type == tar.DIRECTORY


def test_a_hard_link_has_no_data_whatever_its_size_says() -> None:
    archive = plain(b"l", kind=b"1", size=700, _157=b"f") + plain(b"f", b"x")
    assert [h.name for h, _ in decode(archive)] == [b"l", b"f"]


def test_what_follows_the_end_is_padding() -> None:
    assert len(decode(plain(b"f") + bytes(1024) + b"\xff" * 700)) == 1


@pytest.mark.parametrize("missing", ["both", "one"])
def test_end_blocks_may_be_missing(missing: str) -> None:
    assert len(decode(plain(b"f", b"x") + (bytes(512) if missing == "one" else b""))) == 1


RUNS = ((0, 3), (512, 4), (1024, 2))
SPARSE_CONTENT = b"abc" + b"\0" * 509 + b"wxyz" + b"\0" * 508 + b"QQ" + b"\0" * 474
SPARSE_DATA = b"abcwxyzQQ"
SPARSE_SIZE = 1500


def old_gnu() -> bytes:
    table = b"".join(field(a, 12) + field(n, 12) for a, n in RUNS)
    return plain(b"s", SPARSE_DATA, kind=b"S", magic=b"ustar  \0", _386=table, _483=field(SPARSE_SIZE, 12))


def old_gnu_extended() -> bytes:
    head = b"".join(field(a, 12) + field(n, 12) for a, n in RUNS[:1])
    rest = b"".join(field(a, 12) + field(n, 12) for a, n in RUNS[1:])
    size = field(SPARSE_SIZE, 12)
    entry = plain(b"s", size=len(SPARSE_DATA), kind=b"S", magic=b"ustar  \0", _386=head, _482=b"\1", _483=size)
    return entry + rest + bytes(512 - len(rest)) + SPARSE_DATA + bytes(-len(SPARSE_DATA) % 512)


def pax_0_0() -> bytes:
    text = b""
    for key, value in [
        ("size", SPARSE_SIZE),
        ("numblocks", 3),
        *[x for r in RUNS for x in zip(("offset", "numbytes"), r)],
    ]:
        body = f" GNU.sparse.{key}={value}\n".encode()
        text += str(len(body) + 2).encode() + body
    return plain(b"PaxHeader", text, kind=b"x") + plain(b"s", SPARSE_DATA)


def pax_0_1() -> bytes:
    flat = b",".join(b"%d,%d" % r for r in RUNS)
    records = {b"GNU.sparse.size": b"%d" % SPARSE_SIZE, b"GNU.sparse.map": flat, b"GNU.sparse.name": b"s"}
    return pax(records) + plain(b"GNUSparseFile.0/s", SPARSE_DATA)


def pax_1_0() -> bytes:
    numbers = b"".join(b"%d\n" % n for n in (len(RUNS), *[n for r in RUNS for n in r]))
    records = {
        b"GNU.sparse.major": b"1",
        b"GNU.sparse.minor": b"0",
        b"GNU.sparse.name": b"s",
        b"GNU.sparse.realsize": b"%d" % SPARSE_SIZE,
    }
    return pax(records) + plain(b"GNUSparseFile.0/s", numbers + bytes(-len(numbers) % 512) + SPARSE_DATA)


@pytest.mark.parametrize("archive", [old_gnu(), old_gnu_extended(), pax_0_0(), pax_0_1(), pax_1_0()])
@pytest.mark.parametrize("step", [1, 512, 1 << 20])
def test_sparse_files(archive: bytes, step: int) -> None:
    entries = decode(archive + plain(b"next", b"n"), step)
    header, content = entries[0]
    assert (header.name, header.size_bytes, content) == (b"s", SPARSE_SIZE, SPARSE_CONTENT)
    assert [h.name for h, _ in entries] == [b"s", b"next"]


@pytest.mark.parametrize("runs", [((5, 3), (4, 6)), ((0, 8),), ((0, 1500), (1499, 9)), ((1499, 9),)])
def test_sparse_maps_that_do_not_fit_are_refused(runs: tuple[tuple[int, int], ...]) -> None:
    flat = b",".join(b"%d,%d" % r for r in runs)
    with pytest.raises(TarError, match="sparse map"):
        decode(pax({b"GNU.sparse.size": b"1500", b"GNU.sparse.map": flat}) + plain(b"s", SPARSE_DATA))


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"x" * 512, "checksum"),
        (plain(b"f")[:300], "cut off"),
        (plain(b"f", b"x" * 600)[:1000], "cut off"),
        (pax({b"path": b"f"}), "cut off"),
        (plain(b"f", _124=b"12x\0"), "size is not a number"),
        (plain(b"f", _124=b"\xff" * 12), "impossible size"),
        (bytes(512) + plain(b"f"), "end-of-archive"),
        (plain(b"x", b"9 path=f\n", kind=b"x", size=8) + plain(b"f"), "malformed pax"),
        (pax({b"path": b"a\0b"}) + plain(b"f"), "malformed pax"),
        (pax({b"uid": b"4294967295"}) + plain(b"f"), "impossible owner"),
        (pax({b"mtime": b"now"}) + plain(b"f"), "mtime"),
        (plain(b""), "without a name"),
        (plain(b"x", kind=b"L", size=1 << 21), "too large"),
    ],
)
def test_faults_are_named(archive: bytes, message: str) -> None:
    with pytest.raises(TarError, match=message):
        decode(archive)


SEEDS = (
    pax({b"path": b"p" * 200, b"mtime": b"1.5", b"SCHILY.xattr.user.a": b"b"}) + plain(b"f", b"hello" * 200),
    old_gnu_extended(),
    pax_0_0() + pax_1_0(),
    plain(b"././@LongLink", b"n" * 300, kind=b"L") + plain(b"n", kind=b"5"),
)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_only_tar_errors_escape(data: st.DataObject) -> None:
    archive = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(archive) - 1))
        archive[at] = data.draw(st.integers(0, 255))
        if data.draw(st.booleans()):  # a right checksum lets the damage reach what lies behind it
            start = at - at % 512
            archive[start + 148 : start + 156] = b"        "
            archive[start + 148 : start + 156] = b"%06o\0 " % sum(archive[start : start + 512])
    cut = data.draw(st.integers(0, len(archive)))
    try:
        decode(bytes(archive[:cut]), data.draw(st.sampled_from([17, 512, 4096])))
    except TarError as error:
        assert 0 <= error.offset <= cut


@settings(max_examples=200, deadline=None)
@given(archive=st.binary(max_size=2000))
def test_only_tar_errors_escape_from_noise(archive: bytes) -> None:
    try:
        decode(archive)
    except TarError as error:
        assert error.message
