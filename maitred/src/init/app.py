"""Answers /NAME?guest=Ada. AWS Lambda runs this file as it is."""

import json


def handler(event, context):
    guest = (event.get("queryStringParameters") or {}).get("guest", "world")
    print("hello to", guest)  # a line of the gateway's log
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"message": f"Hello, {guest}!"}),
    }
