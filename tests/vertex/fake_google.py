"""A FAKE of Google's services on this machine: identity, Vertex AI's REST API, endpoints, Cloud Monitoring.

What comes in is parsed into the generated messages of google-cloud-aiplatform, so that a wrong type, an
unknown field, or an unknown value of an enumeration is refused as the definition refuses it. Rules that
the definition states in its comments only are kept too: fields called "Required." and "Output only."
(read from the generated classes), forms and lengths of names, ids and labels, sums of traffic splits,
when a model can be undeployed or deleted. Tokens are given for assertions signed with the key of the
service account alone, and end. As the real services it names things by the project's number.

What it cannot tell is whether the real services do otherwise. Its model answers each instance with the sum
of the numbers in it, `slow_ms` later where its folder's name says so.
"""

import base64
import json
import re
import ssl
import threading
import time
import uuid
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.cloud.aiplatform_v1 import types
from google.protobuf import json_format

PROJECT, PROJECT_NUMBER, LOCATION = "my-project", "123456789012", "europe-west4"
CONTROL_HOST = f"{LOCATION}-aiplatform.googleapis.com"
TOKEN_HOST = "oauth2.googleapis.com"
MONITORING_HOST = "monitoring.googleapis.com"
ACCOUNT = "load-test@my-project.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"

LABEL = re.compile(r"[a-z0-9_-]{0,63}")
LARGEST_SHARED_REQUEST = 1_500_000
OURS = (r"[a-z0-9-]+-aiplatform\.googleapis\.com", r".*\.prediction\.vertexai\.goog")


class Refused(Exception):
    """An answer other than 200, as google.rpc.Status has it."""

    def __init__(self, code, status, message):
        self.code, self.status = code, status
        super().__init__(message)


def refuse_unless(condition, message, code=400, status="INVALID_ARGUMENT"):
    if not condition:
        raise Refused(code, status, message)


def marked(message_type, mark):
    """Fields whose comment in the definition begins with a mark, such as `Required.`."""
    return re.findall(
        rf"^\s+(\w+) \([^)]*(?:\([^)]*\))?[^)]*\):\n\s+{re.escape(mark)}", message_type.__doc__ or "", re.M
    )


