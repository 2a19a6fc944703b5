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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKENS = {
    "hf_ada": ("ada", {"readers": "write", "watchers": "read"}),
    "hf_reader": ("YOUR-NAME", {}),
}
LARGE = (".safetensors",)


def git_oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


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


def handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        # -- answers ---------------------------------------------------------------------------

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

        def body(self):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def account(self):
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            return TOKENS.get(token)

        # -- routes ----------------------------------------------------------------------------

        def route(self):
            path = unquote(urlsplit(self.path).path)
            for method, pattern, name in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and self.command in method:
                    return getattr(self, name)(*found.groups())
            self.body()
            return self.answer({"error": f"no route {self.command} {path}"}, 501)

        do_GET = do_POST = do_PUT = do_HEAD = route

        def whoami(self):
            if not self.account():
                return self.answer({"error": "Invalid token"}, 401)
            name, orgs = self.account()
            listed = [{"name": org, "roleInOrg": role} for org, role in orgs.items()]
            return self.answer({"type": "user", "name": name, "orgs": listed})

        def yaml(self):
            content = json.loads(self.body())["content"]
            good = content.startswith("---\n") and "\n---\n" in content
            told = [] if good else [{"message": "no header"}]
            return self.answer({"errors": told, "warnings": []}, 200 if good else 400)

        def create(self):
            asked = json.loads(self.body())
            repo = f"{asked.get('organization') or self.account()[0]}/{asked['name']}"
            private = asked.get("visibility", "public") == "private"
            hub.repos.setdefault(repo, {"private": private, "commits": []})
            return self.answer({"url": f"{address(self)}/{repo}", "name": repo})

        def info(self, repo, revision=None):
            if not self.visible(repo):
                return self.missing()
            files = [{"rfilename": path} for path in hub.files(repo)]
            private = hub.repos[repo]["private"]
            about = {"id": repo, "modelId": repo, "sha": hub.head(repo), "private": private}
            return self.answer({**about, "siblings": files, "tags": []})

        def visible(self, repo):
            found = hub.repos.get(repo)
            return found is not None and (not found["private"] or bool(self.account()))

        def preupload(self, repo, revision):
            asked = json.loads(self.body())["files"]
            there = hub.files(repo)
            told = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                    "oid": oid_of(there.get(one["path"]), one["path"]),
                }
                for one in asked
            ]
            return self.answer({"files": told})

        def batch(self, repo):
            asked, told = json.loads(self.body())["objects"], []
            for one in asked:
                entry = {"oid": one["oid"], "size": one["size"]}
                if one["oid"] not in hub.objects:
                    where = f"{address(self)}/lfs/{one['oid']}"
                    entry["actions"] = {"upload": {"href": where}}
                told.append(entry)
            return self.answer({"transfer": "basic", "objects": told})

        def put(self, oid):
            hub.puts.append(oid)
            if hub.held_after is not None and len(hub.objects) >= hub.held_after:
                hub.holding.set()
                hub.release.wait(60)
                self.close_connection = True
                return None
            content = self.body()
            if hashlib.sha256(content).hexdigest() != oid:
                return self.answer({"error": "another hash"}, 422)
            hub.objects[oid] = content
            return self.answer({})

        def commit(self, repo, revision):
            files = dict(hub.files(repo))
            for line in self.body().splitlines():
                change = json.loads(line)
                value = change["value"]
                if change["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif change["key"] == "lfsFile":
                    if value["oid"] not in hub.objects:
                        return self.answer({"error": "an object was not sent"}, 400)
                    files[value["path"]] = hub.objects[value["oid"]]
                elif change["key"] == "deletedFile":
                    del files[value["path"]]
            oid = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
            hub.repos[repo]["commits"].append((oid, files))
            where = f"{address(self)}/{repo}/commit/{oid}"
            return self.answer({"success": True, "commitOid": oid, "commitUrl": where})

        def tree(self, repo, revision):
            if not self.visible(repo):
                return self.missing()
            told = []
            for path, content in sorted(hub.files(repo).items()):
                entry = {"type": "file", "path": path, "size": len(content)}
                entry["oid"] = git_oid(content)
                if path.endswith(LARGE):
                    sha = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"oid": sha, "size": len(content), "pointerSize": 130}
                told.append(entry)
            return self.answer(told)

        def resolve(self, repo, revision, path):
            if not self.visible(repo):
                return self.missing()
            content = hub.files(repo).get(path)
            if content is None:
                return self.missing("EntryNotFound")
            etag = f'"{oid_of(content, path)}"'
            return self.send(content, ETag=etag, X_Repo_Commit=hub.head(repo))

    repo, revision = r"([\w.-]+/[\w.-]+)", r"([\w.-]+)"
    ROUTES = [
        (("GET",), "/api/whoami-v2", "whoami"),
        (("POST",), "/api/validate-yaml", "yaml"),
        (("POST",), "/api/repos/create", "create"),
        (("GET",), f"/api/models/{repo}", "info"),
        (("GET",), f"/api/models/{repo}/revision/{revision}", "info"),
        (("POST",), f"/api/models/{repo}/preupload/{revision}", "preupload"),
        (("POST",), f"/api/models/{repo}/commit/{revision}", "commit"),
        (("GET",), f"/api/models/{repo}/tree/{revision}", "tree"),
        (("POST",), f"/{repo}.git/info/lfs/objects/batch", "batch"),
        (("PUT",), r"/lfs/(\w+)", "put"),
        (("GET", "HEAD"), f"/{repo}/resolve/{revision}/(.+)", "resolve"),
    ]
    return Handler


def oid_of(content, path):
    if content is None:
        return None
    return hashlib.sha256(content).hexdigest() if path.endswith(LARGE) else git_oid(content)


def address(handler):
    return f"http://{handler.headers['Host']}"


@contextmanager
def served():
    """A Hub and its address, until the end of the block."""
    hub = Hub()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(hub)) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub, f"http://127.0.0.1:{server.server_port}"
        finally:
            hub.release.set()
            server.shutdown()
