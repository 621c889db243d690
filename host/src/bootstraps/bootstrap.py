"""Runs a Lambda handler in Python: asks the Lambda Runtime API for events, calls the handler, posts what comes of it.

For CPython 3.8 and later, with nothing beside its standard library. Where `awslambdaric` can be imported, that runs the handler
instead: whoever installs it wants AWS's own. Knows no HTTP requests and no timeouts: the host has those. Never has two events at once.

Started as `python3 bootstrap.py`; the handler is in _HANDLER, its code in LAMBDA_TASK_ROOT, the host at AWS_LAMBDA_RUNTIME_API.
"""

import importlib
import json
import logging
import os
import socket
import sys
import time
import traceback

# AWS's runtimes leave what is not ASCII as it is from this one on; both are the same JSON.
PLAIN_UNICODE_SINCE = (3, 12)
# `Text` and `JSON` are AWS's forms, with time and request id. Where neither is asked for, those are left to the gateway's log, which has them.
LOG_FORMAT = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper()
IS_JSON_LOG = LOG_FORMAT == "JSON"
LINE = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s" if LOG_FORMAT == "TEXT" else "[%(levelname)s] %(message)s"
LOG_LEVELS = {
    "TRACE": logging.NOTSET,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}
ROOT = os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd()
# How many names a hint lists.
LISTED_MAX = 8


class Fault(Exception):
    """What AWS has a name of its own for, such as Runtime.HandlerNotFound."""

    def __init__(self, kind, message, trace=(), hint=None):
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.trace = list(trace)
        self.hint = hint


class Closed(Exception):
    """The host has closed the connection."""


class Api:
    """One connection to the Runtime API. `http.client` would do, for as much time again as a small handler takes."""

    def __init__(self, address):
        self.address = address
        self.connection = None
        self.reader = None

    def connect(self):
        host, _, port = self.address.rpartition(":")
        self.connection = socket.create_connection((host, int(port)))
        # What the handler's module says of sockets is not for this one.
        self.connection.settimeout(None)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.connection.makefile("rb")

    def close(self):
        if self.connection is not None:
            self.reader.close()
            self.connection.close()
        self.connection = None

    def call(self, method, path, body=b"", headers=""):
        """Status, headers by their names in lower case, body."""
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        head = f"{method} /2018-06-01/runtime{path} HTTP/1.1\r\nHost: {self.address}\r\n{headers}{length}\r\n"
        try:
            if self.connection is None:
                self.connect()
            self.connection.sendall(head.encode("utf-8") + body)
            return self.answer()
        except (OSError, Closed) as error:
            self.close()
            raise Closed(str(error)) from error

    def answer(self):
        line = self.reader.readline()
        if not line:
            raise Closed("it closed the connection")
        status = int(line.split(b" ", 2)[1])
        headers = {}
        while True:
            line = self.reader.readline()
            if not line:
                raise Closed("it closed the connection amid a head")
            line = line.strip()
            if not line:
                break
            name, _, value = line.partition(b":")
            headers[name.decode("latin-1").lower()] = value.strip().decode("utf-8", "replace")
        length = int(headers.get("content-length", 0))
        body = self.reader.read(length)
        if len(body) < length:
            raise Closed("it closed the connection amid a body")
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, body

    def next(self):
        try:
            status, headers, body = self.call("GET", "/invocation/next")
        except Closed:
            # A connection that was kept may have been given up meanwhile; a question for work can be asked again.
            status, headers, body = self.call("GET", "/invocation/next")
        if status != 200:
            raise Closed(f"it has no work: {status} {body.decode('utf-8', 'replace').strip()}")
        return headers, body

    def result(self, request_id, body, content_type):
        status, _, answer = self.call("POST", f"/invocation/{request_id}/response", body, f"Content-Type: {content_type}\r\n")
        if status != 202:
            say(f"[ERROR] the result ({len(body)} bytes) was refused: {status} {answer.decode('utf-8', 'replace').strip()}")

    def error(self, path, error):
        kind = "".join(letter for letter in error["errorType"] if " " < letter <= "~")
        headers = f"Content-Type: application/json\r\nLambda-Runtime-Function-Error-Type: {kind}\r\n"
        self.call("POST", path, json.dumps(error).encode("utf-8"), headers)


class Client:
    __slots__ = ["installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"]


class ClientContext:
    __slots__ = ["custom", "env", "client"]


class CognitoIdentity:
    __slots__ = ["cognito_identity_id", "cognito_identity_pool_id"]


