"""Python's h2, which holds its peer to RFC 9113, as a back end and as a client of the gateway; and httpx above it. As a back end
(`server`) it says its port as one line of JSON and lives until its standard input ends; as a client (`client URL CA PREFIX...`) it
asks for everything below each prefix, and fails with words."""
import asyncio
import json
import ssl
import sys
from urllib.parse import parse_qs, urlsplit

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import httpx


def pattern(length):
    return (bytes(range(251)) * (length // 251 + 1))[:length]


class Peer(asyncio.Protocol):
    """One connection, whichever side: hands events on, and sends bodies as windows allow."""

    def __init__(self, client, handler):
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client, header_encoding="utf-8"))
        self.handler = handler
        self.waiting = {}
        self.room = asyncio.Event()
        self.error = None
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.connection.initiate_connection()
        self.flush()

    def flush(self):
        self.transport.write(self.connection.data_to_send())

    def data_received(self, data):
        try:
            for event in self.connection.receive_data(data):
                if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
                    self.room.set()
                if isinstance(event, h2.events.ConnectionTerminated) and event.error_code:
                    self.error = f"GOAWAY with {event.error_code}"
                self.handler(self, event)
        except h2.exceptions.ProtocolError as error:
            self.error = f"h2 complains: {error!r}"
            print(self.error, file=sys.stderr, flush=True)
        self.flush()

    def connection_lost(self, error):
        self.room.set()
        self.handler(self, None)
        if not self.closed.done():
            self.closed.set_result(error)

    async def send(self, stream, body, end):
        at = 0
        while at < len(body):
            self.room.clear()
            count = min(self.connection.local_flow_control_window(stream), self.connection.max_outbound_frame_size, len(body) - at)
            if count <= 0:
                await self.room.wait()
                continue
            # Padding every now and then, which counts as sent.
            padding = 7 if count < 1000 and count + 8 <= self.connection.local_flow_control_window(stream) else None
            self.connection.send_data(stream, body[at : at + count], pad_length=padding)
            at += count
            self.flush()
            await asyncio.sleep(0)
        if end:
            self.connection.end_stream(stream)
        self.flush()


# The back end.

abandoned = 0


class Request:
    def __init__(self, headers):
        self.headers, self.body, self.trailers = headers, b"", {}


def serving(peer, event):
    global abandoned
    if isinstance(event, h2.events.RequestReceived):
        peer.waiting[event.stream_id] = Request(dict(event.headers))
        if urlsplit(dict(event.headers)[":path"]).path == "/hang":
            return
    elif isinstance(event, h2.events.DataReceived):
        request = peer.waiting.get(event.stream_id)
        if request:
            request.body += event.data
    elif isinstance(event, h2.events.TrailersReceived):
        peer.waiting[event.stream_id].trailers = dict(event.headers)
    elif isinstance(event, h2.events.StreamReset):
        if peer.waiting.pop(event.stream_id, None):
            abandoned += 1
        peer.room.set()
    elif isinstance(event, h2.events.StreamEnded):
        request = peer.waiting[event.stream_id]
        task = asyncio.ensure_future(answer(peer, event.stream_id, request))
        task.add_done_callback(lambda task: done(peer, event.stream_id, task))


def done(peer, stream, task):
    error = task.exception()
    if error and not isinstance(error, (h2.exceptions.StreamClosedError, h2.exceptions.NoSuchStreamError)):
        print(f"stream {stream}: {error!r}", file=sys.stderr, flush=True)


