"""What an executed notebook must show: errors to be caught were raised, and untouched exercises ask to be filled in."""

from __future__ import annotations

import json
import re
from typing import Any

CAUGHT = re.compile(r"^except (?P<kind>\w+) as \w+:$", re.MULTILINE)
STUB = re.compile(r"raise NotImplementedError\(.*")  # as tools/derive.py writes it


def with_probes(text: str) -> str:
    """A derived notebook with a cell behind each exercise's check, which fails if a function without a body passes."""
    notebook = json.loads(text)
    cells, stub = [], ""
    for cell in notebook["cells"]:
        cells.append(cell)
        role = cell["metadata"].get("mmlearn", {}).get("role")
        source = "".join(cell["source"])
        if role == "stub":
            stub = STUB.sub("pass", source)
        elif role == "check":
            check = source.partition("\nexcept NotImplementedError")[0]
            passed = 'raise AssertionError("an exercise\'s check passes on a function that returns nothing")'
            probe = f"{stub}\n\n{check}\nexcept Exception:\n    pass\nelse:\n    {passed}"
            cells.append({**cell, "id": f"{cell['id']}-probe", "metadata": {}, "source": probe})
    return json.dumps(notebook | {"cells": cells})


def printed(cell: dict[str, Any]) -> str:
    """What a cell wrote to its standard output."""
    texts = [output.get("text", "") for output in cell["outputs"] if output["output_type"] == "stream"]
    return "".join(text if isinstance(text, str) else "".join(text) for text in texts)


def complaints(notebook: dict[str, Any]) -> list[str]:
    """What is wrong with an executed notebook, one line each.

    Args:
        notebook: as JSON or as nbformat reads it; every cell has run.
    """
    found = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        source, metadata = "".join(cell["source"]), cell["metadata"]
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                found.append(f"{output['ename']}: {output['evalue']}, raised by the cell:\n{source}")
        for kind in CAUGHT.findall(source) if "caught" in metadata.get("tags", []) else []:
            if f"{kind}:" not in printed(cell):
                found.append(f"no {kind} was raised where the chapter shows one:\n{source}")
        if metadata.get("mmlearn", {}).get("role") == "check" and "fill in" not in printed(cell):
            found.append(f"an exercise's check passes on the bare stub:\n{source}")
    return found
