"""Transforms the records of a delivery stream, and says of each how it went."""

import base64

from trace_guard_lambda import guard_handler


@guard_handler
def handler(event, context):
    records = []
    for record in event["records"]:
        text = base64.b64decode(record["data"]).decode(errors="replace")
        result = "Ok" if text.isascii() else "ProcessingFailed"
        data = base64.b64encode(text.upper().encode()).decode()
        records.append({"recordId": record["recordId"], "result": result, "data": data})
    return {"records": records}
