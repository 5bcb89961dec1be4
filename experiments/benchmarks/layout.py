"""Prints how the package is laid out: packages, direction of imports, cycles, lines.

    python experiments/benchmarks/layout.py [CHECKOUT ...]

Every import counts, those inside functions and under ``TYPE_CHECKING`` too. A room is a package or file directly below
``multimodn``. Rooms that import each other are one floor; a floor is one higher than the highest that it imports.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

Graph = dict[str, set[str]]


def imports(checkout: Path) -> Graph:
    """Reads which module imports which, in a process of its own, as modules of one name may be loaded once only."""
    code = (
        "import json, grimp; g = grimp.build_graph('multimodn', cache_dir=None);"
        "print(json.dumps({m: sorted(g.find_modules_directly_imported_by(m)) for m in g.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True, capture_output=True, text=True)
    return {module: set(names) for module, names in json.loads(done.stdout).items()}


def cycles(graph: Graph) -> list[list[str]]:
    """Returns the strongly connected components of more than one node (Tarjan 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in number:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == number[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                components.append(sorted(component))

    sys.setrecursionlimit(10_000)
    for node in sorted(graph):
        if node not in number:
            visit(node)
    return components


def room(module: str) -> str:
    """Names the package or file directly below ``multimodn`` that a module belongs to."""
    return module.split(".")[1] if "." in module else "(root)"


def rooms(graph: Graph) -> Graph:
    """Joins the modules of a room; the root, which only names what is public, is left out."""
    joined: Graph = defaultdict(set)
    for module, names in graph.items():
        joined[room(module)] |= {room(name) for name in names} - {room(module), "(root)"}
    joined.pop("(root)", None)
    return dict(joined)


def floors(graph: Graph) -> dict[str, int]:
    """Returns the floor of each room."""
    together = {node: component[0] for component in cycles(graph) for node in component}
    name = lambda node: together.get(node, node)  # noqa: E731
    above: Graph = defaultdict(set)
    for node, others in graph.items():
        above[name(node)] |= {name(other) for other in others} - {name(node)}
    height: dict[str, int] = {}

    def of(node: str) -> int:
        if node not in height:
            height[node] = 1 + max((of(other) for other in above.get(node, ())), default=0)
        return height[node]

    return {node: of(name(node)) for node in graph}


def python_files(checkout: Path) -> list[Path]:
    """Lists the source files of the package; ``encoders`` and ``tasks`` stand beside it."""
    found = [path for top in ("multimodn", "encoders", "tasks") for path in sorted((checkout / top).rglob("*.py"))]
    return [path for path in found if not any(part.is_symlink() for part in (path, *path.parents))]


def deferred(files: list[Path]) -> int:
    """Counts imports inside functions of modules of the package itself."""
    count = 0
    for file in files:
        functions = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)]
        inside = {node for function in functions for node in ast.walk(function) if isinstance(node, ast.ImportFrom)}
        count += sum((node.module or "").startswith("multimodn") for node in inside)
    return count


def describe(checkout: Path) -> dict[str, object]:
    """Computes the figures of one checkout."""
    graph, files = imports(checkout), python_files(checkout)
    between = rooms(graph)
    circles, of_rooms = cycles(graph), cycles(between)
    return {
        "modules": len(graph),
        "lines": sum(len(file.read_text().splitlines()) for file in files),
        "python files at the root of multimodn/": len(list((checkout / "multimodn").glob("*.py"))),
        "rooms": len(between),
        "floors": max(floors(between).values()),
        "arrows between rooms": sum(map(len, between.values())),
        "cycles of modules": len(circles),
        "modules in the largest cycle": max(map(len, circles), default=0),
        "cycles of rooms": len(of_rooms),
        "imports of the package inside functions": deferred(files),
    }


def main() -> None:
    """Prints a column for each checkout."""
    checkouts = [Path(name) for name in sys.argv[1:]] or [Path(__file__).parents[2]]
    columns = [describe(checkout.resolve()) for checkout in checkouts]
    for name in columns[0]:
        print(f"{name:45}", *(f"{column[name]!s:>10}" for column in columns))
    if len(columns) == 1:
        height = floors(rooms(imports(checkouts[0].resolve())))
        for floor in sorted(set(height.values()), reverse=True):
            print(f"floor {floor:2}: {', '.join(sorted(name for name, h in height.items() if h == floor))}")


if __name__ == "__main__":
    main()
