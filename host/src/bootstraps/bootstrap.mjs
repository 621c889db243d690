// Runs a Lambda handler in Node.js: asks the Lambda Runtime API for events, calls the handler, posts what comes of it, whole or as it
// is written. For Node.js 18 and later, with nothing beside it. Knows no HTTP requests and no timeouts: the host has those. Never has
// two events at once.
//
// Started as `node bootstrap.mjs`; the handler is in _HANDLER, its code in LAMBDA_TASK_ROOT, the host at AWS_LAMBDA_RUNTIME_API.

import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import path from "node:path";
import { Writable } from "node:stream";
import { fileURLToPath, pathToFileURL } from "node:url";
import { format, inspect } from "node:util";

const ADDRESS = process.env.AWS_LAMBDA_RUNTIME_API;
const HANDLER = process.env._HANDLER;
const ROOT = process.env.LAMBDA_TASK_ROOT || process.cwd();
const ROOT_URL = `${pathToFileURL(ROOT)}/`;
const SELF = fileURLToPath(import.meta.url);

/** `Text` and `JSON` are AWS's forms, with time and request id. Where neither is asked for, those are left to the gateway's log, which has them. */
const LOG_FORMAT = (process.env.AWS_LAMBDA_LOG_FORMAT ?? "").toUpperCase();
const IS_JSON_LOG = LOG_FORMAT === "JSON";
const LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
const LEAST_LEVEL = IS_JSON_LOG ? Math.max(LEVELS.indexOf((process.env.AWS_LAMBDA_LOG_LEVEL ?? "INFO").toUpperCase()), 0) : 0;
/** How many names a hint lists. */
const LISTED_MAX = 8;

/** By which AWS's own types mark a handler that writes its result. */
const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");
/** How many bytes a streamed result may be ahead of whoever reads it. */
const HIGH_WATER_MARK = Symbol.for("aws.lambda.runtime.handler.streaming.highWaterMark");
const HIGH_WATER_MARK_DEFAULT = 64 * 1024;
const WITH_PRELUDE = "application/vnd.awslambda.http-integration-response";
const ERROR_TYPE = "Lambda-Runtime-Function-Error-Type";
const ERROR_BODY = "Lambda-Runtime-Function-Error-Body";

/** What AWS has a name of its own for, such as Runtime.HandlerNotFound. */
class Fault extends Error {
  constructor(name, message, { stack, hint } = {}) {
    super(message);
    this.name = name;
    this.hint = hint;
    // What led here is of no use to who wrote the handler.
    this.stack = stack ?? `${name}: ${message}`;
  }
}

/**
 * One connection to the Runtime API. `node:http` would do, for longer than a small handler takes. While nothing is asked, it does not
 * keep the process alive: what else does is the handler's, and AWS's rules go by whether there is any.
 */
class Api {
  #socket = null;
  #waiting = null;
  #chunks = [];
  #bytes = 0;
  #head = null;
  /** A result is being written: who keeps the process alive meanwhile is its handler. */
  #isWriting = false;

  async next() {
    try {
      return await this.#call("GET", "/invocation/next");
    } catch {
      // A connection that was kept may have been given up meanwhile; a question for work can be asked again.
      return await this.#call("GET", "/invocation/next");
    }
  }

  async result(id, body) {
    const { status, body: answer } = await this.#call("POST", `/invocation/${id}/response`, body, "Content-Type: application/json\r\n");
    if (status !== 202) {
      say("ERROR", `the result (${body.length} bytes) was refused: ${status} ${answer.toString().trim()}`);
    }
  }

  error(where, error) {
    const headers = `Content-Type: application/json\r\n${ERROR_TYPE}: ${visible(error.errorType)}\r\n`;
    return this.#call("POST", where, Buffer.from(JSON.stringify(error)), headers);
  }

  /** Begins a result that is written bit by bit, and gives the promise of the answer to it. */
  streamed(id, contentType) {
    const head = this.#line("POST", `/invocation/${id}/response`)
      + `Content-Type: ${contentType}\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n`
      + `Trailer: ${ERROR_TYPE}, ${ERROR_BODY}\r\n\r\n`;
    this.#isWriting = true;
    return this.#ask(Buffer.from(head));
  }

