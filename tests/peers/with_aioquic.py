"""A client of HTTP/3 that shares no code with the gateway: aioquic. Arguments: port, file with the authority's certificate. Standard
output: one line of JSON for each thing that it tried, with what came of it."""
import asyncio
import json
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset

NAME = "a.test"


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.http = H3Connection(self._quic)
        self.waiting = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamReset) and event.stream_id in self.waiting:
            self.waiting.pop(event.stream_id)["done"].set_result({"reset": event.error_code})
        if isinstance(event, ConnectionTerminated):
            for answer in self.waiting.values():
                answer["done"].set_result({"closed": event.error_code})
            self.waiting.clear()
        for part in self.http.handle_event(event):
            if isinstance(part, (HeadersReceived, DataReceived)):
                self.take(part)

    def take(self, part):
        answer = self.waiting.get(part.stream_id)
        if answer is None:
            return
        if isinstance(part, DataReceived):
            answer["body"] += part.data
        elif answer["headers"] is None:
            answer["headers"] = {name.decode(): value.decode() for name, value in part.headers}
        else:
            answer["trailers"] = {name.decode(): value.decode() for name, value in part.headers}
        if part.stream_ended:
            self.waiting.pop(part.stream_id)
            answer.pop("done").set_result(answer)

    def start(self, method, path, headers=(), body=None, trailers=None):
        stream = self._quic.get_next_available_stream_id()
        done = asyncio.get_running_loop().create_future()
        self.waiting[stream] = {"headers": None, "body": b"", "trailers": None, "done": done}
        fields = [(":method", method), (":scheme", "https"), (":authority", NAME), (":path", path), *headers]
        fields = [(name.encode(), value.encode()) for name, value in fields]
        self.http.send_headers(stream, fields, end_stream=body is None and trailers is None)
        if body is not None:
            self.http.send_data(stream, body, end_stream=trailers is None)
        if trailers is not None:
            self.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in trailers], end_stream=True)
        self.transmit()
        return stream, done

    async def ask(self, *arguments, **more):
        _, done = self.start(*arguments, **more)
        return await asyncio.wait_for(done, 20)


def tell(what, **more):
    print(json.dumps({"what": what, **more}), flush=True)


async def main():
    port, authority = int(sys.argv[1]), sys.argv[2]
    tickets = []

    def configuration():
        made = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=NAME)
        made.load_verify_locations(authority)
        made.verify_mode = ssl.CERT_REQUIRED
        return made

    def reach(configuration, **more):
        return connect("127.0.0.1", port, configuration=configuration, create_protocol=Client, session_ticket_handler=tickets.append, **more)

    async with reach(configuration()) as client:
        answer = await client.ask("GET", "/a?b", [("cookie", "a=b"), ("x-long", "y" * 3000)])
        tell("get", status=answer["headers"][":status"], body=answer["body"].decode())
        body = bytes(range(256)) * 8000
        answer = await client.ask("POST", "/mirror", [("content-length", str(len(body)))], body)
        tell("post", status=answer["headers"][":status"], same=answer["body"] == body, length=answer["headers"].get("content-length"))
        answer = await client.ask("POST", "/trailers", [("te", "trailers")], b"body", [("x-check", "7")])
        tell("trailers", status=answer["headers"][":status"], trailers=answer["trailers"])
        # No HEAD: aioquic wants as many bytes as Content-Length says, of every answer.
        many = await asyncio.gather(*(client.ask("GET", f"/{number}") for number in range(90)))
        tell("many", statuses=sorted({answer["headers"][":status"] for answer in many}))
        answer = await client.ask("GET", "/", [("connection", "close")])
        tell("malformed", **{key: answer.get(key) for key in ("reset", "closed")})
        # The same connection, with new ids and new keys.
        client.change_connection_id()
        client.request_key_update()
        answer = await client.ask("GET", "/after")
        tell("after", status=answer["headers"][":status"])
    early = configuration()
    early.session_ticket = tickets[-1]
    async with reach(early, wait_connected=False) as client:
        answer = await client.ask("GET", "/early")
        tell("early", status=answer["headers"][":status"], accepted=client._quic.tls.early_data_accepted, resumed=client._quic.tls.session_resumed)


asyncio.run(main())