def parsed(message_type, document):
    """A request's body as the message it must be."""
    refuse_unless(isinstance(document, dict), "the body is no JSON object")
    message = message_type()
    try:
        json_format.ParseDict(document, message_type.pb(message))
    except json_format.ParseError as error:
        raise Refused(400, "INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from None
    return message


def check(message, *, given=()):
    """Refuses what lacks a required field or sets one that only the service sets."""
    kind = type(message)
    for field in marked(kind, "Required."):
        refuse_unless(field in given or getattr(message, field), f"{kind.__name__}.{field} is required")
    for field in marked(kind, "Output only."):
        refuse_unless(not getattr(message, field), f"{kind.__name__}.{field} is output only")
    if hasattr(message, "display_name"):
        refuse_unless(len(message.display_name) <= 128, "display_name is longer than 128 characters")
    for name, value in dict(getattr(message, "labels", {})).items():
        refuse_unless(name and LABEL.fullmatch(name) and LABEL.fullmatch(value), f"label {name}={value}")


def as_json(message):
    return json_format.MessageToDict(type(message).pb(message))


class Identity:
    """Gives tokens to the one service account, for assertions it has signed."""

    def __init__(self, lifetime_seconds=3600):
        self.lifetime_seconds = lifetime_seconds
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.tokens = {}
        self.refusing = False

    def key_file(self):
        """What GOOGLE_APPLICATION_CREDENTIALS names."""
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": private.decode(),
            "client_email": ACCOUNT,
            "client_id": "1",
            "token_uri": f"https://{TOKEN_HOST}/token",
        }

    def token(self, form):
        refuse_unless(not self.refusing, "invalid_grant", 400, "invalid_grant")
        refuse_unless(form.get("grant_type") == ["urn:ietf:params:oauth:grant-type:jwt-bearer"], "grant_type")
        head, claims, signature = form["assertion"][0].split(".")
        self.key.public_key().verify(
            unpadded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
        )
        told = json.loads(unpadded(claims))
        refuse_unless(told["iss"] == ACCOUNT, "iss")
        refuse_unless(told["aud"] in (f"https://{TOKEN_HOST}/token",), f"aud {told['aud']}")
        refuse_unless(told["iat"] - 60 <= time.time() <= told["exp"], "the assertion is of another time")
        refuse_unless(SCOPE in told.get("scope", "").split(), "scope")
        token = f"ya29.{uuid.uuid4().hex}"
        self.tokens[token] = time.time() + self.lifetime_seconds
        return {"access_token": token, "expires_in": self.lifetime_seconds, "token_type": "Bearer"}

    def machine_token(self):
        """What the metadata server gives to all that ask: one token, until little of it is left."""
        now = time.time()
        lasting = [(ends, token) for token, ends in self.tokens.items() if ends - now > 240]
        if not lasting:
            lasting = [(now + self.lifetime_seconds, f"ya29.{uuid.uuid4().hex}")]
            self.tokens[lasting[0][1]] = lasting[0][0]
        ends, token = max(lasting)
        return {"access_token": token, "expires_in": int(ends - now), "token_type": "Bearer"}

    def check(self, header):
        kind, _, token = (header or "").partition(" ")
        known = kind == "Bearer" and self.tokens.get(token, 0) > time.time()
        refuse_unless(known, "Request had invalid authentication credentials.", 401, "UNAUTHENTICATED")
        return token


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Vertex:
    """Models, endpoints and operations of one project and location."""

    parent = f"projects/{PROJECT_NUMBER}/locations/{LOCATION}"

    def __init__(self):
        self.models, self.endpoints, self.operations = {}, {}, {}
        self.lock = threading.RLock()
        self.looks_until_done = 1
        self.next_id = 1000
        self.refusals = []
        self.predictions = []
        self.slow_ms = 30.0
        self.momentary = 0

    def new_id(self):
        self.next_id += 1
        return str(self.next_id)

    def operation(self, of, response):
        name = f"{of}/operations/{self.new_id()}"
        self.operations[name] = [self.looks_until_done, response]
        return self.look(name) if not self.looks_until_done else {"name": name}

    def look(self, name):
        refuse_unless(name in self.operations, f"{name} not found", 404, "NOT_FOUND")
        left, response = self.operations[name]
        if left > 0:
            self.operations[name][0] -= 1
            return {"name": name}
        return {"name": name, "done": True, "response": response}

    def upload_model(self, body):
        request = parsed(types.UploadModelRequest, body)
        check(request, given=("parent",))
        model = request.model
        check(model)
        refuse_unless(model.container_spec.image_uri, "model.container_spec.image_uri is required")
        refuse_unless(
            re.fullmatch(r"gs://[a-z0-9._-]+/.+", model.artifact_uri), f"artifact_uri {model.artifact_uri}"
        )
        name = f"{self.parent}/models/{self.new_id()}"
        model.name, model.version_id = name, "1"
        self.models[name] = model
        return self.operation(
            name,
            {
                "@type": "type.googleapis.com/google.cloud.aiplatform.v1.UploadModelResponse",
                "model": name,
                "modelVersionId": "1",
            },
        )

    def model(self, name):
        refuse_unless(name.partition("@")[0] in self.models, f"{name} not found", 404, "NOT_FOUND")
        return self.models[name.partition("@")[0]]

    def delete_model(self, name):
        self.model(name)
        deployed = [one for endpoint in self.endpoints.values() for one in endpoint.deployed_models]
        refuse_unless(
            name not in {one.model.partition("@")[0] for one in deployed},
            "the model is deployed",
            status="FAILED_PRECONDITION",
        )
        del self.models[name]
        return self.operation(name, {})

    def create_endpoint(self, body, query):
        endpoint = parsed(types.Endpoint, body)
        check(endpoint)
        unknown = set(query) - {"endpointId", "endpoint_id"}
        refuse_unless(not unknown, f"Unknown name {unknown}: Cannot bind query parameter")
        wanted = (query.get("endpointId") or query.get("endpoint_id") or [""])[0]
        fits = re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}", wanted)
        refuse_unless(not wanted or fits, f"endpoint_id {wanted}")
        if endpoint.network:
            of_project = rf"projects/{PROJECT_NUMBER}/global/networks/[a-z0-9-]+"
            refuse_unless(re.fullmatch(of_project, endpoint.network), f"network {endpoint.network}")
            refuse_unless(not endpoint.dedicated_endpoint_enabled, "network and dedicated endpoint")
        made = wanted or self.new_id()
        name = f"{self.parent}/endpoints/{made}"
        refuse_unless(name not in self.endpoints, f"{name} exists", 409, "ALREADY_EXISTS")
        endpoint.name = name
        if endpoint.dedicated_endpoint_enabled:
            endpoint.dedicated_endpoint_dns = f"{made}.{LOCATION}-{PROJECT_NUMBER}.prediction.vertexai.goog"
        self.endpoints[name] = endpoint
        answer = {"@type": "type.googleapis.com/google.cloud.aiplatform.v1.Endpoint", **as_json(endpoint)}
        return self.operation(name, answer)

    def endpoint(self, name):
        refuse_unless(name in self.endpoints, f"{name} not found", 404, "NOT_FOUND")
        return self.endpoints[name]

    def delete_endpoint(self, name):
        refuse_unless(
            not self.endpoint(name).deployed_models, "it has deployed models", status="FAILED_PRECONDITION"
        )
        del self.endpoints[name]
        return self.operation(name, {})

    def deploy_model(self, name, body):
        endpoint = self.endpoint(name)
        request = parsed(types.DeployModelRequest, {**body, "endpoint": name})
        check(request)
        deployed = request.deployed_model
        self.model(deployed.model)
        resources = deployed.dedicated_resources
        refuse_unless(resources.machine_spec.machine_type, "machine_spec is required")
        refuse_unless(resources.min_replica_count >= 1, "min_replica_count must be at least 1")
        most = resources.max_replica_count
        refuse_unless(most in (0,) or most >= resources.min_replica_count, "max_replica_count")
        wanted = bool(resources.machine_spec.accelerator_type)
        refuse_unless(wanted == bool(resources.machine_spec.accelerator_count), "accelerator type and count")
        refuse_unless(
            not endpoint.network or not endpoint.deployed_models, "a private endpoint has one model"
        )
        deployed.id, deployed.model_version_id = self.new_id(), "1"
        deployed.model = deployed.model.partition("@")[0]
        if endpoint.network:
            host = f"http://{name.rpartition('/')[2]}.aiplatform.googleapis.com/v1/models/{deployed.id}"
            deployed.private_endpoints.predict_http_uri = f"{host}:predict"
            deployed.private_endpoints.health_http_uri = host
        split = {deployed.id if one == "0" else one: share for one, share in request.traffic_split.items()}
        if split:
            refuse_unless(sum(split.values()) == 100, f"the traffic split is {split}")
            endpoint.traffic_split = split
        endpoint.deployed_models.append(deployed)
        return self.operation(name, {"deployedModel": as_json(deployed)})

    def undeploy_model(self, name, body):
        endpoint = self.endpoint(name)
        request = parsed(types.UndeployModelRequest, {**body, "endpoint": name})
        check(request)
        left = [one for one in endpoint.deployed_models if one.id != request.deployed_model_id]
        refuse_unless(len(left) < len(endpoint.deployed_models), "no such model", 404, "NOT_FOUND")
        shares = {one: share for one, share in endpoint.traffic_split.items() if share}
        refuse_unless(
            not left or request.deployed_model_id not in shares,
            "the model gets traffic",
            status="FAILED_PRECONDITION",
        )
        endpoint.deployed_models = left
        if not left:
            endpoint.traffic_split = {}
        return self.operation(name, {})

    def listed(self, kind, query):
        unknown = set(query) - {"filter", "pageSize", "pageToken"}
        refuse_unless(not unknown, f"Unknown name {unknown}: Cannot bind query parameter")
        asked = re.fullmatch(r'labels\.([a-z0-9_-]+)="([^"]*)"', query.get("filter", [""])[0])
        refuse_unless(asked, f"filter {query.get('filter')}")
        table = self.models if kind == "models" else self.endpoints
        found = [one for name, one in sorted(table.items()) if one.labels.get(asked[1]) == asked[2]]
        first = int(query.get("pageToken", ["0"])[0])
        # A page may be smaller than asked for.
        page = {kind: [as_json(one) for one in found[first : first + 1]]}
        return {**page, "nextPageToken": str(first + 1)} if first + 1 < len(found) else page

    def predict(self, name, body, raw):
        endpoint = self.endpoint(name)
        if raw:
            instances = raw_instances(body)
        else:
            request = parsed(types.PredictRequest, {**body, "endpoint": name})
            check(request)
            instances = [json_format.MessageToDict(one) for one in type(request).pb(request).instances]
        refuse_unless(endpoint.traffic_split, "no model gets traffic", 404, "NOT_FOUND")
        (chosen, _), *_ = endpoint.traffic_split.items()
        deployed = next(one for one in endpoint.deployed_models if one.id == chosen)
        if "slow" in self.models[deployed.model].artifact_uri:
            time.sleep(self.slow_ms / 1e3)
        answers = [total(instance) for instance in instances]
        return {
            "predictions": answers,
            "deployedModelId": chosen,
            "model": deployed.model,
            "modelVersionId": "1",
        }


