"""Seeded fuzzing: whatever goes in, a result that is one comes out, or one of our errors in one line.

A failure names its kind and its number, which is the seed.
"""

import io
import random
import struct

import numpy as np
import pytest
import torch
from networks import PLAIN, make_network
from PIL import ExifTags, Image
from safetensors.torch import save, save_file

from iqpbfr_core import load_restorer
from iqpbfr_core.adapters import load_adapter, new_adapter
from iqpbfr_core.adapters.adapted import AdaptedRestorer
from iqpbfr_core.checkpoint import load_network
from iqpbfr_core.codes import blend_codes, load_codes, mask_tokens, save_codes
from iqpbfr_core.errors import IQPError
from iqpbfr_core.faces.face import Faces
from iqpbfr_core.image import IMAGE_SUFFIXES
from iqpbfr_core.optimize import optimize_codes, restore_to_target
from iqpbfr_core.photo import read_photo, write_photo
from iqpbfr_core.pipeline import restore_photo
from iqpbfr_core.quality import load_metric
from iqpbfr_core.restorer import Restorer
from iqpbfr_core.tensor_file import read_safetensors
from iqpbfr_core.training.presets import TINY

NAN, INF = float("nan"), float("inf")
NUMBERS = (0, 1, 0.5, -1, -0.0, 2, 255, 1e-30, 1e30, -1e30, NAN, INF, -INF, 2**31, -(2**31), 2**63)
LARGE = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1)


def survives(work, kind, number):
    """Do the work of a case; anything but a result or one of our errors, in one line, is a failure."""
    try:
        work()
    except IQPError as error:
        said = str(error)
    except Exception as error:
        pytest.fail(f"{kind} {number}: {type(error).__name__}: {error}")
    else:
        said = ""
    assert "\n" not in said, f"{kind} {number}: {said!r}"
    assert len(said) < 2000, f"{kind} {number}: {said!r}"


def damaged(content, dice, start=0):
    """Bytes with some of what disks, downloads and enemies do to them, from `start` on."""
    content = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 4))):
        place = dice.randrange(min(start, len(content) - 1), max(1, len(content)))
        size = dice.choice((1, 2, 4, 8, 64))
        change = dice.randrange(6)
        if change == 0:
            content[place] ^= 1 << dice.randrange(8)
        elif change == 1:
            content[place : place + size] = dice.randbytes(size)
        elif change == 2:
            content[place : place + 4] = struct.pack(dice.choice("<>") + "I", dice.choice(LARGE))
        elif change == 3:
            del content[place : place + size]
        elif change == 4:
            content[place:place] = content[max(0, place - size) : place]
        else:
            del content[place:]
            content = content or bytearray(b"\x00")
    return bytes(content)


def _encoded(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def _pictures():
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist], exif[ExifTags.Base.XResolution] = 6, "somebody", 72.0
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (1.0, 2.0, 3.0)
    grey = Image.fromarray(pixels[..., 0])
    return [
        _encoded(image, "PNG", exif=exif.tobytes(), dpi=(72, 72)),
        _encoded(image.quantize(16), "PNG", transparency=3),
        _encoded(Image.fromarray(pixels[..., 0].astype(np.uint16) * 200), "PNG"),
        _encoded(image, "PNG", save_all=True, append_images=[image.rotate(90)]),
        _encoded(image, "JPEG", exif=exif.tobytes(), dpi=(300, 300)),
        _encoded(image.convert("CMYK"), "JPEG"),
        _encoded(image, "JPEG", progressive=True),
        _encoded(image, "WEBP", exif=exif.tobytes()),
        _encoded(image.convert("RGBA"), "WEBP", lossless=True),
        _encoded(image, "BMP"),
        _encoded(image, "TIFF", exif=exif.tobytes(), dpi=(72, 72)),
        _encoded(image, "TIFF", compression="tiff_lzw"),
        _encoded(grey, "TIFF", save_all=True, append_images=[grey, grey]),
        _encoded(Image.fromarray(pixels[..., 0] / np.float32(255)), "TIFF"),
        _encoded(image, "GIF"),
    ]


def test_images(tmp_path):
    pictures = _pictures()
    for number in range(240):
        dice = random.Random(number)
        source = tmp_path / f"{number}{dice.choice(IMAGE_SUFFIXES)}"
        source.write_bytes(damaged(dice.choice(pictures), dice))

        def work(dice=dice, source=source):
            photo = read_photo(source)
            assert (photo.pixels - 0.5).abs().max() <= 0.501
            write_photo(photo.pixels[0], photo, tmp_path / f"out{dice.choice(IMAGE_SUFFIXES)}")

        survives(work, "image", number)


