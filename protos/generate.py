"""Generates the Python code of the contracts: `python protos/generate.py` writes protos/gen, `--check` compares with it.

The output depends only on the .proto files and on the versions of grpcio-tools and mypy-protobuf. Not generated, because
installed distributions bring it: google/protobuf (protobuf) and google/rpc (googleapis-common-protos).
"""

import argparse
import filecmp
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
GENERATED = PROTOS / "gen"


def main() -> int:
    """Returns the exit status: 0, or 1 when --check found a difference."""
    parser = argparse.ArgumentParser(description="Generate the Python code of the contracts into protos/gen.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when protos/gen is not up to date"
    )
    check: bool = parser.parse_args().check

    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "gen"
        generate(fresh)
        if not check:
            shutil.rmtree(GENERATED, ignore_errors=True)
            shutil.copytree(fresh, GENERATED)
            return 0
        found = differences(fresh, GENERATED)
    for line in found:
        print(line, file=sys.stderr)
    if found:
        print("protos/gen is not up to date: run python protos/generate.py", file=sys.stderr)
    return 1 if found else 0


def generate(out: Path) -> None:
    """Writes all generated code below `out`, which must not exist. Raises RuntimeError when protoc fails."""
    out.mkdir()
    ours = _proto_files("awoooi")
    services = [name for name in ours if name.endswith("_service.proto")]

    # The protovalidate wheel keeps validate.proto's code for its own runtime only: google.protobuf needs this one.
    _protoc([f"--python_out={out}"], _proto_files("buf"))
    _protoc([f"--python_out={out}", f"--mypy_out=quiet:{out}"], ours)
    # Concrete servicers: a class that implements some of the RPCs can be made, the others answer UNIMPLEMENTED.
    _protoc(
        [f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet,generate_concrete_servicer_stubs:{out}"],
        services,
    )
    (out / "awoooi" / "py.typed").touch()


def differences(fresh: Path, committed: Path) -> list[str]:
    """Returns one line per file that is missing, left over or different in `committed`, sorted; empty when there is none."""
    expected, present = _files(fresh), _files(committed)
    lines = [f"missing: protos/gen/{name}" for name in expected - present]
    lines += [f"left over: protos/gen/{name}" for name in present - expected]
    lines += [
        f"different: protos/gen/{name}"
        for name in expected & present
        if not filecmp.cmp(fresh / name, committed / name, shallow=False)
    ]
    return sorted(lines)


def _files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _proto_files(folder: str) -> list[str]:
    return sorted(path.relative_to(PROTOS).as_posix() for path in (PROTOS / folder).rglob("*.proto"))


def _protoc(outputs: list[str], files: list[str]) -> None:
    scripts = Path(sys.executable).parent  # the plugins of this environment, not those on PATH
    plugins = [f"--plugin={name}={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    well_known = resources.files("grpc_tools") / "_proto"
    status = protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *plugins, *outputs, *files])
    if status != 0:
        raise RuntimeError(f"protoc failed with status {status} on {', '.join(files)}")


if __name__ == "__main__":
    sys.exit(main())
