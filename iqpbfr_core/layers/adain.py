"""Adaptive instance normalisation (Huang & Belongie 2017, arXiv 1703.06868)."""

from torch import Tensor


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Give `content` (B, C, H, W) the per-channel mean and spread of `style`; computed in float32."""
    content_mean, content_std = _statistics(content)
    style_mean, style_std = _statistics(style)
    return ((content.float() - content_mean) / content_std * style_std + style_mean).to(content.dtype)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.float()
    return x.mean((2, 3), keepdim=True), (x.var((2, 3), keepdim=True) + 1e-5).sqrt()
