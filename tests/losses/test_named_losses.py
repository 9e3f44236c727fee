"""The nine losses of Table I by name, and what IQALoss adds to a metric: frames, chunks, deficits."""
import copy

import pytest
import torch
from basicsr.losses import build_loss
from basicsr.utils.registry import LOSS_REGISTRY
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from basicsr_nriqa.iqa import MetricError, random_weights
from basicsr_nriqa.losses import IQALoss

TABLE_1 = {'LPIPSLoss': ('lpips', 0.05), 'PieAPPLoss': ('pieapp', 0.00005), 'DBCNNLoss': ('dbcnn', -0.005),
           'NIMALoss': ('nima', -0.005), 'PaQ2PiQLoss': ('paq2piq', -0.00005), 'HyperIQALoss': ('hyperiqa', -0.005),
           'MDTVSFALoss': ('mdtvsfa', -0.005), 'MANIQALoss': ('maniqa', -0.005), 'CLIPIQALoss': ('clipiqa', -0.005)}


@pytest.fixture(scope='module')
def paq2piq():
    with random_weights():
        return build_loss({'type': 'PaQ2PiQLoss', 'loss_weight': -1})


@pytest.fixture(scope='module')
def mdtvsfa():
    with random_weights():
        return build_loss({'type': 'MDTVSFALoss', 'loss_weight': -1})


def _with(loss, **changes):
    loss = copy.deepcopy(loss)
    for name, value in changes.items():
        setattr(loss, name, value)
    return loss


def _value_and_gradient(loss, clip, target=None):
    clip = clip.clone().requires_grad_()
    value = loss(clip, target)
    return value.detach(), torch.autograd.grad(value, clip)[0]


@pytest.mark.parametrize('name', TABLE_1)
def test_metric_and_default_weight(name):
    loss_class = LOSS_REGISTRY.get(name)
    metric, weight = TABLE_1[name]
    info = loss_class.check({'type': name})
    assert (info.name, info.table1_weight) == (metric, weight)
    for variant, of in loss_class.VARIANTS.items():
        assert loss_class.check({'variant': variant}).name == of
    with pytest.raises(MetricError, match=f'{name}: variant must be one of'):
        loss_class.check({'variant': 'imagenet'})
    with pytest.raises(MetricError, match='would train for worse images'):
        loss_class.check({'loss_weight': -weight})
    with pytest.raises(MetricError, match=r"has no option 'chunks' \(did you mean 'chunk'\?\)"):
        loss_class.check({'chunks': 2})
    with pytest.raises(MetricError, match='loss_weight must be a number'):
        loss_class.check({'loss_weight': '0.1'})
    with pytest.raises(MetricError, match=f'{name} has its metric already: leave `metric` out, choose a `variant`'):
        loss_class(metric=metric)


def test_training_uses_one_random_crop_unless_told_otherwise():
    with random_weights():
        loss = build_loss({'type': 'HyperIQALoss'})
        whole = build_loss({'type': 'IQALoss', 'metric': 'hyperiqa', 'num_crops': None})
    assert (loss.loss_weight, loss.metric.num_crops, loss.metric.crops) == (-0.005, 1, 'random')
    with random_weights():
        grid = build_loss({'type': 'HyperIQALoss', 'crops': 'uniform'})
    assert (grid.metric.num_crops, grid.metric.crops) == (25, 'uniform')
    assert (whole.metric.num_crops, whole.metric.crops) == (25, 'uniform')


