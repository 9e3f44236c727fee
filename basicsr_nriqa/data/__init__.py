"""Clip datasets in BasicSR's DATASET_REGISTRY, and what they are made with."""
from basicsr_nriqa.data.clip_dataset import ClipTestDataset, ClipTrainDataset
from basicsr_nriqa.data.clip_mixture import ClipMixtureDataset
from basicsr_nriqa.data.errors import DataError

__all__ = ['ClipMixtureDataset', 'ClipTestDataset', 'ClipTrainDataset', 'DataError']
