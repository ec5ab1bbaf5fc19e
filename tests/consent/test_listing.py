"""List files: what each format says, what is refused and why; both ways of reading agree."""

import csv
import gzip
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import phonenumbers
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consent.listing import (
    Bounds,
    Form,
    Listing,
    ListingError,
    Reason,
    Rejected,
    open_source,
    read_listing,
)
from consent.listing.bulk import LENGTHS, Bulk
from consent.listing.entry import accept_called, accept_calling, read_entry
from consent.listing.reach import after, is_over, is_uniform, pattern_state
from consent.number import parse_number
from consent.plan import rows


def read(content: str | bytes, form: Form, rejected: list[Rejected] | None = None) -> Listing:
    source = io.BytesIO(content.encode() if isinstance(content, str) else content)
    return read_listing(source, form, reject=None if rejected is None else rejected.append)


def values(listing: Listing) -> list[int]:
    assert listing.numbers.dtype == np.uint64
    return listing.numbers.tolist()


A, B = 441632960001, 441632960002
NUMBERS = Form("numbers", region="GB")


@pytest.mark.parametrize(
    ("form", "content", "expected"),
    [
        pytest.param(NUMBERS, "01632960001\n01632960002\n", [A, B], id="national digits"),
        pytest.param(NUMBERS, '"01632960002"\n"01632960001"\n', [A, B], id="quoted, unsorted"),
        pytest.param(NUMBERS, "+441632960001\n00441632960002", [A, B], id="no newline at the end"),
        pytest.param(NUMBERS, "01632960001\r\n01632960002\r\n", [A, B], id="CRLF"),
        pytest.param(NUMBERS, "\ufeffPHONE\n01632960001\n", [A], id="byte order mark, header"),
        pytest.param(NUMBERS, "# shown\n01632 960001 # to many\n\n", [A], id="comments, blanks"),
        pytest.param(NUMBERS, "(01632) 960-001\n+44 (0)1632 960002", [A, B], id="separators"),
        pytest.param(NUMBERS, "01632960001\n+441632960001\n", [A], id="one number written twice"),
        pytest.param(Form("ftc", called=True), "202,5550101\n2125550102\n",
                     [12025550101, 12125550102], id="ftc"),
        pytest.param(Form("ofca"), "21234567\n21234568,20261123\n21234569,2026-11-23\n",
                     [85221234567, 85221234568, 85221234569], id="ofca"),
        pytest.param(Form("csv", region="US"),
                     'Company_Phone_Number,Created_Date,Subject\n2025550101,2026-01-02,"a, b"\n'
                     ",2026-01-02,empty\n2025550102,2026-01-02,c\n",
                     [12025550101, 12025550102], id="ftc complaints"),
        pytest.param(Form("csv", region="GB"), "name;phone\nx;01632960001\n", [A], id="semicolons"),
        pytest.param(Form("csv", region="GB", column="B"), "a,b\n01632960002,01632960001\n", [A],
                     id="named column"),
        pytest.param(Form("csv", region="GB", column="1"), "a,b\n01632960002,01632960001\n", [B],
                     id="column by position"),
        pytest.param(Form("csv", region="GB"), 'note,number\n"two\nlines",01632960001\n', [A],
                     id="a field of two lines"),
    ],
)  # fmt: skip
def test_formats(form: Form, content: str, expected: list[int]) -> None:
    """Each format gives the numbers it names, sorted, each once."""
    rejected: list[Rejected] = []
    listing = read(content, form, rejected)
    assert values(listing) == expected
    assert rejected == []
    assert listing.lines == listing.loaded + listing.duplicates + listing.skipped


CALLED = Form("numbers", region="GB", called=True)


