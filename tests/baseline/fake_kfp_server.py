"""A FAKE of KFP's API server, in memory, generated from a published API definition.

    python fake_kfp_server.py PORT SWAGGER_FILE [NAMESPACE]

With a namespace it serves several users, and only that namespace; without one it serves a single user
and ignores what a request says of namespaces. Prints the port once it listens.

It serves only paths that the definition has, and holds every request
and its own every answer against it: an unknown field, a wrong type, a field that only the server may
write. Beyond the definition it keeps the rules read in the server's source (branch mlmd-removal,
backend/src/apiserver: artifact_server.go, artifact_store.go, list.go): what is required, the longest
texts, the largest page, reuse by identity, a filter that is unquoted once more than it was quoted, and
times of whole seconds. What it cannot tell is whether the real server does otherwise.
"""

import base64
import hashlib
import json
import re
import sys
import threading
import uuid
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote_plus, urlsplit

import jsonschema

RUN, TASK = "11111111-run", "22222222-task"
INVALID, MISSING, FORBIDDEN = 3, 5, 7
STATUS = {INVALID: 400, MISSING: 404, FORBIDDEN: 403}
LARGEST_PAGE, DEFAULT_PAGE = 200, 20
LONGEST = {"name": 128, "namespace": 63, "uri": 2048, "description": 65535}
FIELDS = ("artifact_id", "namespace", "type", "uri", "name", "description", "created_at", "metadata")
FIELDS += ("number_value",)
OPERATIONS = ("EQUALS", "GREATER_THAN_EQUALS", "IN")
VALUES = {"string_value": str, "long_value": str, "string_values": dict}


class Refused(Exception):
    def __init__(self, code, message):
        self.code = code
        super().__init__(message)


def refuse_unless(condition, message, code=INVALID):
    if not condition:
        raise Refused(code, message)


class Definition:
    """A Swagger 2 file as a judge of requests and answers."""

    def __init__(self, file):
        document = json.loads(file.read_text())
        self._paths = document["paths"]
        self._definitions = {
            direction: {name: strict(schema, direction) for name, schema in document["definitions"].items()}
            for direction in ("request", "answer")
        }

    def operation(self, method, path):
        for template, operations in self._paths.items():
            pattern = re.sub(r"\\{[^}]*\\}", "([^/:]+)", re.escape(template))
            found = re.fullmatch(pattern, path)
            if found and method.lower() in operations:
                return template, operations[method.lower()], found.groups()
        raise Refused(MISSING, "Not Found")

    def check_request(self, operation, query, body):
        parameters = operation.get("parameters", [])
        known = {one["name"]: one for one in parameters if one["in"] == "query"}
        for name, values in query.items():
            refuse_unless(name in known, f"unknown query parameter {name}")
            refuse_unless(known[name]["type"] == "array" or len(values) == 1, f"{name} given twice")
            if known[name]["type"] == "integer":
                refuse_unless(values[0].lstrip("-").isdecimal(), f"{name} is no integer")
        bodies = [one for one in parameters if one["in"] == "body"]
        refuse_unless((body is not None) == bool(bodies), "a body where none belongs, or none")
        for one in bodies:
            self._check(body, one["schema"], "request")

    def check_answer(self, operation, answer):
        self._check(answer, operation["responses"]["200"]["schema"], "answer")

    def _check(self, value, schema, direction):
        whole = {**schema, "definitions": self._definitions[direction]}
        try:
            jsonschema.Draft4Validator(whole).validate(value)
        except jsonschema.ValidationError as error:
            raise Refused(INVALID, f"{direction} against the definition: {error.message}") from error


def strict(schema, direction):
    """As protobuf reads JSON: no unknown fields; in a request nothing that only the server writes."""
    if isinstance(schema, list):
        return [strict(item, direction) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(value, direction) for name, value in schema.items()}
    if isinstance(made.get("properties"), dict) and "additionalProperties" not in made:
        made["additionalProperties"] = False
        if direction == "request":
            made["properties"] = {
                name: value
                for name, value in made["properties"].items()
                if not (isinstance(value, dict) and value.get("readOnly"))
            }
    return made


