"""Names and types of the options that BasicSR itself and the models of this plugin read; for the check of options."""
import torch
from basicsr.models import lr_scheduler

NUMBER = (int, float)
# what BasicSR itself reads or sets, name: type
TOP = {'name': str, 'model_type': str, 'scale': int, 'num_gpu': int, 'manual_seed': int, 'datasets': dict,
       'network_g': dict, 'network_d': dict, 'path': dict, 'train': dict, 'val': dict, 'logger': dict,
       'dist_params': object, 'find_unused_parameters': bool, 'rank': int, 'world_size': int, 'dist': bool,
       'auto_resume': bool, 'is_train': bool, 'deterministic': bool}
PATH = {'pretrain_network_g': str, 'pretrain_network_d': str, 'param_key_g': str, 'param_key_d': str,
        'strict_load_g': bool, 'strict_load_d': bool, 'resume_state': str, 'ignore_resume_networks': list,
        'experiments_root': str, 'models': str, 'training_states': str, 'log': str, 'visualization': str,
        'results_root': str}
LOGGER = {'print_freq': int, 'save_checkpoint_freq': NUMBER, 'use_tb_logger': bool, 'wandb': dict, 'keep_last': int}
DATASET = {'name': str, 'type': str, 'phase': str, 'scale': int, 'use_shuffle': bool, 'num_worker_per_gpu': int,
           'batch_size_per_gpu': int, 'dataset_enlarge_ratio': NUMBER, 'prefetch_mode': str,
           'num_prefetch_queue': int, 'pin_memory': bool, 'persistent_workers': bool}
# of the options that our datasets name
CLIPS = {'gt_size': int, 'num_frame': int, 'clip_length': int, 'dataroot_gt': str, 'dataroot_lq': str,
         'meta_info_file': str, 'io_backend': dict, 'interval_list': list, 'filename_tmpl': str, 'first_frame': int,
         'use_hflip': bool, 'use_rot': bool, 'random_reverse': bool, 'flip_sequence': bool, 'datasets': dict}
# optimisers of PyTorch that a step with ready gradients of images cannot drive, and why
UNUSABLE = {getattr(torch.optim, 'Muon', None): 'matrices as weights',  # from PyTorch 2.9
            torch.optim.LBFGS: 'to compute the loss again and again', torch.optim.SparseAdam: 'sparse gradients'}
SCHEDULERS = {'MultiStepLR': lr_scheduler.MultiStepRestartLR, 'MultiStepRestartLR': lr_scheduler.MultiStepRestartLR,
              'CosineAnnealingRestartLR': lr_scheduler.CosineAnnealingRestartLR}
VALUES = {'total_iter': int, 'warmup_iter': int, 'ema_decay': NUMBER, 'fix_flow': int, 'flow_lr_mul': NUMBER,
          'pixel_opt': dict, 'iqa_opt': dict, 'gan_opt': dict, 'balance_opt': dict, 'optim_g': dict, 'optim_d': dict,
          'scheduler': dict, 'precision': str, 'accumulate': int, 'clip_norm': NUMBER, 'skip_limit': int,
          'channels_last': bool, 'val_freq': NUMBER, 'save_img': bool, 'metrics': dict, 'pbar': bool, 'scores': dict}
