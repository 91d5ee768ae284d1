"""Shapes: sizes are checked, CSV files say what is wrong, the suite is DeepBench's."""

import csv
import re
from dataclasses import astuple

import pytest
import references
from systolith.shapes import SUITES, Shape, read_shapes, suite_shapes

ORIGINAL = references.models_path() / "shapes" / "deepbench_gemm.csv"
LIMITS = {"m": 128, "n": 768, "k": 768}


def scaled(name, size):
    """As the suite's file says."""
    limit = LIMITS[name]
    return size if size <= limit else limit - 16 + size % 16


def test_the_suite_is_deepbench_s_inference_scaled():
    if not ORIGINAL.is_file():
        pytest.skip("DeepBench's shapes are not here")
    with ORIGINAL.open(newline="") as file:
        expected = [tuple(scaled(name, int(row[column])) for name, column in
                          (("m", "n"), ("n", "m"), ("k", "k")))
                    for row in csv.DictReader(file) if row["set"].startswith("inference_")]
    assert len(expected) == 88
    assert [astuple(shape) for shape in suite_shapes("deepbench")] == expected


@pytest.mark.parametrize("name", SUITES)
def test_suites_keep_to_the_limits(name):
    shapes = suite_shapes(name)
    assert len(shapes) >= 88
    for shape in shapes:
        assert all(getattr(shape, size) <= limit for size, limit in LIMITS.items())


def test_columns_stand_in_any_order_beside_others():
    text = "# from a paper\n Layer,N, K,M,\nfirst,2,3,1,\n\nsecond,5,6,4,\n#,7,8,9,\n"
    assert read_shapes(text, name="x.csv") == [Shape(1, 2, 3), Shape(4, 5, 6)]
    assert read_shapes("m,n,k\r\n1,2,3\r\n", name="x.csv") == [Shape(1, 2, 3)]


@pytest.mark.parametrize("text, sentence", [
    ("", "shapes must have a column m, which 'x.csv' has not"),
    ("m;n;k\n1;2;3\n", "shapes must have a column m, which 'x.csv' has not"),
    ("m,n\n1,2\n", "shapes must have a column k, which 'x.csv' has not"),
    ("1,2,3\n", "shapes must have a column m, which 'x.csv' has not"),
    ("m,n,k\n", "shapes must be at least one, not none as in 'x.csv'"),
    ("m,n,k\n1,2,3\n\n1,2.5,3\n", "x.csv, line 4: n must be an integer, not '2.5'"),
    ("m,n,k\n1,2\n", "x.csv, line 2: k must be an integer, not ''"),
    ("m,n,k\n1,0,3\n", "x.csv, line 2: n must be at least 1, not 0"),
    ("m,n,k\n1,-2,3\n", "x.csv, line 2: n must be at least 1, not -2"),
    ("m,n,k\n65536,1,65536\n", "x.csv, line 2: m * k must be at most 2147483648, not 4294967296"),
    ("m,n,k\n" + "1" * 200_000,
     "shapes must be a CSV file, not 'x.csv': field larger than field limit (131072)"),
], ids=["empty", "semicolons", "column", "header", "alone", "fraction", "short", "zero", "negative",
        "large", "field"])
def test_what_is_wrong_with_a_file_is_said(text, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        read_shapes(text, name="x.csv")


@pytest.mark.parametrize("sizes, sentence", [
    ((0, 1, 1), "m must be at least 1, not 0"),
    ((1, 1, -3), "k must be at least 1, not -3"),
    ((1 << 16, 1, (1 << 15) + 1), "m * k must be at most 2147483648, not 2147549184"),
    ((1, 1 << 16, 1 << 16), "k * n must be at most 2147483648, not 4294967296"),
    ((1 << 16, 1 << 16, 1), "m * n must be at most 2147483648, not 4294967296"),
], ids=["zero", "negative", "a", "b", "result"])
def test_sizes_out_of_range_are_refused(sizes, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Shape(*sizes)


def test_sizes_up_to_the_limit_are_taken():
    assert Shape(1 << 16, 1, 1 << 15).macs == 1 << 31


def test_an_unknown_suite_is_refused():
    with pytest.raises(ValueError, match="^suite must be one of deepbench, not 'x'$"):
        suite_shapes("x")