  write(chunk, written) {
    const socket = this.#socket;
    if (socket === null) {
      return written(new Error("the gateway takes no more of the result"));
    }
    socket.ref();
    socket.cork();
    socket.write(`${chunk.length.toString(16)}\r\n`);
    socket.write(chunk);
    socket.write("\r\n", (error) => {
      if (this.#isWriting) {
        socket.unref();
      }
      written(error);
    });
    return socket.uncork();
  }

  end(error) {
    this.#isWriting = false;
    this.#socket?.ref();
    const trailers = error === undefined
      ? ""
      : `${ERROR_TYPE}: ${visible(error.errorType)}\r\n${ERROR_BODY}: ${Buffer.from(JSON.stringify(error)).toString("base64")}\r\n`;
    this.#socket?.write(`0\r\n${trailers}\r\n`);
  }

  close() {
    this.#isWriting = false;
    this.#socket?.destroy();
    this.#socket = null;
  }

  #line(method, where) {
    return `${method} /2018-06-01/runtime${where} HTTP/1.1\r\nHost: ${ADDRESS}\r\n`;
  }

  #call(method, where, body, headers = "") {
    const length = body === undefined ? "" : `Content-Length: ${body.length}\r\n`;
    const head = Buffer.from(`${this.#line(method, where)}${headers}${length}\r\n`);
    return this.#ask(body === undefined ? head : Buffer.concat([head, body]));
  }

  #ask(bytes) {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket ??= this.#connect();
      this.#socket.ref();
      this.#socket.write(bytes);
    });
  }

  #connect() {
    const colon = ADDRESS.lastIndexOf(":");
    const socket = net.connect({ host: ADDRESS.slice(0, colon), port: Number(ADDRESS.slice(colon + 1)), noDelay: true });
    const closed = (error) => {
      if (this.#socket === socket) {
        this.#socket = null;
        this.#forget().waiting?.reject(error ?? new Error("it closed the connection"));
      }
    };
    socket.on("data", (chunk) => this.#take(chunk));
    socket.on("error", closed);
    socket.on("end", () => closed());
    socket.on("close", () => closed());
    return socket;
  }

  #forget() {
    const [waiting, head, body] = [this.#waiting, this.#head, this.#chunks];
    this.#waiting = this.#head = null;
    this.#chunks = [];
    this.#bytes = 0;
    return { waiting, head, body };
  }

  #take(chunk) {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (this.#head === null) {
      const bytes = Buffer.concat(this.#chunks);
      const end = bytes.indexOf("\r\n\r\n");
      if (end < 0) {
        return;
      }
      this.#head = parsedHead(bytes.subarray(0, end).toString());
      this.#chunks = [bytes.subarray(end + 4)];
      this.#bytes = bytes.length - end - 4;
    }
    if (this.#bytes < this.#head.length) {
      return;
    }
    const { waiting, head, body } = this.#forget();
    this.#socket?.unref();
    if (head.headers.get("connection") === "close") {
      this.close();
    }
    waiting?.resolve({ status: head.status, headers: head.headers, body: Buffer.concat(body) });
  }
}

function parsedHead(text) {
  const [first, ...lines] = text.split("\r\n");
  const headers = new Map();
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  return { status: Number(first.split(" ")[1]), headers, length: Number(headers.get("content-length") ?? 0) };
}

/** A header's value ends at its line. */
function visible(text) {
  return text.replace(/[^!-~]/g, "");
}

/** What a streaming handler writes to. Nothing is posted before its first byte, so that a handler that fails until then fails as others do. */
class ResponseStream extends Writable {
  #api;
  #id;
  #contentType = "application/octet-stream";
  #prelude = null;
  /** The promise of the answer, once it was begun. */
  answer = null;
  #isOver = false;

  constructor(api, id, highWaterMark) {
    super({ highWaterMark });
    this.#api = api;
    this.#id = id;
  }

  setContentType(contentType) {
    this.#contentType = String(contentType).replace(/[\r\n]/g, "");
  }

