"""GradNorm in the training loop: its weights are logged, saved and restored."""
import torch
from basicsr.models import build_model
from test_video_iqa_model import _batch, prepared  # noqa: F401


def test_weights_move_are_logged_and_survive_a_resume(prepared):  # noqa: F811
    def options():
        return prepared(train__balance_opt={'type': 'gradnorm', 'warmup': 2, 'lr': 0.5, 'every': 1},
                        train__iqa_opt={'tinyiqa': {'type': 'IQALoss', 'metric': 'tinyiqa', 'loss_weight': -0.5},
                                        'gmsd': {'type': 'IQALoss', 'metric': 'gmsd', 'loss_weight': 0.7}})
    opt = options()
    model, batch = build_model(opt), _batch(opt)
    for iteration in range(1, 5):
        model.feed_data(batch)
        model.optimize_parameters(iteration)
    log = model.get_current_log()
    used = {name: log[f'w_{name}'] for name in ('pix', 'tinyiqa', 'gmsd')}
    assert abs(sum(used.values()) - 3) < 1e-6 and len(set(used.values())) == 3
    weights = model.balancer.weights
    model.save_training_state(0, 4)
    state = torch.load(f"{opt['path']['training_states']}/4.state", weights_only=True)
    fresh = build_model(options())
    fresh.net_g.load_state_dict(model.net_g.state_dict())
    fresh.resume_training(state)
    assert fresh.balancer.weights == weights
    for one in (model, fresh):
        one.feed_data(batch)
        one.optimize_parameters(5)
    assert fresh.get_current_log() == model.get_current_log()
