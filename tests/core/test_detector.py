"""The built-in detector, and how a detector is taught: scenes, matching, loss, run."""

import copy
import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iqpbfr_core import load_detector, restore_photo
from iqpbfr_core.degradation import Degradation
from iqpbfr_core.errors import InputError, TrainingError
from iqpbfr_core.faces.anchors import anchor_boxes, decode, encode
from iqpbfr_core.image import from_pil, read_image, resize
from iqpbfr_core.models.retinaface import RetinaFace
from iqpbfr_core.training import ageing, textures
from iqpbfr_core.training.detector import NEW, DetectorStage, detector_loss, match
from iqpbfr_core.training.loop import RunConfig, TimeIsUp, run
from iqpbfr_core.training.scenes import Portrait, Scene, SceneRecipe, Scenes, face_boxes, read_portraits
from iqpbfr_core.training.steady import SIZE, Pictures, SteadyStage, answer_losses, corrected

LANDMARKS = np.array([[96.0, 120], [160, 120], [128, 157], [100, 186], [156, 186]])  # of an aligned face, 256 px


@pytest.fixture(scope="module")
def builtin():
    return load_detector()


@pytest.fixture
def example_face():
    return read_image(Path(__file__).parents[2] / "pictures" / "face.png")


@pytest.fixture
def portraits(tmp_path):
    """A folder as `iqpbfr train detector` reads it: two pictures that only look like something, and where their faces are."""
    rng = np.random.default_rng(0)
    names = [f"{point}_{axis}" for point in ("le", "re", "no", "ml", "mr") for axis in "xy"]
    with open(tmp_path / "index.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "split", *names])
        writer.writeheader()
        for number, split in enumerate(("train", "train", "test")):
            (tmp_path / split).mkdir(exist_ok=True)
            textures.noise(256, rng).save(tmp_path / split / f"{number}.png")
            row = dict(zip(names, LANDMARKS.flatten(), strict=True))
            writer.writerow({"file": f"{split}/{number}.png", "split": split, **row})
    return tmp_path


# The built-in detector


def test_the_faces_of_a_small_scene_are_found_and_nothing_else(builtin, example_face):
    scene = resize(from_pil(textures.gradient(480, np.random.default_rng(3))), (480, 480))
    wanted = []
    for side, top, left in ((200, 20, 30), (120, 300, 320), (80, 60, 330), (60, 380, 60)):
        scene[:, :, top : top + side, left : left + side] = resize(example_face, (side, side))
        wanted.append((left + side / 2, top + 0.55 * side))
    faces = builtin(scene)
    assert len(faces) == len(wanted)
    distance = torch.cdist(torch.tensor(wanted), faces.centres)
    assert (distance.min(1).values < 12).all()


def test_textures_hold_no_face(builtin):
    for number in range(6):
        picture = from_pil(textures.texture(320, np.random.default_rng(number)))
        assert len(builtin(picture)) == 0, f"texture {number}"


def test_the_builtin_one_is_the_default_everywhere(builtin, tiny, example_face):
    photo = torch.nn.functional.pad(resize(example_face, (160, 160)), (60, 60, 60, 60), value=0.3)
    assert builtin.config == load_detector("builtin").config == NEW
    result, given = restore_photo(photo, tiny), restore_photo(photo, tiny, builtin)
    assert len(result.faces) == 1
    assert torch.equal(result.image, given.image)


def test_an_exported_file_is_small_and_half_precise(tmp_path):
    torch.manual_seed(0)
    stage = DetectorStage(Scenes([], [], SceneRecipe()), RetinaFace(NEW))
    stage.export(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_size < 1e6
    loaded = load_detector(tmp_path / "model.safetensors")
    assert loaded.config == NEW
    for key, value in stage.network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[key].to(value), value, atol=1e-3, rtol=1e-3)


# Scenes


def test_a_scene_depends_on_its_number_alone(portraits):
    first, second = (Scenes(read_portraits(portraits, "train"), [], SceneRecipe(96), seed=1) for _ in range(2))
    for number in (5, 0, 5):
        assert torch.equal(first[number].image, second[number].image)
        assert torch.equal(first[number].boxes, second[number].boxes)
    assert not torch.equal(first[0].image, first[1].image)


def test_scenes_are_pictures_with_faces_where_they_say(portraits):
    """Landmarks lie in their boxes, faces are as wide as asked, and some scenes are empty."""
    scenes = Scenes(read_portraits(portraits, "train"), [], SceneRecipe(128, (10, 60)), seed=0)
    drawn = [scenes[number] for number in range(60)]
    for scene in drawn:
        assert scene.image.shape == (3, 128, 128)
        assert 0 <= scene.image.min() <= scene.image.max() <= 1
        low, high = scene.boxes[:, None, :2], scene.boxes[:, None, 2:]
        assert ((scene.landmarks > low) & (scene.landmarks < high)).all()
    widths = torch.cat([scene.boxes[:, 2] - scene.boxes[:, 0] for scene in drawn])
    assert 8 < widths.min() < 20 < 45 < widths.max() < 70
    counts = [len(scene.boxes) for scene in drawn]
    assert min(counts) == 0
    assert max(counts) > 4


def test_faces_are_put_where_their_landmarks_say(tmp_path):
    """A portrait of nothing but five white dots: however it is turned, they must be where the landmarks are."""
    picture = Image.new("RGB", (256, 256))
    for x, y in LANDMARKS.astype(int).tolist():
        picture.paste((255, 255, 255), (x - 6, y - 6, x + 6, y + 6))
    picture.save(tmp_path / "dots.png")
    scenes = Scenes([Portrait(tmp_path / "dots.png", LANDMARKS)], [], SceneRecipe(), seed=0)
    rng = np.random.default_rng(0)
    dimmest = []
    for _ in range(12):
        thing, landmarks = scenes._face(60.0, rng)
        light = np.asarray(thing.convert("L"))
        dimmest.append(min(light[round(y - 0.5), round(x - 0.5)] for x, y in landmarks.tolist()))
    assert sorted(dimmest)[4] > 120, "disguises hide some, not most"


def test_boxes_turn_with_the_face():
    upright = face_boxes(LANDMARKS[None])[0]
    assert upright[2] - upright[0] == pytest.approx(0.53 * 256, abs=4)
    assert upright[3] - upright[1] == pytest.approx(0.74 * 256, abs=4)
    quarter = LANDMARKS[:, ::-1] * (-1, 1)  # turned by 90 degrees
    turned = face_boxes(quarter[None])[0]
    assert turned[2] - turned[0] == pytest.approx(upright[3] - upright[1], abs=0.5)
    looking_left = LANDMARKS.copy()
    looking_left[2, 0] -= 25
    assert face_boxes(looking_left[None])[0][0] > upright[0] + 15  # the face is on the far side of its nose


def test_hidden_and_wrecked_faces_count_neither_way():
    boxes, landmarks = torch.tensor([[20.0, 20, 60, 70]]), torch.full((1, 5, 2), 40.0)
    anchors = anchor_boxes(NEW, 96, 96)
    for is_visible, labels in ((True, {0, 1}), (False, {0, -1})):
        scene = Scene(torch.zeros(3, 96, 96), boxes, landmarks, torch.tensor([is_visible]))
        assert set(match(anchors, scene)[0].tolist()) == labels


def test_every_visible_face_has_an_anchor():
    boxes = torch.tensor([[10.0, 10, 14, 15], [70, 70, 73, 74]])  # far smaller than any anchor
    scene = Scene(torch.zeros(3, 96, 96), boxes, torch.zeros(2, 5, 2), torch.ones(2, dtype=torch.bool))
    labels, faces = match(anchor_boxes(NEW, 96, 96), scene)
    assert sorted(faces[labels == 1].tolist()) == [0, 1]


def test_the_loss_is_least_for_the_right_answer_and_falls_on_hard_negatives():
    anchors = anchor_boxes(NEW, 96, 96)
    boxes, landmarks = torch.tensor([[20.0, 20, 60, 70]]), torch.rand(1, 5, 2) * 40 + 20
    scene = Scene(torch.zeros(3, 96, 96), boxes, landmarks, torch.tensor([True]))
    empty = Scene(torch.zeros(3, 96, 96), boxes[:0], landmarks[:0], torch.ones(0, dtype=torch.bool))
    labels, _ = match(anchors, scene)
    offsets, points = encode(anchors, boxes.expand(len(anchors), 4), landmarks.expand(len(anchors), 5, 2))
    logits = torch.stack((-8.0 * labels, 8.0 * labels), 1) + torch.tensor((4.0, -4.0))

    def loss(logits):
        nothing = torch.tensor((4.0, -4.0)).expand_as(logits)
        outputs = torch.stack((offsets, offsets)), torch.stack((logits, nothing)), torch.stack((points, points))
        return detector_loss(outputs, anchors, [scene, empty])

    right = loss(logits)
    assert right["boxes"] < 1e-5
    assert right["landmarks"] < 1e-5
    assert right["classes"] < 0.1
    wrong = logits.clone()
    wrong[(labels == 0).nonzero()[0]] *= -1
    assert loss(wrong)["classes"] > right["classes"] + 0.05


def test_degrading_a_picture_keeps_its_size_and_range():
    picture = textures.texture(97, np.random.default_rng(0))
    worst = Degradation(sigma=(3.0, 1.0), angle=1.0, downsample=9.0, noise=20.0, jpeg=30.0)
    image = ageing.degraded(picture, worst)
    assert image.shape == (3, 97, 97)
    assert 0 <= image.min() <= image.max() <= 1
    torch.testing.assert_close(ageing.degraded(picture, Degradation()), from_pil(picture)[0])


def test_a_folder_without_landmarks_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"le_x"):
        read_portraits(tmp_path, "train")


