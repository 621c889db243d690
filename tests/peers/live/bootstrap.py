#!/usr/bin/env python3
"""A function that needs nothing but Python: it speaks the Runtime API by itself, and does what the event says. Any other event comes back
with what it was told beside it."""
import base64
import http.client
import json
import os
import sys
import time

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
PREFIX = "/2018-06-01/runtime/invocation/"
PATIENCE = 60


def chunk(connection, data):
    connection.send(b"%x\r\n%s\r\n" % (len(data), data))


def stream(connection, request, event):
    connection.putrequest("POST", f"{PREFIX}{request}/response")
    connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Trailer", "Lambda-Runtime-Function-Error-Type")
    connection.putheader("Trailer", "Lambda-Runtime-Function-Error-Body")
    connection.putheader("Content-Type", "application/octet-stream")
    connection.endheaders()
    trailers = b""
    if isinstance(event, dict):
        chunk(connection, b"held")
        until = time.monotonic() + PATIENCE
        while not os.path.exists(event["hold"]) and time.monotonic() < until:
            time.sleep(0.01)
    else:
        chunk(connection, b"first")
        if event == "late":
            body = base64.b64encode(json.dumps({"errorType": "Late", "errorMessage": "too late"}).encode())
            trailers = b"Lambda-Runtime-Function-Error-Type: Late\r\nLambda-Runtime-Function-Error-Body: %s\r\n" % body
        else:
            chunk(connection, b"x" * 100000)
            chunk(connection, b"last")
    connection.send(b"0\r\n%s\r\n" % trailers)
    connection.getresponse().read()


def answer(connection, request, headers, event):
    if event in ("stream", "late") or (isinstance(event, dict) and "hold" in event):
        return stream(connection, request, event)
    if event == "sleep":
        time.sleep(PATIENCE)
    if event == "exit":
        sys.exit(7)
    path, told = "response", {
        "event": event,
        "request_id": request,
        "arn": headers["Lambda-Runtime-Invoked-Function-Arn"],
        "client_context": headers.get("Lambda-Runtime-Client-Context"),
    }
    if event == "fail":
        path, told = "error", {"errorType": "Plums", "errorMessage": "there are none"}
    if event == "whose key":
        told = {
            "endpoint": os.environ["AWS_ENDPOINT_URL_LAMBDA"],
            "key": os.environ["AWS_ACCESS_KEY_ID"],
            "secret": os.environ["AWS_SECRET_ACCESS_KEY"],
        }
    connection.request("POST", f"{PREFIX}{request}/{path}", json.dumps(told), {"Content-Type": "application/json"})
    connection.getresponse().read()


def main():
    connection = http.client.HTTPConnection(API)
    while True:
        connection.request("GET", f"{PREFIX}next")
        response = connection.getresponse()
        body, request = response.read(), response.headers["Lambda-Runtime-Aws-Request-Id"]
        print(f"heard {request} {body[:40]!r}", flush=True)
        answer(connection, request, response.headers, json.loads(body))


main()