@pytest.mark.parametrize('chunk', [1, 2, 4, 100])
def test_chunks_change_neither_value_nor_gradient(paq2piq, chunk):
    clip = torch.rand(2, 2, 3, 48, 40)
    expected, found = (_value_and_gradient(loss, clip) for loss in (paq2piq, _with(paq2piq, chunk=chunk)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        assert not _with(paq2piq, chunk=chunk)(clip).requires_grad


def test_chunks_of_a_full_reference_metric_see_their_own_target():
    clip, target = torch.rand(2, 2, 3, 3, 40, 40).unbind()
    whole, chunked = (build_loss({'type': 'IQALoss', 'metric': 'gmsd', 'loss_weight': 1, 'chunk': chunk})
                      for chunk in (None, 4))
    for found, expected in zip(_value_and_gradient(chunked, clip, target), _value_and_gradient(whole, clip, target)):
        torch.testing.assert_close(found, expected)


def test_chunks_keep_one_chunk_in_memory(paq2piq):
    def kept(loss):
        weights = {value.untyped_storage().data_ptr() for value in loss.metric.network.state_dict().values()}
        sizes = []

        def note(tensor):
            sizes.append(0 if tensor.untyped_storage().data_ptr() in weights else tensor.numel())
            return tensor
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss(torch.rand(1, 4, 3, 64, 64, requires_grad=True))
        return max(sizes)
    # of the largest feature map only a quarter is there at a time
    assert kept(_with(paq2piq, chunk=1)) * 4 == pytest.approx(kept(paq2piq), rel=0.01)


def test_clip_metrics_see_clips(mdtvsfa):
    clip = torch.rand(2, 5, 3, 40, 48)
    value = mdtvsfa(clip)
    assert value == pytest.approx(-mdtvsfa.metric(clip).mean().item())
    assert mdtvsfa(clip.flip(1)) != value  # the order of frames matters to it
    stills = mdtvsfa(clip[0])
    assert stills == pytest.approx(-mdtvsfa.metric(clip[0].unsqueeze(1)).mean().item())


def test_clip_metrics_take_consecutive_random_frames(mdtvsfa):
    loss, clip = _with(mdtvsfa, frames=2), torch.rand(1, 4, 3, 40, 40)
    pairs = [-mdtvsfa.metric(clip[:, start:start + 2]).item() for start in range(3)]
    values = [loss(clip).item() for _ in range(12)]
    assert len(set(values)) > 1
    assert all(min(abs(pair - value) for pair in pairs) < 1e-6 for value in values)


def test_chunk_reaches_a_clip_metric():
    with random_weights():
        loss = build_loss({'type': 'MDTVSFALoss', 'chunk': 2, 'loss_weight': -1})
        whole = build_loss({'type': 'MDTVSFALoss', 'loss_weight': -1})
    assert loss.metric.chunk == 2
    clip = torch.rand(1, 3, 3, 40, 40)
    for found, expected in zip(_value_and_gradient(loss, clip), _value_and_gradient(whole, clip)):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('options', [{'chunk': 0}, {'chunk': True}, {'frames': 'some'}, {'frames': 1.5}])
def test_bad_frames_and_chunks(options):
    with pytest.raises(MetricError, match=f'IQALoss: {next(iter(options))} must be'):
        build_loss({'type': 'IQALoss', 'metric': 'tinyiqa', 'loss_weight': -1, **options})


def test_deficit_is_the_distance_from_the_best():
    images = torch.rand(2, 3, 48, 48)
    for metric, weight, best in (('tinyiqa', -0.5, 1), ('gmsd', 2, 0), ('psnr', -0.1, 60)):
        loss = build_loss({'type': 'IQALoss', 'metric': metric, 'loss_weight': weight})
        value = loss(images, images.flip(0))
        assert loss.deficit(value) == pytest.approx(abs(weight) * abs(best - value.item() / weight), rel=1e-5)
        assert loss.deficit(value) > 0


def test_missing_target_and_nan_are_said():
    loss = build_loss({'type': 'IQALoss', 'metric': 'ssim', 'loss_weight': -1})
    with pytest.raises(ValueError, match=r'ssim compares with a reference \(GT\)'):
        loss(torch.rand(1, 2, 3, 32, 32))
    with pytest.raises(ValueError, match=r'ssim compares .* \(1, 2, 3, 32, 32\), got \(1, 2, 3, 16, 16\). .* enlarges'):
        loss(torch.rand(1, 2, 3, 32, 32), torch.rand(1, 2, 3, 16, 16))
    with pytest.raises(ValueError, match=r'IQALoss takes a tensor .*, got ndarray'):
        loss(torch.rand(1, 3, 32, 32).numpy())
    with pytest.raises(ValueError, match='NaN or infinity: the network that made them has diverged'):
        loss(torch.full((1, 3, 32, 32), torch.nan), torch.rand(1, 3, 32, 32))


def test_stays_out_of_ddp_and_the_optimiser(paq2piq, tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.network, self.loss = nn.Conv2d(3, 3, 1), copy.deepcopy(paq2piq)

        def forward(self, images):
            return self.loss(self.network(images))

    distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model = DistributedDataParallel(Model())
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        images = torch.rand(2, 3, 40, 40)
        before = model(images)
        before.backward()
        optimizer.step()
        assert set(model.state_dict()) == {'module.network.weight', 'module.network.bias'}
        assert model(images) < before
        assert isinstance(model.module.loss, IQALoss)
    finally:
        distributed.destroy_process_group()