# Runs


def test_a_resumed_run_is_bit_exactly_the_uninterrupted_one(portraits, tmp_path):
    def train(out, steps):
        scenes = Scenes(read_portraits(portraits, "train"), [], SceneRecipe(64, (10, 40)), seed=0)
        config = RunConfig(portraits, out, steps, batch_size=2, resolution=16, save_every=1, precision="no")
        return run(DetectorStage(scenes), config)

    whole = train(tmp_path / "whole", 2)
    assert math.isfinite(float(load_detector(whole).network.ClassHead[0].conv1x1.weight.sum()))
    assert train(tmp_path / "again", 2).read_bytes() == whole.read_bytes()
    assert (tmp_path / "whole" / "samples_000002.png").exists()


def test_a_network_is_steadied_by_its_own_first_answers_also_after_a_stop(portraits, tmp_path):
    faces = read_portraits(portraits, "train")
    whole = [Portrait(face.file, face.landmarks, is_whole=True) for face in faces]

    def train(out, minutes=math.inf):
        pictures = Pictures(Scenes(faces, [], SceneRecipe(SIZE, (40, 80), wrecked=0), seed=0), whole)
        config = RunConfig(portraits, out, 2, batch_size=1, resolution=16, precision="no", minutes=minutes)
        return run(SteadyStage(pictures, load_detector().network), config)

    result = train(tmp_path / "out")
    with pytest.raises(TimeIsUp):
        train(tmp_path / "again", minutes=0)
    assert train(tmp_path / "again").read_bytes() == result.read_bytes()
    before, after = load_detector().network.state_dict(), load_detector(result).network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert not [name for name in changed if "running" in name]