  /** JSON before the bytes, with 8 NULs after it (reference: AWS Lambda, response streaming). */
  setPrelude(prelude) {
    this.setContentType(WITH_PRELUDE);
    this.#prelude = Buffer.concat([Buffer.from(JSON.stringify(prelude)), Buffer.alloc(8)]);
  }

  write(chunk, ...rest) {
    return super.write(plain(chunk), ...rest);
  }

  end(chunk, ...rest) {
    return super.end(chunk === undefined || chunk === null || typeof chunk === "function" ? chunk : plain(chunk), ...rest);
  }

  _write(chunk, _encoding, written) {
    this.#send([chunk], written);
  }

  _writev(chunks, written) {
    this.#send(chunks.map(({ chunk }) => chunk), written);
  }

  _final(done) {
    this.#send([], (error) => {
      this.#over();
      done(error);
    });
  }

  /** Ends what was begun; what is not yet written is lost. */
  stop(error) {
    this.destroy();
    this.#over(error);
  }

  #over(error) {
    if (!this.#isOver) {
      this.#isOver = true;
      this.#api.end(error);
    }
  }

  #send(chunks, written) {
    if (this.answer === null) {
      this.answer = this.#api.streamed(this.#id, this.#contentType);
      // Looked at when the handler is done; if it comes before, nobody reads on.
      this.answer.then(() => this.#refused(), (error) => this.destroy(error));
      if (this.#prelude !== null) {
        chunks.unshift(this.#prelude);
      }
    }
    const frames = chunks.filter((chunk) => chunk.length > 0);
    if (frames.length === 0) {
      return written();
    }
    const whole = frames.length === 1 ? frames[0] : Buffer.concat(frames);
    return this.#api.write(whole, written);
  }

  #refused() {
    if (!this.#isOver) {
      this.#isOver = true;
      this.#api.close();
      this.destroy(new Error("the gateway takes no more of the result"));
    }
  }
}

function plain(chunk) {
  return typeof chunk === "string" || chunk instanceof Uint8Array ? chunk : JSON.stringify(chunk);
}

class HttpResponseStream {
  static from(stream, prelude) {
    stream.setPrelude(prelude);
    return stream;
  }
}

globalThis.awslambda = {
  streamifyResponse(handler, options) {
    handler[STREAMING] = "response";
    const bytes = Number.parseInt(options?.highWaterMark, 10);
    if (bytes > 0) {
      handler[HIGH_WATER_MARK] = bytes;
    }
    return handler;
  },
  HttpResponseStream,
};

/** The invocation that is under way: its id, and how it is told that the process fails. */
let current = null;
/** What is done once the event loop is empty. */
let whenEmpty = null;
let isDying = false;

function say(level, message, fields = {}) {
  if (LEVELS.indexOf(level) < LEAST_LEVEL) {
    return;
  }
  process.stdout.write(`${lineOf(level, message, fields)}\n`);
}

function lineOf(level, message, fields) {
  const timestamp = new Date().toISOString();
  switch (LOG_FORMAT) {
    case "JSON":
      return JSON.stringify({ timestamp, level, requestId: current?.id, message, ...fields });
    case "TEXT":
      return `${timestamp}\t${current?.id ?? "-"}\t${level}\t${message}`;
    default:
      return level === "WARN" || level === "ERROR" ? `[${level}] ${message}` : message;
  }
}

function setUpLogs() {
  const methods = { trace: "TRACE", debug: "DEBUG", log: "INFO", info: "INFO", warn: "WARN", error: "ERROR" };
  for (const [name, level] of Object.entries(methods)) {
    console[name] = (...values) => {
      const [first] = values;
      // An object alone is the message, where lines are objects anyway.
      const isObject = IS_JSON_LOG && values.length === 1 && typeof first === "object" && first !== null && !(first instanceof Error);
      try {
        say(level, isObject ? first : format(...values));
      } catch {
        say(level, format(...values));
      }
    };
  }
}

function sayError(what, error, hint) {
  if (IS_JSON_LOG) {
    return say("ERROR", what, { ...error, ...(hint === undefined ? {} : { hint }) });
  }
  const { errorType, errorMessage, trace } = error;
  const told = trace.length > 0 ? trace.join("\n") : `${errorType}: ${errorMessage}`;
  say("ERROR", `${what}: ${told}${hint === undefined ? "" : `\nhint: ${hint}`}`);
}

