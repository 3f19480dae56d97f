import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from unet_dist.config_data import DataConfig
from unet_dist.data.listing import natural_key
from unet_dist.data.sources import list_samples, scan_samples
from unet_dist.errors import UserError

DOT = np.zeros((4, 4), np.uint8)


def faults_of(root, **keys) -> list[str]:
    with pytest.raises(UserError) as caught:
        list_samples(DataConfig(root=str(root), **keys))
    return list(caught.value.faults)


def listed(root, **keys):
    return list_samples(DataConfig(root=str(root), **keys))


def test_folder_pairs_by_stem_in_natural_order(write, tmp_path):
    for name in ("slice10", "slice9", "slice1"):
        write(f"images/{name}.jpg", DOT)
        write(f"masks/{name}_mask.PNG", DOT)
    samples = listed(tmp_path, mask_suffix="_mask")
    assert [sample.id for sample in samples] == ["slice1", "slice9", "slice10"]
    assert samples[0].group == "slice1"
    assert samples[0].mask.path.name == "slice1_mask.PNG"
    assert samples[0].subset == ""
    assert samples[0].fov is None


def test_folder_may_hold_images_and_masks_together(write, tmp_path):
    for name in ("a", "b"):
        write(f"{name}.png", DOT)
        write(f"{name}_seg.png", DOT)
    samples = listed(tmp_path, images=".", masks=".", mask_suffix="_seg")
    assert [sample.id for sample in samples] == ["a", "b"]
    assert "set data.mask_suffix" in faults_of(tmp_path, images=".", masks=".")[0]


def test_hidden_and_other_files_are_passed_over(write, tmp_path):
    write("images/a.png", DOT)
    write("masks/a.png", DOT)
    (tmp_path / "images" / "._a.png").write_bytes(b"x")
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "masks" / "notes.txt").write_bytes(b"x")
    assert len(listed(tmp_path)) == 1


def test_every_missing_partner_and_double_name_is_told_at_once(write, tmp_path):
    for name in ("a.png", "case_07.png", "d.png", "d.jpg"):
        write(f"images/{name}", DOT)
    for name in ("a.png", "case_7.png", "d.png", "lonely.png"):
        write(f"masks/{name}", DOT)
    faults = faults_of(tmp_path)
    assert faults == [
        "images has d.jpg and d.png: keep one file of the name d",
        "case_07.png has no mask; the closest name is case_7",
        "case_7.png belongs to no image; the closest name is case_07",
        "lonely.png belongs to no image",
    ]


def test_forgotten_suffix_is_suggested(write, tmp_path):
    write("images/a.png", DOT)
    write("masks/a_mask.png", DOT)
    assert "data.mask_suffix=_mask?" in faults_of(tmp_path)[0]


def test_no_suffix_is_suggested_that_most_masks_lack(write, tmp_path):
    for number in range(1, 11):
        write(f"images/{number}.png", DOT)
        write(f"masks/{number}.png", DOT)
    (tmp_path / "masks/10.png").rename(tmp_path / "masks/10_x.png")
    (tmp_path / "masks/1.png").unlink()
    faults = faults_of(tmp_path)
    # 10_x begins with 1 too, but is that of 10.
    assert faults[0] == "1.png has no mask"
    assert faults[1] == "10.png has no mask; 10_x.png is there: rename it to 10.png?"
    assert not [fault for fault in faults if "data.mask_suffix" in fault]


def test_name_to_rename_to_has_the_suffix_of_the_others(write, tmp_path):
    for name in ("a", "b", "c"):
        write(f"images/{name}.png", DOT)
        write(f"masks/{name}_m{'' if name < 'c' else '2'}.tif", DOT)
    [fault, _] = faults_of(tmp_path, mask_suffix="_m")
    assert fault == "c.png has no mask; c_m2.tif is there: rename it to c_m.tif?"


def test_many_ids_that_a_pattern_misses_are_one_fault(write, tmp_path):
    for number in range(30):
        write(f"images/a{number}.png", DOT)
        write(f"masks/a{number}.png", DOT)
    assert faults_of(tmp_path, split={"group": "^(b)"}) == [
        "30 of 30 ids are not matched by data.split.group=^(b): a0, a1, a2 and 27 more; change "
        "the pattern, or rename these images"
    ]


def test_many_missing_fields_of_view_are_one_fault(write, tmp_path):
    for number in range(10):
        write(f"images/{number}.png", DOT)
        write(f"masks/{number}.png", DOT)
    write("fov/9.png", DOT)
    [fault] = faults_of(tmp_path, fov="file", fov_masks="fov")
    assert fault.startswith("9 of 10 images have no field-of-view mask: 0, 1, 2 and 6 more; put")


def test_many_missing_masks_are_counted(write, tmp_path):
    for index in range(30):
        write(f"images/{index}.png", DOT)
    (tmp_path / "masks").mkdir()
    faults = faults_of(tmp_path)
    assert len(faults) == 21
    assert faults[-1] == "10 more images have no mask"


