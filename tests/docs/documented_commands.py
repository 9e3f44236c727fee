"""How each command of the pages is tested: the one place to add a line when a page shows a new command.

A command belongs to the one entry whose pattern is all of it. Entries of a scenario run in the order in which they
stand here, in one checkout of a user (user_checkout.py), so that later ones find what earlier ones wrote.
"""
import re
from dataclasses import dataclass

_OPTIONAL = re.compile(r' \[[^]]*\]')  # as in `script.py FILE [--json]`


@dataclass(frozen=True)
class Entry:
    """How the commands of one kind are tested.

    Attributes:
        pattern (str): A regular expression that is all of the command.
        scenario (str): The checkout it runs in, a key of :data:`SCENARIOS`; '' for commands that are not run, of which
            the arguments are checked.
        why (str): What is shortened or replaced, or why it is not run.
        replaced (tuple): Pairs of a regular expression, such as a placeholder of the page, and what it stands for.
        shortening (tuple): Functions of shortenings.py that are called before.
        shell (bool): Run as a process of its own in a shell, instead of a fork of one that has imported all.
        first (tuple): Commands that the page takes for granted.
        writes (tuple): Files, globs, that must be there afterwards. ``{out}`` is what follows ``-o``, ``{name}`` the
            experiment of the option file.
        tested_by (str): The file in tests/ that runs it, for commands that need another place than a checkout of this.
        prints (str): A regular expression that its output has.
    """
    pattern: str
    scenario: str
    why: str = ''
    replaced: tuple = ()
    shortening: tuple = ()
    shell: bool = False
    first: tuple = ()
    writes: tuple = ()
    tested_by: str = ''
    prints: str = ''

    def takes(self, command):
        return re.fullmatch(self.pattern, command) is not None

    def as_run(self, command):
        """The command with what its placeholders stand for, without what is optional."""
        for before, after in self.replaced:
            command = re.sub(before, after, command)
        return _OPTIONAL.sub('', command)


@dataclass(frozen=True)
class Scenario:
    """A checkout with data sets (functions of user_checkout.py), and whether its commands take more than 20 seconds."""
    data: tuple = ()
    slow: bool = True


SCENARIOS = {
    'newcomer': Scenario(('vimeo_archive',)),
    'data': Scenario(('vimeo90k', 'reds_download', 'phone_videos'), slow=False),
    'trainings': Scenario(('vimeo90k', 'baselines')),
    'networks': Scenario(('vimeo90k', 'old_video', 'baselines')),
    'metrics': Scenario(('vimeo90k', 'baselines')),
    'demo': Scenario(('first_file',)),
    'study': Scenario(('study_data',)),
}
_METRICS = ('random_metrics',)
_RANDOM = 'metrics have random weights'
_SMALL = f'miniature data, smaller networks and 2 iterations (user_checkout.SMALLER); {_RANDOM}'
_DATABASES = tuple(f'{{out}}/vimeo90k_{split}_{kind}.lmdb/data.mdb' for split in ('train', 'test')
                   for kind in ('GT', 'LRx4'))
_TRAINED = ('experiments/{name}/models/net_g_latest.pth', 'experiments/{name}/train_{name}_*.log')

NEWCOMER = (  # README.md, "Fine-tune on Vimeo-90K", as processes of their own
    Entry(r'python scripts/prepare_vimeo90k\.py vimeo_septuplet\.zip -o datasets/vimeo90k', 'newcomer', shell=True,
          why='miniature data', writes=(*_DATABASES, '{out}/meta_info_Vimeo90K_train_GT.txt')),
    Entry(r'python basicsr/train\.py -opt options/baseline_basicvsrpp\.yml', 'newcomer', shell=True, why=_SMALL,
          writes=_TRAINED),
    Entry(r'python basicsr/train\.py -opt options/finetune_maniqa\.yml', 'newcomer', shell=True, why=_SMALL,
          writes=_TRAINED, prints='l_maniqa: '),
    Entry(r'python basicsr/test\.py -opt options/test_vimeo90k\.yml( --force_yml .+)?', 'newcomer', shell=True,
          why=_SMALL, writes=('results/{name}/scores/Vimeo-90K.json',
                              'results/{name}/visualization/Vimeo-90K/*/*/im1_{name}.png')),
    Entry(r'python scripts/relative_gain\.py results/\S* .*-o \S+', 'newcomer', shell=True,
          why='results of the commands before', writes=('{out}/report.html', '{out}/table.csv', '{out}/figure.png')),
    Entry(r'python scripts/relative_gain\.py FILES\.\.\. -o \S+', 'newcomer', writes=('{out}/report.html',),
          replaced=((r'FILES\.\.\.', 'results/*/scores/*.json'),)),
)

