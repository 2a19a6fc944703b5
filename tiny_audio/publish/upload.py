"""A written folder → a repository on the Hub, in one commit.

`huggingface_hub` carries the bytes. Large files go first, each under its own hash; the commit that
shows them all comes last. So a repository is always the old one or the whole new one, and an upload
that was cut off goes on with the files that are not there yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from tiny_audio.model.errors import ConfigError
from tiny_audio.publish.bundle import HEADS, MARK, Bundle

# Files of an earlier push that the new folder need not have; nothing else is ever deleted.
FOLDERS = ("encoder", "decoder", *HEADS, "run", "results")
OURS = ["*.py", "*.safetensors", *(f"{folder}/*" for folder in FOLDERS)]
HARMLESS = {".gitattributes", "README.md", "LICENSE"}
AGAIN = "Repeat the command: what has arrived is not sent again."


def upload(bundle: Bundle, repo: str, public: bool, api: HfApi | None = None) -> str:
    """Upload to a repository that the token's account owns; returns the commit's address."""
    api = api or HfApi()
    with speaking(repo):
        refuse_foreign_account(api, repo)
        prepare(api, repo, public)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=bundle.folder,
            ignore_patterns=[MARK],
            delete_patterns=OURS,
            commit_message="Tiny Audio model",
        )
        check(api, repo, bundle)
    return str(commit.commit_url)


def refuse_foreign_account(api: HfApi, repo: str) -> None:
    """Refuse a repository of an account that the token may not write to."""
    namespace, slash, name = repo.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise ConfigError(f"--repo {repo!r} is no NAME/REPOSITORY, as in --repo ada/my-recogniser.")
    account = api.whoami()
    writers = [
        org["name"]
        for org in account.get("orgs", [])
        if org.get("roleInOrg") in ("admin", "write", "contributor")
    ]
    if namespace not in (own := [account["name"], *writers]):
        raise ConfigError(
            f"The token belongs to {account['name']} and may not publish as {namespace}. Give "
            f"--repo {own[0]}/{name}, or log in with another token: hf auth login"
        )


def prepare(api: HfApi, repo: str, public: bool) -> None:
    """Make the repository; an existing one must hold our model and be as public as asked."""
    try:
        found = api.model_info(repo)
    except RepositoryNotFoundError:
        api.create_repo(repo, private=not public, exist_ok=True)
        return
    if found.private is False and not public:
        raise ConfigError(
            f"{repo} is there and public. Add --public to publish there, or give another --repo."
        )
    names = {file.rfilename for file in found.siblings or []}
    if names - HARMLESS and not is_ours(api, repo, names):
        raise ConfigError(
            f"{repo} holds something other than a model of ours; give another --repo."
        )


def is_ours(api: HfApi, repo: str, names: set[str]) -> bool:
    if "config.json" not in names:
        return False
    with open(api.hf_hub_download(repo, "config.json"), encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found.get("model_type") == "tiny_audio"


def check(api: HfApi, repo: str, bundle: Bundle) -> None:
    """Check that the repository has every file, with the same hash as here."""
    found = api.verify_repo_checksums(repo, local_dir=bundle.folder)
    lost = [one["path"] for one in found.mismatches] + sorted({*found.extra_paths} - {MARK})
    if lost:
        raise ConfigError(f"{repo} does not hold what was sent ({', '.join(lost[:5])}). {AGAIN}")


@contextmanager
def speaking(repo: str) -> Iterator[None]:
    """Turn every error of the Hub or the network into one line that says what to do."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise ConfigError("No token is known. Type: hf auth login (or set HF_TOKEN).") from error
    except HFValidationError as error:
        raise ConfigError(f"--repo {repo!r} cannot be a repository's name ({error}).") from error
    except OfflineModeIsEnabled as error:
        raise ConfigError("HF_HUB_OFFLINE is set; unset it to publish.") from error
    except (HfHubHTTPError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"The upload to {repo} did not end ({error}). {AGAIN}") from error
