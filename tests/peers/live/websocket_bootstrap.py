#!/usr/bin/env python3
"""The function behind a WebSocket API, with nothing but Python: it remembers every event that it is told, and writes to clients with the key
and at the address that its environment names, signed by hand."""
import base64
import datetime
import hashlib
import hmac
import http.client
import json
import os
import urllib.parse

PREFIX = "/2018-06-01/runtime/invocation/"
seen = []


def sign(method, host, path, body):
    """AWS's Signature Version 4, as its documentation has it."""
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    day, region = stamp[:8], os.environ["AWS_REGION"]
    uri = urllib.parse.quote(path, safe="/-_.~")
    request = f"{method}\n{uri}\n\nhost:{host}\nx-amz-date:{stamp}\n\nhost;x-amz-date\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{day}/{region}/execute-api/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in (day, region, "execute-api", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    credential = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    shown = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date, Signature={signature}"
    return {"Host": host, "X-Amz-Date": stamp, "Authorization": shown}


def call(method, connection, body=b""):
    host = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"]).netloc
    path = f"/@connections/{connection}"
    link = http.client.HTTPConnection(host, timeout=20)
    link.request(method, path, body, sign(method, host, path, body))
    answer = link.getresponse()
    return {"status": answer.status, "error": answer.headers.get("x-amzn-errortype"), "body": answer.read().decode()}


def connect(event):
    query = event.get("queryStringParameters") or {}
    result = {"statusCode": int(query.get("status", 200))}
    if "protocol" in query:
        result["headers"] = {"Sec-WebSocket-Protocol": query["protocol"]}
    return result


def message(event):
    context = event["requestContext"]
    if event["isBase64Encoded"]:
        turned = base64.b64encode(base64.b64decode(event["body"])[::-1]).decode()
        return {"statusCode": 200, "body": turned, "isBase64Encoded": True}
    if context["routeKey"] == "seen":
        return {"statusCode": 200, "body": json.dumps(seen)}
    if context["routeKey"] == "call":
        do = json.loads(event["body"])["do"]
        body = base64.b64decode(do["bytes"]) if "bytes" in do else do.get("text", "").encode()
        return {"statusCode": 200, "body": json.dumps(call(do["method"], do["to"], body))}
    return {"statusCode": 200, "body": json.dumps([context["routeKey"], context["connectionId"], event["body"]])}


def remember(event, trace):
    context = event["requestContext"]
    known = {name: context.get(name) for name in ("eventType", "routeKey", "connectionId", "disconnectStatusCode", "disconnectReason")}
    # Whoever asks for the list is not in it: it would grow as it is asked for.
    if context["routeKey"] != "seen":
        seen.append({**known, "trace": trace})


def main():
    link = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        link.request("GET", f"{PREFIX}next")
        response = link.getresponse()
        event, request = json.loads(response.read()), response.headers["Lambda-Runtime-Aws-Request-Id"]
        remember(event, response.headers["Lambda-Runtime-Trace-Id"])
        kind = event["requestContext"]["eventType"]
        result = connect(event) if kind == "CONNECT" else message(event) if kind == "MESSAGE" else {}
        link.request("POST", f"{PREFIX}{request}/response", json.dumps(result))
        link.getresponse().read()


main()
