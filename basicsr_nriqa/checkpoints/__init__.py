"""Published checkpoints: read the file, recognise the layout, convert the names, load.

==================  ============================================================================================
layout              how its files look
==================  ============================================================================================
own names           the network's names as here, in BasicSR and in VRT's releases, often under ``params`` or
                    ``params_ema``
OpenMMLab           under ``state_dict``; a whole model's names, the network's begin with ``generator.``;
                    convolutions are called ``conv`` inside SPyNet and ``upsample_conv`` in the upsampler
pytorch-spynet      SPyNet alone, ``moduleBasic.0.moduleBasic.0.weight`` or ``netBasic.0.netBasic.0.weight``
RBPN                RBPN's and iSeeBetter's releases: RBPN without a flow network, for ``rbpn.`` of our ISeeBetter
==================  ============================================================================================

Any may come from a distributed run, where every name begins with ``module.``. Where a file has averaged weights
(``params_ema``, ``generator_ema.``) beside the last ones, the averaged ones are taken, as their authors do for testing.
"""
from basicsr_nriqa.checkpoints.description import describe
from basicsr_nriqa.checkpoints.hyper_parameters import network_options
from basicsr_nriqa.checkpoints.layouts import convert_state_dict, recognise
from basicsr_nriqa.checkpoints.loading import load_content, load_pretrained, weights_under
from basicsr_nriqa.checkpoints.reading import is_url, load_checkpoint_file, local_file

__all__ = ['convert_state_dict', 'describe', 'is_url', 'load_checkpoint_file', 'load_content', 'load_pretrained',
           'local_file', 'network_options', 'recognise', 'weights_under']
