"""A FAKE of Vertex's MetadataService, in memory, on the protos that google-cloud-aiplatform generates.

    python fake_vertex_service.py PORT

Prints the port once it listens. Requests and answers are the generated messages themselves, so that a
wrong type or an unknown field cannot even be sent. The rules that the definition states only in its
comments are kept too: fields called "Required." and "Output only." (read from the generated classes),
the form of ids, the sizes of texts and metadata, the range of a page, registered schemas, tags of
read-modify-write, parameters that must not change between pages. Of the filter language it knows what
the store uses, and refuses all else. As the real service it names things by the project's number.
What it cannot tell is whether the real service does otherwise.
"""

import json
import re
import sys
import threading
import uuid
from concurrent import futures
from datetime import datetime, timezone

import grpc
from google.cloud.aiplatform_v1 import types
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2, field_mask_pb2, json_format

SERVICE = "google.cloud.aiplatform.v1.MetadataService"
PROJECT_NUMBER = "123456789012"
IDS = re.compile(r"[a-z0-9-]{4,128}")
STORE = re.compile(r"projects/([^/]+)/locations/([a-z0-9-]+)/metadataStores/([a-z0-9-]+)")
LONGEST_DISPLAY_NAME, LARGEST_METADATA = 128, 200 * 1024
LARGEST_PAGE, DEFAULT_PAGE = 1000, 100


class Refused(Exception):
    def __init__(self, code, message):
        self.code = code
        super().__init__(message)


def refuse_unless(condition, message, code=grpc.StatusCode.INVALID_ARGUMENT):
    if not condition:
        raise Refused(code, message)


def marked(message_type, mark):
    """Fields whose comment in the definition begins with a mark, such as `Required.`."""
    return re.findall(
        rf"^\s+(\w+) \([^)]*(?:\([^)]*\))?[^)]*\):\n\s+{re.escape(mark)}", message_type.__doc__ or "", re.M
    )


def check(message):
    message_type = type(message)
    for field in marked(message_type, "Required."):
        refuse_unless(getattr(message, field), f"{message_type.__name__}.{field} is required")
    for field in ("artifact", "context", "metadata_schema"):
        inner = getattr(message, field, None)
        if inner is None or isinstance(inner, str):
            continue
        for name in marked(type(inner), "Output only."):
            if name != "name":
                refuse_unless(not getattr(inner, name), f"{field}.{name} is output only")
        if hasattr(inner, "display_name"):
            refuse_unless(len(inner.display_name) <= LONGEST_DISPLAY_NAME, "display_name is too long")
        if getattr(inner, "metadata", None):
            size = len(json_format.MessageToJson(type(inner).pb(inner).metadata))
            refuse_unless(size <= LARGEST_METADATA, "metadata is larger than 200KB")
    if hasattr(message, "page_size"):
        refuse_unless(0 <= message.page_size <= LARGEST_PAGE, "page_size must be in range 1-1000")


def numbered(name):
    """A resource name as the service spells it: with the project's number."""
    return re.sub(r"^projects/[^/]+/", f"projects/{PROJECT_NUMBER}/", name)