class Artifacts:
    """The server's table of artifacts."""

    def __init__(self, namespace):
        self._namespace = namespace
        self._rows = []
        self._lock = threading.Lock()

    def create(self, request):
        artifact = request.get("artifact") or {}
        for field in ("namespace", "name"):
            refuse_unless(artifact.get(field), f"Artifact {field} is required")
        refuse_unless(artifact.get("type", "TYPE_UNSPECIFIED") != "TYPE_UNSPECIFIED", "type is required")
        for field in ("run_id", "task_id", "producer_key"):
            refuse_unless(request.get(field), f"{field} is required")
        refuse_unless((request["run_id"], request["task_id"]) == (RUN, TASK), "no such task", MISSING)
        for field, longest in LONGEST.items():
            refuse_unless(len(artifact.get(field, "")) <= longest, f"{field} is longer than {longest}")
        identity = json.dumps(
            [artifact.get(name) for name in ("type", "uri", "name", "description", "metadata")],
            sort_keys=True,
        )
        artifact["namespace"] = self._allowed(artifact["namespace"])
        key = hashlib.sha256(f"{artifact['namespace']} {identity}".encode()).hexdigest()
        with self._lock:
            same = [row for row, row_key in self._rows if row_key == key]
            if request.get("reuse_if_exists") and same:
                return same[0]
            now = datetime.now(timezone.utc).replace(microsecond=0)
            row = {
                **artifact,
                "artifact_id": str(uuid.uuid4()),
                "created_at": now.isoformat().replace("+00:00", "Z"),
            }
            self._rows.append((row, key if request.get("reuse_if_exists") else None))
            return row

    def _allowed(self, namespace):
        if self._namespace is None:
            return ""
        refuse_unless(namespace, "A resource cannot have an empty namespace in multi-user mode")
        refuse_unless(namespace == self._namespace, f"User is not authorized in {namespace}", FORBIDDEN)
        return namespace

    def list(self, query):
        namespace, spec = self._allowed(query.get("namespace", "")), query.get("filter", "")
        with self._lock:
            rows = [row for row, _ in self._rows if row["namespace"] == namespace]
        uri = exact_uri(spec)
        if uri is not None:
            found = [row for row in rows if row.get("uri") == uri]
            return {"artifacts": found, "total_size": len(found)}
        size = int(query.get("page_size") or DEFAULT_PAGE)
        refuse_unless(size >= 0, "The page size should be greater than 0")
        size = min(size, LARGEST_PAGE)
        if query.get("page_token"):
            asked = json.loads(base64.b64decode(query["page_token"]))
        else:
            asked = {"predicates": predicates(spec), "sort": sorting(query.get("sort_by", "")), "after": None}
        field, descending = asked["sort"]
        rows = [row for row in rows if all(holds(row, one) for one in asked["predicates"])]
        rows.sort(key=lambda row: place(row, field), reverse=descending)
        if asked["after"] is not None:
            after = tuple(asked["after"])
            places = [(place(row, field), row) for row in rows]
            rows = [row for at, row in places if at == after or (at < after) == descending]
        answer = {"artifacts": rows[:size], "total_size": len(rows)}
        if len(rows) > size:
            token = {**asked, "after": place(rows[size], field)}
            answer["next_page_token"] = base64.b64encode(json.dumps(token).encode()).decode()
        return answer


def place(row, field):
    return (row.get(field, 0.0 if field == "number_value" else ""), row["artifact_id"])


def sorting(text):
    words = text.lower().split() or ["created_at"]
    refuse_unless(len(words) <= 2 and words[1:] in ([], ["asc"], ["desc"]), f"invalid sort by format {text}")
    refuse_unless(words[0] in FIELDS, f"Invalid sorting field: {words[0]}")
    return words[0], words[1:] == ["desc"]


def exact_uri(spec):
    try:
        found = json.loads(spec)["predicates"]
    except (ValueError, KeyError):
        return None
    one = found[0] if len(found) == 1 else {}
    return one.get("string_value") if (one.get("key"), one.get("operation")) == ("uri", "EQUALS") else None


def predicates(spec):
    if not spec:
        return []
    try:
        # The server unquotes what the gateway has unquoted already.
        found = json.loads(unquote_plus(spec))
    except ValueError as error:
        raise Refused(INVALID, f"failed to parse valid filter: {error}") from error
    refuse_unless(set(found) == {"predicates"}, "a filter has predicates")
    for one in found["predicates"]:
        values = [name for name in one if name in VALUES]
        refuse_unless(set(one) == {"key", "operation", *values} and len(values) == 1, f"predicate {one}")
        refuse_unless(isinstance(one[values[0]], VALUES[values[0]]), f"value of {one}")
        refuse_unless(one["operation"] in OPERATIONS, f"operation {one['operation']}")
        refuse_unless((one["operation"] == "IN") == (values == ["string_values"]), f"value of {one}")
        refuse_unless(one["key"] in FIELDS, f"no support for filtering on unrecognized field {one['key']}")
    return found["predicates"]


def holds(row, one):
    value = row.get(one["key"])
    if one["operation"] == "IN":
        return value in one["string_values"]["values"]
    if one["operation"] == "EQUALS":
        return value == one["string_value"]
    return value is not None and value >= int(one["long_value"])


def answer(artifacts, template, method, query, body, places):
    if template.endswith("/artifacts"):
        return artifacts.create(body) if method == "POST" else artifacts.list(query)
    if template.endswith("/runs/{run_id}/tasks") and method == "GET":
        refuse_unless(places == (RUN,), "Failed to list tasks: run not found", MISSING)
        return {"tasks": [{"task_id": TASK, "run_id": RUN, "name": "record-baseline"}]}
    raise Refused(MISSING, "the fake does not do this")


def handler_of(definition, artifacts):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._serve(None)

        def do_POST(self):
            self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *arguments):
            pass

        def _serve(self, body):
            parts = urlsplit(self.path)
            try:
                template, operation, places = definition.operation(self.command, parts.path)
                query = parse_qs(parts.query, keep_blank_values=True)
                definition.check_request(operation, query, body)
                last = {name: values[-1] for name, values in query.items()}
                status, content = 200, answer(artifacts, template, self.command, last, body, places)
                definition.check_answer(operation, content)
            except Refused as error:
                status, content = STATUS[error.code], {"code": error.code, "message": str(error)}
            encoded = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

    return Handler


def main(port, swagger, namespace=None):
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Server(("127.0.0.1", int(port)), handler_of(Definition(Path(swagger)), Artifacts(namespace)))
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
