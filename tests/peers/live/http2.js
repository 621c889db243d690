// Node's HTTP/2 as a back end and as a client of the gateway. As a back end (`server CERT KEY`) it says its ports as one line of JSON
// and lives until its standard input ends; as a client (`client URL CA PREFIX…`) it asks for everything below each prefix, and fails
// with words.
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const http2 = require('node:http2');

const pattern = (length) => {
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; at += 1) bytes[at] = at % 251;
  return bytes;
};

let abandoned = 0;

function answer(request, response) {
  const url = new URL(request.url, 'http://back.end');
  const length = Number(url.searchParams.get('n') || 0);
  switch (url.pathname) {
    case '/echo':
      response.writeHead(200, { 'x-method': request.method });
      request.pipe(response);
      break;
    case '/count': {
      let size = 0;
      request.on('data', (part) => { size += part.length; });
      request.on('end', () => response.end(String(size)));
      break;
    }
    case '/bytes':
      response.writeHead(200, { 'content-length': length });
      response.end(request.method === 'HEAD' ? undefined : pattern(length));
      break;
    case '/chunks': {
      response.writeHead(200);
      let sent = 0;
      const more = () => {
        if (sent === length) return response.end();
        response.write(pattern(1000));
        sent += 1;
        setImmediate(more);
      };
      more();
      break;
    }
    case '/trailers': {
      let size = 0;
      request.on('data', (part) => { size += part.length; });
      request.on('end', () => {
        response.writeHead(200, { trailer: 'x-size, x-said' });
        response.write('body');
        response.addTrailers({ 'x-size': String(size), 'x-said': request.trailers['x-end'] || 'nothing' });
        response.end();
      });
      break;
    }
    case '/hints':
      response.writeEarlyHints({ link: '</style.css>; rel=preload' });
      response.end('hinted');
      break;
    case '/204':
      response.writeHead(204);
      response.end();
      break;
    case '/headers': {
      const head = {};
      for (let at = 0; at < 60; at += 1) head[`x-answer-${at}`] = 'v'.repeat(200);
      response.writeHead(200, { 'content-type': 'application/json', ...head });
      response.end(JSON.stringify(request.headers));
      break;
    }
    case '/hang':
      response.on('close', () => { abandoned += 1; });
      break;
    case '/abandoned':
      response.end(String(abandoned));
      break;
    case '/reset':
      if (response.stream) response.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
      else request.socket.destroy();
      break;
    default:
      response.writeHead(404);
      response.end();
  }
}

async function serve(cert, key) {
  const files = { cert: fs.readFileSync(cert), key: fs.readFileSync(key) };
  // What a client has left counts as memory for a while; beyond it streams would be refused.
  const settings = { settings: { maxHeaderListSize: 65536 }, maxSessionMemory: 1000 };
  const servers = {
    h1: http.createServer({ maxHeaderSize: 65536 }, answer),
    h2c: http2.createServer(settings, answer),
    h2: http2.createSecureServer({ ...files, ...settings }, answer),
  };
  const ports = {};
  for (const [name, server] of Object.entries(servers)) {
    server.on('sessionError', () => {});
    await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
    ports[name] = server.address().port;
  }
  console.log(JSON.stringify(ports));
  process.stdin.resume();
  process.stdin.on('end', () => process.exit(0));
}

/// One request; a body is sent in pieces, trailers behind it.
function ask(session, head, body, trailers) {
  return new Promise((resolve, reject) => {
    const stream = session.request(head, { endStream: body === undefined && !trailers, waitForTrailers: Boolean(trailers) });
    const result = { interim: [], parts: [], trailers: {} };
    stream.on('headers', (fields) => result.interim.push(fields));
    stream.on('response', (fields) => { result.head = fields; result.status = fields[':status']; });
    stream.on('trailers', (fields) => { result.trailers = fields; });
    stream.on('data', (part) => result.parts.push(part));
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    stream.on('error', reject);
    stream.on('close', () => {
      result.body = Buffer.concat(result.parts);
      if (stream.rstCode) reject(new Error(`reset with ${stream.rstCode}`));
      else resolve(result);
    });
    if (body !== undefined || trailers) stream.end(body || '');
  });
}

