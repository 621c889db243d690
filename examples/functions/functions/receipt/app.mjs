// A receipt that is written line by line. `awslambda` is there as it is in AWS.

import { setTimeout as pause } from "node:timers/promises";

export const handler = awslambda.streamifyResponse(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, {
    statusCode: 200,
    headers: { "content-type": "text/plain", "x-table": event.pathParameters.table },
  });
  for (const line of ["soup      7", "risotto  14", "total    21"]) {
    stream.write(`${line}\n`);
    await pause(200);
  }
  stream.end();
});
