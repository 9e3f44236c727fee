"""Restoring videos of any length and size with a trained network."""
from basicsr_nriqa.inference.errors import InferenceError
from basicsr_nriqa.inference.restore import restore_video

__all__ = ['InferenceError', 'restore_video']