DATA = (
    Entry(r'python scripts/prepare_reds\.py downloads/REDS -o \S+.*', 'data', shortening=('small_reds',),
          why='REDS of 6 and 2 clips',
          writes=('{out}/reds_train_GT.lmdb/data.mdb', '{out}/reds_test_LRx4.lmdb/data.mdb')),
    Entry(r'python scripts/prepare_videos\.py phone/\*\.\w+ -o \S+.*', 'data', why='two videos of 12 frames',
          writes=('{out}/videos_test_GT.lmdb/data.mdb', '{out}/videos_test.json')),
    Entry(r'python scripts/check_lmdb\.py datasets/\S+ .*', 'data', prints='All is well'),
)

TRAININGS = (
    Entry(r'python basicsr/train\.py -opt options/(?!(baseline_basicvsrpp|finetune_maniqa|first)\.yml$)\S+\.yml.*',
          'trainings', why=_SMALL, shortening=_METRICS, writes=_TRAINED,
          replaced=((r'total_iter=\d+', 'total_iter=2'),)),
    Entry(r'python basicsr/train\.py -opt OPTIONS\.yml --force_yml path:pretrain_network_g=FILE_OR_URL', 'trainings',
          why=_SMALL, shortening=_METRICS, writes=_TRAINED,
          replaced=(('OPTIONS.yml', 'options/baseline_basicvsrpp.yml'), ('FILE_OR_URL', 'basicvsrpp.pth'))),
    Entry(r'torchrun --nproc_per_node \d+ basicsr/train\.py -opt \S+ --launcher pytorch.*', 'trainings', shell=True,
          why=f'two processes, LPIPS for MANIQA; {_SMALL}', writes=_TRAINED,
          replaced=((r'--nproc_per_node \d+', '--nproc_per_node 2'), ('finetune_maniqa', 'finetune_lpips'),
                    (r'-opt X', '-opt options/finetune_lpips.yml'))),
    Entry(r'python scripts/check_options\.py (?!options/first\.yml).*', 'trainings', shortening=_METRICS, why=_RANDOM,
          replaced=(('FILE', 'options/finetune_maniqa.yml'),), prints='options/finetune_maniqa'),
)

NETWORKS = (
    Entry(r'python scripts/inspect_checkpoint\.py FILE.*', 'networks', replaced=(('FILE', 'basicvsrpp.pth'),),
          prints='BasicVSRPP'),
    Entry(r'python scripts/complexity\.py -opt \S+.*', 'networks', why='smaller networks', prints='parameters'),
    Entry(r'python scripts/inference_video\.py old\.mp4 -o new\.mp4 --weights \S+', 'networks', why='a small network',
          replaced=(('FILE', 'basicvsrpp.pth'), ('-o new.mp4', '-o new.mp4 --overwrite')), writes=('{out}',)),
    Entry(r'python scripts/inference_video\.py frames/ -o restored/ --weights vrt\.pth.*', 'networks',
          why='a small network', writes=tuple(f'{{out}}/im{number}.png' for number in range(1, 5))),
)

METRICS = (
    Entry(r'python scripts/list_metrics\.py( [\w-]+)?', 'metrics', replaced=((r'\bNAME\b', 'niqe'),),
          prints='niqe|maniqa'),
    Entry(r'python scripts/calibrate_weights\.py (?!--help).*', 'metrics', shortening=_METRICS,
          why=f'a clip of 64 x 64 px, tinyiqa for MANIQA, which takes a minute; {_RANDOM}',
          replaced=((r' maniqa\b', ' tinyiqa'),), prints='loss_weight'),
    Entry(r'python scripts/train_tinyiqa\.py --evaluate', 'metrics', prints=r'\| blur \| 0\.9'),
    Entry(r'python -c .*', 'metrics'),
    Entry(r'python scripts/describe_options\.py', 'metrics',
          writes=('options/schema.json', 'docs/option_reference.md')),
)

