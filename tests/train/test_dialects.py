"""The same rows as other programs write them: read as the same rows, or refused by name.

Spark itself isn't here: its files are written with the options that its documentation names.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from towerspec.check import Checked, check_text
from towerspec.diagnostics import SpecError
from towerspec.runtime.vocabulary import text_id
from towerspec.train import csvs
from towerspec.train.data import Columns, open_log
from towerspec.train.rows import join

SPEC = """model dialects
request {
    age     : number
    device  : category { rows: 50, ids: hash }
    pin     : category { rows: 50 }
    tab     : category { values: [top, "far down"] }
    history : sequence { rows: 50, ids: hash, length: 2 }
    words   : bag { rows: 50, length: 2 }
}
trunk { z = mlp(concat(age, device, pin, tab, pooling(history), words), hidden: [4]) }
surface home { tower { head click : binary } }
surface search { tower { head click : binary } }
"""
DEVICES = ["a,b", 'say "hi"', None, "two\nlines", "Ωmega; | é"]
HISTORY = [["a", "b"], ["c"], None, [], ["x y", "z"]]
DAYS = [datetime(2024, 5, day, 12, 30) for day in (1, 2, 3, 4, 5)]
TABLE = pa.table({
    "surface": ["home", "search", "home", "search", "home"],
    "request": ["r1", "r2", "r1", "r2", "r3"],
    "age": [30.25, None, -2.0, 7.0, 1e6],
    "device": DEVICES,
    "pin": pa.array([3, None, 49, 0, 7], pa.int64()),
    "tab": ["far down", "top", None, "else", "top"],
    "history": HISTORY,
    "words": pa.array([[1, 2], [3], None, [], [4, 5]], pa.list_(pa.int64())),
    "click": pa.array([1, 0, None, 1, 0], pa.int64()),
    "day": pa.array(DAYS, pa.timestamp("us")),
})  # fmt: skip
# Cells of CSV: those writers know no lists.
FLAT = TABLE.set_column(6, "history", pa.array([x if x is None else json.dumps(x) for x in HISTORY]))
FLAT = FLAT.set_column(7, "words", pa.array(["1|2", "3", None, None, "4|5"]))
NAN = float("nan")
EXPECTED: dict[str, Any] = {
    "age": [30.25, NAN, -2, 7, 1e6],
    "device": [-1 if x is None else text_id(x) for x in DEVICES],
    "pin": [3, -1, 49, 0, 7],
    "tab": [1, 0, -1, 2, 0],
    "history": [[text_id("a"), text_id("b")], [text_id("c"), -1], [-1, -1], [-1, -1], [text_id("x y"), text_id("z")]],
    "words": [[1, 2], [3, -1], [-1, -1], [-1, -1], [4, 5]],
}
BY_DAY = Columns(time="day")
Write = Callable[[Path], None]
PARQUET: dict[str, Write] = {}
CSV: dict[str, Write] = {}


@pytest.fixture(scope="module")
def checked() -> Checked:
    return check_text(SPEC)


def same(checked: Checked, path: Path, columns: Columns = BY_DAY) -> None:
    """Whether the log holds the rows, in their order."""
    log = open_log(checked, [path], columns)
    rows = join(list(log.encoded()))
    for name, values in EXPECTED.items():
        np.testing.assert_array_equal(rows.features[name], np.array(values).astype(rows.features[name].dtype), name)
    np.testing.assert_array_equal(rows.labels["click"], [1, 0, NAN, 1, 0])
    assert rows.surface.tolist() == [0, 1, 0, 1, 0]
    assert rows.request is not None
    assert [rows.request.tolist().index(x) for x in rows.request.tolist()] == [0, 1, 0, 1, 4]
    assert log.where(after="2024-05-02 12:30:00", before="2024-05-04").rows() == 2


# ---- Parquet -----------------------------------------------------------------------------------


def _arrow(**options: Any) -> Write:
    return lambda path: pq.write_table(TABLE, path, **options)


for codec in ("none", "snappy", "gzip", "brotli", "zstd", "lz4"):
    PARQUET[f"pyarrow {codec}"] = _arrow(compression=codec)
    if codec != "none":
        PARQUET[f"duckdb {codec}"] = lambda path, c=codec: _duckdb(path, f"FORMAT parquet, COMPRESSION {c}")
    name = {"none": "uncompressed"}.get(codec, codec)
    PARQUET[f"polars {codec}"] = lambda path, c=name: pl.from_arrow(TABLE).write_parquet(path, compression=c)
for version in ("1.0", "2.4", "2.6"):
    for page in ("1.0", "2.0"):
        PARQUET[f"pyarrow {version}, pages {page}"] = _arrow(version=version, data_page_version=page, row_group_size=2)
PARQUET |= {
    "pyarrow without dictionaries": _arrow(use_dictionary=False),
    "pyarrow without Arrow's schema": _arrow(store_schema=False),
    "pyarrow delta": _arrow(use_dictionary=False, column_encoding={
        "device": "DELTA_LENGTH_BYTE_ARRAY", "pin": "DELTA_BINARY_PACKED", "age": "BYTE_STREAM_SPLIT",
        "request": "DELTA_BYTE_ARRAY"}),
    "spark INT96": _arrow(flavor="spark", use_deprecated_int96_timestamps=True),
    "spark milliseconds": _arrow(flavor="spark", coerce_timestamps="ms"),
    "large and views": lambda path: pq.write_table(TABLE.cast(pa.schema(_large())), path),
    "pyarrow dictionaries": lambda path: pq.write_table(TABLE.set_column(
        3, "device", TABLE["device"].combine_chunks().dictionary_encode()), path),
    "pandas": lambda path: TABLE.to_pandas().to_parquet(path),
    "pandas with its index": lambda path: TABLE.to_pandas().set_index("request", drop=False).rename_axis(
        "at").to_parquet(path, index=True),
    "pandas nullable": lambda path: TABLE.to_pandas().convert_dtypes().to_parquet(path),
    "pandas of Arrow": lambda path: TABLE.to_pandas(types_mapper=pd.ArrowDtype).to_parquet(path),
    "pandas categories": lambda path: TABLE.to_pandas().astype(
        {"device": "category", "tab": "category"}).to_parquet(path),
    "polars categories": lambda path: pl.from_arrow(TABLE).with_columns(
        pl.col("device").cast(pl.Categorical), pl.col("tab").cast(pl.Enum(["top", "far down", "else"]))
    ).write_parquet(path),
    "polars decimals": lambda path: pl.from_arrow(TABLE).with_columns(
        pl.col("age").cast(pl.Decimal(12, 2)), pl.col("pin").cast(pl.UInt8), pl.col("click").cast(pl.Boolean)
    ).write_parquet(path),
    "duckdb": lambda path: _duckdb(path, "FORMAT parquet"),
    "duckdb version 2": lambda path: _duckdb(path, "FORMAT parquet, PARQUET_VERSION v2, ROW_GROUP_SIZE 2048"),
    "duckdb types": lambda path: _duckdb(path, "FORMAT parquet", """* REPLACE (
        pin::UTINYINT AS pin, age::DECIMAL(12, 2) AS age, click = 1 AS click, day::TIMESTAMP_NS AS day,
        tab::ENUM('top', 'far down', 'else') AS tab)"""),
}  # fmt: skip


def _large() -> list[tuple[str, pa.DataType]]:
    kinds = {"device": pa.large_string(), "tab": pa.string_view(), "request": pa.large_string()}
    kinds |= {"history": pa.large_list(pa.large_string()), "words": pa.large_list(pa.int32()), "age": pa.float32()}
    return [(column.name, kinds.get(column.name, column.type)) for column in TABLE.schema]


def _duckdb(path: Path, options: str, what: str = "*", table: pa.Table = TABLE) -> None:
    with duckdb.connect() as connection:
        connection.register("log", table)
        connection.execute(f"COPY (SELECT {what} FROM log) TO '{path}' ({options})")


@pytest.mark.parametrize("name", PARQUET)
def test_parquet(checked: Checked, name: str, tmp_path: Path) -> None:
    PARQUET[name](tmp_path / "log.parquet")
    same(checked, tmp_path / "log.parquet")


# ---- CSV ---------------------------------------------------------------------------------------


def _pandas(**options: Any) -> Write:
    """Whole numbers with gaps are floats there: `3.0`."""
    return lambda path: FLAT.to_pandas().to_csv(path, **{"index": False, **options})


def _polars(**options: Any) -> Write:
    return lambda path: pl.from_arrow(FLAT).write_csv(path, **options)


CSV |= {
    "pyarrow": lambda path: pyarrow.csv.write_csv(FLAT, path),
    "pyarrow all quoted": lambda path: pyarrow.csv.write_csv(
        FLAT, path, pyarrow.csv.WriteOptions(quoting_style="all_valid")),
    "pandas": _pandas(),
    "pandas with its index": _pandas(index=True),
    "pandas all quoted": _pandas(quoting=1),
    "pandas of Windows": _pandas(lineterminator="\r\n"),
    "pandas with a mark": _pandas(encoding="utf-8-sig"),
    "pandas floats": _pandas(float_format="%.2f"),
    "polars": _polars(),
    "polars all quoted": _polars(quote_style="always"),
    "polars with a mark": _polars(include_bom=True),
    "polars times": _polars(datetime_format="%Y-%m-%dT%H:%M:%S%.6f"),
    "duckdb": lambda path: _duckdb(path, "FORMAT csv, HEADER", table=FLAT),
    "duckdb all quoted": lambda path: _duckdb(path, "FORMAT csv, HEADER, FORCE_QUOTE *", table=FLAT),
    "python lists": lambda path: FLAT.set_column(6, "history", pa.array(
        [x if x is None else str(x) for x in HISTORY])).to_pandas().to_csv(path, index=False),
    "spark, quotes doubled": _polars(datetime_format="%Y-%m-%dT%H:%M:%S%.3f"),
}  # fmt: skip


@pytest.mark.parametrize("name", CSV)
def test_csv(checked: Checked, name: str, tmp_path: Path) -> None:
    CSV[name](tmp_path / "log.csv")
    same(checked, tmp_path / "log.csv")


@pytest.mark.parametrize("ending", ["gz", "bz2", "zst", "lz4"])
def test_compressed_csv(checked: Checked, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"log.csv.{ending}"
    with pa.output_stream(str(path)) as stream:  # compressed as its name says
        pyarrow.csv.write_csv(FLAT, stream)
    same(checked, path)


@pytest.mark.parametrize("write", [_pandas(sep="\t"), _polars(separator="\t")], ids=["pandas", "polars"])
def test_tabs(checked: Checked, write: Write, tmp_path: Path) -> None:
    write(tmp_path / "log.tsv")
    same(checked, tmp_path / "log.tsv")


@pytest.mark.parametrize("word", ["NA", "\\N", "NULL", "nan", "None"])
@pytest.mark.parametrize("writer", ["pandas", "polars", "duckdb"])
def test_words_for_null(checked: Checked, writer: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    if writer == "pandas":
        _pandas(na_rep=word)(path)
    elif writer == "polars":
        _polars(null_value=word)(path)
    else:
        _duckdb(path, f"FORMAT csv, HEADER, NULLSTR '{word}'", table=FLAT)
    same(checked, path, Columns(time="day", nulls=(word,)))


# ---- folders -----------------------------------------------------------------------------------


def test_a_folder_of_spark(checked: Checked, tmp_path: Path) -> None:
    """Parts by day, each compressed, an empty one among them, and the marks of what is whole."""
    for at, codec in enumerate(["snappy", "gzip", "zstd", "lz4", "none"]):
        folder = tmp_path / "log" / f"date=2024-05-0{at + 1}"
        folder.mkdir(parents=True)
        part = f"part-0000{at}-5f1c-c000.{codec}.parquet"
        pq.write_table(TABLE.slice(at, 1), folder / part, compression=codec, use_deprecated_int96_timestamps=True)
        (folder / f".{part}.crc").write_bytes(b"crc\0")
    pq.write_table(TABLE.slice(0, 0), tmp_path / "log" / "part-00009.parquet")
    (tmp_path / "log" / "_SUCCESS").write_bytes(b"")
    (tmp_path / "log" / "_temporary").mkdir()
    pq.write_table(TABLE, tmp_path / "log" / "_temporary" / "half.parquet")
    paths = sorted((tmp_path / "log").rglob("date=*"))
    assert open_log(checked, [tmp_path / "log"]).rows() == 5
    log = open_log(checked, paths, Columns(time="date"))
    assert log.where(after="2024-05-03").rows() == 3


@pytest.mark.parametrize("writer", ["duckdb", "polars", "pandas", "pyarrow"])
def test_partitions(checked: Checked, writer: str, tmp_path: Path) -> None:
    """By surface, whose column stands in the folders' names alone."""
    out = tmp_path / "log"
    if writer == "duckdb":
        _duckdb(out, "FORMAT parquet, PARTITION_BY (surface)")
    elif writer == "polars":
        pl.from_arrow(TABLE).write_parquet(out, partition_by="surface")
    elif writer == "pandas":
        TABLE.to_pandas().to_parquet(out, partition_cols=["surface"])
    else:
        pq.write_to_dataset(TABLE, out, partition_cols=["surface"])
    log = open_log(checked, [out])
    assert log.counts == {"home": 3, "search": 2}
    rows = join(list(log.encoded()))
    assert sorted(rows.features["pin"].tolist()) == sorted(EXPECTED["pin"])


