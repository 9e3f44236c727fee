"""What a network costs for one clip: parameters, FLOPs, activations, peak memory and time.

FLOPs and activations are counted by mmengine's analysis, by its convention (also fvcore's): a multiplication with its
addition is one FLOP, and only the outputs of convolutions, matrix products and attention are activations. Operators
that are in neither table are listed and not counted; those are mostly element by element.
"""
import math
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import torch
from basicsr.archs import build_network
from mmengine.analysis import ActivationAnalyzer, FlopAnalyzer, parameter_count
from mmengine.analysis.print_helper import complexity_stats_table

from basicsr_nriqa import out_of_memory
from basicsr_nriqa.network_problems import network_problems
from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.peak_memory import PeakMemory

_BILINEAR = 4  # FLOPs for each sampled value, as mmengine counts grid_sampler


def _shape(value):
    return value.type().sizes()


def _attention(inputs, outputs):
    """Query (..., l, c), key (..., s, c), value (..., s, d): l * s * (c + d) for each head of each window."""
    query, key, value = map(_shape, inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _window_attention(inputs, outputs):
    """qkv (windows, size, 3, heads, d): each token attends to its window, or, where mutual, to half of it."""
    windows, size, _, heads, d = _shape(inputs[0])
    mutual = inputs[-1].toIValue()
    return windows * size * heads * (size // 2 if mutual else size) * 2 * d


def _deform_conv(inputs, outputs):
    """The convolution, and 9 * c sampled and masked values for each pixel, c being the input's channels."""
    n, c, _, _ = _shape(inputs[0])
    out_c, group_c, *kernel = _shape(inputs[1])
    pixels = n * math.prod(_shape(outputs[0])[2:])
    return pixels * math.prod(kernel) * (out_c * group_c + c * (_BILINEAR + 1))


def _product(left):
    """A product of matrices, of which one may stand for many; mmengine counts those of the left factor."""
    return lambda inputs, outputs: math.prod(_shape(outputs[0])) * _shape(inputs[left])[-1]


def _per_output(factor):
    return lambda inputs, outputs: factor * math.prod(_shape(outputs[0]))


# what mmengine's own table lacks: operator -> FLOPs of (inputs, outputs), both values of a traced graph; None: no FLOPs
FLOP_HANDLES = {
    'aten::scaled_dot_product_attention': _attention,
    'nriqa::window_attention': _window_attention,  # (qkv, ..., mutual)
    'torchvision::deform_conv2d': _deform_conv,  # (x, weight, offset, mask, ...)
    'aten::matmul': _product(0),
    'aten::baddbmm': _product(1),
    'aten::upsample_bicubic2d': _per_output(16),
    'aten::upsample_trilinear3d': _per_output(8),
    'prim::PythonOp._Reorder': lambda inputs, outputs: 0,  # where VRT's windows lie
    **dict.fromkeys(('aten::index_select', 'aten::flip', 'aten::unflatten', 'aten::movedim', 'aten::pad',
                     'aten::pixel_shuffle', 'aten::linspace', 'aten::meshgrid', 'aten::fill_', 'aten::argsort',
                     'aten::unique_dim', 'aten::ne')),
}
# attention and convolutions of which mmengine does not know that their outputs are activations
_ACTIVATIONS = ('aten::scaled_dot_product_attention', 'nriqa::window_attention', 'torchvision::deform_conv2d',
                'aten::baddbmm', 'aten::mm')


def default_size(options):
    """The size of an option file's training clips.

    Args:
        options (dict): as `read_options` returns them.

    Returns:
        tuple[int, int, int]: frames, and height and width of the network's input.

    Raises:
        OptionsError: there are no training clips of a fixed size.
    """
    train = (options.get('datasets') or {}).get('train') or {}
    frames, gt_size, scale = train.get('num_frame'), train.get('gt_size'), options.get('scale')
    if not all(isinstance(value, int) and value > 0 for value in (frames, gt_size, scale)):
        raise OptionsError('the size of a clip needs datasets:train:num_frame, datasets:train:gt_size and scale, of '
                           'which some are missing; give it as --input FRAMES HEIGHT WIDTH.')
    return frames, gt_size // scale, gt_size // scale


def complexity(network_options, size, device='cpu', backward=False, runs=3):
    """Count and measure what one clip costs.

    Args:
        network_options (dict): ``network_g`` of an option file. The weights do not matter, so none are loaded.
        size (tuple[int, int, int]): frames, height and width of the network's input.
        device (str): where to run.
        backward (bool): measure a training step's forward and backward pass instead of the forward pass alone; FLOPs
            and activations are those of the forward pass.
        runs (int): passes to take the median time of, after one to warm up.

    Returns:
        dict: ``parameters``, ``flops``, ``activations``, ``flops_by_operator``, ``not_counted`` (operator: how often),
        ``table`` (text: all this for each part of the network), ``seconds`` (median), ``memory`` (bytes by which a pass
        raises the peak, None where it cannot be measured), ``input`` (its shape), ``device`` and ``backward``.

    Raises:
        OptionsError: no such network, or its options are wrong.
        ValueError: the network does not take clips of this size, or they do not fit into memory.
    """
    with _memory_suffices(size):
        network, clip = _prepare(network_options, size, device)
        found = _counted(network_options['type'], network, clip)
        del network
        seconds, memory = _measured(network_options, size, device, backward, runs)
    return {**found, 'seconds': seconds, 'memory': memory, 'input': list(clip.shape), 'device': _device_name(device),
            'backward': backward}


@torch.no_grad()
def count(network, clip, max_depth=2):
    """Parameters, FLOPs and activations of one forward pass, which is run and traced.

    Args:
        network (nn.Module): in evaluation mode.
        clip (Tensor): its input.
        max_depth (int): how deep the table goes into the network's parts.

    Returns:
        dict: as in `complexity`.
    """
    flops = FlopAnalyzer(network, (clip,)).set_op_handle(**FLOP_HANDLES)
    activations = ActivationAnalyzer(network, (clip,)).set_op_handle(**dict.fromkeys(_ACTIVATIONS, _per_output(1)))
    for analyzer in (flops, activations):
        analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings('none')
    return {'parameters': parameter_count(network)[''], 'flops': int(flops.total()),
            'activations': int(activations.total()),
            'flops_by_operator': {name: int(number) for name, number in flops.by_operator().most_common()
                                  if number},
            'not_counted': dict(flops.unsupported_ops().most_common()),
            'table': complexity_stats_table(flops, max_depth, activations, show_param_shapes=False)}


@contextmanager
def _memory_suffices(size):
    """Where it does not, an error that says so."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        of_clip = f"a clip of {' x '.join(map(str, size))}. Give a smaller one: --input."
        if isinstance(error, BrokenProcessPool):
            raise ValueError('the process that measures ended without a result; what it printed is above. If that is '
                             f'nothing, the system has killed it: memory is too little for {of_clip}') from error
        if not (out_of_memory.of_gpu(error) or out_of_memory.of_machine(error)):
            raise
        raise ValueError(f'memory is too little for {of_clip}') from error


def _counted(name, network, clip):
    try:
        return count(network.eval(), clip)
    except (RuntimeError, IndexError) as error:
        if out_of_memory.of_gpu(error) or out_of_memory.of_machine(error):
            raise
        raise ValueError(f'network_g: {name} does not take clips of shape {tuple(clip.shape)}, (clips, frames, '
                         f'channels, height, width): {error}') from error


def _prepare(network_options, size, device):
    if 'type' not in network_options:
        raise OptionsError('network_g: has no type. Give the name of the network, such as type: BasicVSRPP.')
    problems = network_problems(network_options)
    if problems:
        raise OptionsError(' '.join(f'network_g:{name}: {problem}' for name, problem in problems.items()))
    options = {**network_options, 'spynet_path': None} if network_options.get('spynet_path') else network_options
    try:
        network = build_network(options).to(device)
    except (KeyError, TypeError, ValueError) as error:
        raise OptionsError(f'network_g: {error}') from None
    # a network that is told the noise level takes it as one more channel
    channels = options.get('in_chans', options.get('num_in_ch', 3)) + bool(options.get('nonblind_denoising'))
    frames, height, width = size
    return network, torch.rand(1, frames, channels, height, width, device=device)


def _measured(network_options, size, device, backward, runs):
    if torch.device(device).type != 'cpu':
        return _run(network_options, size, device, backward, runs)
    # in a process of its own, so that what the trace has allocated hides nothing
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
        return process.submit(_run, network_options, size, device, backward, runs, torch.get_num_threads()).result()


def _run(network_options, size, device, backward, runs, threads=None):
    """Median seconds and rise of the peak memory in bytes."""
    if threads:
        torch.set_num_threads(threads)
    network, clip = _prepare(network_options, size, device)
    network.train(backward)
    _pass(network, clip, backward)
    peak, seconds = PeakMemory(device), []
    for _ in range(runs):
        start = time.perf_counter()
        _pass(network, clip, backward)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), peak.rise()


def _pass(network, clip, backward):
    with torch.set_grad_enabled(backward):
        output = network(clip)
        if backward:
            output.square().mean().backward()
            network.zero_grad(set_to_none=True)
    if clip.is_cuda:
        torch.cuda.synchronize(clip.device)


def _device_name(device):
    if torch.device(device).type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{device}, {torch.get_num_threads()} threads'