const tests = {
  async head_and_fields(session, prefix) {
    const long = 'y'.repeat(20000);
    const { status, head, body } = await ask(session, { ':path': `${prefix}/headers`, 'x-long': long, cookie: ['a=1', 'b=2'] });
    assert.strictEqual(status, 200);
    const got = JSON.parse(body);
    assert.deepStrictEqual([status, got['x-long'], got.cookie], [200, long, 'a=1; b=2']);
    assert.strictEqual(head['x-answer-59'], 'v'.repeat(200));
  },
  async bodies(session, prefix) {
    for (const length of [0, 1, 16384, 65535, 65536, 3000000]) {
      const sent = pattern(length);
      const { status, head, body } = await ask(session, { ':path': `${prefix}/echo`, ':method': 'POST' }, sent);
      assert.deepStrictEqual([status, head['x-method'], body.length], [200, 'POST', length]);
      assert(body.equals(sent), `${length} bytes came back otherwise`);
    }
    const sized = await ask(session, { ':path': `${prefix}/echo`, ':method': 'PUT', 'content-length': 5 }, 'hello');
    assert.strictEqual(sized.body.toString(), 'hello');
    const { body } = await ask(session, { ':path': `${prefix}/bytes?n=5000000` });
    assert(body.equals(pattern(5000000)));
    const chunks = await ask(session, { ':path': `${prefix}/chunks?n=500` });
    assert.strictEqual(chunks.body.length, 500000);
  },
  async no_bodies(session, prefix) {
    const head = await ask(session, { ':path': `${prefix}/bytes?n=777`, ':method': 'HEAD' });
    assert.deepStrictEqual([head.status, head.head['content-length'], head.body.length], [200, '777', 0]);
    assert.strictEqual((await ask(session, { ':path': `${prefix}/204` })).status, 204);
    assert.strictEqual((await ask(session, { ':path': `${prefix}/nowhere` })).status, 404);
  },
  async trailers(session, prefix, { narrow }) {
    if (narrow) return;
    const head = { ':path': `${prefix}/trailers`, ':method': 'POST', te: 'trailers', trailer: 'x-end' };
    const result = await ask(session, head, 'some', { 'x-end': 'yes' });
    assert.deepStrictEqual([result.body.toString(), result.trailers['x-size'], result.trailers['x-said']], ['body', '4', 'yes']);
  },
  async hints(session, prefix, { narrow }) {
    if (narrow) return;
    const { interim, body } = await ask(session, { ':path': `${prefix}/hints` });
    assert.deepStrictEqual(interim.map((fields) => [fields[':status'], fields.link]), [[103, '</style.css>; rel=preload']]);
    assert.strictEqual(body.toString(), 'hinted');
  },
  async many_at_once(session, prefix) {
    const all = [];
    for (let at = 0; at < 90; at += 1) {
      const path = at % 3 ? `${prefix}/bytes?n=${at * 1000}` : `${prefix}/echo`;
      all.push(ask(session, { ':path': path, ':method': at % 3 ? 'GET' : 'POST' }, at % 3 ? undefined : pattern(at * 1000)));
    }
    (await Promise.all(all)).forEach(({ body }, at) => assert(body.equals(pattern(at * 1000)), `request ${at}`));
  },
  async settings_that_change(session, prefix) {
    for (const settings of [
      { initialWindowSize: 10 }, { initialWindowSize: 1 << 20, headerTableSize: 0 }, { maxFrameSize: 1 << 20 },
      { initialWindowSize: 65535, headerTableSize: 4096, maxFrameSize: 16384 },
    ]) {
      const before = ask(session, { ':path': `${prefix}/bytes?n=20000` });
      await new Promise((done) => session.settings(settings, done));
      const after = await ask(session, { ':path': `${prefix}/bytes?n=20000` });
      assert.deepStrictEqual([(await before).body.length, after.body.length], [20000, 20000]);
    }
  },
  async who_gives_up(session, prefix) {
    const stop = (path, when) => new Promise((resolve) => {
      const stream = session.request({ ':path': `${prefix}${path}` });
      stream.on('error', () => {});
      stream.on('close', resolve);
      if (when) stream.once(when, () => stream.close(http2.constants.NGHTTP2_CANCEL));
      else setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), 50);
    });
    const count = async () => Number((await ask(session, { ':path': `${prefix}/abandoned` })).body);
    const before = await count();
    await stop('/hang');
    for (let at = 0; await count() === before; at += 1) {
      assert(at < 200, 'the back end never learned that the client gave up');
      await new Promise((later) => setTimeout(later, 20));
    }
    await stop('/bytes?n=20000000', 'data');
    assert.strictEqual((await ask(session, { ':path': `${prefix}/bytes?n=100000` })).body.length, 100000);
  },
  async a_back_end_that_resets(session, prefix) {
    const { status } = await ask(session, { ':path': `${prefix}/reset`, ':method': 'POST' }, 'x');
    assert.strictEqual(status, 502);
  },
  async pings(session) {
    await new Promise((done, failed) => session.ping(Buffer.from('12345678'), (error, _, payload) => {
      if (error || payload.toString() !== '12345678') failed(error || new Error('another pong')); else done();
    }));
  },
};

async function client(url, ca, prefixes) {
  const session = http2.connect(url, { ca: ca === '-' ? undefined : fs.readFileSync(ca), servername: 'gateway.test' });
  session.on('error', (error) => { console.error(error); process.exit(1); });
  session.on('goaway', (code) => { console.error(`GOAWAY with ${code}`); process.exit(1); });
  for (const prefix of prefixes) {
    // A proxy in between that keeps trailers and hints to itself.
    const narrow = prefix.startsWith('/nginx');
    for (const [name, test] of Object.entries(tests)) {
      if (name === 'a_back_end_that_resets' && prefix.startsWith('/python')) continue;
      try {
        await test(session, prefix, { narrow });
      } catch (error) {
        console.error(`${name} of ${prefix}:`, error);
        process.exit(1);
      }
    }
  }
  session.removeAllListeners('goaway');
  await new Promise((done) => session.close(done));
}

const [role, ...rest] = process.argv.slice(2);
// Longer than this and it hangs.
setTimeout(() => { if (role === 'client') { console.error('it hangs'); process.exit(1); } }, 40000).unref();
if (role === 'server') serve(...rest); else client(rest[0], rest[1], rest.slice(2));
