"""Rewrites slow ONNX exports into fast ones that answer the same.

`python -m onnx_tools.optimize FILE` (from the folder `models`), or `from onnx_tools import optimize` beside training
code. `infer-router models optimize` does the same rewrites without Python.
"""

from .rewrite import Report, optimize

__all__ = ["Report", "optimize"]
