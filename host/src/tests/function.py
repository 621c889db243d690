"""A function that speaks the Runtime API by hand, so that it can also speak it wrongly. Its events say what it does."""
import base64
import json
import os
import signal
import socket
import sys
import time

HOST, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
BASE = "/2018-06-01/runtime/"


class Link:
    def __init__(self):
        self.socket = socket.create_connection((HOST, int(PORT)))
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def answer(self):
        line = self.file.readline()
        if not line:
            return None
        status = int(line.split()[1])
        fields = {}
        while True:
            line = self.file.readline().strip()
            if not line:
                break
            name, value = line.split(b":", 1)
            fields[name.decode().lower()] = value.strip().decode()
        body = self.file.read(int(fields.get("content-length", "0")))
        return status, fields, body

    def call(self, method, path, body=None, fields=()):
        head = [f"{method} {path} HTTP/1.1", f"Host: {HOST}:{PORT}", *fields]
        if body is not None:
            head.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*head, "", ""]).encode() + (body or b""))
        return self.answer()


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def stream(link, request, does):
    mode = does.get("mode", "streaming")
    head = [
        f"POST {BASE}invocation/{request}/response HTTP/1.1",
        f"Host: {HOST}:{PORT}",
        f"Lambda-Runtime-Function-Response-Mode: {mode}",
        "Transfer-Encoding: chunked",
        "Trailer: Lambda-Runtime-Function-Error-Type",
        "Trailer: Lambda-Runtime-Function-Error-Body",
        f"Content-Type: {does.get('type', 'application/octet-stream')}",
    ]
    link.send("\r\n".join([*head, "", ""]).encode())
    for data in does["chunks"]:
        link.send(chunk(data.encode()))
    for _ in range(does.get("megabytes", 0)):
        link.send(chunk(b"m" * (1 << 20)))
    if "wait" in does:
        time.sleep(does["wait"])
    if "last" in does:
        print(does["last"], flush=True)
    error = base64.b64encode(json.dumps({"errorMessage": "m", "errorType": "T", "more": "x" * does.get("more", 0)}).encode()).decode()
    trailers = f"Lambda-Runtime-Function-Error-Type: Error\r\nLambda-Runtime-Function-Error-Body: {error}\r\n"
    end = does.get("end", "well")
    if end == "cut":
        link.socket.close()
        os._exit(0)
    if end == "quirk":
        link.send(chunk(trailers.encode()))
    link.send(b"0\r\n" + (trailers.encode() if end == "trailers" else b"") + b"\r\n")
    return link.answer()


def respond(link, request, does):
    path = f"{BASE}invocation/{request}/response"
    if "expect" in does:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {does['expect']}\r\n\r\n"
        link.send(head.encode())
        first = link.answer()
        if first[0] != 100:
            return first
        link.send(b"e" * does["expect"])
        return link.answer()
    if "bytes" in does:
        return link.call("POST", path, b"b" * does["bytes"])
    body = json.dumps(does.get("return")).encode()
    fields = ["Content-Type: application/x-www-form-urlencoded"] if does.get("curl") else []
    return link.call("POST", path, body, fields)


def run(link, request, fields, does):
    path = f"{BASE}invocation/{request}/"
    for name in ("stdout", "stderr"):
        if name in does:
            print(does[name], file=getattr(sys, name), flush=True)
    if "sleep" in does:
        time.sleep(does["sleep"])
    if does.get("child"):
        if os.fork() == 0:
            hoard = b"m" * (does.get("hoard", 0) << 20)
            time.sleep(1000)
    if "signal" in does:
        os.kill(os.getpid(), does["signal"])
    if "exit" in does:
        os._exit(does["exit"])
    if "flood" in does:
        # Calls without end, one behind another, while somebody else reads the answers.
        if os.fork() == 0:
            while link.socket.recv(1 << 20):
                pass
            os._exit(0)
        calls = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
        while True:
            link.send(calls)
    if "garbage" in does:
        link.send(does["garbage"].encode())
        print("garbage was answered", link.answer()[0], flush=True)
        return Link()
    if "half" in does:
        link.send(f"POST {path}response HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode())
        link.socket.close()
        return Link()
    if does.get("headers"):
        does["return"] = fields
    if does.get("environment"):
        does["return"] = dict(os.environ)
    if does.get("pid"):
        does["return"] = os.getpid()
    seen = []
    for step in does.get("calls", ()):
        where = step["path"].replace("ID", request)
        answer = Link().call(step["method"], where, step.get("body", "").encode(), step.get("fields", ()))
        seen.append([answer[0], answer[2].decode()])
        does["return"] = seen
    if "error" in does:
        answer = link.call("POST", path + "error", json.dumps(does["error"]).encode() if does["error"] else b"", does.get("fields", ()))
    elif "chunks" in does:
        answer = stream(link, request, does)
    else:
        answer = respond(link, request, does)
    if does.get("twice"):
        print("again", respond(link, request, does)[0], flush=True)
    if does.get("print"):
        print("answered", answer[0], answer[2].decode().strip(), flush=True)
    if "linger" in does:
        time.sleep(does["linger"])
    if answer[0] == 413 and does.get("dies"):
        os._exit(1)
    if answer[1].get("connection") == "close":
        return Link()
    return link


def main():
    mode = sys.argv[1] if len(sys.argv) > 1 else ""
    link = Link()
    if mode == "fail":
        answer = link.call("POST", BASE + "init/error", b'{"errorMessage":"No module named \'absent\'","errorType":"ImportError"}')
        print("init/error", answer[0], answer[2].decode().strip(), flush=True)
        sys.exit(1)
    if mode == "exit":
        sys.exit(7)
    if mode == "hang":
        time.sleep(1000)
    if mode.startswith("once:"):
        # Fails the first time.
        try:
            os.close(os.open(mode[5:], os.O_CREAT | os.O_EXCL))
            sys.exit(7)
        except FileExistsError:
            pass
    if mode == "early":
        for path, body in (("invocation/some/response", b"1"), ("invocation/some/error", b"{}")):
            print(path, Link().call("POST", BASE + path, body)[0], flush=True)
    if mode == "telling":
        first = Link()
        first.send(f"POST {BASE}init/error HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n".encode())
        first.answer()
        print("a second was answered", Link().call("POST", BASE + "init/error", b"{}")[0], flush=True)
    if mode == "double":
        # It asks twice, and then the first answer is read.
        first, question = link, f"GET {BASE}invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        first.send(question)
        link = Link()
        link.send(question)
        print("the first was answered", first.answer()[0], flush=True)
        _, fields, event = link.answer()
        link = run(link, fields["lambda-runtime-aws-request-id"], fields, json.loads(event))
    if mode == "reconnect":
        link.send(f"GET {BASE}invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        link.socket.shutdown(socket.SHUT_RDWR)
        link.socket.close()
        link = Link()
        print("here again", flush=True)
    if mode == "mortal":
        link.send(f"GET {BASE}invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        os._exit(0)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        answer = link.call("GET", BASE + "invocation/next")
        if answer is None:
            sys.exit(1)
        status, fields, event = answer
        if status != 200:
            print("next was answered", status, flush=True)
            sys.exit(1)
        link = run(link, fields["lambda-runtime-aws-request-id"], fields, json.loads(event))


main()
