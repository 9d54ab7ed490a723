"""Makes the files below this folder that are copies of others: the PrometheusRule and the script of the trial's PostgreSQL.

    .venv/bin/python deploy/kubernetes/generate.py [--check]

A kustomization reads no file outside of its folder. With --check nothing is written: exit code 1 when a file differs.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent
RULES = FOLDER.parent / "prometheus" / "rules"
SCRIPT = FOLDER.parent / "docker" / "init-databases.sh"

_RULE_HEAD = """\
# Made by deploy/kubernetes/generate.py from deploy/prometheus/rules: change those.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: flywheel
spec:
"""
_GROUPS = "groups:\n"


def prometheus_rule() -> str:
    """Return the rule files as one object of the Prometheus operator, with their comments."""
    texts = [path.read_text(encoding="utf-8").partition(_GROUPS) for path in sorted(RULES.glob("*.yml"))]
    comments = "".join(before for before, _, _ in texts)
    groups = "".join(after for _, _, after in texts)
    return _RULE_HEAD + _indented(comments + _GROUPS + groups)


def _indented(text: str) -> str:
    return "".join(f"  {line}" if line.strip() else line for line in text.splitlines(keepends=True))


def files() -> Mapping[Path, str]:
    """Return each file that is made, with its text."""
    return {
        FOLDER / "monitoring" / "prometheus-rule.yaml": prometheus_rule(),
        FOLDER / "overlays" / "trial" / "init-databases.sh": SCRIPT.read_text(encoding="utf-8"),
    }


def main(arguments: list[str]) -> int:
    """Return the exit code."""
    differing = [
        path
        for path, text in files().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in differing:
        print(f"{path.relative_to(FOLDER)}: {'differs' if arguments else 'made'}")
        if not arguments:
            path.write_text(files()[path], encoding="utf-8")
    return 1 if arguments and differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
