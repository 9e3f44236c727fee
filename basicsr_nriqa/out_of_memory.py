"""Whether an error says that memory does not suffice."""
import re

import torch

# what libraries say instead of CUDA; cuDNN finds no engine where none has its workspace
_GPU = re.compile(r'out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_\w*ALLOC\w*|unable to find an engine|'
                  r'valid cuDNN algorithm', re.IGNORECASE)


def of_gpu(error: BaseException) -> bool:
    """Whether a GPU's memory does not suffice."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and bool(_GPU.search(str(error))))


def of_machine(error: BaseException) -> bool:
    """Whether main memory does not suffice."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and 'DefaultCPUAllocator' in str(error))
