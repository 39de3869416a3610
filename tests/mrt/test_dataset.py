"""Data sets: files found, batches, shapes, damage; and the metrics."""
import gzip
import os
import struct

import numpy as np
import pytest

from mrt import conf
from mrt import dataset as ds
from mrt.dataset import DatasetError
from mrt.metrics import TopK
from mrt.mxnet_bridge import mx


def write_idx(path, array):
    header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def digits(tmp_path):
    """root/mnist with 10 test and 7 training images; pixel value = index of the image, + 100 for training."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, count, offset in (("t10k", 10, 0), ("train", 7, 100)):
        images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None] + np.uint8(offset), (count, 28, 28))
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", np.ascontiguousarray(images))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


def test_mnist_batches_in_order(digits):
    data_iter = ds.DS_REG["mnist"]((4, 1, 28, 28), root=digits).iter_func()
    batches = [data_iter() for _ in range(3)]
    assert [b[0].shape for b in batches] == [(4, 1, 28, 28), (4, 1, 28, 28), (2, 1, 28, 28)]
    pixels = np.concatenate([b[0].asnumpy()[:, 0, 0, 0] for b in batches])
    np.testing.assert_array_equal(pixels, np.arange(10, dtype=np.float32) / 255)
    np.testing.assert_array_equal(np.concatenate([b[1].asnumpy() for b in batches]), np.arange(10))
    with pytest.raises(StopIteration):
        data_iter()


def test_training_part(digits):
    data, _ = ds.Mnist((3, 1, 28, 28), root=digits, is_train=True).iter_func()()
    np.testing.assert_array_equal(data.asnumpy()[:, 0, 5, 5], np.float32([100, 101, 102]) / 255)


def test_folder_itself_and_environment(digits, monkeypatch):
    assert ds.Mnist.locate(digits / "mnist") == str(digits / "mnist")
    monkeypatch.setenv("MRT_DATASET_ROOT", str(digits))
    assert ds.Mnist.locate() == str(digits / "mnist")


def test_bundled_copy_is_complete(monkeypatch, tmp_path):
    monkeypatch.setenv("MRT_DATASET_ROOT", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    images, labels, folder = ds.Mnist.arrays()
    assert images.shape == (10000, 1, 28, 28) and folder.endswith("model_zoo/data/mnist")
    np.testing.assert_array_equal(np.bincount(labels), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert len(ds.Mnist.arrays(is_train=True)[0]) == 60000


def test_missing_data_is_one_sentence(tmp_path):
    with pytest.raises(DatasetError) as caught:
        ds.Mnist((1, 1, 28, 28), root=tmp_path)
    text = str(caught.value)
    assert "\n" not in text and str(tmp_path / "mnist") in text and "Dataset_dir" in text
    assert "t10k-images-idx3-ubyte.gz + t10k-labels-idx1-ubyte.gz" in text


def test_a_given_root_is_the_only_one_searched(tmp_path):
    with pytest.raises(DatasetError):  # though a bundled copy exists
        ds.Mnist.locate(tmp_path)
    assert ds.Mnist.locate()


def test_nothing_is_created_by_looking(tmp_path, monkeypatch):
    monkeypatch.setenv("MRT_DATASET_ROOT", str(tmp_path / "absent"))
    conf.dataset_roots()
    assert not (tmp_path / "absent").exists()


def test_wrong_shape(digits):
    with pytest.raises(DatasetError, match=r"samples of shape \(1, 28, 28\).*\(3, 28, 28\).*\(-1, 1, 28, 28\)"):
        ds.Mnist((4, 3, 28, 28), root=digits)


@pytest.mark.parametrize("damage, words", [
    (lambda b: b[:len(b) // 2], "cannot be read"),
    (lambda b: b"not gzip", "cannot be read"),
    (lambda b: gzip.compress(b"\0\0\x0d\x01" + bytes(8)), "not an IDX file"),
    (lambda b: gzip.compress(b""), "not an IDX file"),
    (lambda b: gzip.compress(struct.pack(">II", 0x801, 10) + bytes(9)), "holds 9 bytes of data where its header announces 10"),
    (lambda b: gzip.compress(struct.pack(">II", 0x801, 9) + bytes(9)), "do not belong together"),
    (lambda b: gzip.compress(struct.pack(">II", 0x801, 2**32 - 1) + bytes(9)), "announces 4294967295"),
])
def test_damaged_idx(digits, damage, words):
    path = digits / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=words):
        ds.Mnist((4, 1, 28, 28), root=digits)


def test_cifar10_from_both_kinds_of_file(tmp_path):
    random = np.random.RandomState(0)
    images, labels = random.randint(0, 256, (5, 32, 32, 3)).astype(np.uint8), np.arange(5, dtype=np.uint8)
    for kind in ("npz", "bin"):
        (tmp_path / kind / "cifar10").mkdir(parents=True)
    np.savez(tmp_path / "npz" / "cifar10" / "cifar10_test_first5.npz", x=images, y=labels)
    rows = [bytes([y]) + x.transpose(2, 0, 1).tobytes() for x, y in zip(images, labels)]
    (tmp_path / "bin" / "cifar10" / "test_batch.bin").write_bytes(b"".join(rows))
    batches = [ds.Cifar10((5, 3, 32, 32), root=tmp_path / kind).iter_func()() for kind in ("npz", "bin")]
    np.testing.assert_array_equal(batches[0][0].asnumpy(), batches[1][0].asnumpy())
    expected = (images[2, 7, 9, 1] / 255 - 0.4822) / 0.1994
    assert batches[0][0].asnumpy()[2, 1, 7, 9] == pytest.approx(expected, abs=1e-5)
    (tmp_path / "bin" / "cifar10" / "test_batch.bin").write_bytes(b"".join(rows)[:-1])
    with pytest.raises(DatasetError, match="multiple of 3073"):
        ds.Cifar10((5, 3, 32, 32), root=tmp_path / "bin")


def test_quickdraw_discards_the_incomplete_batch(tmp_path):
    folder = tmp_path / "quickdraw"
    folder.mkdir()
    np.save(folder / "quickdraw_X_test.npy", np.arange(5)[:, None, None, None] * np.ones((1, 1, 28, 28), np.float32))
    np.save(folder / "quickdraw_y_test.npy", np.arange(5))
    batches = list(ds.Quickdraw((2, 1, 28, 28), root=tmp_path).data)
    assert len(batches) == 2 and batches[1][0].asnumpy()[1, 0, 0, 0] == 3


def test_stdrandom_repeats_itself():
    first, second = (ds.StdRandom((2, 1, 3)).iter_func()()[0].asnumpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (2, 1, 3) and 0 <= first.min() < first.max() < 1


# 2x2 grey PNGs would need an encoder; a BMP is a header and pixels.
def write_bmp(path, grey, size=28):
    pixels = bytes([grey]) * (size * size * 3)
    header = struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54)
    path.write_bytes(header + struct.pack("<IiiHHIIiiII", 40, size, size, 1, 24, 0, len(pixels), 0, 0, 0, 0) + pixels)


def test_custom_folders(tmp_path):
    for name, grey in (("zebra", 10), ("ant", 20)):
        folder = tmp_path / "Custom" / name
        folder.mkdir(parents=True)
        for i in range(2):
            write_bmp(folder / f"{i}.bmp", grey + i)
    dataset = ds.Custom((3, 1, 28, 28), root=tmp_path)
    assert dataset.classes == ["ant", "zebra"]
    batches = list(dataset.data)
    assert [b[0].shape[0] for b in batches] == [3, 1]
    np.testing.assert_array_equal(batches[0][0].asnumpy()[:, 0, 0, 0], [20, 21, 10])  # 0..255, not divided
    np.testing.assert_array_equal(batches[0][1].asnumpy(), [0, 0, 1])
    write_bmp(tmp_path / "Custom" / "ant" / "0.bmp", 1, size=20)
    with pytest.raises(DatasetError, match=r"0\.bmp: picture of shape \(1, 20, 20\).*\(1, 28, 28\)"):
        list(ds.Custom((3, 1, 28, 28), root=tmp_path).data)
    (tmp_path / "Custom" / "ant" / "0.bmp").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"0\.bmp: cannot be read as a picture"):
        list(ds.Custom((3, 1, 28, 28), root=tmp_path).data)


def test_registration():
    class Unregistered(ds.VisionDataset):
        pass

    with pytest.raises(RuntimeError, match="register_dataset"):
        Unregistered((1, 1, 28, 28))
    with pytest.raises(NameError, match="mnist"):
        ds.register_dataset("mnist")(Unregistered)
    assert ds.DS_REG["mnist"] is ds.Mnist


def test_metrics_accumulate_over_batches(digits):
    dataset = ds.Mnist((2, 1, 28, 28), root=digits)
    metrics = dataset.metrics()
    scores = mx.nd.array([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
    assert dataset.validate(metrics, scores, mx.nd.array([5, 5])) == "top1=50.00% top5=50.00%"
    assert dataset.validate(metrics, [scores], mx.nd.array([1, 0])) == "top1=50.00% top5=75.00%"


def test_top_k_ties_and_few_classes():
    metric = TopK(1)
    metric.update([0, 1], [[3, 3], [3, 3]])
    assert metric.percent == 50  # the lower index wins a tie
    few = TopK(5)
    few.update([2], [[0, 1, 2]])
    assert few.percent == 100
    with pytest.raises(ValueError, match=r"\(3, classes\)"):
        metric.update([0, 1, 2], [[1, 2]])


# ---- how much there is, from the headers -----------------------------------------------------------------------------

def test_extents_are_those_of_the_data(digits, tmp_path):
    for is_train in (False, True):
        end = "" if is_train else "_test"
        (tmp_path / "quickdraw").mkdir(exist_ok=True)
        np.save(tmp_path / "quickdraw" / f"quickdraw_X{end}.npy", np.zeros((6 + is_train, 784)))
        np.save(tmp_path / "quickdraw" / f"quickdraw_y{end}.npy", np.zeros(6 + is_train))
        (tmp_path / "cifar10").mkdir(exist_ok=True)
        np.savez_compressed(tmp_path / "cifar10" / f"cifar10_{'train' if is_train else 'test'}.npz",
                            x=np.zeros((4 + is_train, 32, 32, 3), np.uint8), y=np.zeros(4 + is_train))
        for name, batch in (("mnist", 1), ("quickdraw", 1), ("cifar10", 1)):
            cls = ds.DS_REG[name]
            count, *shape = cls.extent(tmp_path, is_train)
            data = list(cls((batch, *shape), root=tmp_path, is_train=is_train).data)
            assert len(data) == count and data[0][0].shape == (batch, *shape)
    (tmp_path / "cifar10" / "test_batch.bin").write_bytes(bytes(3073 * 3))
    assert ds.Cifar10.extent(tmp_path) == (3, 3, 32, 32)


def test_extents_of_pictures_and_of_data_without_end(tmp_path):
    for name in ("Custom/b/1.png", "Custom/a/2.png", "Custom/a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert ds.Custom.extent(tmp_path) == (2,) and ds.StdRandom.extent() == (np.inf,)
    assert ds.VisionDataset.extent() is None


def test_extents_of_damaged_files(digits, tmp_path):
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(b"no")
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "cifar10_test.npz").write_bytes(b"no")
    (tmp_path / "quickdraw").mkdir()
    for name in ("X_test", "y_test"):
        (tmp_path / "quickdraw" / f"quickdraw_{name}.npy").write_bytes(b"no")
    for cls in (ds.Mnist, ds.Cifar10, ds.Quickdraw):
        with pytest.raises(DatasetError, match="cannot be read as"):
            cls.extent(tmp_path)
    np.savez(tmp_path / "cifar10" / "cifar10_test.npz", y=np.zeros(3))
    with pytest.raises(DatasetError, match="holds no array called x"):
        ds.Cifar10.extent(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name, shape", [("mnist", (1, 1, 28, 28)), ("cifar10", (1, 3, 32, 32)), ("quickdraw", (1, 1, 28, 28))])
def test_files_that_are_none(tmp_path, kind, name, shape):
    for pattern in ds.DS_REG[name].files(False)[-1]:
        path = tmp_path / pattern.replace("*", "1")
        {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda at: os.symlink("/dev/zero", at)}[kind](path)
    with pytest.raises(ds.DatasetError, match="not a regular file"):
        ds.DS_REG[name](shape, str(tmp_path))
