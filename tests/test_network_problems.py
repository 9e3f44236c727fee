import pytest

from basicsr_nriqa.network_problems import network_problems


@pytest.mark.parametrize('options', [
    {'type': 'BasicVSRPP', 'mid_channels': 8, 'max_residue_magnitude': 10, 'spynet_path': None},
    {'type': 'VRT', 'window_size': [6, 8, 8], 'qk_scale': None, 'mlp_ratio': 2},
    {'type': 'ISeeBetter', 'frames': 'center', 'checkpoint': True}, {'type': 'SRGANDiscriminator'},
    {'type': 'MSRResNet', 'num_feat': 'BasicSR checks nothing'}])
def test_good_options(options):
    assert network_problems(options) == {}


@pytest.mark.parametrize(('options', 'problems'), [
    ({'type': 'BasicVSRP'}, {'type': "no network is called 'BasicVSRP' (did you mean 'BasicVSRPP'?)."}),
    ({}, {'type': "is missing."}),
    ({'type': ['VRT']}, {'type': "no network is called '['VRT']' (did you mean 'VRT'?)."}),
    ({'type': 'BasicVSRPP', 'num_block': 7, 'mid_channels': 6.5, 'checkpoint': 1},
     {'num_block': "unknown option (did you mean 'num_blocks'?).",
      'mid_channels': 'expected a whole number, got 6.5.', 'checkpoint': 'expected true or false, got 1.'}),
    ({'type': 'ISeeBetter', 'frames': 'middle'}, {'frames': "expected all or center, got 'middle'."}),
    ({'type': 'VRT', 'depths': 8}, {'depths': 'expected a list of whole numbers, got 8.'}),
    ({'type': 'BasicVSRPP', 'spynet_path': 3}, {'spynet_path': 'expected text, got 3.'}),
    ({'type': 'RRDBNet'}, {'num_in_ch': 'is missing.', 'num_out_ch': 'is missing.'})])
def test_each_option_that_is_wrong_is_named(options, problems):
    assert network_problems(options) == problems