def test_other_answers_cost_something_unless_too_little_of_a_face_is_left():
    torch.manual_seed(0)
    anchors = anchor_boxes(NEW, 64, 64)
    wanted = [torch.zeros(1, len(anchors), 4), torch.zeros(1, len(anchors), 2), torch.randn(1, len(anchors), 10)]
    wanted[1][..., 0] = 6.0  # nothing anywhere
    wanted[1][0, 0] = torch.tensor([-6.0, 6.0])  # but a face of the first anchor's 10 pixels
    other = [wanted[0] + 1, torch.zeros_like(wanted[1]), wanted[2] + 1]
    assert sum(answer_losses(wanted, wanted, anchors, torch.ones(1)).values()) < 1e-5
    asked = answer_losses(other, wanted, anchors, torch.ones(1))
    assert min(asked.values()) > 0
    unasked = answer_losses(other, wanted, anchors, torch.full((1,), 2.0))
    assert unasked["boxes"] == unasked["landmarks"] == 0
    assert 0 < unasked["classes"] < asked["classes"]


def test_a_teacher_is_corrected_where_the_faces_are_known():
    anchors = anchor_boxes(NEW, 64, 64)
    nothing, face = torch.tensor((6.0, -6.0)), torch.tensor((-6.0, 6.0))
    logits = nothing.repeat(1, len(anchors), 1)
    seen, elsewhere, missed, hidden = 0, len(anchors) // 2, len(anchors) - 1, len(anchors) // 3
    logits[0, [seen, elsewhere]] = face
    answers = [torch.zeros(1, len(anchors), 4), logits, torch.zeros(1, len(anchors), 10)]

    def boxes(*numbers):
        return torch.stack([torch.cat((a[:2] - a[2] / 2, a[:2] + a[2] / 2)) for a in anchors[list(numbers)]])

    def scene(*numbers):
        known = boxes(*numbers) if numbers else torch.empty(0, 4)
        is_visible = torch.tensor([number != hidden for number in numbers], dtype=torch.bool)
        return Scene(torch.zeros(3, 64, 64), known, torch.rand(len(numbers), 5, 2), is_visible)

    known = scene(seen, missed, hidden)
    offsets, said, points = (answer[0] for answer in corrected(answers, anchors, [known]))
    is_face = said[:, 1] > said[:, 0]
    assert is_face[[seen, missed, elsewhere, hidden]].tolist() == [True, True, False, False]
    assert torch.equal(said[seen], face)  # what it saw stays as it was
    there, landmarks = decode(anchors[[missed]], offsets[[missed]], points[[missed]])
    torch.testing.assert_close(there, boxes(missed))
    torch.testing.assert_close(landmarks, known.landmarks[[1]])
    _, said, _ = corrected(answers, anchors, [scene()])
    assert (said[..., 0] > said[..., 1]).all()
    assert torch.equal(logits[0, seen], face)  # the answers themselves stay


