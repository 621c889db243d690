"""How much there is of something. Knows no HTTP: the event is what was posted, the result is the answer."""

STOCK = {"flour": 12, "butter": 3}


def handler(event, context):
    return {"of": event["of"], "left": STOCK[event["of"]]}


def restock(event, context):
    print("ordering", event["of"], "for", context.aws_request_id)
