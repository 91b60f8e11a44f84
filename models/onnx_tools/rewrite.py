"""All rewrites in their order."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import onnx

from . import forest, patterns
from .edit import Editor, clean


@dataclass
class Report:
    """What was done to a model. `zip_maps`: classes by output; `reshapes`: columns by output."""

    nodes_before: int
    nodes_after: int = 0
    trees: int = 0
    distances: int = 0
    labels: int = 0
    signs: int = 0
    zip_maps: dict[str, list] = field(default_factory=dict)
    reshapes: dict[str, int] = field(default_factory=dict)
    cleaned: dict[str, int] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return any((self.trees, self.distances, self.labels, self.zip_maps, self.reshapes, self.cleaned))


def optimize(model: onnx.ModelProto, form: str = "cdist") -> tuple[onnx.ModelProto, Report]:
    """A rewritten copy and what was done to it; what is not understood stays as it is.

    `form` is what loops over distances become: "cdist" (fastest), "exact" (the same bits), or "loop" (they stay).
    Nothing is run here: compare the two with `onnx_tools.parity` before you serve the copy.
    """
    editor = Editor(copy.deepcopy(model))
    report = Report(nodes_before=len(model.graph.node))
    cleaned = clean(editor)
    report.zip_maps = patterns.zip_maps(editor)
    report.trees = forest.fuse(editor)
    report.distances = patterns.distances(editor, form)
    report.reshapes = patterns.reshapes(editor)
    report.labels = patterns.labels(editor)
    # A sign alone is no reason to touch a graph that is otherwise as it should be.
    if report.trees or report.distances:
        report.signs = patterns.signs(editor)
    report.cleaned = dict(cleaned + clean(editor))
    report.nodes_after = len(editor.nodes)
    return editor.finish(), report
