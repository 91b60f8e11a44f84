//! Reads meaning out of ONNX messages: attributes, constants, who makes and who uses a value.
