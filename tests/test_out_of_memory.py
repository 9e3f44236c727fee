import pytest
import torch

from basicsr_nriqa import out_of_memory


def test_main_memory():
    with pytest.raises(RuntimeError) as error:
        torch.empty(10**15)
    assert out_of_memory.of_machine(error.value) and not out_of_memory.of_gpu(error.value)
    assert out_of_memory.of_machine(MemoryError())


@pytest.mark.parametrize('error', [
    torch.cuda.OutOfMemoryError(), RuntimeError('CUDA error: out of memory'),
    RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`')])
def test_gpu(error):
    assert out_of_memory.of_gpu(error) and not out_of_memory.of_machine(error)


@pytest.mark.parametrize('error', [RuntimeError('The size of tensor a (3) must match'), ValueError('out of memory')])
def test_other_errors(error):
    assert not out_of_memory.of_gpu(error) and not out_of_memory.of_machine(error)
