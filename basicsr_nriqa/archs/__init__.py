"""Networks in BasicSR's ARCH_REGISTRY."""
from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP

__all__ = ['BasicVSRPP']
