"""The networks. Layers are built from an injectable `operations` namespace, `torch.nn` unless told otherwise."""
