"""A trained model for other programs: merged weights, and encoder with projector in ONNX.

merged   adapters in their layers, everything in the Hub's layout
onnx     encoder and projector as one graph
replay   how far golden vectors and clips differ in the written files
"""