class Metadata:
    """What the service keeps."""

    def __init__(self):
        self.schemas, self.artifacts, self.contexts, self.members = {}, {}, {}, {}
        self.lock = threading.RLock()

    def CreateMetadataSchema(self, request):
        schema = request.metadata_schema
        refuse_unless(re.fullmatch(r"[0-9]+[.][0-9]+[.][0-9]+", schema.schema_version), "schema_version")
        refuse_unless(schema.schema_type, "schema_type is required")
        title = re.search(r"^title: (\S+)$", schema.schema, re.M)
        refuse_unless(
            title and re.search(r"^type: object$", schema.schema, re.M), "schema is no OpenAPI object"
        )
        form = r"[a-z][a-z0-9-_]{2,20}[.][A-Z][a-zA-Z0-9-_]{2,49}"
        refuse_unless(re.fullmatch(form, title[1]), "title must be like namespace.Name")
        refuse_unless(not title[1].startswith("system."), "the namespace system is reserved")
        return self._create(
            self.schemas, request, "metadataSchemas", request.metadata_schema_id, schema, title[1]
        )

    def CreateContext(self, request):
        self._check_schema(request.context, types.MetadataSchema.MetadataSchemaType.CONTEXT_TYPE)
        return self._create(self.contexts, request, "contexts", request.context_id, request.context)

    def CreateArtifact(self, request):
        self._check_schema(request.artifact, types.MetadataSchema.MetadataSchemaType.ARTIFACT_TYPE)
        return self._create(self.artifacts, request, "artifacts", request.artifact_id, request.artifact)

    def GetContext(self, request):
        return self._get(self.contexts, request.name)

    def GetArtifact(self, request):
        return self._get(self.artifacts, request.name)

    def UpdateContext(self, request):
        return self._update(self.contexts, request.context, request.update_mask)

    def UpdateArtifact(self, request):
        return self._update(self.artifacts, request.artifact, request.update_mask)

    def DeleteArtifact(self, request):
        self._get(self.artifacts, request.name)
        del self.artifacts[numbered(request.name)]
        for members in self.members.values():
            members.discard(numbered(request.name))
        done = any_pb2.Any()
        done.Pack(empty_pb2.Empty())
        return operations_pb2.Operation(name=f"{request.name}/operations/1", done=True, response=done)

    def AddContextArtifactsAndExecutions(self, request):
        context = self._get(self.contexts, request.context)
        for name in request.artifacts:
            self.members.setdefault(context.name, set()).add(self._get(self.artifacts, name).name)
        return types.AddContextArtifactsAndExecutionsResponse()

    def ListArtifacts(self, request):
        asked = re.fullmatch(r'in_context\("([^"]+)"\)', request.filter)
        refuse_unless(asked, f"filter {request.filter}")
        refuse_unless(asked[1].split("/")[1] == PROJECT_NUMBER, "in_context wants the full resource name")
        self._get(self.contexts, asked[1])
        members = self.members.get(asked[1], set())
        found = [artifact for name, artifact in self.artifacts.items() if name in members]
        return self._page(request, found, types.ListArtifactsResponse, "artifacts")

    def ListContexts(self, request):
        asked = re.fullmatch(r'schema_title ?= ?"([^"]+)"', request.filter)
        refuse_unless(asked, f"filter {request.filter}")
        found = [context for context in self.contexts.values() if context.schema_title == asked[1]]
        return self._page(request, found, types.ListContextsResponse, "contexts")

    def _check_schema(self, made, schema_type):
        schema = self.schemas.get((made.schema_title, made.schema_version))
        known = schema is not None and schema.schema_type == schema_type
        refuse_unless(
            known, f"no schema {made.schema_title} {made.schema_version}", grpc.StatusCode.NOT_FOUND
        )

    def _create(self, table, request, collection, made_id, made, title=None):
        refuse_unless(STORE.fullmatch(request.parent), f"parent {request.parent}")
        made_id = made_id or str(uuid.uuid4())
        refuse_unless(IDS.fullmatch(made_id), f"id {made_id}")
        name = f"{numbered(request.parent)}/{collection}/{made_id}"
        place = (title, made.schema_version) if title else name
        refuse_unless(place not in table, f"{name} exists", grpc.StatusCode.ALREADY_EXISTS)
        kept = type(made)(made)
        kept.name, kept.create_time = name, datetime.now(timezone.utc)
        if hasattr(kept, "etag"):
            kept.etag = str(uuid.uuid4())
        table[place] = kept
        return kept

    def _get(self, table, name):
        found = table.get(numbered(name))
        refuse_unless(found is not None, f"{name} not found", grpc.StatusCode.NOT_FOUND)
        return found

    def _update(self, table, change, mask):
        kept = self._get(table, change.name)
        refuse_unless(change.etag in ("", kept.etag), "the etag is old", grpc.StatusCode.ABORTED)
        refuse_unless(mask.paths, "update_mask is required")
        changed = type(kept)(kept)
        field_mask_pb2.FieldMask(paths=mask.paths).MergeMessage(
            type(change).pb(change), type(changed).pb(changed), replace_message_field=True
        )
        changed.etag, changed.update_time = str(uuid.uuid4()), datetime.now(timezone.utc)
        table[numbered(change.name)] = changed
        return changed

    def _page(self, request, found, response_type, field):
        refuse_unless(STORE.fullmatch(request.parent), f"parent {request.parent}")
        order = getattr(request, "order_by", "")
        refuse_unless(order in ("", "create_time desc"), f"order_by {order}")
        found = sorted(found, key=lambda one: (one.create_time, one.name), reverse=bool(order))
        asked = [request.parent, request.filter, order, request.page_size]
        first = 0
        if request.page_token:
            *before, first = json.loads(request.page_token)
            refuse_unless(before == asked, "parameters changed between pages")
        end = first + (request.page_size or DEFAULT_PAGE)
        token = json.dumps([*asked, end]) if end < len(found) else ""
        return response_type(**{field: found[first:end], "next_page_token": token})


class Front(grpc.GenericRpcHandler):
    """Decodes, checks, answers."""

    def __init__(self):
        self._kept = Metadata()

    def service(self, handler_call_details):
        _, name, method = handler_call_details.method.split("/")
        act = getattr(self._kept, method, None)
        if name != SERVICE or act is None:
            return None
        request_type = getattr(types, f"{method}Request")

        def reply(content, context):
            try:
                request = request_type.deserialize(content)
                check(request)
                with self._kept.lock:
                    made = act(request)
            except Refused as error:
                context.abort(error.code, str(error))
            return (
                made.SerializeToString() if hasattr(made, "SerializeToString") else type(made).serialize(made)
            )

        return grpc.unary_unary_rpc_method_handler(reply)


def main(port):
    assert marked(types.CreateArtifactRequest, "Required.") == ["parent", "artifact"]
    assert "create_time" in marked(types.Artifact, "Output only.")
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Front(),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(bound, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
