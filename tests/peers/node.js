// How Node's HTTP parser (llhttp) frames requests. Standard input: cases, each behind its length (4 bytes, big-endian); standard
// output: one line of JSON for each. Opens no socket: the server is handed streams.
'use strict';
const http = require('node:http');
const { Duplex } = require('node:stream');

class Wire extends Duplex {
  constructor(input) { super({ allowHalfOpen: true }); this.input = input; }
  _read() { if (this.input) { this.push(this.input); this.input = null; } else { this.push(null); } }
  _write(chunk, encoding, done) { done(); }
  setTimeout() { return this; }
  setNoDelay() { return this; }
  setKeepAlive() { return this; }
}

let current = null;
const server = http.createServer({ maxHeaderSize: 256 * 1024, keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 });
server.on('request', (request, response) => {
  const message = { method: request.method, target: request.url, body: '', done: false };
  const parts = [];
  current.messages.push(message);
  request.on('data', (part) => parts.push(part));
  request.on('error', () => {});
  response.on('error', () => {});
  request.on('end', () => {
    message.body = Buffer.concat(parts).toString('hex');
    message.done = true;
    response.end();
  });
});
server.on('checkContinue', (request, response) => server.emit('request', request, response));
server.on('checkExpectation', (request, response) => server.emit('request', request, response));
server.on('clientError', (error, socket) => {
  current.end = error.code || String(error);
  // A turn for the messages before it to end.
  setImmediate(() => setImmediate(() => socket.destroy()));
});

function run(input) {
  return new Promise((resolve) => {
    const result = current = { messages: [], end: 'over' };
    const wire = new Wire(input);
    wire.on('error', () => {});
    wire.on('close', () => {
      setImmediate(() => {
        const whole = result.messages.filter((message) => message.done);
        resolve({ messages: whole.map(({ method, target, body }) => ({ method, target, body })), end: result.end });
      });
    });
    server.emit('connection', wire);
  });
}

async function main() {
  const parts = [];
  for await (const part of process.stdin) parts.push(part);
  const input = Buffer.concat(parts);
  const lines = [];
  for (let at = 0; at < input.length;) {
    const length = input.readUInt32BE(at);
    const result = await run(Buffer.from(input.subarray(at + 4, at + 4 + length)));
    lines.push(JSON.stringify(result));
    at += 4 + length;
  }
  await new Promise((resolve) => process.stdout.write(lines.join('\n') + '\n', resolve));
  process.exit(0);
}
main();
