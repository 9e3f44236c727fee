"""Image-quality metrics behind one interface: RGB images in [0,1] -> one raw score each."""
from basicsr_nriqa.iqa.catalogue import CATALOGUE, create_metric, metric_info
from basicsr_nriqa.iqa.interface import MetricError, MetricInfo, QualityMetric

__all__ = ['CATALOGUE', 'MetricError', 'MetricInfo', 'QualityMetric', 'create_metric', 'metric_info']
