"""Image-quality metrics behind one interface: RGB images in [0,1] -> one raw score each."""
from basicsr_nriqa.iqa.catalogue import (
    CATALOGUE,
    TABLE_1,
    check_metric,
    class_of_metric,
    create_metric,
    metric_info,
    metric_options,
    refuse_unknown,
    register_metric,
)
from basicsr_nriqa.iqa.interface import MetricError, MetricInfo, QualityMetric
from basicsr_nriqa.iqa.weights import find_weights, random_weights

__all__ = ['CATALOGUE', 'TABLE_1', 'MetricError', 'MetricInfo', 'QualityMetric', 'check_metric', 'class_of_metric',
           'create_metric', 'find_weights', 'metric_info', 'metric_options', 'random_weights',
           'refuse_unknown', 'register_metric']