def filled(kind, values):
    made = kind()
    for name in kind.__slots__:
        setattr(made, name, values.get(name) if isinstance(values, dict) else None)
    return made


class LambdaContext:
    """What a handler is told beside its event (reference: AWS Lambda, "Using the Lambda context object with Python")."""

    def __init__(self, headers):
        self.aws_request_id = headers.get("lambda-runtime-aws-request-id", "")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self._epoch_deadline_time_in_ms = int(headers.get("lambda-runtime-deadline-ms", 0))
        self.client_context = None
        client_context = parsed(headers.get("lambda-runtime-client-context"))
        if client_context is not None:
            self.client_context = filled(ClientContext, client_context)
            if self.client_context.client is not None:
                self.client_context.client = filled(Client, self.client_context.client)
        identity = parsed(headers.get("lambda-runtime-cognito-identity")) or {}
        self.identity = CognitoIdentity()
        self.identity.cognito_identity_id = identity.get("cognitoIdentityId")
        self.identity.cognito_identity_pool_id = identity.get("cognitoIdentityPoolId")

    def get_remaining_time_in_millis(self):
        return max(self._epoch_deadline_time_in_ms - int(time.time() * 1000), 0)

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        shown = ",".join(f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"LambdaContext([{shown}])"


def parsed(text):
    """JSON of a header; what is none is nothing, as in AWS's own."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


class Current:
    """The invocation that is under way, for lines of the log."""

    request_id = ""


class Named(logging.Filter):
    def filter(self, record):
        record.aws_request_id = Current.request_id
        return True


class JsonLines(logging.Formatter):
    # What every record has; all else was given by `extra`.
    USUAL = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "aws_request_id", "taskName"}

    def format(self, record):
        line = {"timestamp": stamp(record.created), "level": record.levelname, "message": record.getMessage(), "logger": record.name}
        line.update((name, value) for name, value in vars(record).items() if name not in self.USUAL)
        line["requestId"] = record.aws_request_id
        if record.exc_info and record.exc_info[0]:
            kind, value, trace = record.exc_info
            line.update(errorType=kind.__name__, errorMessage=text_of(value), stackTrace=traceback.format_tb(trace))
        return json.dumps(line, ensure_ascii=False, default=str)


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".%03dZ" % (seconds % 1 * 1000)


def set_up_logs():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    handler = logging.StreamHandler(sys.stdout)
    if IS_JSON_LOG:
        handler.setFormatter(JsonLines())
        logging.getLogger().setLevel(LOG_LEVELS.get(os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper(), logging.INFO))
    else:
        formatter = logging.Formatter(LINE, "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    handler.addFilter(Named())
    logging.getLogger().addHandler(handler)


def say(line):
    sys.stdout.write(line + "\n")


def told(exception, request_id):
    """The error as the host is told it, once the log has it."""
    error = error_of(exception, request_id)
    say_error(error, exception.hint if isinstance(exception, Fault) else None)
    flush()
    return error


def say_error(error, hint):
    if IS_JSON_LOG:
        line = {"timestamp": stamp(time.time()), "level": "ERROR", "requestId": Current.request_id}
        line.update((name, value) for name, value in error.items() if name != "requestId")
        if hint:
            line["hint"] = hint
        return say(json.dumps(line))
    say(f"[ERROR] {error['errorType']}: {error['errorMessage']}")
    if error["stackTrace"]:
        say("Traceback (most recent call last):\n" + "".join(error["stackTrace"]).rstrip())
    if hint:
        say("hint: " + hint)


def text_of(value):
    try:
        return str(value)
    except Exception:
        return "it has no text"


def error_of(exception, request_id):
    """As AWS's runtime words it."""
    if isinstance(exception, Fault):
        kind, message, trace = exception.kind, exception.message, exception.trace
    else:
        kind, message = type(exception).__name__, text_of(exception)
        frames = traceback.extract_tb(exception.__traceback__)
        while frames and is_ours(frames[0].filename):
            del frames[0]
        # Where the copy of the code lies is nobody's business.
        trace = [line.replace(ROOT + os.sep, "") for line in traceback.format_list(frames)]
    return {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": trace}


def is_ours(filename):
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")


def listed(names):
    names = sorted(names)
    return ", ".join(names[:LISTED_MAX]) + (", ..." if len(names) > LISTED_MAX else "")


def load(handler):
    """The handler itself. `app.handler`, or `folder/app.handler`."""
    path, dot, name = handler.rpartition(".")
    if not dot:
        raise Fault("Runtime.MalformedHandlerName", f"Bad handler '{handler}': not enough values to unpack (expected 2, got 1)")
    module_name = path.replace("/", ".")
    if module_name.split(".")[0] in sys.builtin_module_names:
        message = f"Cannot use built-in module {path} as a handler module"
        raise Fault("Runtime.BuiltInModuleConflict", message, hint="give the file another name")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        hint = missing_module(error, module_name)
        raise Fault("Runtime.ImportModuleError", f"Unable to import module '{path}': {error}", hint=hint) from error
    except SyntaxError as error:
        filename = str(error.filename).replace(ROOT + os.sep, "")
        trace = [f'  File "{filename}" Line {error.lineno}\n    {error.text}']
        raise Fault("Runtime.UserCodeSyntaxError", f"Syntax error in module '{path}': {error}", trace) from error
    try:
        return getattr(module, name)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound", f"Handler '{name}' missing on module '{path}'", hint=missing_name(module)) from None


def missing_module(error, module_name):
    """Of the handler's own file alone: of all others the host knows better where they belong."""
    if not isinstance(error, ModuleNotFoundError) or error.name != module_name.split(".")[0]:
        return None
    files = [name for name in os.listdir(ROOT) if name.endswith(".py")]
    return f"the function's folder has no {error.name}.py, but {listed(files)}" if files else "the function's folder has no Python file"


def missing_name(module):
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__ and callable(value)]
    return f"the module has {listed(own)}" if own else "the module defines no function"


def bytes_as_text(value):
    if isinstance(value, bytes):
        return value.decode("utf-8")
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def marshal(result):
    """The bytes of a result, and what they are."""
    if isinstance(result, bytes):
        return result, "application/unknown"
    is_ascii = sys.version_info < PLAIN_UNICODE_SINCE
    try:
        return json.dumps(result, ensure_ascii=is_ascii, default=bytes_as_text).encode("utf-8"), "application/json"
    except UnicodeEncodeError:
        # Half of a pair of surrogates has no UTF-8.
        return json.dumps(result, default=bytes_as_text).encode("utf-8"), "application/json"
    except Exception as error:
        hint = None
        if hasattr(result, "__await__"):
            result.close()
            hint = "AWS Lambda awaits no Python handler: leave out `async`, and call `asyncio.run(...)` in it"
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}", hint=hint) from error