def raw_instances(body):
    """What TF Serving behind :rawPredict takes."""
    unknown = set(body) - {"signature_name", "instances", "inputs"}
    refuse_unless(not unknown, f"Malformed request: {unknown}")
    refuse_unless(("instances" in body) != ("inputs" in body), "Missing 'inputs' or 'instances' key")
    return body["instances"] if "instances" in body else [body["inputs"]]


def total(value):
    if isinstance(value, dict):
        return sum(map(total, value.values()))
    if isinstance(value, list):
        return sum(map(total, value))
    refuse_unless(isinstance(value, (int, float)) and not isinstance(value, bool), f"{value!r} is no number")
    return value


class Google:
    """All of it behind one TLS port; names are told apart by the Host."""

    def __init__(self, certificate, lifetime_seconds=3600):
        """`certificate` is trustme's, for the names that are asked for."""
        self.identity = Identity(lifetime_seconds)
        self.vertex = Vertex()
        self.hosts = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        google = self

        class Handler(_Handler):
            served = google

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        # The handshake belongs into the thread of the connection.
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def metadata_server(self):
        """Google's metadata server, which a machine there has; ends with the process."""
        identity = self.identity

        class Handler(_Metadata):
            served = identity

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{server.server_address[1]}"

    def answer(self, method, host, path, query, headers, content):
        """The JSON answer to one request, or `Refused`."""
        self.hosts.append(host)
        if host == TOKEN_HOST:
            refuse_unless((method, path) == ("POST", "/token"), "not found", 404, "NOT_FOUND")
            return self.identity.token(parse_qs(content.decode()))
        token = self.identity.check(headers.get("Authorization"))
        if host == MONITORING_HOST:
            return self.monitoring(method, path, query)
        refuse_unless(any(re.fullmatch(one, host) for one in OURS), f"host {host}", 404, "NOT_FOUND")
        content = content.replace(f"projects/{PROJECT}/".encode(), f"projects/{PROJECT_NUMBER}/".encode())
        body = decoded(content, headers) if method == "POST" else {}
        path = path.replace(f"/projects/{PROJECT}/", f"/projects/{PROJECT_NUMBER}/")
        predict = re.fullmatch(rf"/v1/({Vertex.parent}/endpoints/[a-z0-9-]+):(predict|rawPredict)", path)
        if predict and method == "POST":
            self.check_name(host, predict[1], len(content))
            self.vertex.predictions.append((predict[1], predict[2], token))
            return self.vertex.predict(predict[1], body, predict[2] == "rawPredict")
        refuse_unless(host == CONTROL_HOST, "this name answers predictions only", 404, "NOT_FOUND")
        with self.vertex.lock:
            if self.vertex.momentary:
                self.vertex.momentary -= 1
                raise Refused(503, "UNAVAILABLE", "The service is currently unavailable.")
            return self.control(method, path, query, body)

    def check_name(self, host, name, size):
        endpoint = self.vertex.endpoint(name)
        own = endpoint.dedicated_endpoint_dns
        refuse_unless(
            host == (own or CONTROL_HOST),
            f"Dedicated Endpoint cannot be accessed through the shared Vertex AI domain {host}",
            status="FAILED_PRECONDITION",
        )
        refuse_unless(own or size <= LARGEST_SHARED_REQUEST, "Request is too large", 413, "INVALID_ARGUMENT")

    def control(self, method, path, query, body):
        vertex, parent = self.vertex, f"/v1/{Vertex.parent}"
        name = path.removeprefix("/v1/").rpartition(":")[0] or path.removeprefix("/v1/")
        routes = {
            ("POST", "/models:upload"): lambda: vertex.upload_model(body),
            ("POST", "/endpoints"): lambda: vertex.create_endpoint(body, query),
            ("GET", "/endpoints"): lambda: vertex.listed("endpoints", query),
            ("GET", "/models"): lambda: vertex.listed("models", query),
        }
        exact = routes.get((method, path.removeprefix(parent))) if path.startswith(parent) else None
        if exact:
            return exact()
        patterns = (
            ("GET", r".*/operations/[0-9]+", lambda: vertex.look(path.removeprefix("/v1/"))),
            ("POST", r".*/endpoints/[a-z0-9-]+:deployModel", lambda: vertex.deploy_model(name, body)),
            ("POST", r".*/endpoints/[a-z0-9-]+:undeployModel", lambda: vertex.undeploy_model(name, body)),
            ("GET", r".*/endpoints/[a-z0-9-]+", lambda: as_json(vertex.endpoint(name))),
            ("DELETE", r".*/endpoints/[a-z0-9-]+", lambda: vertex.delete_endpoint(name)),
            ("GET", r".*/models/[a-z0-9-]+(@[a-z0-9-]+)?", lambda: as_json(vertex.model(name))),
            ("DELETE", r".*/models/[a-z0-9-]+", lambda: vertex.delete_model(name)),
        )
        for asked, pattern, act in patterns:
            if method == asked and re.fullmatch(pattern, path):
                return act()
        raise Refused(404, "NOT_FOUND", f"no method {method} {path}")

    def monitoring(self, method, path, query):
        refuse_unless(
            (method, path) == ("GET", f"/v3/projects/{PROJECT}/timeSeries"), "not found", 404, "NOT_FOUND"
        )
        for needed in ("filter", "interval.startTime", "interval.endTime"):
            refuse_unless(query.get(needed), f"{needed} is required")
        metric = re.search(r'metric\.type = "([^"]+)"', query["filter"][0])
        endpoint = re.search(r'endpoint_id = "([^"]+)"', query["filter"][0])
        refuse_unless(metric and endpoint, f"filter {query['filter']}")
        known = any(name.endswith(f"/{endpoint[1]}") for name in self.vertex.endpoints)
        value = {"cpu/utilization": 0.7, "replicas": 1.0}.get(metric[1].partition("prediction/online/")[2])
        if not known or value is None:
            return {}
        return {"timeSeries": [sampled(metric[1], endpoint[1], value)]}