@pytest.mark.parametrize(
    ("form", "line", "reason"),
    [
        pytest.param(NUMBERS, "call me 1", Reason.NO_NUMBER, id="words"),
        pytest.param(NUMBERS, "0163296000x", Reason.NO_NUMBER, id="a letter"),
        pytest.param(NUMBERS, "01632960001,01632960002", Reason.NO_NUMBER, id="two numbers"),
        pytest.param(NUMBERS, "1" * 30, Reason.TOO_LONG, id="thirty digits"),
        pytest.param(Form("numbers"), "01632960001", Reason.NO_REGION, id="national, no region"),
        pytest.param(NUMBERS, "01632*", Reason.SPAN_NATIONAL, id="national prefix"),
        pytest.param(NUMBERS, "+4416*", Reason.SPAN_WIDE, id="prefix of two digits"),
        pytest.param(NUMBERS, "+44*", Reason.SPAN_WIDE, id="a country"),
        pytest.param(NUMBERS, "+441000000000-+441999999999", Reason.SPAN_WIDE, id="wide range"),
        pytest.param(NUMBERS, "+441632960002-+441632960001", Reason.SPAN_ENDS, id="backwards"),
        pytest.param(NUMBERS, "+44163296000-+441632960001", Reason.SPAN_ENDS, id="two lengths"),
        pytest.param(CALLED, "+441632*", Reason.SPAN_CALLED, id="called prefix"),
        pytest.param(CALLED, "0163296", Reason.LENGTH, id="called, too short"),
        pytest.param(CALLED, "999", Reason.SHORT_CODE, id="called, an emergency number"),
        pytest.param(Form("ftc", called=True), "555,0101", Reason.FORM, id="ftc, seven digits"),
        pytest.param(Form("ofca"), "21234567,withdrawn", Reason.FORM, id="ofca, no date"),
    ],
)  # fmt: skip
def test_lines_are_refused_with_a_reason(form: Form, line: str, reason: Reason) -> None:
    """What is not understood is not loaded: its line, its text and the reason are told."""
    rejected: list[Rejected] = []
    good = {"numbers": "+12025550101", "ftc": "202,5550101", "ofca": "21234567"}[form.format]
    listing = read(f"{good}\n{line}\n", form, rejected)
    assert rejected == [Rejected(2, reason, line)]
    assert (listing.loaded, listing.rejected) == (1, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("1234", 441234, id="four digits"),
        pytest.param("0123", 44123, id="trunk prefix and three digits"),
        pytest.param("+4416329600011234", 4416329600011234, id="sixteen digits"),
        pytest.param("+9991234567", 9991234567, id="a country code of nobody"),
    ],
)
def test_odd_calling_numbers_are_loaded_as_shown(text: str, expected: int) -> None:
    """A calling-side list takes numbers of no plan, under the value that a call from them has."""
    assert values(read(text, NUMBERS)) == [expected]
    assert parse_number(text, region="GB").value == expected


def test_prefixes_and_ranges() -> None:
    """A prefix covers the numbers of every length that begin with it; a range has both ends."""
    listing = read("+441632960*\n+447700900100-+447700900199\n+441632960*\n", NUMBERS)
    assert (listing.loaded, listing.duplicates, len(listing.numbers)) == (2, 1, 0)
    ranges = [tuple(row) for row in listing.ranges.tolist()]
    assert (441632960000, 441632960999) in ranges
    assert (441632960, 441632960) in ranges
    assert (447700900100, 447700900199) in ranges


@pytest.mark.parametrize(
    ("form", "content", "words"),
    [
        pytest.param(Form("ftc"), "202,5550101,2026-11-22,A\n", "change list", id="ftc changes"),
        pytest.param(NUMBERS, "1\n".encode("utf-16"), "UTF-16", id="UTF-16"),
        pytest.param(NUMBERS, b"\0" * (2 << 20), "a line of more than", id="no text"),
        pytest.param(Form("csv", region="US"), "2025550101,x\n", "header row", id="no header"),
        pytest.param(Form("csv"), "phone,number\n", "no one column", id="two candidates"),
        pytest.param(Form("csv", column="tel"), "phone,x\n", "'tel' among phone, x", id="absent"),
        pytest.param(Form("csv"), 'number\n"' + "1" * 200_000, "line 2", id="an open quote"),
    ],
)
def test_files_are_refused_whole(form: Form, content: str | bytes, words: str) -> None:
    """A file of another form is refused, in words that say what it is."""
    with pytest.raises(ListingError, match=words):
        read(content, form)


@pytest.mark.parametrize("words", [("xml", "GB", ""), ("ftc", "DE", ""), ("numbers", "DE", "x")])
def test_forms_that_are_none(words: tuple[str, str, str]) -> None:
    """An unknown format, a region that is not the format's own, and a column where none is."""
    with pytest.raises(ListingError):
        Form(words[0], region=words[1], column=words[2])


