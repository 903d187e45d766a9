"""The receive path: whatever the network's cuts, the payloads in their order."""

import struct
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE

from marketprism.feeds.frames import BatchingConnection, FrameCutter

HEAD = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: x\r\n\r\n"
)
LIMIT = 100_000


def frame(payload: bytes, opcode: int = 1, *, final: bool = True) -> bytes:
    """A server's frame, unmasked."""
    head = bytes([opcode | (0x80 if final else 0)])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 1 << 16:
        return head + b"\x7e" + struct.pack("!H", len(payload)) + payload
    return head + b"\x7f" + struct.pack("!Q", len(payload)) + payload


class Pieces(trio.abc.Stream):
    """A stream that gives what it is made of, piece by piece."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return next(self._pieces, b"")

    async def send_all(self, data: object) -> None:
        pass

    async def wait_send_all_might_not_block(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def cut(wire: bytes, sizes: list[int]) -> tuple[list[list[bytes]], bytes]:
    """What is delivered, a list a receive, and what trio-websocket gets to see."""

    def pieces() -> Iterator[bytes]:
        at = 0
        for size in [*sizes, len(wire)]:
            if at < len(wire):
                yield wire[at : at + size]
                at += size

    delivered: list[list[bytes]] = []
    rest = b""

    async def read() -> None:
        nonlocal rest
        cutter = FrameCutter(Pieces(pieces()), delivered.append, LIMIT)
        while data := await cutter.receive_some():
            rest += data

    trio.run(read)
    return delivered, rest


texts = st.text(max_size=300).map(str.encode)
sizes = st.lists(st.integers(1, 200), max_size=40)


@settings(deadline=None)
@given(st.lists(texts, max_size=20), sizes)
def test_text_frames_are_delivered_whole_in_order_however_the_network_cuts(
    payloads: list[bytes], sizes: list[int]
) -> None:
    """And trio-websocket sees the handshake alone."""
    delivered, rest = cut(HEAD + b"".join(map(frame, payloads)), sizes)
    assert [payload for batch in delivered for payload in batch] == payloads
    assert rest == HEAD


@settings(deadline=None)
@given(st.lists(st.tuples(texts, st.sampled_from([1, 2, 9, 10])), max_size=20), sizes)
def test_control_frames_go_on_whole_between_their_neighbours(
    frames: list[tuple[bytes, int]], sizes: list[int]
) -> None:
    """Pings and pongs to trio-websocket, data to us, both in order."""
    frames = [(payload[:125] if opcode > 2 else payload, opcode) for payload, opcode in frames]
    delivered, rest = cut(HEAD + b"".join(frame(*each) for each in frames), sizes)
    data = [payload for payload, opcode in frames if opcode < 3]
    control = [frame(payload, opcode) for payload, opcode in frames if opcode > 2]
    assert [payload for batch in delivered for payload in batch] == data
    assert rest == HEAD + b"".join(control)


def test_frames_received_together_are_one_batch() -> None:
    """One list a receive: what follows costs once a batch."""
    delivered, _ = cut(HEAD + frame(b"1") + frame(b"2") + frame(b"3"), [])
    assert delivered == [[b"1", b"2", b"3"]]


@pytest.mark.parametrize(
    "odd",
    [
        frame(b"part", final=False) + frame(b"end", 0),
        b"\xc1\x01x",
        b"\x81\x81\x00\x00\x00\x00x",
        frame(b"\xff\xfe"),
        frame(b"x" * (LIMIT + 1)),
        b"\x83\x00",
    ],
    ids=["fragments", "reserved bit", "masked", "not UTF-8", "too large", "unknown opcode"],
)
def test_everything_odd_is_left_to_trio_websocket(odd: bytes) -> None:
    """To the byte: it knows the rules."""
    delivered, rest = cut(HEAD + frame(b"before") + odd, [50, 7, 90])
    assert delivered == [[b"before"]]
    assert rest == HEAD + odd


def test_a_refused_handshake_is_left_to_trio_websocket_with_its_body() -> None:
    """The body is no frame, whatever it looks like."""
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\n\x81\x01x"
    assert cut(refusal, [20]) == ([], refusal)


Server = Callable[[trio.abc.Stream], object]


async def ended(wire: bytes, limit: int = LIMIT) -> tuple[list[bytes], int]:
    """What a real connection delivers of these frames, and the code that it ends with."""
    client, server = trio.testing.memory_stream_pair()
    delivered: list[bytes] = []
    connection = BatchingConnection(client, "host", "/ws", delivered.extend, limit)

    async def serve() -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await server.receive_some(4096)
        key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        await server.send_all(_accept(key) + wire)
        with trio.move_on_after(0.1):
            await server.receive_some()
        await server.aclose()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await connection.run()
            nursery.cancel_scope.cancel()
    assert connection.closed is not None
    return delivered, int(connection.closed.code)


def _accept(key: bytes) -> bytes:
    import base64
    import hashlib

    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return answer + b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"


async def test_fragments_are_delivered_as_one_message_in_their_place() -> None:
    """Between their neighbours; a ping in their midst does not disturb them."""
    wire = frame(b"1") + frame(b"2a", final=False) + frame(b"", 9) + frame(b"2b", 0) + frame(b"3")
    delivered, _ = await ended(wire + frame(b"\x03\xe8", 8))
    assert delivered == [b"1", b"2a2b", b"3"]


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (frame(b"\x03\xe8", 8), 1000),
        (frame(b"\x03\xe9bye", 8), 1001),
        (frame(b"x" * 1001), 1009),
        (frame(b"x" * 600, final=False) + frame(b"x" * 600, 0, final=False), 1009),
        (frame(b"\xff\xfe"), 1007),
        (b"\x83\x00", 1002),
        (b"", 1006),
    ],
    ids=["close", "going away", "oversize", "endless fragments", "not UTF-8", "opcode", "cut off"],
)
async def test_a_connection_says_how_it_ended(wire: bytes, code: int) -> None:
    """What came before the end is delivered; the code is the peer's, or ours."""
    delivered, said = await ended(frame(b"good") + wire, limit=1000)
    assert delivered == [b"good"]
    assert said == code


@pytest.mark.parametrize("bad", [frame(b"\xff\xfe"), b"\x83\x00"], ids=["not UTF-8", "opcode"])
async def test_nothing_is_delivered_behind_a_frame_that_ends_the_connection(bad: bytes) -> None:
    """Else what that frame said would be missing from before the gap that the end opens."""
    delivered, _ = await ended(frame(b"good") + bad + frame(b"too late"))
    assert delivered == [b"good"]
