"""Import lines and the order of a repository's files, worked out by hand."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn.udfs.windows import imports as module
from longattn.udfs.windows.imports import imported, imports_first

PYTHON = '''
"""from nowhere in particular"""
import os, pkg.sub.deep as deep  # why
from pkg.core import (frame,
    base as b)
from noted import (  # a, (b)
    one,  # first, and best
    two,  # (of several)
)
from . import sibling
from ..above import x
if True:
    import late
'''
SCRIPT = """
import React from 'react';
import { a } from "./parts/a.js";
import "./style.css";
export * from '../lib';
const b = require('./b');
"""
JAVA = "package a;\nimport org.site.Tool;\nimport static org.site.Other.make;\nimport org.all.*;\n"
GO = 'package x\n\nimport (\n\t"fmt"\n\tnamed "github.com/me/repo/util"\n)\n\nimport "net/http"\n'
C = '#include <stdio.h>\n#  include "sub/part.h"\n'
FOUND = {
    PYTHON: [
        *("os", "pkg/sub/deep", "pkg/core", "pkg/core/frame", "pkg/core/base"),
        *("noted", "noted/one", "noted/two"),
        *("./sibling", "../above", "../above/x", "late"),
    ],
    SCRIPT: ["react", "./parts/a", "./style.css", "../lib", "./b"],
    JAVA: ["org/site/Tool", "org/site/Other", "org/all/"],
    GO: ["fmt/", "github.com/me/repo/util/", "net/http/"],
    C: ["stdio.h", "sub/part.h"],
}


@pytest.mark.parametrize("text", FOUND, ids=["python", "script", "java", "go", "c"])
def test_lines_that_import(text: str) -> None:
    assert imported(text) == FOUND[text]


PIECES = ["import", "from", "a", "b.c", " as ", *" \t.,;#'\"()\n"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.booleans())
def test_patterns_that_do_not_go_back_find_what_others_do(text: str, leading: bool) -> None:
    text = f"import {text}" if leading else text
    for pattern in (module._PYTHON, module._GO):
        plain = pattern.pattern.replace("*+", "*").replace("++", "+")
        assert plain != pattern.pattern
        each = (pattern.finditer(text), re.finditer(plain, text, pattern.flags))
        found, expected = ([(m.span(), m.groupdict()) for m in matches] for matches in each)
        assert found == expected


@pytest.mark.parametrize("letter", ["a", " "])
def test_a_long_line_that_imports_nothing_is_read_once(letter: str) -> None:
    """Tried at every length, it would take hours."""
    assert imported(f"import {letter * 1_000_000}'") == []


@pytest.mark.parametrize(
    ("files", "order"),
    [
        ({"a.py": "import b", "b.py": "", "c.py": ""}, ["b.py", "a.py", "c.py"]),
        (
            {
                "src/pkg/__init__.py": "from .run import go",
                "src/pkg/run.py": "",
                "a.py": "import pkg.x",
            },
            ["a.py", "src/pkg/run.py", "src/pkg/__init__.py"],
        ),
        (
            {
                "app/main.py": "from pkg.core import frame",
                "pkg/core/frame.py": "",
                "core/frame.py": "",
            },
            ["pkg/core/frame.py", "app/main.py", "core/frame.py"],
        ),
        (
            {
                "app.ts": "import x from './lib'",
                "lib/index.ts": "import './part.js'",
                "lib/part.ts": "",
            },
            ["lib/part.ts", "lib/index.ts", "app.ts"],
        ),
        (
            {"src/a/App.java": "import b.Tool;", "src/b/Tool.java": "", "other/Tool.java": ""},
            ["other/Tool.java", "src/b/Tool.java", "src/a/App.java"],
        ),
        (
            {"main.go": 'import "github.com/me/repo/util"', "util/b.go": "", "util/a.go": ""},
            ["util/a.go", "util/b.go", "main.go"],
        ),
        (
            {"main.c": '#include "part.h"', "part.c": '#include "part.h"', "part.h": ""},
            ["part.h", "main.c", "part.c"],
        ),
        (
            {"a.py": "import b", "b.py": "import c", "c.py": "import a", "d.py": "import b"},
            ["c.py", "b.py", "a.py", "d.py"],
        ),
        ({"a.py": "import a, os"}, ["a.py"]),
    ],
    ids=["python", "package", "absolute", "script", "java", "go", "c", "circle", "own"],
)
def test_what_is_imported_comes_first(files: dict[str, str], order: list[str]) -> None:
    paths = list(files)
    found = imports_first(paths, [imported(text) for text in files.values()])
    assert [paths[file] for file in found] == order


GRAPHS = st.lists(st.lists(st.integers(0, 11), max_size=4), min_size=1, max_size=12)


@given(GRAPHS, st.randoms(use_true_random=False))
def test_without_circles_every_import_comes_before(graph: list[list[int]], rng: object) -> None:
    """Files import files of lower number, whose names are in any order."""
    names = [f"f{i:02}" for i in range(len(graph))]
    rng.shuffle(names)  # type: ignore[attr-defined]
    needs = [[names[n] for n in wanted if n < file] for file, wanted in enumerate(graph)]
    paths = [f"{name}.py" for name in names]
    order = imports_first(paths, needs)
    assert sorted(order) == list(range(len(graph)))
    place = {paths[file][:-3]: at for at, file in enumerate(order)}
    for file, wanted in enumerate(needs):
        assert all(place[name] < place[names[file]] for name in wanted)


@given(GRAPHS, st.randoms(use_true_random=False))
def test_the_order_of_the_files_given_does_not_matter(graph: list[list[int]], rng: object) -> None:
    paths = [f"f{i:02}.py" for i in range(len(graph))]
    needs = [[f"f{n:02}" for n in wanted] for wanted in graph]
    shuffled = list(range(len(graph)))
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    found = imports_first([paths[i] for i in shuffled], [needs[i] for i in shuffled])
    assert [shuffled[i] for i in found] == imports_first(paths, needs)