def test_a_header_stands_at_the_top_only() -> None:
    """The first line may be words; words below a number are a line that was not understood."""
    rejected: list[Rejected] = []
    listing = read("\nphone\n01632960001\n01632960002\nphone\n", NUMBERS, rejected)
    assert (listing.header, listing.skipped, listing.loaded) == ("phone", 2, 2)
    assert rejected == [Rejected(5, Reason.NO_NUMBER, "phone")]
    assert read("01632960001\n" * 99 + "phone\n", NUMBERS, rejected).rejected == 1


# Sources.

LINES = b"".join(b"0163296%04d\n" % n for n in range(1000))


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(LINES, id="plain"),
        pytest.param(gzip.compress(LINES), id="gzip"),
        pytest.param(gzip.compress(LINES[:6000]) + gzip.compress(LINES[6000:]), id="gzip members"),
        pytest.param(zipped(**{"list.txt": LINES}), id="zip"),
        pytest.param(zipped(**{"list.txt": LINES, "list.txt.sha256": b"0"}), id="zip with hash"),
    ],
)
def test_sources(content: bytes, tmp_path: Path) -> None:
    """Packed or not, told by its first bytes, a file is read to the same end."""
    path = tmp_path / "list"
    path.write_bytes(content)
    with open_source(path) as source:
        listing = read_listing(source, NUMBERS)
        assert (listing.lines, listing.loaded) == (1000, 1000)
        assert source.done == source.total > 0


def read_to_the_end(path: Path, bounds: Bounds) -> None:
    with open_source(path, bounds=bounds) as source:
        while source.read(1 << 16):
            pass


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(gzip.compress(LINES)[:-9], "cut or damaged", id="gzip cut"),
        pytest.param(zipped(a=LINES)[:-30], "cut or damaged", id="zip cut"),
        pytest.param(zipped(a=LINES, b=LINES), "holds a, b: expected one list", id="two members"),
        pytest.param(zipped(), "nothing that could be a list", id="empty zip"),
        pytest.param(gzip.compress(b"0" * (4 << 20)), "times its size", id="gzip bomb"),
        pytest.param(zipped(a=b"0" * (4 << 20)), "times its size", id="zip bomb"),
        pytest.param(b"1\n" * (3 << 20), "more than 5242880 bytes", id="too large"),
    ],
)
def test_sources_that_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    """A cut file, an archive of several, one that unpacks without end."""
    path = tmp_path / "list"
    path.write_bytes(content)
    bounds = Bounds(most_bytes=5 << 20, free_bytes=1 << 20)
    with pytest.raises(ListingError, match=words):
        read_to_the_end(path, bounds)


def test_a_named_member_and_files_that_are_none(tmp_path: Path) -> None:
    """One of several members is read by its name; a folder and an absent file are told."""
    path = tmp_path / "lists.zip"
    path.write_bytes(zipped(a=b"01632960001\n", b=b"01632960002\n"))
    with open_source(path, member="b") as source:
        assert values(read_listing(source, NUMBERS)) == [B]
    for absent in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ListingError, match="list file"), open_source(absent):
            pass


# Both ways of reading.

REGIONS = ["", "US", "CN", "IN", "GB", "DE", "HK", "FR", "BR", "AR", "IT", "JP", "AU", "MX", "GG"]


def agree(bulk: Bulk, region: str, strings: list[str], *, plus: bool, called: bool) -> int:
    """Compares what is settled in bulk with what each string is on its own; how many were."""
    digits = np.array([int(each) for each in strings], np.uint64)
    read, settled = bulk.values(digits, length=len(strings[0]), plus=plus)
    for text, value, known in zip(strings, read.tolist(), settled.tolist(), strict=True):
        if known:
            assert value == read_entry("+" * plus + text, region=region, called=called), text
    return int(settled.sum())


def accept_of(region: str, *, called: bool) -> Callable[..., int | Reason]:
    return accept_called if called else lambda number: accept_calling(number, region=region)


TRUNKS = ["0", "00", "011", "015", "01115", "015119", "180020", "17951", "0002", "44", "1310",
          "1463", "0146"]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    region=st.sampled_from(REGIONS),
    called=st.booleans(),
    plus=st.booleans(),
    length=st.sampled_from(list(LENGTHS)),
    head=st.one_of(
        st.text("0123456789", min_size=3, max_size=5),
        st.sampled_from(TRUNKS),
    ),
    seed=st.integers(0, 2**32),
)
def test_bulk_agrees_with_one_by_one(
    region: str, *, called: bool, plus: bool, length: int, head: str, seed: int
) -> None:
    """Whatever digits come in whatever region, both ways give the same value."""
    tails = np.random.default_rng(seed).integers(0, 10, (24, length - len(head)))
    strings = [head + "".join(map(str, tail)) for tail in tails]
    bulk = Bulk(region, accept=accept_of(region, called=called))
    agree(bulk, region, strings, plus=plus, called=called)


