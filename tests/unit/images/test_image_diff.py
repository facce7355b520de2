"""Two builds of one image: the input that moved is named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mendel.images import ImageContents, LayerRecord, Moved, Part, compare_images
from mendel.values import Digest


def layer(part: Part, title: str, letter: str, packed: str | None = None) -> LayerRecord:
    return LayerRecord(
        part=part,
        title=title,
        diff_id=Digest(f"sha256:{letter * 64}"),
        digest=Digest(f"sha256:{(packed or letter) * 64}"),
        size_bytes=1,
        unpacked_bytes=1,
    )


def manifest(**files: str) -> bytes:
    listed = [{"path": path, "sha256": f"sha256:{letter * 64}", "part": "code"} for path, letter in files.items()]
    return json.dumps({"lock": "l", "release": {"tag": "t"}, "files": listed}).encode()


LAYERS = (
    layer(Part.BASE, "base", "0"),
    layer(Part.BASE, "base", "1"),
    layer(Part.DEPENDENCIES, "environment", "2"),
    layer(Part.DEPENDENCIES, "numpy 2.1.0", "3"),
    layer(Part.DEPENDENCIES, "joblib 1.4, threadpoolctl 3.5", "4"),
    layer(Part.RUNTIME, "mendel 0.1.0", "5"),
    layer(Part.ARTIFACTS, "2 files", "6"),
    layer(Part.CODE, "3 files", "7"),
)
CONFIG = {"config": {"Labels": {"a.b": "1"}, "Cmd": ["x"]}, "created": "c", "rootfs": {"diff_ids": []}, "history": []}
IMAGE = ImageContents(layers=LAYERS, config=CONFIG, manifest=manifest(model="a", other="b"))


def changed(index: int, new: LayerRecord | None) -> ImageContents:
    kept = (*LAYERS[:index], *(() if new is None else (new,)), *LAYERS[index + 1 :])
    return replace(IMAGE, layers=kept)


def test_one_image_has_no_difference_from_itself():
    """Equal images, compared, are equal."""
    assert compare_images(IMAGE, IMAGE) == ()


@pytest.mark.parametrize(
    ("index", "new", "moved", "name"),
    [
        (0, layer(Part.BASE, "base", "f"), Moved.BASE, ""),
        (1, None, Moved.BASE, ""),
        (2, layer(Part.DEPENDENCIES, "environment", "f"), Moved.WHEEL, "environment"),
        (3, layer(Part.DEPENDENCIES, "numpy 2.1.0", "f"), Moved.WHEEL, "numpy 2.1.0"),
        (3, layer(Part.DEPENDENCIES, "numpy 2.1.1", "f"), Moved.WHEEL, "numpy"),
        (3, None, Moved.WHEEL, "numpy"),
        (4, layer(Part.DEPENDENCIES, "joblib 1.5, threadpoolctl 3.5", "f"), Moved.WHEEL, "joblib"),
        (5, layer(Part.RUNTIME, "mendel 0.1.0", "f"), Moved.RUNTIME, "mendel 0.1.0"),
        (5, layer(Part.RUNTIME, "mendel 0.2.0", "f"), Moved.RUNTIME, ""),
        (6, layer(Part.ARTIFACTS, "3 files", "f"), Moved.ARTIFACTS, ""),
        (7, layer(Part.CODE, "3 files", "f"), Moved.CODE, ""),
        (3, layer(Part.DEPENDENCIES, "numpy 2.1.0", "3", "f"), Moved.COMPRESSOR, "of numpy 2.1.0"),
    ],
)
def test_the_input_that_moved_is_named(index, new, moved, name):
    """One layer that differs gives one difference, with the part and, where it is known, the wheel."""
    (found,) = compare_images(IMAGE, changed(index, new))
    assert (found.moved, found.name) == (moved, name)
    assert str(found)


def test_files_are_named_where_both_images_list_theirs():
    """A module that changed, one that is new and one that is gone."""
    again = replace(changed(7, layer(Part.CODE, "3 files", "f")), manifest=manifest(model="c", third="b"))
    assert [(one.moved, one.name) for one in compare_images(IMAGE, again)] == [
        (Moved.CODE, "model"),
        (Moved.CODE, "other"),
        (Moved.CODE, "third"),
    ]
    assert [str(one).split(":")[0] for one in compare_images(IMAGE, again)][1:] == [
        "code other is gone",
        "code third is new",
    ]


def test_what_the_list_of_files_says_of_the_release_is_named():
    """The same files under another tag differ by the tag."""
    other = IMAGE.manifest.replace(b'"t"', b'"u"')
    again = replace(changed(7, layer(Part.CODE, "3 files", "f")), manifest=other)
    (found,) = compare_images(IMAGE, again)
    assert (found.name, found.expected, found.rebuilt) == ("mendel-manifest.json release.tag", "t", "u")


def test_layers_in_another_order():
    """The same layers in another order are that, and nothing else."""
    (found,) = compare_images(IMAGE, replace(IMAGE, layers=(*LAYERS[:3], LAYERS[4], LAYERS[3], *LAYERS[5:])))
    assert found.moved is Moved.ORDER


def test_another_compressor_is_named_once():
    """However many layers it packed otherwise."""
    again = replace(IMAGE, layers=tuple(replace(one, digest=Digest(f"sha256:{'f' * 64}")) for one in LAYERS))
    (found,) = compare_images(IMAGE, again)
    assert found.moved is Moved.COMPRESSOR


def test_layers_that_an_engine_keeps_unpacked_have_no_compressor():
    """Without digests of blobs nothing is said of them."""
    assert compare_images(IMAGE, replace(IMAGE, layers=tuple(replace(one, digest=None) for one in LAYERS))) == ()


def test_labels_and_settings_are_named():
    """A label that moved, one that is gone, another command; what repeats the layers is not told twice."""
    config = {"config": {"Labels": {"c": "1"}, "Cmd": ["y"]}, "created": "c", "rootfs": {"diff_ids": ["x"]}}
    found = compare_images(IMAGE, replace(IMAGE, config=config))
    assert [(one.moved, one.name, one.expected, one.rebuilt) for one in found] == [
        (Moved.CONFIGURATION, "config.Cmd", '["x"]', '["y"]'),
        (Moved.LABEL, "a.b", "1", None),
        (Moved.LABEL, "c", None, "1"),
    ]