def decoded(content, headers):
    refuse_unless(headers.get("Content-Type", "").lower().startswith("application/json"), "Content-Type")
    try:
        return json.loads(content)
    except ValueError as error:
        raise Refused(400, "INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from None


def sampled(metric, endpoint, value):
    """One gauge as it was these ten minutes, up to now: here samples are never late."""
    now = int(time.time()) + 1
    points = []
    for ends in range(now, now - 600, -60):
        text = datetime.fromtimestamp(ends, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        points.append({"interval": {"startTime": text, "endTime": text}, "value": {"doubleValue": value}})
    return {
        "metric": {"type": metric, "labels": {"deployed_model_id": "1", "replica_id": "r-1"}},
        "resource": {
            "type": "aiplatform.googleapis.com/Endpoint",
            "labels": {"endpoint_id": endpoint, "location": LOCATION, "resource_container": PROJECT},
        },
        "metricKind": "GAUGE",
        "valueType": "DOUBLE",
        "points": points,
    }


class _Metadata(BaseHTTPRequestHandler):
    """https://cloud.google.com/compute/docs/metadata, as far as credentials are asked for."""

    served = None

    def do_GET(self):
        path = urlsplit(self.path).path.removeprefix("/computeMetadata/v1")
        account = {"email": ACCOUNT, "aliases": ["default"], "scopes": [SCOPE]}
        known = {
            "": lambda: "computeMetadata/",
            "/": lambda: "computeMetadata/",
            "/project/project-id": lambda: PROJECT,
            "/universe/universe-domain": lambda: "googleapis.com",
            "/instance/service-accounts/default/": lambda: json.dumps(account),
            f"/instance/service-accounts/{ACCOUNT}/": lambda: json.dumps(account),
            "/instance/service-accounts/default/token": lambda: json.dumps(self.served.machine_token()),
            f"/instance/service-accounts/{ACCOUNT}/token": lambda: json.dumps(self.served.machine_token()),
        }
        told = known.get(path)
        code = 200 if told and self.headers.get("Metadata-Flavor") == "Google" else 403 if told else 404
        written = (told() if code == 200 else "refused").encode()
        self.send_response(code)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if written[:1] == b"{" else "application/text")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)

    def log_message(self, *_):
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served = None
    disable_nagle_algorithm = True

    def _answer(self):
        parts = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # Without a port: an exact name is what the real front ends go by.
        host = self.headers.get("Host", "")
        try:
            document = self.served.answer(
                self.command, host, parts.path, parse_qs(parts.query), self.headers, content
            )
            code = 200
        except Refused as error:
            self.served.vertex.refusals.append(str(error))
            code = error.code
            document = {"error": {"code": code, "message": str(error), "status": error.status}}
        written = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, *_):
        pass