DEMO = (
    Entry(r'python scripts/make_sample_data\.py -o \S+.*', 'demo', why='two clips each, of 192 x 192 px',
          writes=(*_DATABASES, '{out}/meta_info_Vimeo90K_test_GT.txt')),
    Entry(r'python scripts/check_options\.py options/first\.yml', 'demo', prints='options/first.yml: fine'),
    Entry(r'python basicsr/train\.py -opt options/first\.yml', 'demo', why='miniature data and 2 iterations',
          writes=_TRAINED, prints='l_tinyiqa: -'),
    Entry(r'python scripts/demo\.py', 'demo', shell=True, why='2 iterations, three test clips of 192 x 192 px',
          writes=('results/demo/report.html', 'results/demo/figure.png', 'results/demo/crops.png')),
    Entry(r'python scripts/check_artifacts\.py results/demo_\S+ results/demo_\S+ .*', 'demo', writes=('{out}',),
          why='frames of the demo'),
)

STUDY = (
    Entry(r'python scripts/list_study\.py.*', 'study', prints=r'of \d+ done'),
    Entry(r'cp -r workflow/profiles/slurm my_profile', 'study', shell=True, writes=('my_profile/config.yaml',)),
    Entry(r'snakemake (?:--cores|--workflow-profile) .*', 'study', shell=True, replaced=(('$', ' -n'),),
          why='a dry run, -n: tests/study/test_workflow.py has real ones', prints=r'total +\d+'),
    Entry(r'python scripts/study_step\.py --study workflow/study\.yml train \w+', 'study', shortening=_METRICS,
          why=_SMALL, first=('python scripts/study_step.py --study workflow/study.yml train vrt_baseline',),
          writes=('studies/paper/trained/*.json',)),
)

ELSEWHERE = (
    Entry(r'PYTHONPATH=\. python basicsr/train\.py -opt options/msrresnet_tinyiqa\.yml', '',
          tested_by='docs/test_plugin_page.py'),
    Entry(r'python wheel_smoke\.py', '', tested_by='test_packaging.py'),
)

NOT_RUN = (
    Entry(r'python scripts/\w+\.py --help', '', why='help'),
    Entry(r'(OMP_NUM_THREADS=1 taskset -c 1 )?python benchmarks/\w+\.py.*', '', why='takes minutes to an hour'),
    Entry(r'python -m pytest .*', '', why='the tests themselves; that there are such tests is checked',
          replaced=((' -k NAME', ''),)),
    Entry(r'python scripts/download_weights\.py .*', '', why='downloads'),
    Entry(r'python -m torch\.distributed\.run', '', why='a name for torchrun'),
    Entry(r'torchrun --nnodes .*', '', why='needs several machines'),
    Entry(r'srun .*python .*', '', why='needs Slurm'),
    Entry(r'export BASICSR_NRIQA_WEIGHTS=\S+', '', why='a setting; that the package reads it is checked'),
    Entry(r'make [\w-]+( [A-Z]+=\S+)*', '', why='sets up an environment, or takes minutes; `make -n` is run'),
    Entry(r'git clone .*', '', why='a download'),
    Entry(r'cd basicsr-nriqa', '', why='into what was cloned'),
    Entry(r'source \.venv/bin/activate', '', why='the environment that `make` makes'),
    Entry(r'(uv )?pip install .*', '', why='a download; that versions and extras are those installed here is checked'),
    Entry(r'pip uninstall .*', '', why='changes the environment'),
    Entry(r'pre-commit install', '', why='changes the repository'),
    Entry(r'tensorboard --logdir tb_logger', '', why='a server'),
    Entry(r'sha256sum -c.*', '', why='tests/training/test_training_state.py'),
)

ENTRIES = (*NEWCOMER, *DATA, *TRAININGS, *NETWORKS, *METRICS, *DEMO, *STUDY, *ELSEWHERE, *NOT_RUN)
