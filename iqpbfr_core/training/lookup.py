"""Stage 2: predict the codes of a face of a wanted quality from a degraded one.

Codebooks and generator are frozen. The target is a face of some score (clean, or explicitly imperfect), the input is
a degraded copy of the clean one, and the lookup is told the target's score. Losses (CodeFormer eq. 4): cross-entropy
on both heads (0.5) and L2 between the input's features and the clean face's quantised features (1.0). A tenth of the
scores is dropped, which trains the null condition.
"""

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..checkpoint import save_network
from ..degradation import apply, draw
from ..image import tile, to_network
from ..models.code_restorer import CodeRestorer
from ..models.severity import SeverityNet
from ..restorer import Restorer
from .autoencoder import Averaged, hq_threshold
from .imperfection import imperfect
from .loop import update
from .losses import psnr, reconstruction_loss
from .quantiser import DualQuantiser

SCORE_DROPOUT = 0.1
INDEX_WEIGHT = 0.5


def degrade_for_training(faces: Tensor, seeds: Tensor) -> Tensor:
    """Half of the samples `full`, half `mild`, drawn per seed."""
    side = faces.shape[-1]
    return apply(faces, [draw("full" if seed % 2 else "mild", seed, side) for seed in seeds.tolist()])


class LookupStage:
    """See the module's docstring. `network` comes from stage 1 and is changed."""

    def __init__(self, network: CodeRestorer, metric: SeverityNet, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.network = network.requires_grad_(False)
        self.target_encoder = copy.deepcopy(network.encoder).eval()
        self.quantiser = DualQuantiser(network)
        self.metric = metric.eval().requires_grad_(False)
        parts = (network.feat_emb, network.ft_layers, network.idx_pred_layer)
        transformer = [p for part in parts for p in part.parameters()] + [network.position_emb]
        if network.config.conditioning == "adaln":
            transformer += list(network.score_embed.parameters())
        encoder = list(network.encoder.parameters())
        for parameter in transformer + encoder:
            parameter.requires_grad_(True)
        self.average = Averaged(network)
        self.modules: dict[str, nn.Module] = {
            "network": network,
            "target_encoder": self.target_encoder,
            "average": self.average.module,
        }
        groups = [{"params": encoder, "lr": 2e-4}, {"params": transformer, "lr": 5e-4}]
        self.optimizers: dict[str, Optimizer] = {"lookup": AdamW(groups, betas=(0.9, 0.98), weight_decay=1e-3)}
        self.threshold = 0.0

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        self.threshold = hq_threshold(self.metric.to(accelerator.device), faces)

    def step(self, accelerator: Accelerator, faces: Tensor, seeds: Tensor, step: int) -> dict[str, float]:
        with torch.no_grad(), accelerator.autocast():
            wanted = imperfect(faces, seeds)
            score, clean_score = self.metric(torch.cat([wanted, faces])).chunk(2)
            z, _ = self.target_encoder(to_network(torch.cat([wanted, faces])))
            indices, clean = self.quantiser.indices(z, torch.cat([score, clean_score]) > self.threshold).chunk(2)
            z_clean = self.network.quantise(clean, self.network.config.alpha, like=z.float())
            lq = degrade_for_training(faces, seeds)
        keep = (torch.rand(len(faces), device=faces.device) >= SCORE_DROPOUT).float()
        with accelerator.autocast():
            z_lq, _ = self.network.encode(to_network(lq))
            logits = self.network.logits(self.network.condition(z_lq, score), score, keep).float()
        feature = F.mse_loss(z_lq.float(), z_clean) / z_clean.var()
        index = F.cross_entropy(logits.permute(0, 2, 1, 3), indices)
        loss = INDEX_WEIGHT * index * self.network.config.num_books + feature
        update(accelerator, self.optimizers["lookup"], loss)
        self.average.update(self.network, step)
        right = (logits.argmax(2) == indices).float().mean((0, 1))
        return {
            "index": index.item(),
            "feature": feature.item(),
            "accuracy_common": right[-1].item(),
            "accuracy_hq": right[0].item(),
            "score": score.mean().item(),
        }

    @torch.no_grad()
    def samples(self, faces: Tensor) -> Tensor:
        """Rows: degraded, restored at quality 0.2, 0.6, 1 and at quality 1 without AdaIN, original."""
        restorer = Restorer(copy.deepcopy(self.average.module))
        lq = apply(faces, [draw("full", i, faces.shape[-1]) for i in range(len(faces))])
        features = restorer.encode(lq)
        rows = [lq]
        for quality in (0.2, 0.6, 1.0):
            rows.append(restorer.decode(restorer.lookup(features, quality), features))
        rows.append(restorer.decode(restorer.lookup(features, 1.0), features, adain=False))
        return tile([*rows, faces])

    def export(self, path: Path) -> None:
        save_network(self.average.module, path)


class FusionStage:
    """Stage 3: fidelity. Only the fusion modules learn: at w = 1 the output should be the original face.

    Everything before them is frozen, so quality at w = 0 stays exactly what stage 2 reached.
    """

    def __init__(self, network: CodeRestorer, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.network = network.requires_grad_(False)
        network.fuse_convs_dict.requires_grad_(True)
        for fusion in network.fuse_convs_dict.values():  # start as the identity
            for branch in (fusion.scale, fusion.shift):
                nn.init.zeros_(branch[-1].weight)  # type: ignore[index]
                nn.init.zeros_(branch[-1].bias)  # type: ignore[index]
        self.average = Averaged(network)
        self.modules: dict[str, nn.Module] = {"network": network, "average": self.average.module}
        self.optimizers: dict[str, Optimizer] = {
            "fusion": AdamW(network.fuse_convs_dict.parameters(), 5e-4, betas=(0.9, 0.98), weight_decay=1e-3)
        }

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        """Nothing to prepare."""

    def step(self, accelerator: Accelerator, faces: Tensor, seeds: Tensor, step: int) -> dict[str, float]:
        with torch.no_grad(), accelerator.autocast():
            lq = degrade_for_training(faces, seeds)
            score = torch.ones(len(faces), device=faces.device)
            z, skips = self.network.encode(to_network(lq))
            z = self.network.condition(z, score)
            indices = self.network.logits(z, score).argmax(2)
            z_q = self.network.quantise(indices, self.network.config.alpha, like=z)
        with accelerator.autocast():
            output = self.network.generate(z_q, z, skips, 1.0).float()
        target = to_network(faces)
        loss = reconstruction_loss(output, target)
        update(accelerator, self.optimizers["fusion"], loss)
        self.average.update(self.network, step)
        return {"loss": loss.item(), "psnr": psnr(output, target), "psnr_lq": psnr(to_network(lq), target)}

    @torch.no_grad()
    def samples(self, faces: Tensor) -> Tensor:
        """Rows: degraded, fidelity 0, 0.5, 1, original."""
        restorer = Restorer(copy.deepcopy(self.average.module))
        lq = apply(faces, [draw("full", i, faces.shape[-1]) for i in range(len(faces))])
        features = restorer.encode(lq)
        codes = restorer.lookup(features, 1.0)
        rows = [lq, *(restorer.decode(codes, features, w) for w in (0.0, 0.5, 1.0)), faces]
        return tile(rows)

    def export(self, path: Path) -> None:
        save_network(self.average.module, path)