/** As AWS's runtime words it. */
function errorOf(thrown) {
  try {
    // An error of another realm is one, too.
    if (thrown instanceof Error || Object.prototype.toString.call(thrown) === "[object Error]") {
      const lines = String(thrown.stack ?? "").split("\n").filter((line) => !line.includes(SELF));
      // Where the copy of the code lies is nobody's business.
      const trace = lines.map((line) => line.replaceAll(ROOT_URL, "").replaceAll(`${ROOT}/`, ""));
      return { errorType: String(thrown.name || "Error"), errorMessage: String(thrown.message), trace };
    }
    return { errorType: typeof thrown, errorMessage: typeof thrown === "object" ? inspect(thrown) : String(thrown), trace: [] };
  } catch {
    return { errorType: "handled", errorMessage: "it threw what has no text", trace: [] };
  }
}

function hintOf(thrown) {
  return thrown instanceof Fault ? thrown.hint : undefined;
}

function contextOf(headers) {
  const deadline = Number(headers.get("lambda-runtime-deadline-ms") ?? 0);
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    invokedFunctionArn: headers.get("lambda-runtime-invoked-function-arn"),
    awsRequestId: headers.get("lambda-runtime-aws-request-id"),
    clientContext: parsedJson(headers.get("lambda-runtime-client-context")),
    identity: parsedJson(headers.get("lambda-runtime-cognito-identity")),
    tenantId: headers.get("lambda-runtime-aws-tenant-id"),
    getRemainingTimeInMillis: () => Math.max(deadline - Date.now(), 0),
  };
}

