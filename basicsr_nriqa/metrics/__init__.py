"""Quality metrics for BasicSR's ``val.metrics``."""
from basicsr_nriqa.metrics.iqa_metric import calculate_iqa, score_frames

__all__ = ['calculate_iqa', 'score_frames']