def test_bulk_agrees_where_a_plan_is_told_by_many_digits() -> None:
    """Beside the prefixes that tell the countries of a shared code apart, in every length."""
    rng = np.random.default_rng(2)
    bulk = Bulk("", accept=accept_of("", called=True))
    settled = 0
    for prefix in (row[0] for row in rows("plans.tsv") if len(row[0]) > 4):
        for length in LENGTHS:
            tails = rng.integers(0, 10, (12, length))
            strings = [
                (prefix[:kept] + "".join(map(str, tail)))[:length]
                for kept in (len(prefix), len(prefix) - 1, 4)
                for tail in tails
            ]
            settled += agree(bulk, "", strings, plus=True, called=True)
    assert settled > 1000


@settings(max_examples=80, deadline=None)
@given(
    pattern=st.sampled_from(
        ["[2-9]\\d{5}", "49(?:[34]0|69)\\d{1,3}|[25]\\d{3}", "(?:1[0-5]|2)\\d{3}", "\\d{5}"]
    ),
    head=st.text("0123456789", max_size=4),
    more=st.integers(0, 3),
)
def test_a_uniform_pattern_takes_all_or_none(pattern: str, head: str, more: int) -> None:
    """Where a head is said to settle a pattern, whatever follows changes nothing."""
    tails = [f"{tail:0{more}d}" for tail in range(10**more)] if more else [""]
    matches = {re.fullmatch(pattern, head + tail) is not None for tail in tails}
    state = after(pattern_state(pattern), head)
    assert len(matches) == 1 or not is_uniform(state, more)
    if re.match(pattern, head) is None and is_over(state):
        assert not any(re.match(pattern, head + tail) for tail in tails)


@pytest.mark.parametrize(
    ("pattern", "head", "length", "expected"),
    [
        pytest.param("[2-9]\\d{9}", "2", 9, True, id="the first digit settles it"),
        pytest.param("[2-9]\\d{9}", "", 10, False, id="nothing read yet"),
        pytest.param("1(?:[38]\\d|4[57])\\d{8}", "13", 9, True, id="the branch is known"),
        pytest.param("1(?:[38]\\d|4[57])\\d{8}", "14", 9, False, id="one digit more is needed"),
        pytest.param("1(?:[38]\\d|4[57])\\d{8}", "2", 10, True, id="none can match"),
    ],
)
def test_what_settles_a_pattern(pattern: str, head: str, length: int, *, expected: bool) -> None:
    """A head is found to settle a pattern as soon as it does: speed depends on it."""
    assert is_uniform(after(pattern_state(pattern), head), length) is expected


def test_bulk_agrees_around_every_country_s_examples() -> None:
    """Numbers beside libphonenumber's examples, in national form, without trunk prefix and with
    plus, are settled alike; and most of them are settled."""
    tried = settled = 0
    rng = np.random.default_rng(1)
    kinds = [phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE]
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        bulk = Bulk(region, accept=accept_of(region, called=True))
        for kind in kinds:
            example = phonenumbers.example_number_for_type(region, kind)
            if example is None:
                continue
            national = phonenumbers.national_significant_number(example)
            shown = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.NATIONAL)
            dialled = "".join(filter(str.isdigit, shown))
            forms = {
                (dialled, False),
                (national, False),
                (f"{example.country_code}{national}", True),
            }
            for text, plus in sorted(forms):
                tails = rng.integers(0, 1000, 6)
                strings = [f"{text[:-3]}{tail:03d}" for tail in tails]
                if len(text) in LENGTHS:
                    tried += len(strings)
                    settled += agree(bulk, region, strings, plus=plus, called=True)
    assert settled > tried * 0.7


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from([NUMBERS, CALLED, Form("ftc"), Form("ofca"), Form("numbers")]),
    lines=st.lists(
        st.one_of(
            st.sampled_from(["", "#", '"01632960001"', "01632960001", "+441632960002", "999"]),
            st.sampled_from(["202,5550101", "2025550101", "21234567,2026", "+441632*", "PHONE"]),
            st.text('0123456789+,-" .#x\r', max_size=14),
        ),
        max_size=30,
    ),
    repeats=st.integers(1, 3),
)
def test_a_file_is_the_sum_of_its_lines(form: Form, lines: list[str], repeats: int) -> None:
    """Read whole or line by line, a file names the same numbers, and every line is counted."""
    # The first is a line that every form knows, so that no other can pass for a header.
    lines = ["2025550101" if form.region in ("US", "") else "21234567", *lines] * repeats
    try:
        whole = read("\n".join(lines) + "\n", form)
    except ListingError:
        assert form.format == "ftc"
        return
    alone: set[int] = set()
    for line in lines:
        if line.strip():
            alone.update(values(read(line + "\n", form)))
    assert set(values(whole)) == alone
    assert (np.diff(whole.numbers.astype(np.int64)) > 0).all()
    counted = whole.loaded + whole.duplicates + whole.rejected + whole.skipped
    assert whole.lines == len(lines) == counted


