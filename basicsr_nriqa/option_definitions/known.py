"""The options that BasicSR itself, our models and our datasets read; those of other classes are their arguments."""
from typing import Literal

from basicsr_nriqa.option_definitions.option import Option

TOP = {
    'name': Option(str, 'Name of the experiment: results are in `experiments/NAME` and `results/NAME`.', required=True),
    'model_type': Option(str, 'The model: `VideoIQAModel`, `GradNormModel`, `ISeeBetterModel`, or one of BasicSR.',
                         required=True),
    'scale': Option(int, 'How many times larger than LR the output is; datasets take it over.', least=1),
    'num_gpu': Option(int | Literal['auto'], 'GPUs of this process; 0: the CPU; `auto`: all there are. With torchrun '
                                             'or Slurm each process has one.', least=0, required=True),
    'manual_seed': Option(int, 'Seed of everything random.', 'drawn, and saved with the checkpoints'),
    'deterministic': Option(bool, 'Ask PyTorch for algorithms that repeat to the bit, where there are any.', 'false'),
    'datasets': Option(dict, 'The data: `train`, and any number of sets that begin with `val` (in training) or `test`.',
                       required=True),
    'network_g': Option(dict, 'The network: its `type` and its arguments.', required=True),
    'network_d': Option(dict, 'The discriminator of `ISeeBetterModel`.'),
    'path': Option(dict, 'Checkpoints to start from.', required=True),
    'train': Option(dict, 'The training.'),
    'val': Option(dict, 'Validation, and tests.'),
    'logger': Option(dict, 'What is logged and saved, and how often.'),
    'dist_params': Option(dict, 'Several processes, with `--launcher`.'),
    'find_unused_parameters': Option(bool, 'Some weights take no part in some steps (DDP).', 'false'),
    **{name: Option(kind, set_by_basicsr=True) for name, kind in (
        ('rank', int), ('world_size', int), ('dist', bool), ('auto_resume', bool), ('is_train', bool),
        ('seed_was_drawn', bool))}}

PATH = {
    'pretrain_network_g': Option(str, 'A checkpoint of the network, ours or a published one: file or URL.'),
    'param_key_g': Option(str, 'Which weights of the file: `params`, `params_ema`.', 'params'),
    'strict_load_g': Option(bool, 'All names and shapes must agree.', 'true'),
    'pretrain_network_d': Option(str, 'A checkpoint of the discriminator.'),
    'param_key_d': Option(str, 'As `param_key_g`.'),
    'strict_load_d': Option(bool, 'As `strict_load_g`.', 'true'),
    'resume_state': Option(str, 'A training state (`training_states/ITERATION.state`) to go on from. `--auto_resume` '
                                'finds the newest.'),
    'ignore_resume_networks': Option(list[str], 'Networks that keep `pretrain_network_*` when resuming.'),
    'experiments_root': Option(str, 'Set by BasicSR.', set_by_basicsr=True),
    **{name: Option(str, set_by_basicsr=True) for name in (
        'models', 'training_states', 'log', 'visualization', 'results_root')}}

LOGGER = {
    'print_freq': Option(int, 'Iterations between two lines in the log.', least=1, required=True),
    'save_checkpoint_freq': Option(float, 'Iterations between two checkpoints.', least=1, required=True),
    'use_tb_logger': Option(bool, 'Write for TensorBoard, to `tb_logger/NAME`.', required=True),
    'wandb': Option(dict, "Weights & Biases: `project` and `resume_id`, as BasicSR's."),
    'keep_last': Option(int, 'So many checkpoints are kept, and the networks of iterations with a best metric.',
                        'all', least=1)}

DIST_PARAMS = {
    'backend': Option(Literal['nccl', 'gloo'], 'What connects the processes.', 'nccl with GPUs, else gloo'),
    'port': Option(int, 'Where rank 0 listens, under Slurm; under torchrun it is `--master_port`.',
                   'MASTER_PORT, or made of the number of the job', least=1, most=65535),
    'timeout': Option(float, 'Seconds after which a process that waits for another one gives up.', '1800', above=0,
                      below=10**9)}

DATASET = {
    'name': Option(str, 'How the log and the score files call it.', required=True),
    'type': Option(str, 'The class of the dataset.', required=True),
    'scale': Option(int, 'GT is so many times larger than LR.', '`scale` at the top', least=1),
    'phase': Option(str, set_by_basicsr=True)}

