import pytest
import torch
from basicsr.archs import build_network
from fill import assert_recorded, clip, fill, filled, parity

from basicsr_nriqa.archs.srgan_discriminator_arch import SRGANDiscriminator


def images(n=2, h=16, w=19):
    return clip(n, 1, 3, h, w)[:, 0]


@torch.no_grad()
def test_equals_the_published_network():
    recorded = parity('srgan_discriminator')
    discriminator = SRGANDiscriminator().eval()
    counters = {name: torch.tensor(0) for name in recorded['keys'] if name.endswith('num_batches_tracked')}
    weights = filled({name: shape for name, shape in recorded['keys'].items() if name not in counters})
    discriminator.load_state_dict({**weights, **counters})
    n, _, h, w = recorded['input']
    assert_recorded(discriminator(images(n, h, w)), recorded['output'], tolerance=1e-5)


def test_published_checkpoint_fits():
    published = parity('published_keys/srgan_discriminator')
    discriminator = SRGANDiscriminator()
    own = {name: list(tensor.shape) for name, tensor in discriminator.state_dict().items()}
    assert own == published['state_dict']
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == published['parameters'] == 5215425


@torch.no_grad()
def test_recorded_output():
    recorded = {'shape': [3], 'mean': 4.073159, 'std': 1.435048, 'value': [2.56602, 4.23028, 5.42318]}
    discriminator = fill(SRGANDiscriminator(), gain=2).eval()
    assert_recorded(discriminator.logits(images(3, 33, 50)), recorded, tolerance=1e-4)


def test_is_registered_and_built_from_options():
    assert isinstance(build_network({'type': 'SRGANDiscriminator'}), SRGANDiscriminator)


def test_gives_a_probability_and_its_logit_for_each_image():
    discriminator = fill(SRGANDiscriminator()).eval()
    probability, logits = discriminator(images(3)), discriminator.logits(images(3))
    assert probability.shape == (3,)
    assert ((probability > 0) & (probability < 1)).all()
    torch.testing.assert_close(torch.logit(probability), logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(discriminator(images(3)[1:2]), probability[1:2])  # images do not mix in evaluation


def test_logits_still_tell_where_the_probability_is_one():
    discriminator = SRGANDiscriminator().eval()
    torch.nn.init.constant_(discriminator.net[-1].bias, 200.)
    x = images().requires_grad_()
    assert (discriminator(x) == 1).all()
    assert torch.autograd.grad(torch.nn.functional.softplus(discriminator.logits(x)).sum(), x)[0].any()


def test_gradients_reach_all_parameters_and_the_image():
    # in training, BatchNorm takes away what the biases before it add
    discriminator, x = SRGANDiscriminator().eval(), images().requires_grad_()
    discriminator(x).log().sum().backward()
    assert not [name for name, parameter in discriminator.named_parameters() if not parameter.grad.any()]
    assert x.grad.any()


@pytest.mark.slow
def test_compiled_network_is_the_same():
    torch._dynamo.reset()
    discriminator = fill(SRGANDiscriminator()).eval()
    compiled = torch.compile(discriminator, backend='aot_eager', fullgraph=True)
    found = [torch.autograd.grad(network(images()).sum(), network.parameters())
             for network in (compiled, discriminator)]
    torch.testing.assert_close(compiled(images()), discriminator(images()))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_memory_format_changes_nothing():
    discriminator = fill(SRGANDiscriminator()).eval()
    expected = discriminator.logits(images())
    discriminator = discriminator.to(memory_format=torch.channels_last)
    other = images().to(memory_format=torch.channels_last)
    torch.testing.assert_close(discriminator.logits(other), expected, rtol=1e-4, atol=1e-5)


def test_mixed_precision_stays_close():
    discriminator = fill(SRGANDiscriminator()).eval()
    with torch.autocast('cpu', torch.bfloat16):
        mixed = discriminator.logits(images())
        mixed.float().sum().backward()
    torch.testing.assert_close(mixed.float(), discriminator.logits(images()), rtol=0.05, atol=0.02)
    assert all(parameter.grad.isfinite().all() for parameter in discriminator.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@torch.no_grad()
def test_gpu_gives_the_output_of_the_cpu():
    discriminator = fill(SRGANDiscriminator()).eval()
    expected = discriminator.logits(images())
    torch.testing.assert_close(discriminator.cuda().logits(images().cuda()).cpu(), expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize('shape', [(1, 1, 32, 32), (1, 3, 15, 32), (3, 32, 32), (1, 2, 3, 32, 32)])
def test_unusable_images_are_an_error(shape):
    with pytest.raises(ValueError, match=r'16 pixels or more.*flatten'):
        SRGANDiscriminator()(torch.rand(shape))