class Callback:
    """What a checkpoint of Lightning has beside its tensors."""


def _files_of_weights():
    """By their suffix."""
    weights = make_network().state_dict()
    archive, old = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": weights, "callbacks": {"a": Callback()}}, archive)
    torch.save(weights, old, _use_new_zipfile_serialization=False)
    plain = save(weights, {"config": TINY.to_json()})
    return {".pth": archive.getvalue(), ".ckpt": old.getvalue(), ".safetensors": plain}


def test_damaged_weight_files(tmp_path):
    contents = _files_of_weights()
    for number in range(60):
        dice = random.Random(number)
        suffix = dice.choice(list(contents))
        content = contents[suffix]
        if suffix == ".pth" and dice.random() < 0.5:  # an archive's table of contents is at its end
            broken = damaged(content, dice, len(content) - 4000)
        else:
            head = 20_000  # where the names are
            broken = damaged(content[:head], dice) + content[head:]
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(broken)
        survives(lambda path=path: load_network(path), "weight file", number)


def test_weights_that_are_something_else(tmp_path, faces):
    good = make_network().state_dict()
    names = list(good)
    others = (
        None,
        1,
        "text",
        [],
        {},
        torch.zeros(()),
        torch.zeros(0),
        torch.zeros(2, 2),
        torch.ones(3, dtype=torch.bool),
    )
    for number in range(60):
        dice = random.Random(number)
        weights = dict(good)
        for _ in range(dice.choice((1, 1, 3))):
            name, other = dice.choice(names), dice.choice(names)
            change = dice.randrange(7)
            if change == 0:
                weights.pop(name, None)
            elif change == 1:
                weights[name] = dice.choice(others)
            elif change == 2:
                weights[name] = good[other]
            elif change == 3:
                weights[name.replace(".", f".{dice.choice(LARGE)}.", 1)] = good[name]
            elif change == 4:
                weights[name] = good[name].to(
                    dice.choice((torch.float64, torch.int32, torch.complex64, torch.bfloat16))
                )
            elif change == 5:
                weights[name] = torch.full_like(good[name], dice.choice((NAN, INF, 0.0, 3e38)))
            else:
                weights[name] = good[name].flatten()[:1].expand(good[name].numel()).reshape(good[name].shape)
        path = tmp_path / "weights.pth"
        torch.save(dice.choice((weights, {"params": weights}, {"state_dict": weights, "epoch": 1})), path)
        survives(lambda path=path: load_restorer(path).restore(faces[:1], 0.5), "weights", number)


def test_codes(tmp_path, faces):
    restorer = Restorer(make_network())
    features = restorer.encode(faces)
    path, broken = tmp_path / "good.safetensors", tmp_path / "broken.safetensors"
    save_codes(restorer.lookup(features, 0.5), restorer, path)
    content, (tensors, metadata) = path.read_bytes(), read_safetensors(path)
    for number in range(80):
        dice = random.Random(number)
        if dice.random() < 0.5:
            broken.write_bytes(damaged(content[:600], dice) + content[600:])
        else:
            changed, name = dict(tensors), dice.choice(list(tensors))
            value = changed[name].float().fill_(dice.choice(NUMBERS)) if dice.random() < 0.5 else changed[name]
            changed[name] = value.to(dice.choice((torch.int16, torch.int32, torch.float32, torch.float16)))
            spoken = {**metadata, dice.choice(list(metadata)): str(dice.choice(NUMBERS))}
            save_file(changed, broken, dice.choice((metadata, spoken)))

        def work():
            restored = restorer.decode(load_codes(broken, restorer), features)
            assert restored.isfinite().all()

        survives(work, "codes", number)


