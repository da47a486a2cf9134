"""Faces through time: the same face in consecutive frames, on a smooth path, with steady codes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import InputError
from ..restorer import Codes
from .face import Faces, join

_MAX_STEP = 0.75  # of a face's width: how far it may move between two sightings
_MAX_GROWTH = 1.6  # how much its width may change between them


def link(faces: Faces, max_gap: int = 3) -> Tensor:
    """(N,) the number of the track each face belongs to; frames are consecutive in time.

    A face continues the track whose last sighting is nearest, unless it is too far away, of another size, or that was
    more than `max_gap` frames before.
    """
    tracks = torch.full((len(faces),), -1, dtype=torch.long)
    last: dict[int, int] = {}  # track -> index of its last face
    for frame in faces.frames.unique().tolist():
        here = (faces.frames == frame).nonzero()[:, 0].tolist()
        pairs = []
        for track, before in last.items():
            if frame - int(faces.frames[before]) > max_gap:
                continue
            for now in here:
                step = float((faces.centres[now] - faces.centres[before]).norm() / faces.widths[before])
                growth = float(faces.widths[now] / faces.widths[before])
                if step <= _MAX_STEP and 1 / _MAX_GROWTH <= growth <= _MAX_GROWTH:
                    pairs.append((step, track, now))
        taken: set[int] = set()
        for _, track, now in sorted(pairs):
            if track not in taken and tracks[now] < 0:
                tracks[now] = track
                taken.add(track)
        for now in here:
            if tracks[now] < 0:
                tracks[now] = len(last)
            last[int(tracks[now])] = now
    return tracks


def smooth(faces: Faces, tracks: Tensor, spread: float = 2.0) -> tuple[Faces, Tensor]:
    """Boxes and landmarks on smooth paths, and sightings that were missed within a track filled in.

    Every path is a local linear regression over time (Cleveland 1979) with Gaussian weights: a face that moves evenly
    is not delayed or slowed, only its jitter goes. `spread` is their standard deviation in frames.

    Returns:
        The faces, ordered by frame, and their tracks.
    """
    if not spread > 0:
        raise InputError(f"smoothing over time needs a spread above 0 frames, got {spread}.")
    parts, numbers = [Faces.none(faces.size, faces.num_frames)], [tracks.new_empty(0)]
    for track in tracks.unique().tolist():
        seen = faces[tracks == track]
        times = seen.frames.double()
        frames = torch.arange(int(times.min()), int(times.max()) + 1)
        values = torch.cat((seen.boxes, seen.landmarks.flatten(1), seen.scores[:, None]), 1)
        path = _regress(times, values.double(), frames.double(), spread).to(values.dtype)
        landmarks, scores = path[:, 4:14].reshape(-1, 5, 2), path[:, 14].clamp(0, 1)
        parts.append(Faces(path[:, :4], landmarks, scores, frames, faces.size, faces.num_frames))
        numbers.append(torch.full_like(frames, track))
    paths = join(parts)
    order = paths.frames.argsort(stable=True)
    return paths[order], torch.cat(numbers)[order]


def _regress(times: Tensor, values: Tensor, wanted: Tensor, spread: float) -> Tensor:
    """Values (T, C) at `times` (T,) to values at the wanted times: weighted straight lines, one per wanted time."""
    offset = times[None, :] - wanted[:, None]
    weight = (-0.5 * (offset / spread).square()).exp()
    s0, s1 = weight.sum(1, keepdim=True), (weight * offset).sum(1, keepdim=True)
    s2 = (weight * offset.square()).sum(1, keepdim=True) + 1e-9  # a single sighting has no slope
    return (weight * (s2 - s1 * offset) / (s0 * s2 - s1.square())) @ values


class SteadyCodes:
    """Codes that change only for a reason: hysteresis on the lookup's logits, for every track.

    Called with one batch of codes after the other, in the order of the frames.

    Args:
        tracks: (N,) the track of every face that will come, in order.
        margin: by how much a code's logit must exceed that of the code held in the frame before to replace it.
        held: what the attribute of this name held when it was left, to go on from there.

    Attributes:
        held: the indices (N,) or (N, 2) that each track had last.
    """

    def __init__(self, tracks: Tensor, margin: float = 1.0, held: Mapping[int, Tensor] | None = None) -> None:
        if not margin >= 0:
            raise InputError(f"the margin of code changes must be at least 0, got {margin}.")
        self.tracks = iter(tracks.tolist())
        self.margin = margin
        self.held = dict(held or {})

    def __call__(self, codes: Codes) -> Codes:
        """The codes of the next faces, held where nothing speaks clearly for another one."""
        indices = []
        for logits, track in zip(codes.logits, self.tracks, strict=False):
            self.held[track] = self._choose(logits, self.held.get(track))
            indices.append(self.held[track])
        return codes.with_indices(torch.stack(indices))

    def _choose(self, logits: Tensor, held: Tensor | None) -> Tensor:
        """Logits (N, K) or (N, K, 2) of one face to indices (N) or (N, 2)."""
        best, choice = logits.max(1)
        if held is None:
            return choice
        return torch.where(best - logits.gather(1, held.unsqueeze(1)).squeeze(1) > self.margin, choice, held)
