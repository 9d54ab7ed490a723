"""Makes the Secrets of an installation in a folder: random passwords with their database URLs, and tokens.

    .venv/bin/python deploy/kubernetes/make_secrets.py FOLDER
    kubectl apply -k FOLDER

What is in the folder already is kept, for the databases are created with the passwords. Keep it as you keep passwords; it is
never in git. Secrets of another origin (a vault, sealed secrets) need the names and keys of the table in docs/kubernetes.md.
"""

import base64
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from flywheel.tokens.file import change_tokens
from flywheel.tokens.model import TokenRecord, new_token

NAMESPACE = "flywheel"
_SERVICES = ("incident", "approval")
# With its role: Prometheus reads, Alertmanager posts, the doctor opens a canary and somebody else approves it.
_TOKENS = {
    "prometheus": "viewer",
    "alertmanager": "detector",
    "doctor": "operator",
    "doctor-approver": "approver",
}
_TOKEN_LIFETIME = "366d"  # noqa: S105 - how long, not which
_USAGE = 2
_OF_A_CHECKOUT = (".git", "pyproject.toml")


def make(folder: Path) -> Sequence[str]:
    """Make what is missing and return the names of the new files."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made: list[str] = []

    def keep(name: str, content: Callable[[], str]) -> str:
        path = folder / name
        if not path.exists():
            _write(path, content())
            made.append(name)
        return path.read_text(encoding="utf-8")

    # Of digits that need no quoting in a URL.
    password = partial(secrets.token_hex, 24)
    keep("postgres_password", password)
    for service in _SERVICES:
        for role in (service, f"{service}_owner"):
            known = keep(f"{role}_password", password)
            keep(f"{role}_database_url", partial(_url, role, known, service))
    for name, role in _TOKENS.items():
        keep(f"{name}.token", partial(_token, folder / "tokens.json", name, role))
    keep("webhook_secret", lambda: f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}")
    for receivers in ("webhook_url", "incident_notify_urls", "approval_notify_urls"):
        keep(receivers, str)
    keep("kustomization.yaml", _kustomization)
    return made


def _url(role: str, password: str, service: str) -> str:
    # The server is known by its certificate, and is the primary after a failover, too.
    return (
        f"postgresql://{role}:{password}@{service}-db-rw:5432/{service}"
        "?sslmode=verify-full&sslrootcert=/run/database-ca/ca.crt"
    )


def _token(file: Path, name: str, role: str) -> str:
    token, record = new_token(name, [role], _TOKEN_LIFETIME)

    def add(tokens: Sequence[TokenRecord]) -> Sequence[TokenRecord]:
        return [*tokens, record]

    change_tokens(file, add, create=True)
    return token


def _kustomization() -> str:
    generators = [
        _generator("flywheel-tokens", ["tokens.json"]),
        _generator("flywheel-scrape", ["token=prometheus.token"]),
        _generator("flywheel-doctor", ["operator=doctor.token", "approver=doctor-approver.token"]),
        _generator(
            "flywheel-receivers",
            ["webhook_url", "webhook_secret", "incident_notify_urls", "approval_notify_urls"],
        ),
        _generator(
            "postgres-passwords",
            [
                "postgres_password",
                *(f"{service}{role}_password" for service in _SERVICES for role in ("", "_owner")),
            ],
        ),
    ]
    for service in _SERVICES:
        for suffix, role in (("", service), ("-owner", f"{service}_owner")):
            files = [f"password={role}_password", f"url={role}_database_url"]
            generators.append(_generator(f"{service}-database{suffix}", files, user=role))
    return (
        "# Made by deploy/kubernetes/make_secrets.py: kubectl apply -k\n"
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"namespace: {NAMESPACE}\n"
        "generatorOptions:\n  disableNameSuffixHash: true\n"
        # CloudNativePG sets a password anew when the Secret changes.
        '  labels: {app.kubernetes.io/part-of: flywheel, cnpg.io/reload: "true"}\n'
        "secretGenerator:\n" + "".join(generators)
    )


def _generator(name: str, files: Sequence[str], *, user: str = "") -> str:
    lines = [f"  - name: {name}"]
    if user:
        lines += ["    type: kubernetes.io/basic-auth", f"    literals: [username={user}]"]
    return "\n".join([*lines, f"    files: [{', '.join(files)}]"]) + "\n"


def _write(path: Path, content: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(content)


def _refusal(folder: str) -> str:
    """Return why this cannot be the folder of the Secrets, or nothing."""
    if not folder.strip():
        return "the folder is empty: is the variable set?"
    if any((Path(folder) / name).exists() for name in _OF_A_CHECKOUT):
        return f"{folder} is a checkout: name a folder outside of it"
    return ""


def main(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    if len(arguments) != 1:
        print("usage: make_secrets.py FOLDER", file=sys.stderr)
        return _USAGE
    if error := _refusal(arguments[0]):
        print(f"make_secrets.py: {error}", file=sys.stderr)
        return _USAGE
    os.umask(0o077)
    for name in make(Path(arguments[0])):
        print(f"made {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
