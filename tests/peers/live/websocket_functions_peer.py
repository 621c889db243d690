"""Python's websockets as clients of a WebSocket API whose messages a function answers, and botocore as who writes to them from elsewhere:
`client URL ADMIN SECRET` says everything that there is to say, and fails with words."""
import base64
import json
import os
import sys
import time

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect as dial

PATIENCE = 30


def same(what, found, wanted):
    if found != wanted:
        raise SystemExit(f"{what}: {str(found)[:500]}, and not {str(wanted)[:500]}")


def connect(url, **more):
    return dial(url, ping_interval=None, open_timeout=PATIENCE, **more)


def ask(connection, message):
    connection.send(message)
    return json.loads(connection.recv(timeout=PATIENCE))


def call(connection, method, to, **what):
    return ask(connection, json.dumps({"do": {"what": "call", "method": method, "to": to, **what}}))


def seen(connection):
    return ask(connection, '{"do":{"what":"seen"}}')


def ended(watcher, identity):
    """What the function was told of a connection's end, and that once."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ends = [event for event in seen(watcher) if event["eventType"] == "DISCONNECT" and event["connectionId"] == identity]
        if ends:
            same("ends of a connection", len(ends), 1)
            return ends[0]["disconnectStatusCode"], ends[0]["disconnectReason"]
    raise SystemExit(f"of the end of {identity} nobody was told")


def closed(what, connection, code):
    try:
        found = connection.recv(timeout=PATIENCE)
    except ConnectionClosed as closed:
        return same(what, closed.rcvd.code if closed.rcvd else None, code)
    raise SystemExit(f"{what}: it goes on with {found[:100]}")


def door(url):
    for status in (401, 403, 500):
        try:
            connect(f"{url}/chat?status={status}")
        except InvalidStatus as refused:
            same("the refusal", refused.response.status_code, status)
        else:
            raise SystemExit(f"whom the function answers {status} is let in")
    with connect(f"{url}/chat?protocol=soup", subprotocols=["salad", "soup"]) as connection:
        same("the protocol", connection.subprotocol, "soup")
        same("extensions, which it offers", connection.protocol.extensions, [])


def messages(url):
    with connect(f"{url}/chat") as connection:
        route, identity, said = ask(connection, "hello")
        same("what is no JSON", (route, said), ("$default", "hello"))
        same("a text of another route", ask(connection, '{"do":{"what":"other"}}')[0], "$default")
        connection.send('{"do":{"what":"silent"}}')
        same("what is not answered is passed over", ask(connection, "next")[2], "next")
        for text in ("", "\u00e9\u20ac\U0001f600", '"\\\u0001', "x" * 32000):
            same("a text", ask(connection, text), ["$default", identity, text])
        for length in (0, 1, 125, 126, 32000):
            # With a byte that no text has: what is text comes back as text.
            data = os.urandom(length) + b"\xff"
            connection.send(data)
            same("bytes", connection.recv(timeout=PATIENCE), data[::-1])
        # In pieces, up to the most; a ping between them is answered before they are whole.
        pieces = ["\u00e9" * 8000, "", "a", "x" * 32000, "x" * 32000, "y"]
        same("pieces", ask(connection, pieces), ["$default", identity, "".join(pieces)])
        with connection.send_context():
            frames = Frame(Opcode.TEXT, b"be", fin=False), Frame(Opcode.PING, b"?"), Frame(Opcode.CONT, b"fore")
            connection.protocol.writes.extend(frame.serialize(mask=True) for frame in frames)
        same("what a ping is in", json.loads(connection.recv(timeout=PATIENCE)), ["$default", identity, "before"])
        same("a ping", connection.ping(b"what?" * 25).wait(PATIENCE), True)
        for at in range(100):
            connection.send(str(at))
        same("an order", [json.loads(connection.recv(timeout=PATIENCE))[2] for _ in range(100)], [str(at) for at in range(100)])


def pushes(url, admin, secret):
    """From the function itself, and from elsewhere."""
    session = botocore.session.Session()
    session.set_credentials("maitred", secret)
    config = Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE)
    client = session.create_client("apigatewaymanagementapi", region_name="eu-west-1", endpoint_url=admin, config=config)
    with connect(f"{url}/chat") as one, connect(f"{url}/chat") as other:
        names = [ask(connection, "who")[1] for connection in (one, other)]
        same("a push by the function", call(one, "POST", names[1], text="from one")["status"], 200)
        same("what is pushed", other.recv(timeout=PATIENCE), "from one")
        data = b"\xff\x00" * 500
        same("bytes", call(one, "POST", names[1], bytes=base64.b64encode(data).decode())["status"], 200)
        same("what is pushed", other.recv(timeout=PATIENCE), data)
        # To whom it answers: the push was there before the answer.
        one.send(json.dumps({"do": {"what": "call", "method": "POST", "to": names[0], "text": "to yourself"}}))
        same("first the push", one.recv(timeout=PATIENCE), "to yourself")
        same("then the answer", json.loads(one.recv(timeout=PATIENCE))["status"], 200)
        looked = call(one, "GET", names[1])
        same("a look", (looked["status"], json.loads(looked["body"])["identity"]["sourceIp"]), (200, "127.0.0.1"))
        client.post_to_connection(ConnectionId=names[0], Data=b"from elsewhere")
        same("a push by botocore", one.recv(timeout=PATIENCE), "from elsewhere")
        same("a look by botocore", client.get_connection(ConnectionId=names[0])["Identity"]["SourceIp"], "127.0.0.1")
        same("an end by the function", call(one, "DELETE", names[1])["status"], 204)
        closed("it is told", other, 1000)
        same("and so is the function", ended(one, names[1])[0], 1000)
        gone = call(one, "POST", names[1], text="late")
        same("too late", (gone["status"], gone["error"]), (410, "GoneException"))
        try:
            client.post_to_connection(ConnectionId=names[1], Data=b"late")
        except client.exceptions.GoneException:
            pass
        else:
            raise SystemExit("botocore writes to who is gone")
        try:
            client.post_to_connection(ConnectionId=names[0], Data=b"x" * (128 * 1024 + 1))
        except ClientError as refused:
            same("too large", refused.response["Error"]["Code"], "PayloadTooLargeException")
        else:
            raise SystemExit("too much is sent")
        client.delete_connection(ConnectionId=names[0])
        closed("an end by botocore", one, 1000)


def ends(url):
    with connect(f"{url}/chat") as watcher:
        for code, reason in ((1000, ""), (1001, "away"), (3000, "an app's"), (4999, "y" * 123)):
            with connect(f"{url}/chat") as connection:
                identity = ask(connection, "who")[1]
                connection.close(code, reason)
                same(f"the close with {code} comes back", connection.protocol.close_rcvd.code, code)
            same("what the function is told", ended(watcher, identity), (code, reason))
        for what, frame, code in (
            ("text that is no UTF-8", Frame(Opcode.TEXT, b"\xff\xfe"), 1007),
            ("a continuation of nothing", Frame(Opcode.CONT, b"x"), 1002),
            ("a frame too long", Frame(Opcode.BINARY, b"x" * (32 * 1024 + 1)), 1009),
        ):
            with connect(f"{url}/chat") as connection:
                identity = ask(connection, "who")[1]
                with connection.send_context():
                    connection.protocol.writes.append(frame.serialize(mask=True))
                closed(what, connection, code)
            same(what, ended(watcher, identity)[0], code)
        gone = connect(f"{url}/chat")
        identity = ask(gone, "who")[1]
        gone.socket.close()
        same("no word at all", ended(watcher, identity)[0], 1006)


def remembered(url):
    """Of each connection one beginning, then what was said, then one end; and every run has a trace."""
    with connect(f"{url}/chat") as watcher:
        events = seen(watcher)
        own = events[-1]["connectionId"]
        kinds = {}
        for event in events:
            same("a trace", event["trace"].startswith("Root=1-"), True)
            kinds.setdefault(event["connectionId"], []).append(event["eventType"])
        same("traces", len({event["trace"] for event in events}), len(events))
        for identity, told in kinds.items():
            same(f"of {identity}, first", told[0], "CONNECT")
            same(f"of {identity}, in between", set(told[1:-1]) <= {"MESSAGE"}, True)
        same("the last to come", kinds[own], ["CONNECT"])


def main(url, admin, secret):
    door(url)
    messages(url)
    pushes(url, admin, secret)
    ends(url)
    remembered(url)


if __name__ == "__main__":
    main(*sys.argv[2:5])
