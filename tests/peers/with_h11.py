"""How Python's h11 frames requests. Standard input: cases, each behind its length (4 bytes, big-endian); standard output: one line
of JSON for each."""
import json
import struct
import sys

import h11


def frame(case):
    messages = []
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=256 * 1024)
    try:
        connection.receive_data(case)
        connection.receive_data(b"")
        request, body = None, b""
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                messages.append(
                    {"method": request.method.decode("latin-1"), "target": request.target.decode("latin-1"), "body": body.hex()}
                )
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return messages, "closed"
                connection.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                return messages, "over"
            else:
                return messages, "incomplete"
    except h11.ProtocolError as error:
        return messages, str(error)


def main():
    data = sys.stdin.buffer.read()
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        messages, end = frame(data[at + 4 : at + 4 + length])
        print(json.dumps({"messages": messages, "end": end}))
        at += 4 + length


main()