# of training only
LOADER = {
    'use_shuffle': Option(bool, "In random order; BasicSR's samplers always do.", 'true'),
    'num_worker_per_gpu': Option(int, 'Processes that load data, for each training process.', least=0, required=True),
    'batch_size_per_gpu': Option(int, 'Clips of a step, for each training process.', least=1, required=True),
    'dataset_enlarge_ratio': Option(float, 'Length of an epoch relative to the dataset.', '1', above=0),
    'prefetch_mode': Option(Literal['cuda', 'cpu'], 'Fetch batches ahead: to the GPU, or in a thread.', 'no'),
    'num_prefetch_queue': Option(int, 'Batches that wait with `prefetch_mode: cpu`.', '1', least=1),
    'pin_memory': Option(bool, 'Batches in page-locked memory, from where GPUs read faster.', 'false'),
    'persistent_workers': Option(bool, 'Workers outlive an epoch.', 'false')}

# those that our datasets name
CLIPS = {
    'dataroot_gt': Option(str, 'Database or folder of GT frames, `CLIP/im1`, `CLIP/00000000` ...; optional in tests.'),
    'dataroot_lq': Option(str, 'The same of LR frames; in tests also a folder with the frames of one clip.'),
    'io_backend': Option(dict, '`{type: lmdb}` or `{type: disk}`.'),
    'meta_info_file': Option(str, "The clips to use, one a line, with or without BasicSR's further columns.",
                             'all that are there'),
    'gt_size': Option(int, 'Side of the GT crop in px, divisible by `scale`.', least=1),
    'num_frame': Option(int, 'Frames of an item, from a random place of the clip; in tests the first so many.',
                        '7; in tests all', least=1),
    'interval_list': Option(list[int], 'Steps from frame to frame, of which each item draws one.', '[1]'),
    'clip_length': Option(int, 'Frames of clips of which `meta_info_file` does not say it.', 'all that are there',
                          least=1),
    'filename_tmpl': Option(str, "Names of the frames. REDS: `'{:08d}'`.", 'im{}, or as found'),
    'first_frame': Option(int, 'Number of the first frame of a clip. REDS: 0.', '1, or as found', least=0),
    'samples_per_clip': Option(int | Literal['windows'], 'Items of an epoch for each clip; `windows`: one for each '
                               'place where `num_frame` consecutive frames fit.', '1', least=1),
    'use_hflip': Option(bool, 'Flip at random.', 'true', nullable=False),
    'use_rot': Option(bool, 'Rotate by 90 degrees and flip vertically at random.', 'true', nullable=False),
    'random_reverse': Option(bool, 'Reverse in time at random.', 'true', nullable=False),
    'flip_sequence': Option(bool, 'Append the mirrored clip.', 'false'),
    'datasets': Option(dict, 'The parts of a mixture: `name: {type: ClipTrainDataset, ratio: 0.7, ...}`.')}
PART = {
    'type': Option(str, 'The class of the dataset.', required=True),
    'ratio': Option(float, 'Its share of an epoch, relative to the sum of all.', above=0, required=True),
    'scale': DATASET['scale']}

TRAIN = {
    'pixel_opt': Option(dict, 'A loss of output and GT, such as `CharbonnierLoss`; `l_pix` in the log.'),
    'iqa_opt': Option(dict, 'Further losses, `name: {type: ..., loss_weight: ...}`; `l_NAME` in the log.'),
    'balance_opt': Option(dict, 'How many gradients become one; `w_NAME` in the log.',
                          '{type: fixed}; GradNormModel: {type: gradnorm}'),
    'gan_opt': Option(dict, 'The loss `gan` of `ISeeBetterModel`.'),
    'optim_g': Option(dict, 'The optimiser: any of `torch.optim` but LBFGS, SparseAdam and Muon, with its arguments.'),
    'optim_d': Option(dict, 'The same of the discriminator.'),
    'scheduler': Option(dict, "The schedule of the learning rate, BasicSR's; beyond `sum(periods)` the cosine stays "
                              'at `eta_min`.'),
    'total_iter': Option(int, 'Iterations of the training.', least=1),
    'warmup_iter': Option(int, 'The learning rate rises from 0 for so many.', '-1: not at all'),
    'precision': Option(Literal['bf16', 'fp16'], 'Autocast of the network; losses stay in float32; fp16 scales '
                                                 'gradients.', 'float32'),
    'accumulate': Option(int, 'The batch goes through the network in so many parts: the same step, less memory. It '
                              'divides `batch_size_per_gpu`.', '1', least=1),
    'clip_norm': Option(float, 'Largest norm of the gradient of all weights together.', 'none', above=0),
    'skip_limit': Option(int, 'So many iterations in a row that were not finite end the training, with a checkpoint.',
                         '50', least=1),
    'channels_last': Option(bool, 'Memory format of 2-D convolutions.', 'false'),
    'compile': Option(bool | dict, '`torch.compile` of the network, or its arguments; in training only.', 'false'),
    'ema_decay': Option(float, 'A moving average of the weights, which is validated, and saved as `params_ema`.',
                        '0: none', least=0, below=1),
    'fix_flow': Option(int, 'Iterations in which parameters named `spynet` are not trained.', '0', least=0),
    'flow_lr_mul': Option(float, "Their learning rate relative to the others'.", '1', least=0)}