cell = st.one_of(
    st.sampled_from(["01632960001", '"01632960002"', "+441632960003", "", '""', "999", " ", "x"]),
    st.sampled_from(
        ['"a,b"', '"a""b"', '"a\n1"', 'a"b', ' "a"', '"a"b', "\r", "07700900123 ", '"']
    ),
    st.text('0123456789+,-" .#x\r', max_size=14),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    table=st.lists(st.lists(cell, max_size=4), max_size=30),
    delimiter=st.sampled_from(",;"),
    column=st.integers(0, 2),
    end=st.sampled_from(["\n", "\r\n"]),
    size=st.sampled_from([1, 17, 60, 8 << 20]),
)
def test_rows_are_those_of_the_csv_module(
    monkeypatch: pytest.MonkeyPatch,
    table: list[list[str]],
    delimiter: str,
    column: int,
    end: str,
    size: int,
) -> None:
    """However rows are quoted and parts cut, each is what `csv` makes of it, count for count."""
    monkeypatch.setattr("consent.listing.PART_BYTES", size)
    content = end.join([delimiter.join("abc"), *map(delimiter.join, table), ""])
    form = Form("csv", region="GB", called=True, column="abc"[column])
    rows = csv.reader((line + "\n" for line in content.split("\n")[:-1]), delimiter=delimiter)
    numbers: set[int] = set()
    rejected: list[Rejected] = []
    told: list[Rejected] = []
    skipped = accepted = 0
    try:
        for row in rows:
            field = row[column].strip().strip("\"'").strip() if len(row) > column else ""
            if rows.line_num == 1 or not (field or (any(row) and len(row) <= column)):
                skipped += 1
            elif not field:
                rejected.append(Rejected(rows.line_num, Reason.COLUMN, str(row)))
            else:
                field = field.replace("\n", " ")
                entry = read_entry(field, region="GB", called=True)
                if isinstance(entry, int):
                    numbers.add(entry)
                    accepted += 1
                else:
                    assert isinstance(entry, Reason)
                    rejected.append(Rejected(rows.line_num, entry, field))
    except csv.Error:
        with pytest.raises(ListingError, match=f"line {rows.line_num}: "):
            read(content, form, told)
        return
    listing = read(content, form, told)
    assert values(listing) == sorted(numbers)
    assert sorted(told) == sorted(rejected)
    assert (listing.skipped, listing.duplicates) == (skipped, accepted - len(numbers))
    assert listing.lines == listing.loaded + listing.duplicates + listing.rejected + skipped


def test_parts_do_not_cut_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the file is cut into parts, it says the same, and progress rises to its size."""
    content = "".join(f"0163296{n:04d}\n" for n in range(100)) + "call me\n"
    whole = read(content, NUMBERS)
    for size in (1, 7, 12, 13, 1000):
        monkeypatch.setattr("consent.listing.PART_BYTES", size)
        rejected: list[Rejected] = []
        told: list[int] = []
        listing = read_listing(
            io.BytesIO(content.encode()), NUMBERS, reject=rejected.append, progress=told.append
        )
        assert listing.checksum() == whole.checksum()
        assert rejected == [Rejected(101, Reason.NO_NUMBER, "call me")]
        assert told == sorted(told)
        assert told[-1] == len(content)