def test_complete_samples_are_listed_beside_the_faults(write, tmp_path):
    write("images/a.png", DOT)
    write("images/b.png", DOT)
    write("masks/a.png", DOT)
    listing = scan_samples(DataConfig(root=str(tmp_path)))
    assert [sample.id for sample in listing.samples] == ["a"]
    assert len(listing.faults) == 1


def test_root_must_be_named_and_exist(tmp_path):
    assert "data.root=DIR" in faults_of("")[0]
    assert "no such directory" in faults_of(tmp_path / "none")[0]


def test_missing_folders_are_named_with_those_that_exist(tmp_path):
    (tmp_path / "imgs").mkdir()
    faults = faults_of(tmp_path)
    assert "no folder images" in faults[0]
    assert "folders here: imgs" in faults[0]
    assert "no folder masks" in faults[1]


def test_empty_folder_is_a_fault(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    assert "no image in images" in faults_of(tmp_path)[0]


@pytest.mark.parametrize("name", ["../other", "/etc", "a/../../b"])
def test_nothing_outside_root_is_listed(write, tmp_path, name):
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    write("other/a.png", DOT)
    assert "must be a folder below data.root" in faults_of(root, masks=name)[0]


def test_dangling_link_is_a_fault(write, tmp_path):
    write("images/a.png", DOT)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").symlink_to(tmp_path / "gone.png")
    assert any("does not exist" in fault for fault in faults_of(tmp_path))


def test_stack_in_a_folder_is_one_patient_of_many_pages(tmp_path):
    for folder, pages in (("images", 3), ("masks", 3)):
        (tmp_path / folder).mkdir()
        stack = np.zeros((pages, 4, 4), np.uint8)
        tifffile.imwrite(tmp_path / folder / "vol.tif", stack, photometric="minisblack")
    samples = listed(tmp_path)
    assert [sample.id for sample in samples] == ["vol-000", "vol-001", "vol-002"]
    assert {sample.group for sample in samples} == {"vol"}
    assert [sample.image.page for sample in samples] == [0, 1, 2]


def test_stacks_of_different_length_are_a_fault(tmp_path):
    for folder, pages in (("images", 3), ("masks", 2)):
        (tmp_path / folder).mkdir()
        stack = np.zeros((pages, 4, 4), np.uint8)
        tifffile.imwrite(tmp_path / folder / "vol.tif", stack, photometric="minisblack")
    assert "3 pages but vol.tif has 2" in faults_of(tmp_path)[0]


def test_page_id_and_file_name_must_not_collide(write, tmp_path):
    for folder in ("images", "masks"):
        write(f"{folder}/v-001.png", DOT)
        stack = np.zeros((2, 4, 4), np.uint8)
        tifffile.imwrite(tmp_path / folder / "v.tif", stack, photometric="minisblack")
    assert "two images have the id v-001" in faults_of(tmp_path)[0]


def test_fov_masks_are_listed_and_missing_ones_told(write, tmp_path):
    for name in ("a", "b"):
        write(f"images/{name}.png", DOT)
        write(f"masks/{name}.png", DOT)
    write("view/a.png", DOT)
    keys = {"fov": "file", "fov_masks": "view"}
    assert faults_of(tmp_path, **keys) == ["b.png has no field-of-view mask"]
    write("view/b.png", DOT)
    assert listed(tmp_path, **keys)[1].fov.path.name == "b.png"


def test_group_is_taken_from_the_id(write, tmp_path):
    for name in ("p1_left", "p1_right", "p2_left"):
        write(f"images/{name}.png", DOT)
        write(f"masks/{name}.png", DOT)
    groups = [s.group for s in listed(tmp_path, split={"group": "^(.+?)_"})]
    assert groups == ["p1", "p1", "p2"]
    assert "no group" in faults_of(tmp_path, split={"group": "^p"})[0]
    assert "no regular expression" in faults_of(tmp_path, split={"group": "("})[0]
    assert len(faults_of(tmp_path, split={"group": "^(x)"})) == 3


def test_options_without_effect_are_told(write, tmp_path):
    assert "data.observer=second has no effect" in faults_of(tmp_path, observer="second")[0]
    assert "data.fov=file" in faults_of(tmp_path, format="isbi2012", fov="file")[0]


def isbi(root, pages, label_pages):
    for name, number in (("train-volume", pages), ("train-labels", label_pages)):
        stack = np.zeros((number, 4, 4), np.uint8)
        tifffile.imwrite(root / f"{name}.tif", stack, photometric="minisblack")


def test_isbi_trains_on_the_first_20_and_tests_on_the_others(tmp_path):
    isbi(tmp_path, 30, 30)
    samples = listed(tmp_path, format="isbi2012")
    assert [s.subset for s in samples] == ["train"] * 20 + ["test"] * 10
    assert samples[7].id == "slice-07"
    assert (samples[7].image.page, samples[7].mask.page) == (7, 7)


def test_isbi_stacks_must_be_there_and_of_one_length(tmp_path):
    assert len(faults_of(tmp_path, format="isbi2012")) == 2
    isbi(tmp_path, 3, 2)
    assert "3 slices but train-labels.tif has 2" in faults_of(tmp_path, format="isbi2012")[0]


def drive(write, *, test_masks=True):
    for number, folder in (("21", "training"), ("22", "training"), ("01", "test")):
        write(f"{folder}/images/{number}_{folder}.tif", DOT)
        write(f"{folder}/mask/{number}_{folder}_mask.gif", DOT)
        if folder == "training" or test_masks:
            write(f"{folder}/1st_manual/{number}_manual1.gif", DOT)
    if test_masks:
        write("test/2nd_manual/01_manual2.gif", DOT)


def test_drive_is_paired_by_number_and_divided_by_folder(write, tmp_path):
    drive(write)
    samples = listed(tmp_path, format="drive", fov="file")
    assert [s.id for s in samples] == ["01_test", "21_training", "22_training"]
    assert [s.subset for s in samples] == ["test", "train", "train"]
    assert samples[0].mask.path.name == "01_manual1.gif"
    assert samples[0].fov.path.name == "01_test_mask.gif"


def test_drive_second_observer_is_for_the_test_images(write, tmp_path):
    drive(write)
    listing = scan_samples(DataConfig(root=str(tmp_path), format="drive", observer="second"))
    names = [sample.mask.path.name for sample in listing.samples]
    assert names == ["01_manual2.gif", "21_manual1.gif", "22_manual1.gif"]
    assert any("second observer" in note for note in listing.notes)


def test_drive_without_test_masks_has_no_test_images(write, tmp_path):
    drive(write, test_masks=False)
    listing = scan_samples(DataConfig(root=str(tmp_path), format="drive"))
    assert {sample.subset for sample in listing.samples} == {"train"}
    assert any("1st_manual" in note for note in listing.notes)


def test_drive_missing_folders_and_views_are_faults(write, tmp_path):
    assert any("no folder training/images" in f for f in faults_of(tmp_path, format="drive"))
    drive(write)
    (tmp_path / "training/mask/21_training_mask.gif").unlink()
    faults = faults_of(tmp_path, format="drive", fov="file")
    assert faults == ["21_training.tif has no field-of-view mask"]


def chase(write, patients=14):
    for number in range(1, patients + 1):
        for eye in "LR":
            name = f"Image_{number:02d}{eye}"
            write(f"{name}.jpg", DOT)
            write(f"{name}_1stHO.png", DOT > 0)
            write(f"{name}_2ndHO.png", DOT > 0)


def test_chase_has_8_training_images_and_two_eyes_a_patient(write, tmp_path):
    chase(write)
    samples = listed(tmp_path, format="chasedb1")
    assert [s.subset for s in samples] == ["train"] * 8 + ["test"] * 20
    assert [s.group for s in samples[:3]] == ["Image_01", "Image_01", "Image_02"]
    second = listed(tmp_path, format="chasedb1", observer="second")
    assert second[0].mask.path.name == "Image_01L_2ndHO.png"


def test_chase_views_come_from_a_folder_beside(write, tmp_path):
    chase(write, patients=1)
    keys = {"format": "chasedb1", "fov": "file"}
    assert "data.fov=estimate" in faults_of(tmp_path, **keys)[0]
    write("masks-fov/Image_01L.gif", DOT)
    assert faults_of(tmp_path, **keys) == ["Image_01R.jpg has no field-of-view mask"]
    write("masks-fov/Image_01R_fov.gif", DOT)
    assert listed(tmp_path, **keys)[1].fov.path.name == "Image_01R_fov.gif"


def test_chase_names_a_missing_observer(write, tmp_path):
    assert "CHASE_DB1 folder?" in faults_of(tmp_path, format="chasedb1")[0]
    chase(write, patients=2)
    (tmp_path / "Image_02L_1stHO.png").unlink()
    assert "Image_02L.jpg has no mask" in faults_of(tmp_path, format="chasedb1")[0]


def stare(write):
    for number in (1, 139, 162):
        write(f"stare-images/im{number:04d}.ppm", np.stack([DOT] * 3, 2))
        for folder, observer in (("labels-ah", "ah"), ("labels-vk", "vk")):
            write(f"{folder}/im{number:04d}.{observer}.ppm", np.stack([DOT] * 3, 2))


def test_stare_is_divided_after_the_tenth_image(write, tmp_path):
    stare(write)
    samples = listed(tmp_path, format="stare", observer="second")
    assert [s.subset for s in samples] == ["train", "train", "test"]
    assert samples[0].mask.path.name == "im0001.vk.ppm"


def test_packed_stare_says_to_unpack(tmp_path):
    for folder in ("stare-images", "labels-ah"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "im0001.ppm.gz").write_bytes(b"\x1f\x8b")
    faults = faults_of(tmp_path, format="stare")
    assert "run gunzip stare-images/*.gz" in faults[0]
    assert len(faults) == 2
    assert "no folder stare-images" in faults_of(tmp_path / "labels-ah", format="stare")[0]


@given(st.text(max_size=6), st.text(max_size=6))
def test_natural_order_is_total(one, other):
    assert (natural_key(one) == natural_key(other)) == (one == other)
    assert (natural_key(one) < natural_key(other)) != (natural_key(one) >= natural_key(other))
