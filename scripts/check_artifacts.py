"""Look for artifacts in the saved frames of a tuned model: gains that collapse, and regular patterns. Needs no GT."""
import argparse
import sys
from pathlib import Path

from basicsr_nriqa.command_line import device, positive
from basicsr_nriqa.study.artifact_flags import artifact_flags
from basicsr_nriqa.study.artifacts import check_artifacts, write_artifacts
from basicsr_nriqa.study.artifacts_text import artifacts_text


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example, after python scripts/demo.py:\n  python scripts/check_artifacts.py '
               'results/demo_tinyiqa/visualization/sample_test \\\n      '
               'results/demo_baseline/visualization/sample_test --metric tinyiqa -o tinyiqa.json\n\n'
               'TUNED and BASELINE are folders of one dataset, with frames CLIP/FRAME_NAME.png. See docs/artifacts.md.')
    parser.add_argument('tuned', type=Path, metavar='TUNED', help='saved frames of the tuned model')
    parser.add_argument('baseline', type=Path, metavar='BASELINE', help='those of the model before tuning')
    parser.add_argument('--metric', action='append', default=[], metavar='NAME',
                        help='a metric that the loss contains, once for each; without any: the spectrum alone')
    parser.add_argument('-o', '--out', type=Path, required=True, metavar='FILE.json', help='artifact file to write')
    parser.add_argument('--model', default='model', metavar='LABEL', help='as in the score files; default: %(default)s')
    parser.add_argument('--loss', metavar='LABEL', help="default: the metrics' names")
    parser.add_argument('--dataset', metavar='LABEL', help='default: the name of the folder TUNED')
    parser.add_argument('--limit', type=positive, metavar='N', help='at most N clips, spread evenly; default: all')
    parser.add_argument('--device', type=device, default='cpu', help='cpu, cuda, cuda:1 ...; default: %(default)s')
    args = parser.parse_args()
    try:
        content = check_artifacts(args.tuned, args.baseline, args.metric, model=args.model,
                                  loss=args.loss or ' & '.join(args.metric) or 'tuned',
                                  dataset=args.dataset or args.tuned.resolve().name, device=args.device,
                                  limit=args.limit)
        write_artifacts(args.out, content)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('Interrupted: nothing was written.')
    print(artifacts_text(content), end='\n\n')
    left_out = [metric for metric in args.metric if metric not in content['gaming']]
    if left_out:
        print(f'Left out, because they compare with a reference: {", ".join(left_out)}.')
    flags = artifact_flags([content])
    print(*(f'FLAG {flag.rule}: {flag.reason}' for flag in flags), sep='\n')
    if not flags:
        print('No flags.')
    print(f'\nWritten: {args.out}')


if __name__ == '__main__':
    main()