async def answer(peer, stream, request):
    url = urlsplit(request.headers[":path"])
    count = int(parse_qs(url.query).get("n", ["0"])[0])
    connection = peer.connection

    def head(status, *fields, end=False):
        connection.send_headers(stream, [(":status", str(status)), *fields], end_stream=end)

    if url.path == "/hang":
        return
    if url.path == "/echo":
        head(200, ("x-method", request.headers[":method"]))
        await peer.send(stream, request.body, True)
    elif url.path == "/count":
        head(200)
        await peer.send(stream, str(len(request.body)).encode(), True)
    elif url.path == "/bytes":
        to_head = request.headers[":method"] == "HEAD"
        head(200, ("content-length", str(count)), end=to_head)
        if not to_head:
            await peer.send(stream, pattern(count), True)
    elif url.path == "/chunks":
        head(200)
        for _ in range(count):
            await peer.send(stream, pattern(1000), False)
        await peer.send(stream, b"", True)
    elif url.path == "/trailers":
        head(200)
        await peer.send(stream, b"body", False)
        fields = [("x-size", str(len(request.body))), ("x-said", request.trailers.get("x-end", "nothing"))]
        connection.send_headers(stream, fields, end_stream=True)
    elif url.path == "/hints":
        head(103, ("link", "</style.css>; rel=preload"))
        head(200)
        await peer.send(stream, b"hinted", True)
    elif url.path == "/204":
        head(204, end=True)
    elif url.path == "/headers":
        head(200, ("content-type", "application/json"), *[(f"x-answer-{at}", "v" * 200) for at in range(60)])
        await peer.send(stream, json.dumps(request.headers).encode(), True)
    elif url.path == "/abandoned":
        head(200)
        await peer.send(stream, str(abandoned).encode(), True)
    else:
        head(404, end=True)
    peer.flush()


async def serve():
    server = await asyncio.get_running_loop().create_server(lambda: Peer(False, serving), "127.0.0.1", 0)
    print(json.dumps({"h2c": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


# The client.


class Answer:
    def __init__(self):
        self.interim, self.head, self.body, self.trailers, self.reset = [], {}, b"", {}, None
        self.done = asyncio.get_running_loop().create_future()


def asking(peer, event):
    answer = peer.waiting.get(getattr(event, "stream_id", None))
    if event is None:
        for answer in peer.waiting.values():
            if not answer.done.done():
                answer.done.set_exception(RuntimeError(peer.error or "the connection is over"))
                # Nobody may be left to ask for it.
                answer.done.exception()
    elif answer is None or answer.done.cancelled():
        return
    elif isinstance(event, h2.events.InformationalResponseReceived):
        answer.interim.append(dict(event.headers))
    elif isinstance(event, h2.events.ResponseReceived):
        answer.head = dict(event.headers)
    elif isinstance(event, h2.events.DataReceived):
        answer.body += event.data
    elif isinstance(event, h2.events.TrailersReceived):
        answer.trailers = dict(event.headers)
    elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)) and not answer.done.done():
        answer.reset = getattr(event, "error_code", None)
        answer.done.set_result(answer)


class Client:
    def __init__(self, peer, scheme):
        self.peer, self.scheme = peer, scheme

    async def ask(self, path, method="GET", fields=(), body=None, trailers=None, reset=False):
        connection = self.peer.connection
        stream = connection.get_next_available_stream_id()
        answer = self.peer.waiting[stream] = Answer()
        head = [(":method", method), (":scheme", self.scheme), (":authority", "gateway.test"), (":path", path), *fields]
        connection.send_headers(stream, head, end_stream=body is None)
        self.peer.flush()
        if body is not None:
            await self.peer.send(stream, body, trailers is None)
        if trailers:
            connection.send_headers(stream, trailers, end_stream=True)
            self.peer.flush()
        if reset:
            await asyncio.sleep(0.05)
            connection.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
            return self.peer.flush()
        return await asyncio.wait_for(answer.done, 20)


def same(what, found, wanted):
    if found != wanted:
        raise AssertionError(f"{what}: {str(found)[:200]}, and not {str(wanted)[:200]}")


async def everything(client, prefix):
    narrow = prefix.startswith("/nginx")
    got = await client.ask(f"{prefix}/headers", fields=[("x-long", "y" * 20000), ("cookie", "a=1"), ("cookie", "b=2")])
    same("the status", got.head[":status"], "200")
    sent = json.loads(got.body)
    same("fields", (got.head[":status"], len(sent["x-long"]), got.head["x-answer-59"]), ("200", 20000, "v" * 200))
    for length in (0, 1, 16384, 65535, 65536, 1000000):
        got = await client.ask(f"{prefix}/echo", "POST", body=pattern(length))
        same(f"an echo of {length} bytes", (got.head[":status"], got.body), ("200", pattern(length)))
    got = await client.ask(f"{prefix}/bytes?n=2000000")
    same("many bytes", got.body, pattern(2000000))
    same("HEAD", (await client.ask(f"{prefix}/bytes?n=777", "HEAD")).head["content-length"], "777")
    same("204", (await client.ask(f"{prefix}/204")).head[":status"], "204")
    if not narrow:
        fields = [("te", "trailers"), ("trailer", "x-end")]
        got = await client.ask(f"{prefix}/trailers", "POST", fields, b"some", [("x-end", "yes")])
        same("trailers", (got.body, got.trailers.get("x-size"), got.trailers.get("x-said")), (b"body", "4", "yes"))
        got = await client.ask(f"{prefix}/hints")
        same("hints", [(head[":status"], head["link"]) for head in got.interim], [("103", "</style.css>; rel=preload")])
    many = await asyncio.gather(*[client.ask(f"{prefix}/bytes?n={at * 997}") for at in range(90)])
    for at, got in enumerate(many):
        same(f"request {at} of many", got.body, pattern(at * 997))
    settings = h2.settings.SettingCodes
    for change in ({settings.INITIAL_WINDOW_SIZE: 100}, {settings.HEADER_TABLE_SIZE: 0}, {settings.INITIAL_WINDOW_SIZE: 65535},
                   {settings.HEADER_TABLE_SIZE: 4096, settings.MAX_FRAME_SIZE: 1 << 20}):
        before = asyncio.ensure_future(client.ask(f"{prefix}/bytes?n=30000"))
        await asyncio.sleep(0)
        client.peer.connection.update_settings(change)
        client.peer.flush()
        same("an answer while settings change", (await before).body, pattern(30000))
        same("an answer under new settings", (await client.ask(f"{prefix}/bytes?n=30000")).body, pattern(30000))
    before = (await client.ask(f"{prefix}/abandoned")).body
    await client.ask(f"{prefix}/hang", reset=True)
    for _ in range(200):
        if (await client.ask(f"{prefix}/abandoned")).body != before:
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("the back end never learned that the client gave up")
    if client.peer.error:
        raise AssertionError(client.peer.error)


async def strictly(url, ca, prefixes):
    parts = urlsplit(url)
    context = None
    if ca != "-":
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["h2"])
    name = "gateway.test" if context else None
    _, peer = await asyncio.get_running_loop().create_connection(
        lambda: Peer(True, asking), parts.hostname, parts.port, ssl=context, server_hostname=name
    )
    for prefix in prefixes:
        try:
            await everything(Client(peer, parts.scheme), prefix)
        except (AssertionError, RuntimeError, asyncio.TimeoutError, h2.exceptions.H2Error) as error:
            raise SystemExit(f"h2, {prefix}: {error!r} ({peer.error})")
    peer.connection.close_connection()
    peer.flush()
    await asyncio.wait_for(peer.closed, 10)


