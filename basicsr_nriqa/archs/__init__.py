"""Networks in BasicSR's ARCH_REGISTRY."""
from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP
from basicsr_nriqa.archs.iseebetter_arch import ISeeBetter
from basicsr_nriqa.archs.srgan_discriminator_arch import SRGANDiscriminator
from basicsr_nriqa.archs.vrt_arch import VRT

__all__ = ['VRT', 'BasicVSRPP', 'ISeeBetter', 'SRGANDiscriminator']
