"""grpcio as a server and as a client of the gateway, without generated code: handlers take and give bytes. As a server (`server`) it
says its port as one line of JSON and lives until its standard input ends; as a client (`client ADDRESS CA`) it calls everything, and
fails with words."""
import json
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "peers.grpc"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
cancelled = threading.Event()


def unary(request, context):
    fields = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-first", fields.get("x-meta", "none")),))
    context.set_trailing_metadata((("x-last", "end"), ("x-bytes-bin", fields.get("x-bytes-bin", b""))))
    return request[::-1]


def fail(request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"not like this: {request.decode()} \u00e9\u2713 100%")


def download(request, context):
    size, count = json.loads(request)
    for at in range(count):
        yield bytes([at % 256]) * size


def upload(requests, context):
    count, size = 0, 0
    for request in requests:
        count, size = count + 1, size + len(request)
    return json.dumps([count, size]).encode()


def chat(requests, context):
    for request in requests:
        yield b"you said " + request
    yield b"bye"


def early(requests, context):
    next(requests)
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")


def hang(request, context):
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(20)
    cancelled.set()
    return b""


def was_cancelled(request, context):
    return b"yes" if cancelled.wait(10) else b"no"


def serve():
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Hang": grpc.unary_unary_rpc_method_handler(hang),
        "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
        "Download": grpc.unary_stream_rpc_method_handler(download),
        "Upload": grpc.stream_unary_rpc_method_handler(upload),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Early": grpc.stream_stream_rpc_method_handler(early),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"plain": port}), flush=True)
    sys.stdin.read()
    server.stop(None)


def same(what, found, wanted):
    if found != wanted:
        raise SystemExit(f"{what}: {str(found)[:300]}, and not {str(wanted)[:300]}")


def fails(what, call, code):
    try:
        found = call()
    except grpc.RpcError as error:
        same(f"the status of {what}", error.code(), code)
        return error
    raise SystemExit(f"{what} should fail with {code}, and gave {str(found)[:100]}")


def client(address, ca, *how):
    if ca == "-":
        channel = grpc.insecure_channel(address, OPTIONS)
    else:
        with open(ca, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        channel = grpc.secure_channel(address, credentials, [*OPTIONS, ("grpc.ssl_target_name_override", "gateway.test")])
    behind_nginx = "behind-nginx" in how

    def method(kind, name):
        return getattr(channel, kind)(f"/{SERVICE}/{name}")

    call_unary, call_download = method("unary_unary", "Unary"), method("unary_stream", "Download")
    call_upload, call_chat = method("stream_unary", "Upload"), method("stream_stream", "Chat")
    hang, fail = method("unary_unary", "Hang"), method("unary_unary", "Fail")
    wait = {"timeout": 20}

    fields = (("x-meta", "1"), ("x-bytes-bin", bytes(range(256))))
    answer, call = call_unary.with_call(b"hello", metadata=fields, **wait)
    same("a unary call", answer, b"olleh")
    same("its first metadata", dict(call.initial_metadata()).get("x-first"), "1")
    last = dict(call.trailing_metadata())
    same("its last metadata", (last.get("x-last"), last.get("x-bytes-bin")), ("end", bytes(range(256))))
    same("an empty message", call_unary(b"", **wait), b"")

    large = bytes(range(256)) * 40000
    same("a message of 10 MB", call_unary(large, **wait) == large[::-1], True)
    same("a download", [len(part) for part in call_download(b"[1000, 300]", **wait)], [1000] * 300)
    same("a large download", sum(len(part) for part in call_download(b"[1000000, 15]", **wait)), 15000000)
    same("an upload", json.loads(call_upload(iter([b"x" * 70000] * 100), **wait)), [100, 7000000])
    same("an upload of nothing", json.loads(call_upload(iter([]), **wait)), [0, 0])

    # Each message is answered before the next is sent.
    asked = threading.Semaphore(1)

    def questions():
        for at in range(50):
            asked.acquire()
            yield str(at).encode()

    heard = []
    for part in call_chat(questions(), **wait):
        heard.append(part)
        asked.release()
    same("a chat", heard, [b"you said " + str(at).encode() for at in range(50)] + [b"bye"])

    error = fails("what aborts", lambda: fail(b"x", **wait), grpc.StatusCode.FAILED_PRECONDITION)
    same("its message", error.details(), "not like this: x \u00e9\u2713 100%")
    same("its metadata", dict(error.trailing_metadata()).get("x-why"), "because")
    fails("an unknown method", lambda: method("unary_unary", "Nothing")(b"", **wait), grpc.StatusCode.UNIMPLEMENTED)
    early = method("stream_stream", "Early")
    error = fails("a server that has enough", lambda: list(early(iter([b"x" * 1000] * 1000), **wait)), grpc.StatusCode.RESOURCE_EXHAUSTED)
    same("its message", error.details(), "enough")

    start = time.monotonic()
    fails("a deadline", lambda: hang(b"", timeout=0.3), grpc.StatusCode.DEADLINE_EXCEEDED)
    same("it comes in time", time.monotonic() - start < 5, True)
    future = hang.future(b"", **wait)
    time.sleep(0.2)
    future.cancel()
    if not behind_nginx:
        same("the server learns that the client gave up", method("unary_unary", "WasCancelled")(b"", **wait), b"yes")

    many = [call_unary.future(str(at).encode() * 1000, timeout=30) for at in range(300)]
    same("300 calls at once", [call.result() == (str(at).encode() * 1000)[::-1] for at, call in enumerate(many)], [True] * 300)
    streams = [call_download(b"[20000, 20]", timeout=30) for _ in range(30)]
    same("30 downloads at once", [sum(map(len, stream)) for stream in streams], [400000] * 30)
    left = call_download(b"[100000, 1000]", **wait)
    next(left)
    left.cancel()
    same("a call behind a download that was left", call_unary(b"abc", **wait), b"cba")
    channel.close()


if sys.argv[1] == "server":
    serve()
else:
    client(*sys.argv[2:])
