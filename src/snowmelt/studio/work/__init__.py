"""What the studio does, as functions of models and tensors: no page, no HTTP."""
