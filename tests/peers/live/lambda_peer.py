"""botocore as a client of the Invoke API of hosted functions: `client URL SECRET RELEASE` says everything that boto3 and the AWS CLI would, and
fails with words."""
import base64
import json
import sys

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

ARN = "arn:aws:lambda:eu-west-1:000000000000:function:"


def connect(url, key, secret):
    session = botocore.session.Session()
    session.set_credentials(key, secret)
    # What it tries again by itself hides what it was answered.
    config = Config(retries={"total_max_attempts": 1}, read_timeout=30)
    return session.create_client("lambda", region_name="eu-west-1", endpoint_url=url, config=config)


def same(what, found, wanted):
    if found != wanted:
        raise SystemExit(f"{what}: {str(found)[:500]}, and not {str(wanted)[:500]}")


def refused(what, name, status, call, words=""):
    try:
        found = call()
    except ClientError as error:
        response = error.response
        same(what, (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]), (name, status))
        if words not in response["Error"]["Message"]:
            raise SystemExit(f"{what}: it says {response['Error']['Message']}")
        return error
    raise SystemExit(f"{what}: it is answered {str(found)[:200]}")


def plain(client):
    answer = client.invoke(FunctionName="echo", Payload=json.dumps({"plum": 1}))
    same("the status", answer["StatusCode"], 200)
    same("the version", answer["ExecutedVersion"], "$LATEST")
    same("an error", answer.get("FunctionError"), None)
    told = json.loads(answer["Payload"].read())
    same("the event", told["event"], {"plum": 1})
    same("its request id", told["request_id"], answer["ResponseMetadata"]["RequestId"])
    same("its ARN", told["arn"], ARN + "echo")
    for name in ("echo:live", ARN + "echo:live", "000000000000:function:echo:live"):
        told = json.loads(client.invoke(FunctionName=name)["Payload"].read())
        same(name, (told["event"], told["arn"]), ({}, ARN + "echo:live"))
    told = json.loads(client.invoke(FunctionName=ARN + "echo", Qualifier="$LATEST", Payload=b"[]")["Payload"].read())
    same("a qualifier", told["arn"], ARN + "echo:$LATEST")
    # Near the most that there may be, both ways.
    large = "x" * (6 * 1024 * 1024 - 1024)
    told = json.loads(client.invoke(FunctionName="echo", Payload=json.dumps(large))["Payload"].read())
    same("a large event", told["event"] == large, True)


def beside(client):
    context = {"custom": {"shop": "north"}, "client": {}, "env": {}}
    encoded = base64.b64encode(json.dumps(context).encode()).decode()
    answer = client.invoke(FunctionName="echo", ClientContext=encoded, LogType="Tail", Payload=b"{}")
    told = json.loads(answer["Payload"].read())
    same("the client context", json.loads(told["client_context"]), context)
    log = base64.b64decode(answer["LogResult"]).decode()
    if "heard " + told["request_id"] not in log:
        raise SystemExit(f"the log: {log}")
    answer = client.invoke(FunctionName="echo", InvocationType="DryRun", Payload=b"{}")
    same("a dry run", (answer["StatusCode"], answer["Payload"].read()), (204, b""))
    answer = client.invoke(FunctionName="echo", InvocationType="Event", Payload=b'"later"')
    same("an event", (answer["StatusCode"], answer["Payload"].read()), (202, b""))


def failing(client):
    answer = client.invoke(FunctionName="echo", Payload=b'"fail"')
    same("a function that fails", (answer["StatusCode"], answer["FunctionError"]), (200, "Unhandled"))
    same("what it says", json.loads(answer["Payload"].read())["errorType"], "Plums")
    answer = client.invoke(FunctionName="echo", Payload=b'"sleep"')
    told = json.loads(answer["Payload"].read())
    same("one that takes too long", (answer["FunctionError"], told["errorType"]), ("Unhandled", "Sandbox.Timedout"))
    answer = client.invoke(FunctionName="echo", Payload=b'"exit"')
    told = json.loads(answer["Payload"].read())
    same("one that ends", (answer["FunctionError"], told["errorType"]), ("Unhandled", "Runtime.ExitError"))


