"""A Hub on this machine: as much of the API as `huggingface_hub` uses to publish and to load.

Accounts, making a repository, the preupload question, Git LFS (batch, PUT), commits as lines of
JSON, the tree, and files by `resolve` with the headers that clients need. A repository shows what
was committed; objects that were sent before a client died stay, as on the real one.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from serving import loopback

TOKENS = {
    "hf_ada": ("ada", {"readers": "write", "watchers": "read"}),
    "hf_reader": ("YOUR-NAME", {}),
}
LARGE = (".safetensors",)


def git_oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def oid_of(content, path):
    if content is None:
        return None
    return hashlib.sha256(content).hexdigest() if path.endswith(LARGE) else git_oid(content)


class Hub:
    """What the server keeps. Once it has `held_after` objects, a PUT waits for `release`."""

    def __init__(self):
        self.repos = {}  # id -> {"private", "commits": [(oid, {path: content})]}
        self.objects = {}  # sha256 -> bytes
        self.puts = []  # sha256 of every PUT that began, in order
        self.held_after = None
        self.holding, self.release = threading.Event(), threading.Event()

    def files(self, repo):
        commits = self.repos[repo]["commits"]
        return commits[-1][1] if commits else {}

    def head(self, repo):
        commits = self.repos[repo]["commits"]
        return commits[-1][0] if commits else "0" * 40


class Handler(BaseHTTPRequestHandler):
    """Gives a request to the function of its route, which answers it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def route(self):
        path = unquote(urlsplit(self.path).path)
        for methods, pattern, answer in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in methods:
                return answer(self, self.server.hub, *found.groups())
        self.body()
        return self.answer({"error": f"no route {self.command} {path}"}, 501)

    do_GET = do_POST = do_PUT = do_HEAD = route

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def account(self):
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return TOKENS.get(token)

    def address(self):
        return f"http://{self.headers['Host']}"

    def answer(self, value, status=200, **headers):
        self.send(json.dumps(value).encode(), status, **headers)

    def send(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code="RepoNotFound"):
        self.answer({"error": code}, 404, X_Error_Code=code, X_Error_Message=code)


# What each route answers ----------------------------------------------------------------------


def whoami(request, hub):
    if not request.account():
        return request.answer({"error": "Invalid token"}, 401)
    name, orgs = request.account()
    listed = [{"name": org, "roleInOrg": role} for org, role in orgs.items()]
    return request.answer({"type": "user", "name": name, "orgs": listed})


def validate_yaml(request, hub):
    content = json.loads(request.body())["content"]
    good = content.startswith("---\n") and "\n---\n" in content
    errors = [] if good else [{"message": "no header"}]
    request.answer({"errors": errors, "warnings": []}, 200 if good else 400)


def create(request, hub):
    asked = json.loads(request.body())
    repo = f"{asked.get('organization') or request.account()[0]}/{asked['name']}"
    private = asked.get("visibility", "public") == "private"
    hub.repos.setdefault(repo, {"private": private, "commits": []})
    request.answer({"url": f"{request.address()}/{repo}", "name": repo})


def visible(request, hub, repo):
    found = hub.repos.get(repo)
    return found is not None and (not found["private"] or bool(request.account()))


def info(request, hub, repo, revision=None):
    if not visible(request, hub, repo):
        return request.missing()
    files = [{"rfilename": path} for path in hub.files(repo)]
    about = {"id": repo, "modelId": repo, "sha": hub.head(repo), "siblings": files, "tags": []}
    return request.answer({**about, "private": hub.repos[repo]["private"]})


def preupload(request, hub, repo, revision):
    there, files = hub.files(repo), []
    for path in (one["path"] for one in json.loads(request.body())["files"]):
        mode = "lfs" if path.endswith(LARGE) else "regular"
        oid = oid_of(there.get(path), path)
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    request.answer({"files": files})


def batch(request, hub, repo):
    objects = []
    for one in json.loads(request.body())["objects"]:
        entry = {"oid": one["oid"], "size": one["size"]}
        if one["oid"] not in hub.objects:
            entry["actions"] = {"upload": {"href": f"{request.address()}/lfs/{one['oid']}"}}
        objects.append(entry)
    request.answer({"transfer": "basic", "objects": objects})


def put(request, hub, oid):
    hub.puts.append(oid)
    if hub.held_after is not None and len(hub.objects) >= hub.held_after:
        hub.holding.set()
        hub.release.wait(60)
        request.close_connection = True
        return None
    content = request.body()
    if hashlib.sha256(content).hexdigest() != oid:
        return request.answer({"error": "another hash"}, 422)
    hub.objects[oid] = content
    return request.answer({})


def commit(request, hub, repo, revision):
    files = dict(hub.files(repo))
    for line in request.body().splitlines():
        change = json.loads(line)
        kind, value = change["key"], change["value"]
        if kind == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif kind == "lfsFile":
            if value["oid"] not in hub.objects:
                return request.answer({"error": "an object was not sent"}, 400)
            files[value["path"]] = hub.objects[value["oid"]]
        elif kind == "deletedFile":
            del files[value["path"]]
    oid = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
    hub.repos[repo]["commits"].append((oid, files))
    where = f"{request.address()}/{repo}/commit/{oid}"
    return request.answer({"success": True, "commitOid": oid, "commitUrl": where})


def tree(request, hub, repo, revision):
    if not visible(request, hub, repo):
        return request.missing()
    entries = []
    for path, content in sorted(hub.files(repo).items()):
        entry = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
        if path.endswith(LARGE):
            oid = oid_of(content, path)
            entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
        entries.append(entry)
    return request.answer(entries)


def resolve(request, hub, repo, revision, path):
    if not visible(request, hub, repo):
        return request.missing()
    content = hub.files(repo).get(path)
    if content is None:
        return request.missing("EntryNotFound")
    etag = f'"{oid_of(content, path)}"'
    return request.send(content, ETag=etag, X_Repo_Commit=hub.head(repo))


REPO, REVISION = r"([\w.-]+/[\w.-]+)", r"([\w.-]+)"
ROUTES = [
    (("GET",), "/api/whoami-v2", whoami),
    (("POST",), "/api/validate-yaml", validate_yaml),
    (("POST",), "/api/repos/create", create),
    (("GET",), f"/api/models/{REPO}", info),
    (("GET",), f"/api/models/{REPO}/revision/{REVISION}", info),
    (("POST",), f"/api/models/{REPO}/preupload/{REVISION}", preupload),
    (("POST",), f"/api/models/{REPO}/commit/{REVISION}", commit),
    (("GET",), f"/api/models/{REPO}/tree/{REVISION}", tree),
    (("POST",), f"/{REPO}.git/info/lfs/objects/batch", batch),
    (("PUT",), r"/lfs/(\w+)", put),
    (("GET", "HEAD"), f"/{REPO}/resolve/{REVISION}/(.+)", resolve),
]


@contextmanager
def served():
    """A Hub and its address, until the end of the block."""
    hub = Hub()
    with loopback(Handler) as server:
        server.hub = hub
        try:
            yield hub, server.url
        finally:
            hub.release.set()