def unmarshal(body, content_type):
    if not content_type.startswith("application/json"):
        return body.decode("utf-8")
    try:
        return json.loads(body)
    except Exception as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from error


def invoke(handler, api, headers, body):
    context = LambdaContext(headers)
    Current.request_id = context.aws_request_id
    trace_id = headers.get("lambda-runtime-trace-id")
    if trace_id:
        os.environ["_X_AMZN_TRACE_ID"] = trace_id
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
    try:
        # What ends the process, such as sys.exit, passes: the host sees how it ended.
        result, content_type = marshal(handler(unmarshal(body, headers.get("content-type", "")), context))
    except Exception as exception:
        return api.error(f"/invocation/{context.aws_request_id}/error", told(exception, context.aws_request_id))
    # Lines belong to this invocation, and it ends with its result.
    flush()
    return api.result(context.aws_request_id, result, content_type)


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            # Closed by the handler: it has no more to say.
            pass


def by_awslambdaric(handler):
    """Never comes back where it is installed."""
    try:
        from awslambdaric.__main__ import main as run
    except ModuleNotFoundError as error:
        if error.name == "awslambdaric":
            return
        say(f"awslambdaric cannot be imported ({error}); the gateway's own loop runs the handler")
    except ImportError as error:
        say(f"awslambdaric cannot be imported ({error}); the gateway's own loop runs the handler")
    else:
        run(["awslambdaric", handler])
        sys.exit(0)


def main():
    handler_name = os.environ["_HANDLER"]
    # Python looks in the folder of this file first, and would find this file where the handler's is `bootstrap`.
    if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]
    sys.path.insert(0, ROOT)
    by_awslambdaric(handler_name)
    set_up_logs()
    api = Api(os.environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        try:
            handler = load(handler_name)
        except Exception as exception:
            api.error("/init/error", told(exception, ""))
            # Not sys.exit, which waits for threads that the module has started.
            os._exit(1)
        while True:
            headers, body = api.next()
            invoke(handler, api, headers, body)
    except Closed as closed:
        sys.stderr.write(f"the gateway is not there any more: {closed}\n")
        flush()
        os._exit(1)


main()
