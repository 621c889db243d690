"""Python's websockets as a server and as a client of the gateway. As a server (`server`) it says its port as one line of JSON and lives
until its standard input ends; as a client (`client URL CA`) it says everything there is to say, and fails with words."""
import json
import os
import ssl
import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect
from websockets.sync.server import serve as listen

MOST = 32 * 1024 * 1024


def answer(connection):
    path = connection.request.path
    if path == "/close":
        return connection.close(4999, "the server has had enough")
    if path == "/pieces":
        # The lengths of the frames in which a message came.
        for _ in range(4):
            pieces = [len(piece) for piece in connection.recv_streaming()]
            connection.send(json.dumps(pieces))
        return None
    try:
        while True:
            connection.send(connection.recv())
    except ConnectionClosed:
        return None


def choose(connection, offered):
    return "soup" if "soup" in offered else None


def run():
    server = listen(answer, "127.0.0.1", 0, max_size=MOST, select_subprotocol=choose, ping_interval=None)
    print(json.dumps({"plain": server.socket.getsockname()[1]}), flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    # Connections that are left must not keep it alive.
    os._exit(0)


def same(what, found, wanted):
    if found != wanted:
        raise SystemExit(f"{what}: {str(found)[:200]}, and not {str(wanted)[:200]}")


def closes(what, connection, code, reason):
    try:
        found = connection.recv(timeout=10)
    except ConnectionClosed as closed:
        return same(what, (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else None, (code, reason))
    raise SystemExit(f"{what}: it goes on with {found[:100]}")


def client(url, ca):
    context = {} if ca == "-" else {"ssl": ssl.create_default_context(cafile=ca), "server_hostname": "gateway.test"}
    plain = {"max_size": MOST, "ping_interval": None, **context}

    # Every length at which the frame's own form changes, in both kinds, compressed and not.
    for compression in (None, "deflate"):
        with connect(f"{url}/ws/echo", compression=compression, subprotocols=["salad", "soup"], **plain) as connection:
            same("the protocol", connection.subprotocol, "soup")
            same("extensions", bool(connection.protocol.extensions), compression is not None)
            for length in (0, 1, 125, 126, 127, 65535, 65536, 3000000):
                for message in ("\u00e9" * (length // 2), os.urandom(length)):
                    connection.send(message)
                    same(f"a message of {length}", connection.recv(timeout=20) == message, True)
            # A ping in the middle of a message, and its pong before the message.
            same("a ping", connection.ping(b"what?" * 25).wait(10), True)
            connection.send(["a", "b" * 70000, "", "c"])
            same("pieces", connection.recv(timeout=10), "a" + "b" * 70000 + "c")
            for at in range(200):
                connection.send(str(at))
            same("many", [connection.recv(timeout=10) for _ in range(200)], [str(at) for at in range(200)])

    # Frames pass as they are: the borders that the sender chose are the ones that are seen.
    with connect(f"{url}/ws/pieces", compression=None, **plain) as connection:
        for sizes in ([0], [5, 0, 7], [1] * 50, [125, 126, 70000, 1]):
            with connection.send_context():
                for at, size in enumerate(sizes):
                    last = at + 1 == len(sizes)
                    code = Opcode.BINARY if at == 0 else Opcode.CONT
                    connection.protocol.writes.append(Frame(code, b"x" * size, fin=last).serialize(mask=True))
            got = json.loads(connection.recv(timeout=10))
            same("the frames of a message", got, sizes)

    for code, reason in ((1000, ""), (1001, "away"), (3000, "an app's"), (4999, "y" * 123)):
        with connect(f"{url}/ws/echo", **plain) as connection:
            connection.send("x")
            connection.recv(timeout=10)
            connection.close(code, reason)
            found = connection.protocol.close_rcvd
            same(f"the close with {code} comes back", (found.code, found.reason), (code, reason))
    with connect(f"{url}/ws/close", **plain) as connection:
        closes("the server's close", connection, 4999, "the server has had enough")

    # What breaks the protocol is for the server to judge, not for the gateway.
    for what, bits, frame, code in (
        ("text that is no UTF-8", 0, Frame(Opcode.TEXT, b"\xff\xfe"), 1007),
        ("a continuation of nothing", 0, Frame(Opcode.CONT, b"x"), 1002),
        ("a reserved bit", 0x20, Frame(Opcode.TEXT, b"x"), 1002),
        ("a kind of frame that nobody knows", 0x04, Frame(Opcode.BINARY, b"x"), 1002),
    ):
        with connect(f"{url}/ws/echo", compression=None, **plain) as connection:
            with connection.send_context():
                whole = frame.serialize(mask=True)
                connection.protocol.writes.append(bytes([whole[0] | bits]) + whole[1:])
            try:
                connection.recv(timeout=10)
            except ConnectionClosed as closed:
                same(what, closed.rcvd.code if closed.rcvd else None, code)
            else:
                raise SystemExit(f"{what} passed")

    several = [connect(f"{url}/ws/echo", **plain) for _ in range(30)]
    for at, connection in enumerate(several):
        connection.send(f"to {at}")
    same("many at once", [connection.recv(timeout=10) for connection in several], [f"to {at}" for at in range(30)])
    for connection in several:
        connection.close()


if sys.argv[1] == "server":
    run()
else:
    client(*sys.argv[2:])