/** JSON of a header; what is none is nothing. */
function parsedJson(text) {
  try {
    return text === undefined || text === "" ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isPromise(value) {
  return typeof value?.then === "function";
}

/** Runs a handler that gives its result back: by a promise, a callback, or `context.done`. Resolves when the host has it. */
function whole(handler, api, { headers, body }) {
  return new Promise((resolve, reject) => {
    const id = current.id;
    let isOver = false;
    const over = (error, result) => {
      if (isOver) {
        return say("ERROR", "the invocation is over already: a handler gives one result");
      }
      isOver = true;
      whenEmpty = null;
      return post(api, id, error, result).then(resolve, reject);
    };
    const callback = (error, result) => {
      if (isOver || isFailure(error) || !context.callbackWaitsForEmptyEventLoop) {
        return over(error, result);
      }
      whenEmpty = () => over(null, result);
      return undefined;
    };
    const context = contextOf(headers);
    context.done = over;
    context.succeed = (result) => over(null, result);
    context.fail = (error) => over(error ?? "handled");
    // Nothing is left to do, and nobody gave a result: AWS answers null.
    whenEmpty = () => over(null, null);
    try {
      const returned = handler(JSON.parse(body.toString()), context, callback);
      if (isPromise(returned)) {
        returned.then((result) => over(null, result), context.fail);
      } else if (returned !== undefined && handler.length < 3 && !isOver) {
        say("WARN", "the handler returned a value and no promise, which AWS Lambda ignores: make it `async`");
      }
    } catch (error) {
      context.fail(error);
    }
  });
}

function isFailure(error) {
  return error !== undefined && error !== null;
}

function post(api, id, error, result) {
  if (!isFailure(error)) {
    try {
      return api.result(id, Buffer.from(JSON.stringify(result) ?? "null"));
    } catch (unfit) {
      error = new Fault("Runtime.MarshalError", `Unable to stringify response body: ${unfit.message}`);
    }
  }
  const told = errorOf(error);
  sayError("Invoke Error", told, hintOf(error));
  return api.error(`/invocation/${id}/error`, told);
}

/** Runs a handler that writes its result. Resolves when the host has all of it. */
async function streamed(handler, api, { headers, body }) {
  const stream = new ResponseStream(api, current.id, handler[HIGH_WATER_MARK] ?? HIGH_WATER_MARK_DEFAULT);
  current.fail = (error) => fail(api, stream, error);
  // Whoever destroys it tells the handler, or nobody listens.
  stream.on("error", () => {});
  try {
    const returned = handler(JSON.parse(body.toString()), stream, contextOf(headers));
    if (!isPromise(returned)) {
      throw new Error("Streaming does not support non-async handlers.");
    }
    // A handler that waits for what never comes ends here as well.
    const result = await Promise.race([returned, emptied()]);
    if (result !== undefined) {
      say("WARN", "the handler returned a value: a streaming handler writes it to its stream");
    }
    await Promise.race([ended(stream), emptied()]);
    await taken(stream);
  } catch (error) {
    await current.fail(error);
  } finally {
    whenEmpty = null;
  }
}

function emptied() {
  return new Promise((_, reject) => {
    whenEmpty = () => reject(new Fault("Runtime.StreamNotEnded", "the handler did not end its response stream", {
      hint: "call `responseStream.end()`, or `await pipeline(source, responseStream)`",
    }));
  });
}

function ended(stream) {
  return new Promise((resolve, reject) => {
    if (stream.writableFinished) {
      return resolve();
    }
    stream.once("finish", resolve);
    stream.once("close", () => reject(stream.errored ?? new Error("the response stream was destroyed before its end")));
    return stream.destroyed ? reject(stream.errored ?? new Error("the response stream was destroyed")) : undefined;
  });
}

async function taken(stream) {
  const { status, body } = await stream.answer;
  if (status !== 202) {
    say("ERROR", `the result was refused: ${status} ${body.toString().trim()}`);
  }
}

/** Before the first byte an error is posted as any other; after it, it goes behind the last. */
async function fail(api, stream, error) {
  const told = errorOf(error);
  sayError("Invoke Error", told, hintOf(error));
  if (stream.answer === null) {
    stream.destroy();
    return api.error(`/invocation/${current.id}/error`, told);
  }
  stream.stop(told);
  // Whether the host is still there, the next question shows.
  return stream.answer.catch(() => {});
}

/** The handler of `file.export`, `folder/file.export` or `file.a.b`. */
async function load(name) {
  const folder = path.dirname(name);
  const [, file, exported] = /^([^.]*)\.(.+)$/.exec(path.basename(name)) ?? [];
  if (!file) {
    throw new Fault("Runtime.MalformedHandlerName", "Bad handler", { hint: "write file and export, such as `app.handler`" });
  }
  const place = located(folder, file);
  let module;
  try {
    module = await import(pathToFileURL(place).href);
  } catch (error) {
    throw notLoaded(error, place);
  }
  const handler = walked(module, exported) ?? walked(module.default, exported);
  if (handler === undefined) {
    throw new Fault("Runtime.HandlerNotFound", `${name} is undefined or not exported`, { hint: exportsOf(module, path.basename(place)) });
  }
  if (typeof handler !== "function") {
    throw new Fault("Runtime.HandlerNotFound", `${name} is not a function`);
  }
  return handler;
}

function located(folder, file) {
  const place = path.resolve(ROOT, folder, file);
  const endings = [".js", ".mjs", ".cjs", ...(process.features.typescript ? [".ts", ".mts", ".cts"] : [])];
  const found = endings.map((ending) => place + ending).find((candidate) => existsSync(candidate));
  if (found !== undefined) {
    return found;
  }
  try {
    // A folder with an index, or a package.
    const { resolve } = createRequire(path.join(ROOT, "handler.js"));
    return existsSync(place) ? resolve(place) : resolve(path.join(folder, file));
  } catch {
    const message = `Error: Cannot find module '${path.join(folder, file)}'`;
    const files = readdirSync(ROOT).filter((one) => /\.[cm]?[jt]s$/.test(one));
    const has = files.length > 0 ? listed(files) : "no file of JavaScript";
    throw new Fault("Runtime.ImportModuleError", message, { hint: `the function's folder has ${has}` });
  }
}

function notLoaded(error, place) {
  const stack = typeof error?.stack === "string" ? error.stack : undefined;
  if (error instanceof SyntaxError) {
    const isOther = /import statement outside|Unexpected token 'export'/.test(error.message);
    const hint = isOther ? `it is an ES module: call it ${path.basename(place, path.extname(place))}.mjs, or write {"type":"module"} to package.json` : undefined;
    return new Fault("Runtime.UserCodeSyntaxError", `SyntaxError: ${error.message}`, { stack: placed(place) ?? stack, hint });
  }
  if (error?.code === "MODULE_NOT_FOUND" || error?.code === "ERR_MODULE_NOT_FOUND") {
    return new Fault("Runtime.ImportModuleError", `Error: ${error.message}`, { stack });
  }
  return error;
}

/** Where it stands is nowhere in an ES module's SyntaxError; Node's own check tells it, and runs nothing. */
function placed(file) {
  // Only now: it costs every start some milliseconds.
  const { spawnSync } = createRequire(import.meta.url)("node:child_process");
  const { stderr } = spawnSync(process.execPath, ["--check", file], { encoding: "utf8" });
  const end = stderr?.indexOf("\n    at ") ?? -1;
  return end > 0 ? stderr.slice(0, end) : undefined;
}

function walked(from, names) {
  return names.split(".").reduce((value, name) => value?.[name], from);
}

function exportsOf(module, file) {
  const own = (value) => (value !== null && typeof value === "object" ? Object.entries(value) : []);
  const functions = [...own(module), ...own(module.default)].filter(([, value]) => typeof value === "function").map(([name]) => name);
  return functions.length > 0 ? `${file} exports ${listed([...new Set(functions)])}` : `${file} exports no function`;
}

function listed(names) {
  return names.sort().slice(0, LISTED_MAX).join(", ") + (names.length > LISTED_MAX ? ", ..." : "");
}

/** Tells the host what ends the process, by a connection of its own: the other may be in use. */
async function die(what, thrown, code) {
  if (isDying) {
    return;
  }
  isDying = true;
  const told = errorOf(thrown);
  try {
    if (current === null) {
      sayError(what, told, hintOf(thrown));
    } else if (current.fail !== undefined) {
      await current.fail(thrown);
    } else {
      sayError(what, told, hintOf(thrown));
      await new Api().error(current.id === undefined ? "/init/error" : `/invocation/${current.id}/error`, told);
    }
  } finally {
    process.exit(code);
  }
}

function unhandled(reason) {
  const { errorMessage, trace } = errorOf(reason);
  const isError = trace.length > 0;
  const message = isError ? `${errorOf(reason).errorType}: ${errorMessage}` : errorMessage;
  return new Fault("Runtime.UnhandledPromiseRejection", message, { stack: isError ? trace.join("\n") : undefined });
}

async function main() {
  // Until there is an event, who waits is told by init/error.
  current = {};
  process.on("beforeExit", () => {
    const then = whenEmpty;
    whenEmpty = null;
    then?.();
  });
  process.on("uncaughtException", (error) => die("Uncaught Exception", error, 129));
  process.on("unhandledRejection", (reason) => die("Unhandled Promise Rejection", unhandled(reason), 128));
  setUpLogs();
  // Asks for nothing while the module is loaded: one that waits for ever would end here unheard.
  whenEmpty = () => die("Init Error", new Fault("Runtime.ExitError", `${HANDLER} waits at its top level for what never comes`), 129);
  let handler;
  try {
    handler = await load(HANDLER);
  } catch (error) {
    return die("Init Error", error, 129);
  }
  whenEmpty = null;
  current = null;
  return run(handler, new Api());
}

async function run(handler, api) {
  const one = handler[STREAMING] === "response" ? streamed : whole;
  for (;;) {
    let work;
    try {
      work = await api.next();
    } catch (error) {
      process.stderr.write(`the gateway is not there any more: ${error.message}\n`);
      return process.exit(1);
    }
    if (work.status !== 200) {
      process.stderr.write(`the gateway has no work: ${work.status} ${work.body.toString().trim()}\n`);
      return process.exit(1);
    }
    current = { id: work.headers.get("lambda-runtime-aws-request-id") };
    const trace = work.headers.get("lambda-runtime-trace-id");
    if (trace === undefined) {
      delete process.env._X_AMZN_TRACE_ID;
    } else {
      process.env._X_AMZN_TRACE_ID = trace;
    }
    await one(handler, api, work);
    current = null;
  }
}

main();
