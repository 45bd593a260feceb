"""Long lines of generated code, wrapped at their brackets; what a line means stays."""

from __future__ import annotations

import re
import textwrap

WIDTH = 120
_PAIRS = {")": "(", "]": "["}
_DOC = '"""'
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')


def wrap_source(source: str) -> str:
    """The source with no statement wider than the page.

    >>> wrap_source(f"x = {'a' * 60} * {'b' * 60}  # [N]").splitlines()[::2]
    ['x = (', ')  # [N]']
    >>> wrap_source(f"{'a' * 100}=tensor([2], dtype=torch.bfloat16),").splitlines()[1:]
    ['    [2],', '    dtype=torch.bfloat16,', '),']
    >>> deep = f"{' ' * 118}part=Part(\\n{' ' * 118}),"
    >>> wrap_source(deep) == deep
    True
    >>> wrap_source(f") -> tuple[{'Tensor, ' * 16}Tensor]:").splitlines()[::17]
    [') -> tuple[', '    Tensor,']
    >>> wrap_source(f") -> tuple[{'Tensor, ' * 16}Tensor]:").splitlines()[-1]
    ']:'
    """
    return "\n".join(_kept(line) for line in source.split("\n"))


def _kept(line: str) -> str:
    """A line wrapped, the literals in it as they were: what looks like code inside of them is none.

    >>> text = "(" * 120
    >>> _kept(f'f(a="{text}")').splitlines() == ["f(", f'    a="{text}",', ")"]
    True
    """
    if len(line) <= WIDTH:
        return line
    if line.lstrip().startswith(_DOC):
        indent = " " * (len(line) - len(line.lstrip()))
        return textwrap.fill(
            line.strip(),
            WIDTH,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    literals = _LITERAL.findall(line)
    wrapped = "\n".join(_wrapped(_LITERAL.sub(lambda found: f'"{"x" * (len(found[0]) - 2)}"', line)))
    return _LITERAL.sub(lambda _: literals.pop(0), wrapped) if literals else wrapped


def _wrapped(line: str) -> list[str]:
    if len(line) <= WIDTH:
        return [line]
    indent, text = re.match(r"( *)(.*)", line).groups()  # type: ignore[union-attr]
    if text.startswith("#"):
        return [f"{line[: WIDTH - 1].rstrip()}…"]
    code, mark, comment = text.partition("  # ")
    if code[-1] in "([" or not code.strip(")],"):  # the first or the last line of what is broken already
        return [_fitted(line)]
    if code.startswith("return ") and _opening(code) is None:
        code = f"return ({code.removeprefix('return ')})"
    item = code[-1] if code[-1] in ",:" else ""  # of a list or of a function's head that is broken already
    code = code.removesuffix(item)
    if _opening(code) is None and len(indent + code) > WIDTH:
        target, equals, value = code.partition(" = ")
        lines, last = [f"{indent}{target}{equals}(", f"{indent}    {value}"], f"{indent})"
    else:
        *lines, last = _broken(code, indent)
    return [*lines, _fitted(f"{last}{item}{mark}{comment}")]


def _fitted(line: str) -> str:
    """The line with as much of its comment as there is room for."""
    code = line.partition("  # ")[0]
    if len(line) <= WIDTH or code == line:
        return line
    return code if len(code) + len("  # …") > WIDTH else f"{line[: WIDTH - 1].rstrip()}…"


def _broken(code: str, indent: str) -> list[str]:
    """One item of the last bracket a line, and each of them broken again where it is still too long.

    >>> WIDTH, _broken("x = f(a, [1, 2], g(b, c))", "")
    (120, ['x = f(', '    a,', '    [1, 2],', '    g(b, c),', ')'])
    """
    start = _opening(code)
    if start is None:
        return [indent + code]
    head, inside, tail = code[: start + 1], code[start + 1 : -1], code[-1]
    name, equals, _ = head.partition(" = ")
    if len(indent + head) > WIDTH and equals and name.isidentifier():  # a long name and a long call, each on its line
        return [f"{indent}{name} = (", *_broken(code[len(name) + 3 :], f"{indent}    "), f"{indent})"]
    hugged = re.fullmatch(r"\[(.*)\]((?:, [\w.-]+)?)", inside)  # a call whose first argument is a list
    if tail == ")" and hugged and len(_items(hugged[1])) > 1 and _opening(inside[: len(inside) - len(hugged[2])]) == 0:
        head, inside, tail = f"{head}[", hugged[1], f"]{hugged[2]})"
    lines, items = _targets(head, indent), _items(inside)
    comma = "" if len(items) == 1 and _means_a_tuple(head, inside) else ","
    for item in items:
        line = f"{indent}    {item}{comma}"
        lines += [line] if len(line) <= WIDTH else _inner(item, f"{indent}    ", comma)
    return [*lines, indent + tail]


def _means_a_tuple(head: str, inside: str) -> bool:
    """Whether a comma after the one item in a bracket would make a tuple of it: in a subscript, or around a value.

    >>> [_means_a_tuple(*of) for of in (("x = f(", "a"), ("x = f[", "a"), ("x = [", "a"), ("return (", "a"))]
    [False, True, False, True]
    >>> _means_a_tuple("return (", "a,")
    False
    """
    before = head[-2:-1]
    called = before.isalnum() or before in ("_", ")", "]")
    return not inside.rstrip().endswith(",") and called == (head[-1] == "[")


def _inner(item: str, indent: str, comma: str) -> list[str]:
    *lines, last = _broken(item, indent)
    return [*lines, f"{last}{comma}"]


def _targets(head: str, indent: str) -> list[str]:
    """`a, b, c = f(` with its names in brackets of their own where they alone are too long."""
    names, _, call = head.partition(" = ")
    if len(indent + head) <= WIDTH or not re.fullmatch(r"\w+(, \w+)+", names):
        return [indent + head]
    return [f"{indent}(", *(f"{indent}    {name}," for name in names.split(", ")), f"{indent}) = {call}"]


def _opening(code: str) -> int | None:
    """Where the bracket opens that the code's last letter closes; brackets in texts don't occur in statements."""
    if not code or code[-1] not in _PAIRS:
        return None
    depth = 0
    for at in range(len(code) - 1, -1, -1):
        depth += (code[at] in ")]") - (code[at] in "([")
        if depth == 0:
            return at
    return None


def _items(inside: str) -> list[str]:
    """What commas outside of inner brackets separate.

    >>> _items("a, [1, 2], g(b, c)")
    ['a', '[1, 2]', 'g(b, c)']
    """
    items, depth, start = [], 0, 0
    for at, letter in enumerate(inside):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            items.append(inside[start:at].strip())
            start = at + 1
    rest = inside[start:].strip()
    return [*items, rest] if rest else items