# of losses: 0 or false is off
TRANSFORMS = {
    'flip': Option(bool | Literal[0], 'Left and right change places in half of the draws.'),
    'rotate': Option(bool | Literal[0], 'By 0, 90, 180 or 270 degrees.'),
    'shift': Option(float | Literal[False], 'By up to so many px each way, also by fractions.', least=0, most=64),
    'scale': Option(float | Literal[False], 'By a factor of 1 / (1 + s) to 1 + s.', least=0, most=1),
    'blur': Option(float | Literal[False], 'Gaussian, of a standard deviation of up to so many px.', least=0, most=16),
    'colour': Option(float | Literal[False], 'Gain of each channel, saturation and contrast of 1 - s to 1 + s, offsets '
                                             'of up to s / 2.', least=0, most=1),
    'noise': Option(float | Literal[False], 'White, of a standard deviation of up to so much, in units of [0,1].',
                    least=0, most=1),
    'jpeg': Option(float | Literal[False], 'Of a quality between this and 100.', least=0, most=100)}
PURIFY = {
    'blur': Option(float | Literal[False], 'Gaussian, of a standard deviation of so many px.', least=0, most=16),
    'resize': Option(float | Literal[False], 'By this factor, 0.1 or more, bicubic and antialiased.', least=0, most=1),
    'jpeg': Option(float | Literal[False], 'Of this quality, 1 or more.', least=0, most=100)}
GAN = {'loss_weight': Option(float, '- weight * mean D(output).', '0.001', above=0)}

VAL = {
    'metrics': Option(dict, "`name: {type: calculate_iqa, metric: NAME, better: higher}`, or BasicSR's metrics."),
    'val_freq': Option(float, 'Iterations between validations in training.', least=1),
    'save_img': Option(bool, 'Write `visualization/DATASET/CLIP/FRAME_SUFFIX.png`.', required=True),
    'suffix': Option(str, 'End of their names.', 'the name of the experiment'),
    'pbar': Option(bool, 'Progress bar.', 'true'),
    'scores': Option(dict, 'How the score files call it.'),
    'guard': Option(dict, 'In training: stop, or lower the no-reference losses, when a validation shows artifacts.',
                    'none')}
# of BasicSR's metrics, which do not say it themselves
STOCK_METRIC = {
    'crop_border': Option(int, 'Pixels left out at each side.', least=0, nullable=False),
    'input_order': Option(Literal['HWC', 'CHW'], 'Axes of the images.', 'HWC', nullable=False),
    'test_y_channel': Option(bool, 'Only luma is compared.', 'false', nullable=False)}
SCORES = {'model': Option(str, 'The model.', 'type of the network'),
          'loss': Option(str, 'The loss.', 'what the checkpoint was trained with')}

GUARD = {
    'anchors': Option(dict[str, float], 'Entry of `val: metrics`: by how many percent it may be worse than at the '
                                        'start.', '{}', example='{psnr: 1}', nullable=False),
    'least_kept': Option(float | None, 'Share of the gain in each optimised metric that JPEG, blur and shift must '
                                       'leave; null: not checked.', '0.55', least=0, most=1),
    'spectrum': Option(bool, 'Look for peaks in the spectrum of the difference to the output at the start.', 'true',
                       nullable=False),
    'clips': Option(int, 'Clips of each set that are looked at for the last two.', '4', least=1, nullable=False),
    'patience': Option(int, 'Validations in a row that have to fail.', '1', least=1, nullable=False),
    'action': Option(Literal['stop', 'lower'], 'End the training, or lower the weights and go on.', 'stop',
                     nullable=False),
    'factor': Option(float, 'What `lower` multiplies them with.', '0.5', above=0, below=1, nullable=False)}
