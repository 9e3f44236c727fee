"""What BasicSR's training loop has to do beside its steps to be resumable; the repaired ``train_pipeline`` calls it."""
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from torch import distributed

from basicsr_nriqa.distributed import barrier
from basicsr_nriqa.random_streams import all_streams, seed_cpu_streams, set_all_streams, undisturbed
from basicsr_nriqa.training.checkpoints import Checkpoints, log_exactness
from basicsr_nriqa.training.stop import stop


class TrainingLoop:
    """Knows where in its data a training is, saves and restores that, and keeps validation out of it.

    All ranks have one and call the same methods.

    Args:
        opt (dict): Complete options.
        model (BaseModel): Any; networks, optimisers and schedulers are as of ``resume_state``.
        loader (DataLoader): Of the training set, with a :class:`ResumableSampler`.
        sampler (ResumableSampler): It.
        val_loaders (list[DataLoader]): Of the validation sets.
        tb_logger (SummaryWriter | None): For the validation.
        resume_state (dict | None): As ``load_resume_state`` returns it. If it was saved at the iteration of a
            validation that was not completed, the validation is done now. Where it is None and the model has a guard
            (:class:`~basicsr_nriqa.models.guard.Guard`), the start network is validated now.

    Attributes:
        ended (bool): The guard has ended the training; the model has the last weights that passed.
    """

    def __init__(self, opt, model, loader, sampler, val_loaders, tb_logger, resume_state):
        self.opt, self.model, self.sampler = opt, model, sampler
        self.val_loaders, self.tb_logger = val_loaders, tb_logger
        self.rank, self.world_size = get_dist_info()
        self.total_iter = int(opt['train']['total_iter'])
        self.samples_per_step = loader.batch_size * self.world_size
        self.samples = 0  # of this epoch, of all ranks
        self.checkpoints = Checkpoints(opt)
        self.saved = None  # iteration of the last checkpoint
        self.validated = None  # iteration of the last complete validation
        self._streams = None  # to be restored before the next step
        self.guard, self.ended = getattr(model, 'guard', None), False
        if resume_state:
            self._resume(resume_state)
        elif self.guard:
            get_root_logger().info('The start network is validated, to compare with (val:guard).')
            self.validate(0)

    def _resume(self, state):
        log_exactness(state, self.world_size)
        self.saved = state['iter']
        _freeze_again(self.model, self.saved)
        self.samples = state.get('samples', 0)
        self.sampler.set_epoch(state['epoch'], self.samples)
        if self.rank < len(state.get('rng', ())):
            self._streams = state['rng'][self.rank]
        done = self.checkpoints.validated(self.saved)
        self.validated = self.saved if done else None
        barrier()  # before rank 0 says that it is done
        best = (done or state).get('best_metric_results') or state.get('best_metric_results')
        if best:
            self.model.best_metric_results = _for_metrics(best, self.opt)
        if self.guard:
            if done and done['guard']:
                self.guard.load_state_dict(done['guard'])
            self.model.check_guard([loader.dataset for loader in self.val_loaders])
            self._end_if_stopped()
        if self.ended:
            get_root_logger().info(f'This training was ended by val:guard after iteration {self.guard.stopped}; there '
                                   'is nothing left to do. To go on without a guard, leave val:guard out.')
            if done is None:  # the checkpoint was saved because of it
                self._note_validation()
        elif self.saved >= self.total_iter:
            get_root_logger().info(f'The training is complete: iteration {self.saved} of {self.total_iter}. Raise '
                                   'train:total_iter to go on.')
        if not self.ended and self._validates_at(self.saved) and done is None and 'best_metric_results' in state:
            get_root_logger().info(f'The validation of iteration {self.saved} was not completed; it is done now.')
            self.validate(self.saved)

    def _validates_at(self, iteration):
        return self.opt.get('val') is not None and iteration % self.opt['val']['val_freq'] == 0

    def start_epoch(self, epoch):
        self.samples = 0
        self.sampler.set_epoch(epoch)

    def before_step(self):
        # not earlier: building networks and loaders has drawn, too, which the training that went on did not do again
        if self._streams is not None:
            set_all_streams(self._streams)
            self._streams = None

    def after_step(self):
        self.samples += self.samples_per_step
        stop.agree()

    def save(self, epoch, iteration):
        """Write a checkpoint, then remove older ones as ``logger:keep_last`` says.

        Raises:
            CheckpointError: it cannot be written.
        """
        self.model.place_in_training = {'samples': self.samples, 'manual_seed': self.opt['manual_seed'],
                                        'rng': self._streams_of_all_ranks()}
        if self.rank == 0:
            self.checkpoints.withdraw(iteration)
        self.model.save(epoch, iteration)
        if self.rank == 0:
            self.checkpoints.commit(iteration)
            keep_last = self.opt['logger'].get('keep_last')
            if keep_last:
                self.checkpoints.prune(iteration, keep_last, self._best_iterations())
        barrier()  # a rank that leaves takes the others with it, which must not happen while one writes
        self.saved = iteration

    def _streams_of_all_ranks(self):
        streams = [all_streams()] * self.world_size
        if self.world_size > 1:
            distributed.all_gather_object(streams, all_streams())
        return streams

    def _best_iterations(self):
        results = getattr(self.model, 'best_metric_results', {})
        return {record['iter'] for dataset in results.values() for record in dataset.values()}

    def validate(self, iteration):
        """Validate on all sets; the training draws the same random numbers as if it had not happened.

        That of the last iteration has its checkpoint, as :meth:`finish` says, from before it.
        A guard then judges. If it stops the training, there is a checkpoint of this iteration to know that by, and the
        model gets the last weights that passed.
        """
        self._save_the_last(iteration)
        stop.in_validation = iteration == self.saved
        with undisturbed():
            # a metric that draws crops shall draw the same in each validation, which are compared with each other
            seed_cpu_streams(self.opt['manual_seed'], self.rank)
            for loader in self.val_loaders:
                self.model.validation(loader, iteration, self.tb_logger, self.opt['val']['save_img'])
        stop.in_validation, self.validated = False, iteration
        if self.guard:
            self.model.judge(iteration, self.tb_logger)
            if self.guard.stopped is not None and iteration != self.saved:
                self.save(self.sampler.epoch, iteration)
        if iteration == self.saved:
            self._note_validation()
        if self.guard:
            self._end_if_stopped()

    def _note_validation(self):
        if self.rank == 0:
            self.checkpoints.set_validated(self.saved, getattr(self.model, 'best_metric_results', {}),
                                           self.guard and self.guard.state_dict())

    def _end_if_stopped(self):
        if self.guard.stopped is not None:
            self.ended = True
            self.model.load_good()

    def _save_the_last(self, iteration):
        if iteration == self.total_iter and iteration != self.saved and not self.ended:
            get_root_logger().info('Saving models and training states.')
            self.save(self.sampler.epoch, iteration)

    def finish(self, iteration):
        """After the last iteration, and after the latest networks are saved: save a checkpoint, so that the training
        can be extended, and validate. What is done already, be it by an earlier start, is not done again: a guard would
        count a validation twice."""
        if self.ended:
            return
        self._save_the_last(iteration)
        if self.opt.get('val') is not None and iteration != self.validated:
            self.validate(iteration)
            if self.ended:
                self.model.save(epoch=-1, current_iter=-1)


def _freeze_again(model, iteration):
    """What BasicSR's video models freeze in iteration 1, to which a resumed training does not come."""
    for option, frozen in (('fix_flow_iter', lambda name: 'spynet' in name or 'edvr' in name),
                           ('train_tsa_iter', lambda name: 'fusion' not in name)):
        if iteration < (getattr(model, option, None) or 0):
            for name, parameter in model.net_g.named_parameters():
                if frozen(name):
                    parameter.requires_grad_(False)


def _for_metrics(best, opt):
    """The best results so far, of the metrics that the options still have, with those that are new to them."""
    metrics = (opt.get('val') or {}).get('metrics') or {}
    results = {}
    for dataset, records in best.items():
        results[dataset] = {}
        for metric, metric_opt in metrics.items():
            better = metric_opt.get('better', 'higher')
            new = {'better': better, 'val': float('-inf' if better == 'higher' else 'inf'), 'iter': -1}
            known = records.get(metric, new)
            results[dataset][metric] = known if known['better'] == better else new
    return results