async def with_httpx(url, ca, prefixes):
    context = True if ca == "-" else ssl.create_default_context(cafile=ca)
    limits = httpx.Limits(max_connections=1)
    extensions = {"sni_hostname": "gateway.test"}
    for prefix in prefixes:
        async with httpx.AsyncClient(http1=False, http2=True, verify=context, limits=limits, timeout=20) as client:
            try:
                await everything_with_httpx(client, f"{url}{prefix}", extensions)
            except (AssertionError, httpx.HTTPError) as error:
                raise SystemExit(f"httpx, {prefix}: {error!r}")


async def everything_with_httpx(client, at, extensions):
    # It reads nothing before it has sent everything: a large echo would stand still, as it should.
    got = await client.post(f"{at}/count", content=pattern(500000), extensions=extensions)
    same("an upload", (got.http_version, got.status_code, got.text), ("HTTP/2", 200, "500000"))
    got = await client.post(f"{at}/echo", content=pattern(30000), extensions=extensions)
    same("an echo", got.content, pattern(30000))
    all = await asyncio.gather(*[client.get(f"{at}/bytes?n={n * 500}", extensions=extensions) for n in range(60)])
    for n, got in enumerate(all):
        same(f"request {n} of many", got.content, pattern(n * 500))
    async with client.stream("GET", f"{at}/bytes?n=3000000", extensions=extensions) as got:
        async for _ in got.aiter_bytes():
            break
    same("what follows a download that was left", (await client.get(f"{at}/204", extensions=extensions)).status_code, 204)


def main():
    role, *rest = sys.argv[1:]
    if role == "server":
        asyncio.run(serve())
    else:
        url, ca, *prefixes = rest
        asyncio.run(strictly(url, ca, prefixes))
        asyncio.run(with_httpx(url, ca, prefixes))


main()
