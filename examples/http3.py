"""GET by HTTP/3, for a system whose curl has none. Needs `pip install aioquic`.

    python3 http3.py https://api.example.com:8443/menu [ca.pem]

ca.pem: the authority that signed the gateway's certificate, if no system knows it."""
import asyncio
import sys
from urllib.parse import urlsplit

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.http = H3Connection(self._quic)
        self.over = asyncio.Event()

    def get(self, url):
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", url.netloc), (":path", url.path or "/")]
        stream = self._quic.get_next_available_stream_id()
        self.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in fields], end_stream=True)
        self.transmit()

    def quic_event_received(self, event):
        for part in self.http.handle_event(event):
            if isinstance(part, HeadersReceived):
                print(*(f"{name.decode()}: {value.decode()}" for name, value in part.headers), "", sep="\n")
            if isinstance(part, DataReceived):
                print(part.data.decode(errors="replace"), end="", flush=True)
            if getattr(part, "stream_ended", False):
                self.over.set()


async def main(address, authority=None):
    url = urlsplit(address)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=url.hostname)
    if authority:
        configuration.load_verify_locations(authority)
    async with connect(url.hostname, url.port or 443, configuration=configuration, create_protocol=Client) as client:
        client.get(url)
        await asyncio.wait_for(client.over.wait(), 20)


asyncio.run(main(*sys.argv[1:]))