# ---- refused by name ---------------------------------------------------------------------------

ESCAPED = 'surface,request,age,device,pin,tab,history,words,click,day\nhome,r,1,"say \\"hi\\"",1,top,a,1,1,2024-05-01\n'


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (_pandas(sep=";"), "its cells seem to be separated by `;`"),
        (_polars(separator="|"), "its cells seem to be separated by `|`"),
        (_pandas(sep="\t"), "its cells seem to be separated by tabs"),
        (_pandas(encoding="utf-16"), "can't be read"),
        (_pandas(encoding="iso-8859-1", errors="replace"), "can't be read"),
        (lambda path: path.write_text(ESCAPED), 'quotes in its cells are written as `\\"`'),
        (lambda path: _duckdb(path, "FORMAT csv, HEADER"), "row 1: the column `history` holds '[a, b]'"),
        (_pandas(na_rep="NA"), "the column `age` of `{}` has the wrong type for the number `age`"),
        (lambda path: pyarrow.csv.write_csv(
            FLAT, path, pyarrow.csv.WriteOptions(include_header=False)), "has no column `surface`"),
    ],
)  # fmt: skip
def test_what_is_not_read(checked: Checked, write: Write, said: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    write(path)
    with pytest.raises(SpecError) as found:
        list(open_log(checked, [path], Columns(time="day")).encoded())
    assert any(said.format(path) in d.message for d in found.value.diagnostics), found.value


def test_such_quotes_after_a_files_beginning(checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, (header, row) = tmp_path / "log.csv", ESCAPED.splitlines()
    plain_row = row.replace('\\"', '""')
    monkeypatch.setattr(csvs, "BLOCK", 512)
    for before in range(20, 24):  # whose last bytes are at the end of a block, or aren't
        for length in range(4):
            path.write_text("\n".join([header, *[plain_row] * before, "home" + row[4:], ""]))
            monkeypatch.setattr(csvs, "SAMPLE", 512 + length)
            with pytest.raises(SpecError, match=r"quotes in its cells are written as"):
                list(open_log(checked, [path]).encoded())


def test_a_backslash_before_a_quote_that_ends_its_cell(checked: Checked, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(codecs.BOM_UTF8 + ESCAPED.replace('\\"hi\\"', "C:\\").encode())
    (rows,) = open_log(checked, [path]).encoded()
    assert rows.features["device"].tolist() == [text_id("say C:\\")]


def test_times_of_a_zone(checked: Checked, tmp_path: Path) -> None:
    """As pandas and Polars write them: the moment, whatever the zone's name."""
    zoned = [day.replace(tzinfo=UTC) for day in DAYS]
    frame = TABLE.to_pandas().assign(day=pd.Series(zoned).dt.tz_convert("Asia/Tokyo"))
    frame.to_parquet(tmp_path / "log.parquet")
    log = open_log(checked, [tmp_path / "log.parquet"], Columns(time="day"))
    assert log.where(after="2024-05-02T12:30:00Z").rows() == 4
    assert log.where(after="2024-05-02 21:30:00").rows() == 4, "a bound without a zone is in the column's"
    assert log.where(after="2024-05-02 21:30:01").rows() == 3