def test_a_share_of_the_teachers_weights_is_exported(portraits, tmp_path):
    faces, network = read_portraits(portraits, "train"), load_detector().network
    teacher = copy.deepcopy(network)
    with torch.no_grad():
        teacher.ClassHead[0].conv1x1.bias += 1
    pictures = Pictures(Scenes(faces, [], SceneRecipe(SIZE, (40, 80), wrecked=0), seed=0), [])
    stage = SteadyStage(pictures, network, teacher, keep=0.25)
    with pytest.raises(TrainingError, match="teacher"):
        SteadyStage(pictures, network, RetinaFace(dataclasses.replace(NEW, slope=0.1)))
    before = network.ClassHead[0].conv1x1.bias.clone()
    stage.export(tmp_path / "mixed.safetensors")
    mixed = load_detector(tmp_path / "mixed.safetensors").network.ClassHead[0].conv1x1.bias
    torch.testing.assert_close(mixed, before + 0.25, atol=2e-3, rtol=0)


def test_training_on_keeps_the_normalisation(portraits, tmp_path):
    torch.manual_seed(0)
    network = RetinaFace(NEW)
    before = network.fpn.output1[1].running_mean.clone()
    scenes = Scenes(read_portraits(portraits, "train"), [], SceneRecipe(64, (10, 40)), seed=0)
    config = RunConfig(portraits, tmp_path / "out", 1, batch_size=2, resolution=16, precision="no")
    run(DetectorStage(scenes, network), config)
    assert torch.equal(network.fpn.output1[1].running_mean, before)
