"""CLIP-IQA (Wang, Chan and Loy, "Exploring CLIP for Assessing the Look and Feel of Images", AAAI 2023)."""
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.iqa.interface import MetricError, MetricInfo, QualityMetric
from basicsr_nriqa.iqa.network_tools import Normalize, adopt_tensors, blocks, recompute, speed_up
from basicsr_nriqa.iqa.weights import find_weights, load_file, load_state, load_weights, random_seed, verified

# arguments of pyiqa's CLIP, whose towers can do without position embeddings
CLIP_ARGUMENTS = {'RN50': (1024, 224, (3, 4, 6, 3), 64, None, 77, 49408, 512, 8, 12),
                  'ViT-L/14': (768, 224, 24, 1024, 14, 77, 49408, 768, 12, 12)}
_NOT_WEIGHTS = ('input_resolution', 'context_length', 'vocab_size')
PROMPTS = ('Good image', 'bad image', 'Sharp image', 'blurry image', 'sharp edges', 'blurry edges',
           'High resolution image', 'low resolution image', 'Noise-free image', 'noisy image')


def load_clip(path: Path, digits: str) -> dict[str, Tensor]:
    """Read CLIP's weights from OpenAI's TorchScript archive or from a plain file of tensors.

    A TorchScript archive holds code, so only the published one, known by its sha256, is opened.

    Raises:
        MetricError: the file is neither.
    """
    scripted = zipfile.is_zipfile(path) and any(name.endswith('constants.pkl') for name in
                                                zipfile.ZipFile(path).namelist())
    if not scripted:
        return load_state(path)
    return torch.jit.load(str(verified(path, digits)), map_location='cpu').state_dict()


class _FirstToken(nn.Module):
    """CLIP's attention pooling for the one token that is used, where CLIP computes all and keeps the first.

    With one query the projections of keys and values need not be done for every position: the query goes through the
    keys' projection backwards, and the values' projection is that of the attended mean.
    """

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, features: Tensor, return_token: bool = False, pos_embedding: bool = False) -> Tensor:
        pool = self.pool
        tokens = features.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        if pos_embedding:
            table = F.interpolate(pool.positional_embedding[None, None], tokens.shape[1:], mode='bicubic')
            tokens = tokens + table[0]
        keys, values = (layer.weight.unflatten(0, (pool.num_heads, -1)) for layer in (pool.k_proj, pool.v_proj))
        query = pool.q_proj(tokens[:, 0]).unflatten(1, (pool.num_heads, -1)) * keys.shape[1]**-0.5
        # the keys' bias adds the same to every position, which the softmax does not see
        attention = (torch.einsum('nhd,hdc->nhc', query, keys) @ tokens.transpose(1, 2)).softmax(2)
        attended = torch.einsum('nhc,hdc->nhd', attention @ tokens, values).flatten(1) + pool.v_proj.bias
        return pool.c_proj(attended)


class CLIPIQA(nn.Module):
    """The image tower of CLIP and the features of the prompts, computed once.

    Args:
        clip (nn.Module): CLIP with its weights.
        prompts (Tensor): (2p,d) text features: good and bad prompt by turns.
        pos_embedding (bool): Add (resized) position embeddings.
    """

    prompts: Tensor

    def __init__(self, clip: Any, prompts: Tensor, pos_embedding: bool) -> None:
        super().__init__()
        self.normalize = Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
        self.visual = speed_up(clip.visual)
        if hasattr(self.visual, 'attnpool'):
            self.visual.attnpool = _FirstToken(self.visual.attnpool)
        self.pos_embedding = pos_embedding
        self.register_buffer('prompts', (clip.logit_scale.exp() * F.normalize(prompts)).detach())

    def forward(self, images: Tensor) -> Tensor:
        """(n,3,h,w) RGB in [0,1] -> (n,): the mean probability of the good prompts."""
        features = F.normalize(self.visual(self.normalize(images), pos_embedding=self.pos_embedding))
        return (features @ self.prompts.T).unflatten(1, (-1, 2)).softmax(2)[..., 0].mean(1)


class CLIPIQAMetric(QualityMetric):
    """CLIP-IQA as a metric and loss; images are not resized.

    Of sides that are no multiple of 32 px (ViT-L/14: 14 px) the rest at the right and bottom gets none or
    hardly any gradient.

    Args:
        info (MetricInfo): ``clipiqa`` (pyiqa's five pairs of prompts), ``clipiqa+`` and its two variants, whose
            prompts were learned.
        weights (str | None): ``clipiqa``: file with CLIP itself, others: with the prompts; or a folder with all files.
        checkpoint (bool): Compute the features a second time in the backward pass instead of keeping them.
    """

    def __init__(self, info: MetricInfo, weights: str | None = None, checkpoint: bool = False) -> None:
        from pyiqa.archs.clip_imports import clip as tokenizer
        from pyiqa.archs.clip_model import CLIP
        from pyiqa.archs.clipiqa_arch import PromptLearner
        clip = CLIP(*CLIP_ARGUMENTS['ViT-L/14' if 'vitL14' in info.name else 'RN50']).eval()
        paths = find_weights(info, weights) if random_seed() is None else []
        if paths:
            state = load_clip(paths[-1], info.files[-1].sha256)
            load_weights(clip, {key: value for key, value in state.items() if key not in _NOT_WEIGHTS}, paths[-1])
        with torch.no_grad():
            if info.name == 'clipiqa':
                prompts = clip.encode_text(tokenizer.tokenize(list(PROMPTS)))
            else:
                learned = PromptLearner(clip)
                if paths:
                    _load_prompts(learned, load_file(paths[0]), paths[0])
                prompts = learned(clip)
        network = CLIPIQA(clip, prompts, pos_embedding='512' in info.name)
        if checkpoint:
            visual = network.visual
            recompute(blocks(getattr(visual, 'transformer', visual)))
        super().__init__(info, adopt_tensors(network))


def _load_prompts(learner: Any, content: dict[str, Tensor] | Tensor, path: Path) -> None:
    """The published files hold the learned context alone, or the whole prompt learner."""
    context = content if isinstance(content, torch.Tensor) else content.get('prompt_learner.ctx', content.get('ctx'))
    if context is None or context.shape != learner.ctx.shape:
        given = 'no prompts' if context is None else tuple(context.shape)
        raise MetricError(f'{path}: expected learned prompts of shape {tuple(learner.ctx.shape)}, got {given}. Give '
                          "this variant's published file.")
    learner.ctx.data = context.float()
