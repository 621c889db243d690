#!/usr/bin/env python3
"""An extension that speaks the Extensions API by hand. Its words say what it does:
`adapter`: like Lambda Web Adapter, it serves the Runtime API too, in a thread of its own; each event comes back.
`INVOKE`, `SHUTDOWN`: which events it wants. `hold=FILE`: it is done with an INVOKE when that file is there.
`init-error`, `exit-error`: it says that it failed, at its start or at the first event. `silent`: it never registers. `slow`: it
takes half a second to end.
As a file of its own, which is how a layer has it, its words are in a file beside it."""
import http.client
import json
import os
import sys
import threading
import time

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
BASE = "/2020-01-01/extension/"
NAME = os.path.basename(sys.argv[0])


def words():
    if len(sys.argv) > 1:
        return sys.argv[1:]
    return open(os.path.join(os.path.dirname(sys.argv[0]), "..", NAME + ".words")).read().split()


def say(*text):
    print(NAME, *text, flush=True)


def call(connection, method, path, body=None, headers=None):
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    return response, response.read()


def serve():
    connection = http.client.HTTPConnection(API)
    prefix = "/2018-06-01/runtime/invocation/"
    while True:
        response, event = call(connection, "GET", prefix + "next")
        call(connection, "POST", prefix + response.headers["Lambda-Runtime-Aws-Request-Id"] + "/response", event)


def main():
    does = words()
    if "silent" in does:
        time.sleep(1000)
    connection = http.client.HTTPConnection(API)
    events = [word for word in does if word.isupper()]
    response, body = call(connection, "POST", BASE + "register", json.dumps({"events": events}), {"Lambda-Extension-Name": NAME})
    identity = {"Lambda-Extension-Identifier": response.headers["Lambda-Extension-Identifier"]}
    say("registered", response.status, sorted(json.loads(body).items()))
    fails = {**identity, "Lambda-Extension-Function-Error-Type": "Extension.Plums"}
    if "init-error" in does:
        call(connection, "POST", BASE + "init/error", b"there are none", fails)
        time.sleep(1000)
    if "adapter" in does:
        threading.Thread(target=serve, daemon=True).start()
    while True:
        response, body = call(connection, "GET", BASE + "event/next", headers=identity)
        event = json.loads(body)
        say("heard", event["eventType"], event.get("requestId", event.get("shutdownReason")), event["deadlineMs"] > 1e12)
        if event["eventType"] == "SHUTDOWN":
            time.sleep(0.5 if "slow" in does else 0)
            return say("flushed")
        if "exit-error" in does:
            call(connection, "POST", BASE + "exit/error", b"there are none", fails)
        for word in does:
            if word.startswith("hold="):
                while not os.path.exists(word[5:]):
                    time.sleep(0.005)


main()
if "adapter" in words():
    # The function goes on without it, until it is told to end.
    time.sleep(1000)
