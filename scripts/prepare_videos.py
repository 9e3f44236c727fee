"""Cut your own videos into clips for training or testing: the sharpest frames without a cut, GT and LR as LMDB."""
import argparse
from pathlib import Path

from basicsr_nriqa.command_line import add_packing_arguments, packing_arguments, packing_command, positive, seed
from basicsr_nriqa.data.videos import FORMATS, prepare_videos

EXAMPLE = """examples:
  python scripts/prepare_videos.py phone/*.mp4 -o datasets/videos
  python scripts/prepare_videos.py phone/*.mov -o datasets/videos --clips 20 --test-share 0.1 --resize-height 1080

Rotation is applied, HDR and 10 bits become 8-bit sRGB, and the log says so for each video. Interlaced video is refused.
An interrupted run goes on where it was when started again. videos_SPLIT.json tells where each clip is from."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('videos', metavar='VIDEO', nargs='+', type=Path, help='video files')
    parser.add_argument('-o', '--out', type=Path, required=True, help='folder to write, e.g. datasets/videos')

    clips = parser.add_argument_group('clips')
    clips.add_argument('--clips', type=positive, default=1, metavar='N',
                       help='of each video, at most; default: %(default)s')
    clips.add_argument('--frames', type=positive, default=7, metavar='N', help='of a clip; default: %(default)s')
    clips.add_argument('--start', type=float, default=0, metavar='SECONDS', help='take clips from this time on')
    clips.add_argument('--resize-height', type=positive, metavar='PX', help='shrink GT to this height first')

    split = parser.add_mutually_exclusive_group()
    split.add_argument('--split', choices=('train', 'test'), default='test',
                       help='what all videos are for; default: %(default)s')
    split.add_argument('--test-share', type=float, metavar='SHARE',
                       help='draw this share of the videos for testing, e.g. 0.1; the others are for training')
    parser.add_argument('--seed', type=seed, default=0, help='for drawing them; default: %(default)s')

    parser.add_argument('--format', dest='output', choices=FORMATS, default='lmdb',
                        help='databases, or a folder tree of PNG files; default: %(default)s')
    add_packing_arguments(parser)
    args = parser.parse_args()
    with packing_command():
        prepare_videos(args.videos, args.out, args.split, args.test_share, args.seed, args.clips, args.frames,
                       output=args.output, resize_height=args.resize_height, start=args.start,
                       **packing_arguments(args))


if __name__ == '__main__':
    main()
