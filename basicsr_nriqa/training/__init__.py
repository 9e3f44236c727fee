"""Training that survives: checkpoints that are complete or not there, exact resume, orderly stops."""
