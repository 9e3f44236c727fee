"""What is wrong with the options of a network, said before it is built."""
from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY

from basicsr_nriqa.option_definitions.arguments import argument_problems
from basicsr_nriqa.suggestion import suggest


def network_problems(options: Mapping[str, Any]) -> dict[str, str]:
    """Compare a network's options with what its class takes.

    Args:
        options (Mapping[str, Any]): ``network_g`` of an option file.

    Returns:
        dict[str, str]: Option -> what is wrong with it; empty if nothing is.
    """
    name = options.get('type')
    if name is None:
        return {'type': 'is missing.'}
    if not isinstance(name, str) or name not in ARCH_REGISTRY:
        return {'type': f"no network is called '{name}'{suggest(name, ARCH_REGISTRY.keys())}."}
    return dict(argument_problems(ARCH_REGISTRY.get(name), options))
