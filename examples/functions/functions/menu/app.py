"""The menu, or one dish of it. What it is told is what AWS Lambda is told by an HTTP API."""

import json
import os

DISHES = {"soup": 7, "risotto": 14, "tart": 6}


def handler(event, context):
    dish = (event.get("pathParameters") or {}).get("dish")
    if dish is None:
        # What has no `statusCode` is the body, with status 200.
        return {"season": os.environ["SEASON"], "dishes": list(DISHES)}
    if dish not in DISHES:
        return {"statusCode": 404, "body": json.dumps({"error": f"no {dish} today"})}
    print("somebody looks at the", dish)
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "cookies": [f"last={dish}; Path=/"],
        "body": json.dumps({"dish": dish, "price": DISHES[dish]}),
    }