def test_adapters_wired_at_random(tmp_path, faces):
    """Restorers of two bases, with adapters and without, whose parts meet as a graph may wire them."""
    bases = [Restorer(make_network(PLAIN)) for _ in range(2)]
    bases[1].network.quantize.embedding.weight.data.neg_()
    plain = [base.restore(faces[:1]) for base in bases]
    path, broken = tmp_path / "good.safetensors", tmp_path / "broken.safetensors"
    new_adapter(bases[0]).save(path)
    content = path.read_bytes()
    for number in range(60):
        dice = random.Random(number)
        restorers = list(bases)

        def any_restorer(dice=dice, restorers=restorers):
            return dice.choice(restorers)

        def attach(any_of=any_restorer, restorers=restorers, dice=dice):
            adapter = dice.choice((new_adapter, lambda _: load_adapter(path)))(any_of())
            torch.nn.init.normal_(adapter.network.values.weight, std=dice.choice((0.1, 1e4)))
            restorers.append(adapter.attach(any_of()))

        def detach(any_of=any_restorer):
            adapted = any_of()
            if isinstance(adapted, AdaptedRestorer):
                assert adapted.detach() in bases

        def restore(any_of=any_restorer, dice=dice):
            features, other = any_of().encode(faces[:1]), any_of()
            quality, guidance = dice.choice((0.3, 0.9, None, dice.choice(NUMBERS))), dice.choice((1, 1, 3, INF))
            codes = any_of().lookup(features, quality, guidance)
            assert other.decode(codes, features, dice.choice((0, 1, NAN))).isfinite().all()

        def load(any_of=any_restorer, restorers=restorers, dice=dice):
            head = dice.choice((900, len(content)))
            broken.write_bytes(damaged(content[:head], dice) + content[head:])
            restorers.append(load_adapter(broken, any_of()).attach(any_of()))

        for _ in range(5):
            work = dice.choice((attach, attach, detach, restore, restore, load))
            survives(work, work.__name__, number)
    for base, restored in zip(bases, plain, strict=True):
        assert torch.equal(base.restore(faces[:1]), restored), "a base has changed"


def _face(dice):
    box = torch.tensor([[dice.choice((-50.0, 0.0, 20.0)), 10.0, dice.choice((21.0, 60.0, 500.0)), 60.0]])
    landmarks = torch.tensor([[[30.0, 30.0], [50.0, 30.0], [40.0, 40.0], [32.0, 50.0], [48.0, 50.0]]])
    landmarks = landmarks * dice.choice((1, 1, 0, 1e-3, 1e4, -1))
    return Faces(box, landmarks, torch.ones(1), torch.zeros(1).long(), (70, 80))


def test_parameters(faces):
    restorer, metric = Restorer(make_network()), load_metric()
    features = restorer.encode(faces[:2])
    codes = restorer.lookup(features)
    photo = torch.nn.functional.interpolate(faces[:1], (70, 80))
    for number in range(160):
        dice = random.Random(number)

        def any_of(*names, dice=dice):
            return {name: dice.choice(NUMBERS) for name in names if dice.random() < 0.6}

        def images(like, dice=dice):
            return dice.choice((like, like, like * dice.choice(NUMBERS), like[:, :2], like[:0], like.double(), like[0]))

        def lookup(any_of=any_of):
            found = restorer.lookup(features, **any_of("quality", "guidance", "alpha", "temperature"))
            assert restorer.decode(found, features, **any_of("fidelity")).isfinite().all()

        def restore(any_of=any_of, images=images):
            assert restorer.restore(images(faces[:1]), **any_of("quality", "fidelity")).isfinite().all()

        def in_photo(any_of=any_of, images=images, dice=dice):
            options = any_of("quality", "fidelity", "min_size", "feather", "visibility", "smoothing", "margin")
            mask = dice.choice((None, torch.full((1, 1, 70, 80), float(dice.choice(NUMBERS)))))
            result = restore_photo(images(photo), restorer, faces=_face(dice), mask=mask, **options)
            assert result.image.isfinite().all()
            assert result.image.shape == photo.shape

        def search(any_of=any_of):
            options = any_of("max_changed", "prior_weight", "noise", "target", "fidelity")
            result = optimize_codes(restorer, codes, features, lambda x: x.mean((1, 2, 3)), 1, **options)
            assert (result.scores >= result.start_scores).all()

        def reach(any_of=any_of, dice=dice):
            target = dice.choice(NUMBERS)
            assert restore_to_target(restorer, faces[:1], metric, target, halvings=1).images.isfinite().all()

        def blend(images=images, dice=dice):
            mask = torch.full((2, 9, 9), float(dice.choice(NUMBERS)))
            blend_codes(codes, codes, mask_tokens(mask, TINY.token_side))

        def score(images=images):
            assert metric(images(faces)).isfinite().all()

        work = dice.choice((lookup, restore, in_photo, in_photo, search, reach, blend, score))
        survives(work, work.__name__, number)