def streams(client):
    def events(payload, function="echo"):
        answer = client.invoke_with_response_stream(FunctionName=function, Payload=payload, LogType="Tail")
        same("the version", answer["ExecutedVersion"], "$LATEST")
        return list(answer["EventStream"])

    def result(events):
        return b"".join(event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event)

    whole = events(b'"whole"')
    same("a result that comes whole", json.loads(result(whole))["event"], "whole")
    same("its end", "ErrorCode" in whole[-1]["InvokeComplete"], False)
    if "heard " not in base64.b64decode(whole[-1]["InvokeComplete"]["LogResult"]).decode():
        raise SystemExit(f"its log: {whole[-1]}")
    written = events(b'"stream"')
    same("a result that is written", result(written), b"first" + b"x" * 100000 + b"last")
    same("its end", "ErrorCode" in written[-1]["InvokeComplete"], False)
    late = events(b'"late"')
    same("what came before it failed", result(late), b"first")
    same("that it failed", late[-1]["InvokeComplete"]["ErrorCode"], "Unhandled")
    failed = events(b'"fail"')
    same("a stream that never began", (len(failed), failed[-1]["InvokeComplete"]["ErrorCode"]), (1, "Unhandled"))
    same("why", json.loads(failed[-1]["InvokeComplete"]["ErrorDetails"])["errorType"], "Plums")


def described(client):
    same("the list", [one["FunctionName"] for one in client.list_functions()["Functions"]], ["echo", "one"])
    pages = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1})
    same("its pages", [one["FunctionName"] for page in pages for one in page["Functions"]], ["echo", "one"])
    found = client.get_function(FunctionName="echo")["Configuration"]
    same("one", (found["FunctionArn"], found["Runtime"], found["Timeout"]), (ARN + "echo", "provided", 2))
    found = client.get_function_configuration(FunctionName=ARN + "echo", Qualifier="live")
    same("one's own", (found["FunctionArn"], found["State"]), (ARN + "echo:live", "Active"))
    refused("one that is not there", "ResourceNotFoundException", 404, lambda: client.get_function(FunctionName="soup"))
    refused("what is not done here", "UnknownOperationException", 404, lambda: client.delete_function(FunctionName="echo"))


def wrong(client):
    invoke = client.invoke
    missing = refused("no function", "ResourceNotFoundException", 404, lambda: invoke(FunctionName="soup"))
    same("in words", missing.response["Error"]["Message"], f"Function not found: {ARN}soup")
    if not isinstance(missing, client.exceptions.ResourceNotFoundException):
        raise SystemExit(f"it is a {type(missing)}")
    refused("no JSON", "InvalidRequestContentException", 400, lambda: invoke(FunctionName="echo", Payload=b"plum"))
    refused(
        "too large",
        "RequestTooLargeException",
        413,
        lambda: invoke(FunctionName="echo", Payload=b'"' + b"x" * (7 * 1024 * 1024) + b'"'),
        "smaller than 6291456 bytes",
    )
    refused(
        "two qualifiers",
        "InvalidParameterValueException",
        400,
        lambda: invoke(FunctionName="echo:live", Qualifier="dev"),
    )
    refused("no context", "InvalidRequestContentException", 400, lambda: invoke(FunctionName="echo", ClientContext="!!"))


def throttled(client, other, release):
    """While a streamed result is being written its process is busy, and there is no other."""
    hold = json.dumps({"hold": release})
    stream = iter(client.invoke_with_response_stream(FunctionName="one", Payload=hold)["EventStream"])
    same("it runs", next(stream)["PayloadChunk"]["Payload"], b"held")
    error = refused("no room", "TooManyRequestsException", 429, lambda: other.invoke(FunctionName="one"), "Rate Exceeded.")
    same("why", error.response["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded")
    same("when", error.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"], "1")
    open(release, "w").close()
    same("its end", "InvokeComplete" in list(stream)[-1], True)


def strange(url, secret):
    for key, wrong_secret, name in (
        ("maitred", secret + "x", "InvalidSignatureException"),
        ("AKIDEXAMPLE", secret, "UnrecognizedClientException"),
    ):
        client = connect(url, key, wrong_secret)
        refused(key, name, 403, lambda client=client: client.invoke(FunctionName="echo"))


def chained(client):
    """A function that calls a function, with the key that it is given."""
    told = json.loads(client.invoke(FunctionName="echo", Payload=b'"whose key"')["Payload"].read())
    endpoint, key, secret = told["endpoint"], told["key"], told["secret"]
    same("an endpoint", endpoint.startswith("http://127.0.0.1:"), True)
    other = connect(endpoint, key, secret)
    same("its key runs functions", json.loads(other.invoke(FunctionName="one")["Payload"].read())["event"], {})


def main(url, secret, release):
    client = connect(url, "maitred", secret)
    for part in (plain, beside, failing, streams, described, wrong, chained):
        part(client)
    throttled(client, connect(url, "maitred", secret), release)
    strange(url, secret)


if __name__ == "__main__":
    main(*sys.argv[2:5])
