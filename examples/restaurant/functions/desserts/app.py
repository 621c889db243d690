"""The dessert station: a Lambda function, which the gateway runs itself. AWS Lambda runs it as it is."""

DISHES = ["tart", "sorbet"]


def handler(event, context):
    # What has no `statusCode` is the body, with status 200.
    return {"kitchen": "desserts", "dishes": DISHES}
