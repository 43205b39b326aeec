"""Checks infra/ without the network and without Azure's own tools: every file parses, and every module gets exactly the
parameters it has and is asked only for outputs it has. Whether Azure accepts the values is not looked at."""

import json
import pathlib
import re
import sys

from pycep import BicepParser

PARSER = BicepParser()
ROOT = pathlib.Path(__file__).resolve().parent.parent / "infra"


def parse(file):
    try:
        return PARSER.parse(file_path=file)
    except Exception as error:
        sys.exit(f"{file}: {error}")


def problems_of(file, parsed):
    text = file.read_text()
    for name, module in parsed.get("modules", {}).items():
        path = file.parent / module["detail"]["path"]
        if not path.is_file():
            yield f"{file}: module {name} is in no file {path}"
            continue
        inner = parse(path)
        known = inner.get("parameters", {})
        given = module["config"].get("params", {})
        needed = {key for key, parameter in known.items() if parameter.get("default") is None}
        yield from (f"{file}: module {name} has no parameter {key}" for key in given.keys() - known.keys())
        yield from (f"{file}: module {name} needs the parameter {key}" for key in needed - given.keys())
        asked = set(re.findall(rf"\b{name}\.outputs\.(\w+)", text))
        yield from (f"{file}: module {name} has no output {key}" for key in asked - inner.get("outputs", {}).keys())


def main():
    # A parser that takes anything would prove nothing.
    try:
        PARSER.parse(text="param location string = \n resource {")
    except Exception:
        pass
    else:
        sys.exit("the parser accepts what is no Bicep")
    files = sorted(ROOT.rglob("*.bicep"))
    problems = [] if files else [f"no Bicep file in {ROOT}"]
    for file in files:
        parsed = parse(file)
        problems += problems_of(file, parsed)
        kinds = ["parameters", "resources", "modules", "outputs"]
        counts = ", ".join(f"{len(parsed.get(kind, {}))} {kind}" for kind in kinds)
        print(f"{file.relative_to(ROOT.parent)}: {counts}")
    for file in sorted(ROOT.rglob("*.json")):
        json.loads(file.read_text())
    if problems:
        sys.exit("\n".join(problems))


main()
