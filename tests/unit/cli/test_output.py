"""Tables, JSON and Go templates."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.cli import output
from rootless.cli.gotemplate import Template, TemplateError, struct
from rootless.cli.govalues import Span, Time, show
from rootless.errors import UsageError

ROWS: list[dict[str, Any]] = [
    {"ID": "f150fa337463", "Repository": "localhost/bb", "Tag": "1", "Names": ["localhost/bb:1"], "Labels": {"a": "b"}},
    {"ID": "218152854b38", "Repository": "x", "Tag": "22", "Names": [], "Labels": None},
]
COLUMNS = (("REPOSITORY", "Repository"), ("TAG", "Tag"), ("IMAGE ID", "ID"))


def printed(format: str = "", **more: Any) -> str:
    parts: list[str] = []
    output.listing(ROWS, COLUMNS, format=format, name="images", write=parts.append, **more)
    return "".join(parts)


def test_a_table_as_podman_pads_it() -> None:
    assert printed() == (
        "REPOSITORY    TAG         IMAGE ID\n"
        "localhost/bb  1           f150fa337463\n"
        "x             22          218152854b38\n"
    )  # fmt: skip


def test_a_table_of_a_template() -> None:
    assert printed("table {{.ID}}\\t{{upper .Repository}} {{.Names}}", headings={"Names": "NAMES"}) == (
        "IMAGE ID      REPOSITORY    NAMES\n"
        "f150fa337463  LOCALHOST/BB  [localhost/bb:1]\n"
        "218152854b38  X             []\n"
    )  # fmt: skip


def test_a_table_without_headings() -> None:
    assert printed("table {{.Tag}} {{.ID}}", noheading=True) == "1           f150fa337463\n22          218152854b38\n"


def test_json() -> None:
    assert (
        printed("json", json_rows=[{"Id": "x", "Size": 1}])
        == '[\n    {\n        "Id": "x",\n        "Size": 1\n    }\n]\n'
    )


@pytest.mark.parametrize(
    ("template", "first", "second"),
    [
        ("{{.ID}} {{.Names}} {{json .Labels}}", 'f150fa337463 [localhost/bb:1] {"a":"b"}', "218152854b38 [] null"),
        ("{{range .Names}}{{.}}-{{end}}", "localhost/bb:1-", ""),
        ("{{range .Names}}{{.}}{{else}}none{{end}}", "localhost/bb:1", "none"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=b;", ""),
        ("{{range $v := .Names}}<{{$v}}>{{end}}", "<localhost/bb:1>", ""),
        ("{{if .Names}}y{{else}}n{{end}}", "y", "n"),
        ('{{if eq .Tag "1"}}a{{else if eq .Tag "22"}}b{{else}}c{{end}}', "a", "b"),
        ("{{with .Names}}{{.}}{{else}}none{{end}}", "[localhost/bb:1]", "none"),
        ('{{join .Names ","}}', "localhost/bb:1", ""),
        ("{{.Repository | upper | lower}}", "localhost/bb", "x"),
        ('{{.ID | printf "%s-%.3s" "x"}}', "x-f15", "x-218"),
        ("{{println .Tag}}|", "1\n|", "22\n|"),
        ("{{len .Names}}{{(len .Names)}}", "11", "00"),
        ("{{$x := .Tag}}{{if .Tag}}{{$x = 3}}{{end}}{{$x}}", "3", "3"),
        ('{{and .Names "x"}} {{or .Names "x"}} {{not .Names}}', "x [localhost/bb:1] false", "[] x true"),
        ("{{.Labels.a}} {{index .ID 0}}", "b 102", "<no value> 50"),
        ("a {{- /* gone */ -}} b {{- .Tag -}}  c", "ab1c", "ab22c"),
        ('{{"q\\"t"}} {{`r\\w`}}', 'q"t r\\w', 'q"t r\\w'),
        ("{{slice .ID 0 3}} {{truncate .ID 2}}", "f15 f1", "218 21"),
        ('{{split .ID "5"}}', "[f1 0fa337463]", "[2181 28 4b38]"),
        ("{{range $i, $v := .Names}}{{if $i}},{{end}}{{$v}}{{end}}", "localhost/bb:1", ""),
        ("{{range .Names}}{{break}}x{{end}}{{range .Names}}{{.}}{{continue}}x{{end}}", "localhost/bb:1", ""),
        ('{{printf "%q %5s|%-5s|%05d" "a" "b" "c" 42}}', '"a"     b|c    |00042', '"a"     b|c    |00042'),
        ('{{printf "%d"}} {{printf "%d" "x"}} {{printf "a" 1}}', "%!d(MISSING) %!d(string=x) a%!(EXTRA int=1)",
         "%!d(MISSING) %!d(string=x) a%!(EXTRA int=1)"),
        ('{{print 1 2 "a" "b" 3}} {{html "<a>"}}', "1 2ab3 &lt;a&gt;", "1 2ab3 &lt;a&gt;"),
        ('{{urlquery "a b"}} {{title "abc def"}}', "a+b Abc Def", "a+b Abc Def"),
        ("{{len .Tag}}", "1", "2"),
        ("{{json .Names}}{{json .Labels}}x", '["localhost/bb:1"]{"a":"b"}x', "[]nullx"),
        ("{{ne .Tag \"1\"}} {{gt 2 1}} {{le 2 1}}", "false true false", "true true false"),
        ("{{.}}", "{f150fa337463 localhost/bb 1 [localhost/bb:1] map[a:b]}", "{218152854b38 x 22 [] <nil>}"),
    ],
)  # fmt: skip
def test_templates(template: str, first: str, second: str) -> None:
    assert printed(template) == f"{first}\n{second}\n"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Foo}}", ":13: executing \"images\" at <.Foo>: can't evaluate field Foo in type entities.X"),
        ("{{.ID.x}}", ":16: executing \"images\" at <.ID.x>: can't evaluate field x in type string"),
        ("{{frob .ID}}", ': function "frob" not defined'),
        ("{{.ID", ": bad character U+007B '{'"),
        ("{{.ID}", ": bad character U+007D '}'"),
        ("{{range .Names}}", ": unexpected EOF"),
        ("{{end}}", ": unexpected {{end}}"),
        ("{{if}}x{{end}}", ": missing value for if"),
        ('{{"x}}', ": unterminated quoted string"),
        ("{{$y}}", ': undefined variable "$y"'),
        ("{{.ID | }}", ": missing value for command"),
        ("{{index .Tag 5}}", ':13: executing "images" at <index .Tag 5>: error calling index: index out of range: 5'),
        ("{{range .ID}}x{{end}}", ":19: executing \"images\" at <.ID>: range can't iterate over f150fa337463"),
        ("{{.ID | join}}", ':19: executing "images" at <join>: wrong number of args for join: want 2 got 1'),
        ('{{join .ID ","}}', ':18: executing "images" at <.ID>: wrong type for value; expected []string; got string'),
        ('{{eq 1 "a"}}', ':13: executing "images" at <eq 1 "a">: error calling eq: incompatible types for comparison'),
        ("{{len 3}}", ':13: executing "images" at <len 3>: error calling len: len of type int'),
        ('{{template "x"}}', ': template "x" not defined'),
    ],
)  # fmt: skip
def test_wrong_templates(template: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        printed(template, kind="entities.X")
    assert caught.value.message == f"template: images:1{message}"


@pytest.mark.parametrize("format", ["json", "{{json .}}", " {{ json . }} ", "{{json}}"])
def test_json_by_any_spelling(format: str) -> None:
    assert printed(format, json_rows=[]) == "[]\n"


def test_one_template_for_all_rows() -> None:
    assert printed("{{range .}}{{.Tag}};{{end}}") == "1;22;"


@pytest.mark.parametrize(
    ("field", "heading"), [("CreatedAt", "CREATED AT"), ("ImageID", "IMAGE ID"), ("ID", "ID"), ("Names", "NAMES")]
)
def test_headings_of_fields(field: str, heading: str) -> None:
    assert output.heading_of(field) == heading


def test_go_times_and_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    value = {"At": Time("2026-11-24T18:43:52.5Z"), "For": Span(30 * 10**9), "Nested": {"x": None}}
    assert Template("{{.At}} {{.At.Year}} {{.For}} {{.Nested}}", "t").render(value) == (
        "2026-11-24 18:43:52.5 +0000 UTC 2026 30s map[x:<nil>]"
    )


def test_a_document() -> None:
    parts: list[str] = []
    output.document([{"Id": "x"}], write=parts.append)
    output.document({"Host": {"OS": "linux"}}, format="{{.Host.OS}}", name="info", write=parts.append)
    assert parts == ['[\n     {\n          "Id": "x"\n     }\n]\n', "linux\n"]


@given(st.text('{}.$|"`()xX if end range else-,:= \t', max_size=40))
def test_any_template_is_rendered_or_refused(text: str) -> None:
    try:
        Template(text, "t").render(struct({"X": ["x"], "x": 1}))
    except TemplateError:
        pass


@given(st.text().filter(lambda text: "{{" not in text))
def test_text_without_actions_is_itself(text: str) -> None:
    assert Template(text, "t").render(None) == text


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (None, "<no value>"), ([1, "a"], "[1 a]"), ({"b": 1, "a": 2}, "map[a:2 b:1]")]
)
def test_values_are_shown_as_go_shows_them(value: Any, text: str) -> None:
    assert show(value) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (4015251, "4.02 MB"), (123456, "123 kB"), (1.5e12, "1.5 TB")]
)
def test_human_sizes(size: float, text: str) -> None:
    assert output.human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (1700, "28 minutes"),
        (3600, "About an hour"), (7300, "2 hours"), (3 * 86400, "3 days"), (21 * 86400, "3 weeks"),
        (90 * 86400, "3 months"), (800 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_human_durations(seconds: float, text: str) -> None:
    assert output.human_duration(seconds) == text
